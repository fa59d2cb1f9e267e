"""Operations on maps: smoothing, interpolation, enlargement, the score of a picture."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def smooth(maps: Float[Tensor, "*n h w"], side: int) -> Float[Tensor, "*n h w"]:
    """Average over a `side` by `side` square around each pixel; the edge is mirrored.

    The square's centre is its pixel `side // 2`. A square larger than the image is cut to it.
    """
    for axis in (-2, -1):
        k = min(side, maps.shape[axis])
        if k > 1:
            ends = (k // 2, k - 1 - k // 2)
            pad = (0, 0, *ends) if axis == -2 else (*ends, 0, 0)
            # Running sums cost the same for any side; in float32 they would lose digits.
            sums = functional.pad(maps, pad, mode="reflect").double().cumsum(axis)
            zero = torch.zeros_like(sums.narrow(axis, 0, 1))
            sums = torch.cat([zero, sums], dim=axis)
            length = maps.shape[axis]
            maps = ((sums.narrow(axis, k, length) - sums.narrow(axis, 0, length)) / k).to(maps)
    return maps


def enlarge(
    anomaly: Float[Tensor, "h w"], height: int, width: int
) -> Float[Tensor, "{height} {width}"]:
    """Bring the map of a scaled image back to the image's own size."""
    if anomaly.shape == (height, width):
        return anomaly
    return functional.interpolate(anomaly[None, None], (height, width), mode="bilinear")[0, 0]


def interpolated(
    values: Float[Tensor, "b t hv wv"],
    *,
    step: int,
    first: tuple[int, int],
    height: int,
    width: int,
) -> Float[Tensor, "b t {height} {width}"]:
    """Give each pixel of an image a value, from values on a grid: between them, or the nearest.

    Args:
        values: Of the grid's points.
        step: Pixels between two points.
        first: Row and column of the pixel that the first point lies on.
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Example:
        >>> row = torch.tensor([[[[1.0, 5.0]]]])
        >>> interpolated(row, step=2, first=(0, 1), height=1, width=6).tolist()
        [[[[1.0, 1.0, 3.0, 5.0, 5.0, 5.0]]]]
    """
    size = [(side - 1) * step + 1 for side in values.shape[-2:]]
    whole = functional.interpolate(values, size, mode="bilinear", align_corners=True)
    top, left = first
    pad = (left, width - left - size[1], top, height - top - size[0])
    return functional.pad(whole, pad, mode="replicate")


def image_score(anomaly: Float[Tensor, "h w"], top_fraction: float) -> Float[Tensor, ""]:
    """Return the mean of the highest pixels: steadier than the one highest."""
    count = max(1, round(anomaly.numel() * top_fraction))
    return anomaly.flatten().topk(count).values.mean()
