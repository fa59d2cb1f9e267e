"""Patches with synthetic defects for the segmenter, painted on CPUs, drawn on the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.data import DataLoader

from zoo.data.defects.fit_pictures import FitPictures, Style
from zoo.data.patches import augment
from zoo.methods.fcbigan import painters
from zoo.methods.fcbigan.painters import Cuts, Seed

DEFECT_POOL = 768  # number of painted patches in the pool
USES = 3  # mean number of draws of a painted patch before the pool is painted again


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


class Seeds(Iterable[Seed]):
    """The seeds of the paintings of some pools; a training may have more than memory holds."""

    def __init__(self) -> None:
        """Begin without any."""
        self.of = (0, 0, 0)  # the seed of the pools, their number, and the paintings of each

    def __len__(self) -> int:
        """Return the number of paintings."""
        return self.of[1] * self.of[2]

    def __iter__(self) -> Iterator[Seed]:
        """Yield each seed in its order."""
        seed, pools, paintings = self.of
        for pool in range(pools):
            for painting in range(paintings):
                yield seed, pool, painting


class DefectPatches:
    """A pool of patches with synthetic defects, painted on CPUs, drawn on the device.

    The pool is painted again when its patches have been drawn `USES` times on average.
    """

    def __init__(
        self,
        pictures: FitPictures,
        *,
        patch: int,
        generator: torch.Generator,
        style: Style | None = None,
        workers: int = 0,
    ) -> None:
        """Set what is painted; `begin` paints.

        Args:
            pictures: What is painted on.
            patch: Side of a patch, in pixels after scaling.
            generator: Draws everything; the patches are on its device.
            style: How; by default as in `FitPictures.painting`.
            workers: Number of processes that paint the next pool while this one is used; with 0
                this process paints. The patches are the same.
        """
        self.pictures, self.generator, self.workers = pictures, generator, workers
        self.cuts = Cuts(pictures, patch=patch, style=style or Style())
        self._seeds = Seeds()
        self._loader: DataLoader[Tensor] | None = None
        self._patches: Iterator[Tensor] = iter(())

    def begin(self, draws: int) -> None:
        """Paint a new pool, with a new seed, for at most so many draws.

        Each patch has an edited pixel at a random place.
        """
        device, paintings = self.generator.device, DEFECT_POOL // painters.CUTS_PER_PAINTING
        if self._loader is None:
            self._loader = painters.painting(
                self.cuts,
                self._seeds,
                workers=self.workers,
                waiting=paintings,
                pinned=device.type == "cuda",
            )
            side = self.cuts.patch
            channels = 2 * self.pictures.preprocessing.channels + 1
            self.pool = torch.empty(DEFECT_POOL, channels, side, side, device=device)
        seed = int(torch.randint(2**31, (), generator=self.generator, device=device))
        pools = max(1, -(-draws // (USES * DEFECT_POOL)))
        self._seeds.of = (seed, pools, paintings)
        with painters.without_main():
            self._patches = iter(self._loader)
        self._paint()

    def draw(self, count: int, *, rotations: bool) -> Painted:
        """Draw patches with their masks, flipped and rotated at random."""
        if self.left <= 0:
            self._paint()
        self.left -= count
        device = self.generator.device
        picks = torch.randint(len(self.pool), (count,), generator=self.generator, device=device)
        drawn = augment(self.pool[picks], generator=self.generator, rotations=rotations)
        channels = drawn.shape[1] // 2
        return Painted(
            before=drawn[:, :channels], after=drawn[:, channels:-1], masks=drawn[:, -1] > 0
        )

    def close(self) -> None:
        """End the processes."""
        self._patches, self._loader = iter(()), None

    def _paint(self) -> None:
        """Replace the patches of the pool by the next ones."""
        for part in torch.split(self.pool, painters.AT_ONCE * painters.CUTS_PER_PAINTING):
            part.copy_(next(self._patches), non_blocking=True)
        self.left = USES * len(self.pool)
