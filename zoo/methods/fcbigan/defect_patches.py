"""Patches with synthetic defects for the segmenter, painted on the CPU, drawn on the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from zoo.data.defects.painting import training_pair
from zoo.data.patches import augment

DEFECT_POOL = 768  # number of painted patches in the pool
USES = 3  # mean number of draws of a painted patch before the pool is painted again
CUTS_PER_PAINTING = 6  # patches cut from one painted image, because painting is slow


class DefectPatches:
    """A pool of patches with synthetic defects, painted on the CPU, drawn on the device.

    The pool is painted again when its patches have been drawn `USES` times on average.
    """

    def __init__(
        self,
        images: Sequence[Float[Tensor, "c _ _"]],
        *,
        patch: int,
        generator: torch.Generator,
    ) -> None:
        self.patch, self.generator = patch, generator
        self.images = [image.movedim(0, 2).cpu().numpy() * 0.5 + 0.5 for image in images]

    def paint(self) -> None:
        """Replace the pool by new patches, each with a defective pixel at a random place."""
        seed = torch.randint(2**31, (), generator=self.generator, device=self.generator.device)
        rng = np.random.default_rng(int(seed))
        cuts = [cut for _ in range(DEFECT_POOL // CUTS_PER_PAINTING) for cut in self._painting(rng)]
        self.pool, self.left = torch.stack(cuts).to(self.generator.device), USES * len(cuts)

    def draw(
        self, count: int, *, rotations: bool
    ) -> tuple[Float[Tensor, "n c p p"], Bool[Tensor, "n p p"]]:
        """Draw patches with their masks, flipped and rotated at random."""
        if self.left < count:
            self.paint()
        self.left -= count
        device = self.generator.device
        picks = torch.randint(len(self.pool), (count,), generator=self.generator, device=device)
        both = augment(self.pool[picks], generator=self.generator, rotations=rotations)
        return both[:, :-1], both[:, -1] > 0

    def _painting(self, rng: np.random.Generator) -> list[Float[Tensor, "k p p"]]:
        image, donor = (self._window(rng) for _ in range(2))
        painted, mask = training_pair(image, rng=rng, donor=donor)
        both = np.concatenate([painted * 2 - 1, mask[:, :, None]], axis=2, dtype=np.float32)
        places = rng.choice(np.argwhere(mask), CUTS_PER_PAINTING)
        corners = places - rng.integers(0, self.patch, places.shape)
        limit = np.array(mask.shape) - self.patch
        return [
            torch.from_numpy(both[top : top + self.patch, left : left + self.patch]).movedim(2, 0)
            for top, left in corners.clip(0, limit)
        ]

    def _window(self, rng: np.random.Generator) -> Float[np.ndarray, "h w c"]:
        """Cut a window of up to two patches on each side, for defects larger than a patch."""
        image = self.images[rng.integers(len(self.images))]
        height, width = (min(side, 2 * self.patch) for side in image.shape[:2])
        top = rng.integers(image.shape[0] - height + 1)
        left = rng.integers(image.shape[1] - width + 1)
        return image[top : top + height, left : left + width]
