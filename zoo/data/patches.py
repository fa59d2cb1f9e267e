"""Random patches of many pictures, drawn on the device on which they are used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from zoo.errors import BadImageError


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """Many pictures in one padded tensor.

    Attributes:
        pixels: The pictures, each in the top left corner of its place.
        sizes: Height and width of each picture.
        prepare: Brings patches of them to [-1, 1].
    """

    pixels: Shaped[Tensor, "n c _ _"]
    sizes: Sequence[tuple[int, int]]
    prepare: Callable[[Tensor], Tensor]

    @classmethod
    def of(
        cls,
        images: Sequence[Shaped[Tensor, "c _ _"]],
        prepare: Callable[[Tensor], Tensor] = lambda patches: patches,
    ) -> Canvas:
        """Copy pictures; by default they are in [-1, 1] already."""
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        height, width = (max(lengths) for lengths in zip(*sizes, strict=True))
        pixels = images[0].new_zeros(len(images), images[0].shape[0], height, width)
        for slot, image in zip(pixels, images, strict=True):
            slot[:, : image.shape[-2], : image.shape[-1]] = image
        return cls(pixels=pixels, sizes=sizes, prepare=prepare)


class Patches:
    """Random patches of many images, whose sizes may differ, without copies between devices.

    All images lie in one padded tensor on the device. The corners of patches are drawn there too,
    and all patches are cut in one indexing operation.
    """

    def __init__(
        self,
        images: Sequence[Float[Tensor, "c _ _"]] | Canvas,
        *,
        patch: int,
        generator: torch.Generator,
        rotations: bool,
        fixed: int = 0,
    ) -> None:
        """Copy the images to the device.

        Args:
            images: In [-1, 1], or on a canvas, each at least one patch high and wide.
            patch: Side of a patch, in pixels.
            generator: Source of all random numbers; patches are cut on its device.
            rotations: Rotate patches by random multiples of 90 degrees, besides flipping them.
            fixed: Number of corners that are drawn once and then reused, as in the thesis; with 0,
                every patch gets a new corner.

        Raises:
            BadImageError: An image is smaller than a patch.
        """
        canvas = images if isinstance(images, Canvas) else Canvas.of(images)
        for height, width in canvas.sizes:
            if min(height, width) < patch:
                raise BadImageError(
                    f"An image of {height}x{width} pixels (after scaling) is smaller than a patch "
                    f"of {patch}x{patch}. Use larger images, a smaller patch or a larger scale."
                )
        self.patch, self.generator, self.rotations = patch, generator, rotations
        self.device = generator.device
        self.canvas, self.prepare = canvas.pixels.to(self.device), canvas.prepare
        self.positions = torch.tensor(canvas.sizes, device=self.device) - patch + 1
        # All positions in all images are equally likely: larger images are drawn more often.
        self.weights = self.positions.prod(dim=1).float()
        self.fixed = self._corners(fixed) if fixed else None

    def draw(self, count: int) -> Float[Tensor, "{count} c {self.patch} {self.patch}"]:
        """Draw patches, flipped and rotated at random."""
        if self.fixed is None:
            corners = self._corners(count)
        else:
            picks = torch.randint(
                len(self.fixed), (count,), generator=self.generator, device=self.device
            )
            corners = self.fixed[picks]
        image, top, left = corners.unbind(dim=1)
        views = self.canvas.unfold(2, self.patch, 1).unfold(3, self.patch, 1)
        cut = self.prepare(views[image, :, top, left])
        return augment(cut, generator=self.generator, rotations=self.rotations)

    def _corners(self, count: int) -> Int[Tensor, "n 3"]:
        image = torch.multinomial(self.weights, count, replacement=True, generator=self.generator)
        share = torch.rand(count, 2, generator=self.generator, device=self.device)
        corner = (share * self.positions[image]).long().minimum(self.positions[image] - 1)
        return torch.cat([image[:, None], corner], dim=1)


def augment(
    patches: Float[Tensor, "n c p p"], *, generator: torch.Generator, rotations: bool
) -> Float[Tensor, "n c p p"]:
    """Flip each patch along both axes at random, and with `rotations` transpose it at random.

    The two flips and the transposition generate all eight symmetries of the square.
    """
    coins = torch.rand(3, len(patches), 1, 1, 1, generator=generator, device=generator.device) < 0.5
    patches = torch.where(coins[0], patches.flip(-1), patches)
    patches = torch.where(coins[1], patches.flip(-2), patches)
    return torch.where(coins[2], patches.mT, patches) if rotations else patches


def vary_tone(
    patches: Float[Tensor, "n c p p"], share: float, *, generator: torch.Generator
) -> Float[Tensor, "n c p p"]:
    """Change contrast and brightness of each patch at random, by up to this share of the range."""
    draws = torch.rand(2, len(patches), 1, 1, 1, generator=generator, device=generator.device)
    gain, offset = (2 * draws - 1) * share
    varied: Tensor = (1 + gain) * patches + 2 * offset
    return varied.clamp(-1, 1)
