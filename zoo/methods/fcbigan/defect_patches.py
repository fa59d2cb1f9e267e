"""Patches with synthetic defects for the segmenter, painted on the CPU, drawn on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from zoo.data.defects.fit_pictures import FitPictures
from zoo.data.patches import augment

DEFECT_POOL = 768  # number of painted patches in the pool
USES = 3  # mean number of draws of a painted patch before the pool is painted again
CUTS_PER_PAINTING = 6  # patches cut from one painted image, because painting is slow


@dataclass(frozen=True, kw_only=True)
class Painted:
    """Patches before and after synthetic defects and placebos were painted on them.

    Attributes:
        before: Good patches.
        after: The same with defects.
        masks: Where they are defective.
    """

    before: Float[Tensor, "n c p p"]
    after: Float[Tensor, "n c p p"]
    masks: Bool[Tensor, "n p p"]


class DefectPatches:
    """A pool of patches with synthetic defects, painted on the CPU, drawn on the device.

    The pool is painted again when its patches have been drawn `USES` times on average.
    """

    def __init__(
        self,
        pictures: FitPictures,
        *,
        patch: int,
        generator: torch.Generator,
        placebos: float = 0.0,
        softness: bool = False,
    ) -> None:
        """Prepare the paintings.

        Args:
            pictures: What is painted on.
            patch: Side of a patch, in pixels after scaling.
            generator: Draws everything; the patches are on its device.
            placebos: Share of the paintings with placebos.
            softness: Whether outlines are blurred.
        """
        self.pictures, self.patch, self.generator = pictures, patch, generator
        self.placebos, self.softness = placebos, softness

    def paint(self) -> None:
        """Replace the pool by new patches, each with an edited pixel at a random place."""
        seed = torch.randint(2**31, (), generator=self.generator, device=self.generator.device)
        rng = np.random.default_rng(int(seed))
        cuts = [cut for _ in range(DEFECT_POOL // CUTS_PER_PAINTING) for cut in self._cuts(rng)]
        self.pool, self.left = torch.stack(cuts).to(self.generator.device), USES * len(cuts)

    def draw(self, count: int, *, rotations: bool) -> Painted:
        """Draw patches with their masks, flipped and rotated at random."""
        if self.left <= 0:
            self.paint()
        self.left -= count
        device = self.generator.device
        picks = torch.randint(len(self.pool), (count,), generator=self.generator, device=device)
        drawn = augment(self.pool[picks], generator=self.generator, rotations=rotations)
        channels = drawn.shape[1] // 2
        return Painted(
            before=drawn[:, :channels], after=drawn[:, channels:-1], masks=drawn[:, -1] > 0
        )

    def _cuts(self, rng: np.random.Generator) -> list[Float[Tensor, "k p p"]]:
        made = self.pictures.painting(
            self.patch, rng, placebos=self.placebos, softness=self.softness
        )
        mask = torch.from_numpy(made.mask).to(made.after)[None]
        all_ = torch.cat([made.before, made.after, mask])
        places = rng.choice(np.argwhere(made.edited), CUTS_PER_PAINTING)
        corners = places - rng.integers(0, self.patch, places.shape)
        limit = np.array(made.mask.shape) - self.patch
        return [
            all_[:, top : top + self.patch, left : left + self.patch]
            for top, left in corners.clip(0, limit)
        ]
