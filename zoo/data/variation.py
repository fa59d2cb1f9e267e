"""Benign variation: what light, lens and sensor change from picture to picture of good material.

A detector must not take it for a defect. All ranges are physical; training and validation draw from
the same ones.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional

GAIN = 0.15  # of the light or the exposure time, up or down
GAMMA = (0.8, 1.25)  # of the camera's curve
SHADING = 0.2  # of the light between two opposite edges of a picture
BLUR = 0.8  # pixels of the file; largest standard deviation of a blur by focus or motion
NOISE = 0.01  # largest standard deviation of added noise, as a share of the range of intensities


def vary(
    x: Float[Tensor, "n c h w"],
    amount: float,
    *,
    generator: Generator,
    low: float = 0.0,
    high: float = 1.0,
    scale: float = 1.0,
) -> Float[Tensor, "n c h w"]:
    """Return pictures under other light, focus and noise, each with its own draw.

    Args:
        x: Prepared pictures or patches, in [-1, 1].
        amount: Factor on all ranges; 0 changes nothing, 1 is the ranges of this module.
        generator: Source of random numbers, on the device of x.
        low: Intensity that -1 stands for, where 1 is the white of the camera.
        high: Intensity that 1 stands for.
        scale: Scale of the pictures; a blur is meant in pixels of the file.
    """
    if not amount:
        return x
    device, count = x.device, len(x)
    draws = torch.rand(7, count, 1, 1, 1, generator=generator, device=device) * 2 - 1
    light = (x.float() + 1) / 2 * (high - low) + low
    light = (
        light * _shade(draws[2], draws[3], amount, x.shape[-2:]) * (1 + amount * GAIN * draws[0])
    )
    end = torch.where(draws[1] > 0, math.log(GAMMA[1]), math.log(GAMMA[0]))
    light = light.clamp(1e-4, 1) ** (amount * draws[1].abs() * end).exp()
    y = (light - low) / (high - low) * 2 - 1
    sigma = (draws[4] * amount * BLUR * scale).clamp_min(0)  # half of the pictures stay sharp
    y = _blurred(y, sigma)
    noise = torch.randn(y.shape, generator=generator, device=device)
    y = y + 2 * NOISE * amount * draws[5].clamp_min(0) * noise
    return y.clamp(-1, 1).to(x.dtype)


def under_variation(image: Float[np.ndarray, "h w c"], *, seed: int) -> Float[np.ndarray, "h w c"]:
    """Return one picture, with intensities from 0 to 1, under other light, focus and noise."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.from_numpy(np.ascontiguousarray(image, np.float32)).movedim(2, 0)[None]
    y = vary(x * 2 - 1, 1.0, generator=generator)[0]
    return ((y + 1) / 2).movedim(0, 2).numpy()


def _shade(
    down: Float[Tensor, "n 1 1 1"], right: Float[Tensor, "n 1 1 1"], amount: float, size: torch.Size
) -> Float[Tensor, "n 1 h w"]:
    """Return a linear shading; its steepest direction spans `SHADING`."""
    rows, columns = (torch.linspace(-0.5, 0.5, side, device=down.device) for side in size)
    slope = torch.sqrt(down.square() + right.square()).clamp_min(1.0)
    plane = down / slope * rows[:, None] + right / slope * columns
    return 1 + amount * SHADING * plane


def _blurred(
    x: Float[Tensor, "n c h w"], sigma: Float[Tensor, "n 1 1 1"]
) -> Float[Tensor, "n c h w"]:
    """Blur each picture with its own standard deviation, up to about a pixel."""
    offsets = torch.arange(-2, 3, device=x.device, dtype=x.dtype)
    kernels = torch.exp(-0.5 * (offsets / sigma.flatten()[:, None].clamp_min(1e-3)) ** 2)
    kernels = kernels / kernels.sum(dim=1, keepdim=True)
    count, channels = x.shape[:2]
    flat = x.reshape(1, count * channels, *x.shape[-2:])
    each = kernels.repeat_interleave(channels, dim=0)
    edges = "reflect" if min(x.shape[-2:]) > 2 else "replicate"
    for shape, pad in (((-1, 1, 5, 1), (0, 0, 2, 2)), ((-1, 1, 1, 5), (2, 2, 0, 0))):
        flat = functional.conv2d(
            functional.pad(flat, pad, mode=edges), each.reshape(shape), groups=count * channels
        )
    return flat.reshape(x.shape)
