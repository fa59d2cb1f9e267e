"""Statistics of one picture that show its light, focus and colour, and whether they are usual.

They are medians of pixels and of blocks, and a ratio of means, so a picture can be compared with a
region of another one, and a defect changes them little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from zoo.data.images import LUMA

RATE = 0.001  # of a warning of one statistic on a picture that is like the good ones
_BLOCK = 32  # pixels, the shortest side of a region; of a large picture, blocks are left out
_BLOCKS = 16  # along a side, at most
_THIN = 3  # of the pixels of a block, row after row; odd, so that few textures have its period
_DARK = 1e-3  # added before a logarithm: a change of a black or flat picture has no ratio
_FAINT = 1e-12  # added to both energies of the sharpness: a constant picture has none


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """A statistic in words.

    Attributes:
        name: How a sentence begins.
        differs: What may be the cause of another value.
        least: A smaller distance from the mean does not matter; of a ratio, as a logarithm.
        is_ratio: Whether light multiplies it, so that its logarithm is compared.
    """

    name: str
    differs: str
    least: float
    is_ratio: bool = False

    def scaled(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return values as they are compared."""
        return np.log(np.maximum(values, 0) + _DARK) if self.is_ratio else values


# A tenth of the light is less than the gain that detectors are judged under (`zoo.data.variation`),
# and more than what a defect on a tenth of a picture does to its median; so is a fifth of the
# threshold. By a fifth the contrast of leather varies from crop to crop (`zoo.data.survey`), and
# 0.15 of sharpness is what a blur of 0.7 pixels does to it.
_KINDS = {
    "brightness": _Kind(
        name="Brightness", differs="The light or the exposure", least=0.1, is_ratio=True
    ),
    "contrast": _Kind(
        name="Contrast", differs="The light or the surface", least=0.2, is_ratio=True
    ),
    "sharpness": _Kind(
        name="Sharpness",
        differs="The focus, the resolution, the noise or the compression",
        least=0.15,
    ),
    "red_green": _Kind(
        name="Red against green", differs="The colour of the light or of the material", least=0.05
    ),
    "blue_yellow": _Kind(
        name="Blue against yellow", differs="The colour of the light or of the material", least=0.05
    ),
    "background": _Kind(
        name="The anomaly of most pixels", differs="The material or the camera", least=0.2
    ),
}
STATISTICS = tuple(_KINDS)


@dataclass(frozen=True, kw_only=True)
class Usual:
    """What good pictures had of one statistic.

    Attributes:
        low: The smallest value of the good pictures.
        high: The largest one.
        lower: A value below it is unusual; never above `low`.
        upper: A value above it is unusual; never below `high`.
    """

    low: float
    high: float
    lower: float
    upper: float

    @property
    def range(self) -> str:
        """The range of the good pictures."""
        return f"{self.low:.3g} to {self.high:.3g}"

    def __str__(self) -> str:
        """Say the range of the good pictures, and from where on there is a warning."""
        return f"{self.range}; a warning below {self.lower:.3g} and above {self.upper:.3g}"


