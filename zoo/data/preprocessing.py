"""Preprocessing of every picture before a method sees it: mode, scale and intensity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from zoo.data.images import Mode, to_mode, unit
from zoo.errors import ConfigError

QUANTILES = (0.001, 0.999)  # of the grey values of good pictures: a few hot pixels do not count
BRIGHTEST = 4.0  # of the full scale: more than white is what a recalibration in brighter light has
HEADROOM = 0.5  # of the range between them, added on both sides: defects may be brighter or darker
_NARROWEST = 1 / 64  # of the full scale; a narrower range is noise, which is not to be enlarged
_SAMPLE, _SAMPLES = 2**16, 2**24  # values of a picture, and of all, that quantiles are taken of


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Preprocessing of every image, the same in training and in scoring.

    Attributes:
        mode: Grey (L) or colour (RGB).
        scale: Factor on both sides of an image. At half the scale the work is a quarter, and a
            network's receptive field covers twice the length; details finer than two pixels of
            the smaller image are lost.
        low: Intensity that becomes -1, as a share of the largest value of the dtype.
        high: Intensity that becomes 1; above 1 if white is less bright than what the detector
            was trained on. What lies outside of `low` and `high` is clamped.
    """

    mode: Mode
    scale: float = 1.0
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        """Refuse another mode, a scale outside (0, 1], and an empty range of intensities."""
        if self.mode not in get_args(Mode):
            raise ConfigError(f"mode must be L or RGB, not '{self.mode}'. Change it.")
        if not 0 < self.scale <= 1:
            raise ConfigError(f"scale must be above 0 and at most 1, not {self.scale}. Change it.")
        if not 0 <= self.low < self.high <= BRIGHTEST:
            raise ConfigError(
                f"low and high must be in [0, {BRIGHTEST:g}] and low the smaller one, not "
                f"{self.low} and {self.high}. Change them."
            )

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return 3 if self.mode == "RGB" else 1


def prepare(
    pixels: Shaped[np.ndarray, "h w c"], preprocessing: Preprocessing
) -> Float[Tensor, "k h2 w2"]:
    """Convert an image to the mode, scale and intensity of the preprocessing, in [-1, 1]."""
    values = np.moveaxis(unit(to_mode(pixels, preprocessing.mode)), 2, 0)
    return scaled(torch.from_numpy(np.ascontiguousarray(values)), preprocessing)


def scaled(x: Float[Tensor, "k h w"], preprocessing: Preprocessing) -> Float[Tensor, "k h2 w2"]:
    """Resize an image in [0, 1], and map its intensities from `low` to `high` to [-1, 1]."""
    height, width = x.shape[-2:]
    size = (round(height * preprocessing.scale), round(width * preprocessing.scale))
    if size != (height, width):
        x = functional.interpolate(
            x[None], (max(1, size[0]), max(1, size[1])), mode="bilinear", antialias=True
        )[0]
    return normalised(x, preprocessing)


def normalised(x: Float[Tensor, "*any"], preprocessing: Preprocessing) -> Float[Tensor, "*any"]:
    """Map intensities in [0, 1] from `low` and `high` to -1 and 1; what lies beyond is clamped."""
    x = (x - preprocessing.low).div_(preprocessing.high - preprocessing.low)
    return x.clamp_(0, 1).mul_(2).sub_(1)  # in place: a picture may have 100 megapixels


def intensity_range(pictures: Sequence[Shaped[np.ndarray, "_ _ c"]]) -> tuple[float, float]:
    """Return the `low` and `high` that fit good pictures, as shares of the largest value.

    The range between two extreme quantiles gets a headroom on both sides. It does not go beyond the
    full scale of the camera: pictures of 12 bits in files of 16 have their own, 4095.

    Args:
        pictures: uint8 or uint16, at least one.
    """
    most = min(_SAMPLE, _SAMPLES // len(pictures))
    samples = [pixels.ravel()[:: max(1, pixels.size // most)] for pixels in pictures]
    top = float(np.iinfo(pictures[0].dtype).max)
    brightest = max(int(pixels.max()) for pixels in pictures)
    full = min(top, 2.0 ** max(8, brightest.bit_length()) - 1)
    dark, bright = np.quantile(np.concatenate(samples), QUANTILES) / full
    if bright - dark < _NARROWEST:
        return 0.0, full / top
    headroom = HEADROOM * (bright - dark)
    low, high = max(dark - headroom, 0.0), min(bright + headroom, 1.0)
    return float(low * full / top), float(high * full / top)
