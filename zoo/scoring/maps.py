"""Operations on maps: smoothing, interpolation, enlargement, the score of a picture."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

TOP = 0.01  # share of a picture's pixels, the highest, whose mean is its score


def smooth(maps: Float[Tensor, "*n h w"], side: int) -> Float[Tensor, "*n h w"]:
    """Return the mean over a `side` by `side` square around each pixel; edges are mirrored.

    The centre of the square is its pixel `side // 2`. A side is limited to that of the image.
    """
    height, width = maps.shape[-2:]
    # An exported graph takes no picture smaller than the square, so it need not look: a side that
    # is the smaller of two unknown ones makes tracing take twice as long.
    tracing = torch.compiler.is_compiling()
    if (side if tracing else min(side, max(height, width))) <= 1:
        return maps
    if maps.device.type == "cpu" and not tracing:
        import cv2  # here, as loading a detector does not need it

        # OpenCV's running sums, in float64 as below, take a fifth of the time.
        size = min(side, width), min(side, height)
        planes = maps.detach().float().reshape(-1, height, width).contiguous().numpy()
        found = torch.empty(planes.shape)
        for plane, mean in zip(planes, found.numpy(), strict=True):
            cv2.blur(plane, size, dst=mean, borderType=cv2.BORDER_REFLECT_101)
        return found.reshape(maps.shape).to(maps)
    for axis in (-2, -1):
        k = side if tracing else min(side, maps.shape[axis])
        if k > 1:
            ends = (k // 2, k - 1 - k // 2)
            pad = (0, 0, *ends) if axis == -2 else (*ends, 0, 0)
            # Running sums take the same time for any side. In float32 they would lose digits.
            sums = functional.pad(maps, pad, mode="reflect").double().cumsum(axis)
            zero = torch.zeros_like(sums.narrow(axis, 0, 1))
            sums = torch.cat([zero, sums], dim=axis)
            length = maps.shape[axis]
            maps = ((sums.narrow(axis, k, length) - sums.narrow(axis, 0, length)) / k).to(maps)
    return maps


def enlarge(
    anomaly: Float[Tensor, "h w"], height: int, width: int
) -> Float[Tensor, "{height} {width}"]:
    """Return the map of a scaled image at the original size of the image."""
    if anomaly.shape == (height, width):
        return anomaly
    return functional.interpolate(anomaly[None, None], (height, width), mode="bilinear")[0, 0]


def of_cells(
    values: Float[Tensor, "b t hf wf"], cell: int, height: int, width: int
) -> Float[Tensor, "b t {height} {width}"]:
    """Return the values of all pixels of an image, interpolated from those of square cells.

    Args:
        values: The value in the middle of each cell; the cells cover the image.
        cell: Side of a cell, in pixels.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
    """
    if cell == 1:
        return values
    whole = functional.interpolate(values, scale_factor=cell, mode="bilinear")
    return whole[..., :height, :width]


def interpolated(
    values: Float[Tensor, "b t hv wv"],
    *,
    step: int,
    first: tuple[int, int],
    height: int,
    width: int,
) -> Float[Tensor, "b t {height} {width}"]:
    """Return the values of all pixels of an image, from values on a grid.

    Pixels between the points are interpolated; pixels outside have the value of the nearest point.

    Args:
        values: Values at the points of the grid.
        step: Pixels between two points.
        first: Row and column of the pixel of the first point.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

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
    """Return the mean of the highest pixels, which varies less than the maximum."""
    count = max(1, round(anomaly.numel() * top_fraction))
    return anomaly.flatten().topk(count).values.mean()
