"""Images to tensors, and random patches of them, drawn on the device they will be used on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import functional

from zoo.errors import BadImageError, ConfigError
from zoo.textures import Mode, to_mode, unit


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What happens to every image before a network sees it, in training and in scoring alike.

    Attributes:
        mode: Grey (L) or colour (RGB).
        scale: Factor on both sides of an image. Half the scale is a quarter of the work, and the
            networks see twice as far; details finer than two pixels of the smaller image are lost.
    """

    mode: Mode
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuse another mode, and a scale outside (0, 1]."""
        if self.mode not in get_args(Mode):
            raise ConfigError(f"mode must be L or RGB, not '{self.mode}'. Change it.")
        if not 0 < self.scale <= 1:
            raise ConfigError(f"scale must be above 0 and at most 1, not {self.scale}. Change it.")

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return 3 if self.mode == "RGB" else 1


def prepare(
    pixels: Shaped[np.ndarray, "h w c"], preprocessing: Preprocessing
) -> Float[Tensor, "k h2 w2"]:
    """Bring an image to the mode, scale and range [-1, 1] in which the networks see it."""
    values = np.moveaxis(unit(to_mode(pixels, preprocessing.mode)), 2, 0)
    return scaled(torch.from_numpy(np.ascontiguousarray(values)), preprocessing.scale)


def scaled(x: Float[Tensor, "k h w"], scale: float) -> Float[Tensor, "k h2 w2"]:
    """Bring an image in [0, 1] to this scale, and to the range [-1, 1]."""
    height, width = x.shape[-2:]
    size = (round(height * scale), round(width * scale))
    if size != (height, width):
        x = functional.interpolate(
            x[None], (max(1, size[0]), max(1, size[1])), mode="bilinear", antialias=True
        )[0]
    return x.clamp(0, 1) * 2 - 1


class Patches:
    """Random patches of many images, sizes differing, without a copy between devices.

    All images lie on one canvas on the device; a patch's corner is drawn there too, and the cut is
    one gather.
    """

    def __init__(
        self,
        images: Sequence[Float[Tensor, "c _ _"]],
        *,
        patch: int,
        generator: torch.Generator,
        rotations: bool,
        fixed: int = 0,
    ) -> None:
        """Lay the images out.

        Args:
            images: In [-1, 1], each at least one patch high and wide.
            patch: Side of a patch, in pixels.
            generator: Draws everything; its device is where patches come from.
            rotations: Turn patches by random multiples of 90 degrees, besides flipping them.
            fixed: Draw this many corners once and for all, as the thesis does; 0 draws for ever.

        Raises:
            BadImageError: An image is smaller than a patch.
        """
        heights, widths = zip(*(image.shape[-2:] for image in images), strict=True)
        for height, width in zip(heights, widths, strict=True):
            if min(height, width) < patch:
                raise BadImageError(
                    f"An image of {height}x{width} pixels (after scaling) is smaller than a patch "
                    f"of {patch}x{patch}. Use larger images, a smaller patch or a larger scale."
                )
        canvas = images[0].new_zeros(len(images), images[0].shape[0], max(heights), max(widths))
        for place, image in zip(canvas, images, strict=True):
            place[:, : image.shape[-2], : image.shape[-1]] = image
        self.patch, self.generator, self.rotations = patch, generator, rotations
        self.device = generator.device
        self.canvas = canvas.to(self.device)
        self.room = torch.tensor([heights, widths], device=self.device).T - patch + 1
        # Every place of every image is as likely, so larger images are drawn from more often.
        self.chances = self.room.prod(dim=1).float()
        self.fixed = self._corners(fixed) if fixed else None

    def draw(self, count: int) -> Float[Tensor, "{count} c {self.patch} {self.patch}"]:
        """Draw patches, flipped and turned at random."""
        if self.fixed is None:
            corners = self._corners(count)
        else:
            picks = torch.randint(
                len(self.fixed), (count,), generator=self.generator, device=self.device
            )
            corners = self.fixed[picks]
        image, top, left = corners.unbind(dim=1)
        views = self.canvas.unfold(2, self.patch, 1).unfold(3, self.patch, 1)
        return augment(
            views[image, :, top, left], generator=self.generator, rotations=self.rotations
        )

    def _corners(self, count: int) -> Int[Tensor, "n 3"]:
        image = torch.multinomial(self.chances, count, replacement=True, generator=self.generator)
        chance = torch.rand(count, 2, generator=self.generator, device=self.device)
        corner = (chance * self.room[image]).long().minimum(self.room[image] - 1)
        return torch.cat([image[:, None], corner], dim=1)


def augment(
    patches: Float[Tensor, "n c p p"], *, generator: torch.Generator, rotations: bool
) -> Float[Tensor, "n c p p"]:
    """Flip each patch along both axes at random, and transpose it where turns are allowed.

    The two flips and the transposition make all eight symmetries of the square.
    """
    coins = torch.rand(3, len(patches), 1, 1, 1, generator=generator, device=generator.device) < 0.5
    patches = torch.where(coins[0], patches.flip(-1), patches)
    patches = torch.where(coins[1], patches.flip(-2), patches)
    return torch.where(coins[2], patches.mT, patches) if rotations else patches


def vary_tone(
    patches: Float[Tensor, "n c p p"], share: float, *, generator: torch.Generator
) -> Float[Tensor, "n c p p"]:
    """Change each patch's contrast and brightness at random, by up to this share of the range."""
    draws = torch.rand(2, len(patches), 1, 1, 1, generator=generator, device=generator.device)
    gain, offset = (2 * draws - 1) * share
    varied: Tensor = (1 + gain) * patches + 2 * offset
    return varied.clamp(-1, 1)