def _blocks(pixels: Shaped[np.ndarray, "h w c"]) -> Float[np.ndarray, "n s s c"]:
    """Return square blocks of a picture, evenly spread, on a scale from 0 to 1."""
    height, width, channels = pixels.shape
    side = min(_BLOCK, height, width)
    rows, columns = height // side, width // side
    cells = pixels[: rows * side, : columns * side].reshape(rows, side, columns, side, channels)
    chosen = cells[:: -(-rows // _BLOCKS), :, :: -(-columns // _BLOCKS)].swapaxes(1, 2)
    top = np.float32(np.iinfo(pixels.dtype).max)
    return np.asarray(chosen.reshape(-1, side, side, channels) / top, np.float32)


def _sharpness(grey: Float[np.ndarray, "n s s"]) -> float:
    if grey.shape[1] < 3:
        return 0.0
    across, down = np.diff(grey, axis=2), np.diff(grey, axis=1)
    laplacian = np.diff(across, axis=2)[:, 1:-1] + np.diff(down, axis=1)[:, :, 1:-1]
    gradient = float(np.square(across).mean() + np.square(down).mean())
    return math.log10((float(np.square(laplacian).mean()) + _FAINT) / (gradient + _FAINT))


def picture_statistics(pixels: Shaped[np.ndarray, "h w c"]) -> dict[str, float]:
    """Measure the light, the detail and the colour of a picture; of a large one, a part of it.

    Args:
        pixels: uint8 or uint16, one or three channels.

    Returns:
        `brightness`, the median of the intensities, and `contrast`, the median over blocks of the
        range from 5 % to 95 % of them, as shares of the full scale; blocks, because the range of a
        whole picture grows with a defect, with shading and with the size. `sharpness`, the
        logarithm to base 10 of the energy of the Laplacian over that of the gradient: it does not
        depend on gain, offset and contrast; a blur lowers it, noise raises it. For three channels
        `red_green` and `blue_yellow`, the medians of red less green and of blue less the mean of
        both, as shares of the brightness, so that a gain leaves them as they are.

    Source:
        Hjorth 1970, "EEG analysis based on time domain properties": the mobility of a derivative.
        Ours: its square, of both axes of a picture.
    """
    blocks = _blocks(pixels)
    is_colour = pixels.shape[2] == 3
    grey = blocks @ (np.array(LUMA, np.float32) / 65536) if is_colour else blocks[..., 0]
    thin = grey.reshape(len(grey), -1)[:, ::_THIN]
    low, high = np.quantile(thin, (0.05, 0.95), axis=1)
    found = {
        "brightness": float(np.median(thin)),
        "contrast": float(np.median(high - low)),
        "sharpness": _sharpness(grey),
    }
    if is_colour:
        red, green, blue = np.moveaxis(blocks.reshape(*thin.shape[:1], -1, 3)[:, ::_THIN], -1, 0)
        level = found["brightness"] + _DARK
        found["red_green"] = float(np.median(red - green)) / level
        found["blue_yellow"] = float(np.median(blue - (red + green) / 2)) / level
    return found


def statistics_of(
    pixels: Shaped[np.ndarray, "h w c"], map_: Float[np.ndarray, "h w"]
) -> dict[str, float]:
    """Return the statistics of a picture, and `background`, the median of its map.

    Args:
        pixels: As in `picture_statistics`, in the mode of the detector.
        map_: Its map, divided by the threshold as in `Score`: the median then has a unit that does
            not depend on the method, and can be checked by hand.
    """
    step = max(1, min(map_.shape) // (_BLOCK * _BLOCKS))
    background = np.median(map_[::step, ::step].astype(np.float64))
    return picture_statistics(pixels) | {"background": float(background)}


def _usual(kind: _Kind, values: Float[np.ndarray, " n"]) -> Usual:
    low, high, n = float(values.min()), float(values.max()), len(values)
    if n < 2:
        return Usual(low=low, high=high, lower=-math.inf, upper=math.inf)
    from scipy.special import stdtrit  # imported here: to load a detector does not need SciPy

    scale = kind.scaled(values)
    reach = stdtrit(n - 1, 1 - RATE / 2) * scale.std(ddof=1) * math.sqrt(1 + 1 / n)
    ends = scale.mean() + np.array([-1, 1]) * max(float(reach), kind.least)
    if kind.is_ratio:
        with np.errstate(over="ignore"):  # two pictures that differ much have no limit
            ends = np.exp(ends) - _DARK
    lower, upper = map(float, ends)
    return Usual(low=low, high=high, lower=min(low, lower), upper=max(high, upper))


def usual_of(good: Mapping[str, Sequence[float]]) -> dict[str, Usual]:
    """Return what is usual of each statistic: unusual is what is outside of three ranges at once.

    They are the range of the values; a prediction interval, which leaves out the share `RATE` of a
    normal distribution; and a distance from the mean under which no difference matters. Of
    brightness and contrast the logarithm is taken, because light multiplies. With few values the
    second one is wide; with one there is no limit.

    Args:
        good: The values of good pictures, at least one, by the names of `STATISTICS`.

    Source:
        The prediction interval of a normal sample, mean +- t(1 - RATE / 2, n - 1) s sqrt(1 + 1/n).
    """
    return {name: _usual(_KINDS[name], np.array(each, np.float64)) for name, each in good.items()}


def warnings_of(
    found: Mapping[str, float], good: Mapping[str, Usual], texture: str
) -> tuple[str, ...]:
    """Return a line for each statistic that is unusual: what was found, and what to do.

    The part before the first colon is the same for all pictures, so that lines can be counted.

    Args:
        found: The statistics of a picture.
        good: What is usual; a statistic that is not in it is not judged.
        texture: The name of the detector.
    """
    return tuple(
        f"{_KINDS[name].name} is outside of what the good pictures had, {good[name].range}: it is "
        f"{found[name]:.3g}. {_KINDS[name].differs} differs. Correct that, or recalibrate with "
        f"good pictures of this line: zoo recalibrate {texture} --good DIR."
        for name in STATISTICS
        if name in found and name in good
        if not good[name].lower <= found[name] <= good[name].upper
    )


def distance(name: str, values: Float[np.ndarray, " n"], usual: float) -> Float[np.ndarray, " n"]:
    """Return how far values of a statistic are above a usual one; below 1 it does not matter.

    Args:
        name: One of `STATISTICS`.
        values: Values of the statistic.
        usual: What they are compared with.
    """
    kind = _KINDS[name]
    return np.asarray((kind.scaled(values) - kind.scaled(np.array([usual]))) / kind.least)


def cause(name: str) -> str:
    """Return in words what may differ if a statistic, one of `STATISTICS`, does."""
    return _KINDS[name].differs
