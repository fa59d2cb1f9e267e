"""Preprocessing of every picture before a method sees it: mode, scale and range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from zoo.data.images import Mode, to_mode, unit
from zoo.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Preprocessing of every image, the same in training and in scoring.

    Attributes:
        mode: Grey (L) or colour (RGB).
        scale: Factor on both sides of an image. At half the scale the work is a quarter, and a
            network's receptive field covers twice the length; details finer than two pixels of
            the smaller image are lost.
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
    """Convert an image to the mode and scale of the preprocessing, and to the range [-1, 1]."""
    values = np.moveaxis(unit(to_mode(pixels, preprocessing.mode)), 2, 0)
    return scaled(torch.from_numpy(np.ascontiguousarray(values)), preprocessing.scale)


def scaled(x: Float[Tensor, "k h w"], scale: float) -> Float[Tensor, "k h2 w2"]:
    """Resize an image in [0, 1] by this factor, and convert it to the range [-1, 1]."""
    height, width = x.shape[-2:]
    size = (round(height * scale), round(width * scale))
    if size != (height, width):
        x = functional.interpolate(
            x[None], (max(1, size[0]), max(1, size[1])), mode="bilinear", antialias=True
        )[0]
    return x.clamp(0, 1) * 2 - 1
