"""What is unusual about good pictures, in words: a search goes on, and its user knows of it.

Nothing here raises or changes a picture. The numbers of a warning are of samples of the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from zoo.data.textures import Picture

_FEW = 5
_INDEPENDENT_MIN = 3  # one for each split
_SIDE = 256  # samples along a side, at most
_SATURATED_SHARE = 0.02  # of the pixels; a photograph of a texture in good light has under 0.001
_DARK_TO_BRIGHT = 1.15  # the widest gain that is one light: between 1 / 1.15 and 1.15
_GAMMAS = (0.8, 1.25)
_CONTENT = 1.2  # by so much the contrast of leather, in one light, varies from crop to crop


def _sampled(pixels: Shaped[np.ndarray, "h w c"]) -> Float[np.ndarray, "k c"]:
    """Return samples of the pixels, in a regular grid, on a scale from 0 to 1."""
    step = max(1, min(pixels.shape[:2]) // _SIDE)
    samples = pixels[::step, ::step].reshape(-1, pixels.shape[2])
    return np.asarray(samples / np.iinfo(pixels.dtype).max, np.float64)


def _few(count: int, independent: int) -> list[str]:
    if count < _FEW:
        return [
            f"There {'is' if count == 1 else 'are'} only {count} good "
            f"picture{'s' * (count > 1)}: the detector knows little of how good material "
            f"varies, and may call it a defect. Add pictures, {_FEW} at least and 20 or more if "
            "you can."
        ]
    if independent < _INDEPENDENT_MIN:
        sources = "one piece" if independent == 1 else f"{independent} pieces"
        return [
            f"The {count} good pictures seem to show only {sources} of material (copies, or crops "
            "of one photograph): validation and threshold are too optimistic. Add pictures of "
            "other pieces."
        ]
    return []


def _constant(pictures: Sequence[Picture]) -> list[str]:
    names = [each.name for each in pictures if (each.pixels == each.pixels[:1, :1]).all()]
    if not names:
        return []
    listed = ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")
    return [
        f"{len(names)} of {len(pictures)} good pictures have the same value everywhere: {listed}. "
        "They show no texture; remove them, or look whether the camera worked."
    ]


class _Figures(NamedTuple):
    """Of the values of one picture: few, because there may be a thousand pictures."""

    mean: float
    deviation: float
    darkest: float
    brightest: float


def _figures(pixels: Shaped[np.ndarray, "h w c"]) -> _Figures:
    values = _sampled(pixels)
    ends = [float((values == end).mean()) for end in (0, 1)]
    return _Figures(float(values.mean()), float(values.std()), *ends)


def _saturated(found: Sequence[_Figures]) -> list[str]:
    warnings = []
    for shares, word, advice in (
        ([each.darkest for each in found], "darkest", "more"),
        ([each.brightest for each in found], "brightest", "less"),
    ):
        share = float(np.mean(shares))
        if share > _SATURATED_SHARE:
            warnings.append(
                f"{share:.0%} of the values in the good pictures are the {word} of the scale: "
                f"defects there cannot be seen. Take the pictures with {advice} light, or crop "
                f"them to the material."
            )
    return warnings


def _light(pictures: Sequence[Picture], found: Sequence[_Figures]) -> list[str]:
    """Warn where the pictures differ more than a gain and a gamma from their typical one."""
    if len(found) < 2:
        return []
    levels, spreads = [each.mean for each in found], [each.deviation for each in found]
    typical = _sampled(pictures[int(np.argsort(levels)[len(levels) // 2])].pixels)
    ends = [
        np.clip(gain * typical**gamma, 0, 1)
        for gain in (1 / _DARK_TO_BRIGHT, _DARK_TO_BRIGHT)
        for gamma in _GAMMAS
    ]
    # Nine of ten pictures count: a single odd one is not how the light varies.
    by_content = (1 / _CONTENT, _CONTENT)
    parts = []
    for word, values, allowed in (
        ("mean level", levels, [float(each.mean()) for each in ends]),
        ("contrast", spreads, [float(each.std()) * by for each in ends for by in by_content]),
    ):
        low, high = np.quantile(values, (0.05, 0.95))
        if low < min(allowed) or high > max(allowed):
            parts.append(f"{word} from {low:.2g} to {high:.2g}")
    if not parts:
        return []
    return [
        f"The light varies much from picture to picture ({', '.join(parts)}, on a scale from 0 to "
        "1): the detector takes it for a part of the texture, and finds dark or bright defects "
        "less well. Take the pictures in the same light if you can."
    ]


def warnings_of(pictures: Sequence[Picture], independent: int) -> list[str]:
    """Say what in the good pictures makes a detector weak, one line each; empty if nothing does.

    Args:
        pictures: The good pictures, of one or three channels.
        independent: How many pieces of material they show, as `zoo.data.relatives` counts them.
    """
    found = [_figures(picture.pixels) for picture in pictures]
    return [
        *_few(len(pictures), independent),
        *_constant(pictures),
        *_saturated(found),
        *_light(pictures, found),
    ]
