"""A drawn woven texture: small, with a seed, not square, with clearly visible defects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

if TYPE_CHECKING:
    from zoo.data.defects.validation import Window

HEIGHT, WIDTH = 64, 72
PERIOD = 8
# Settings of a detector that trains on such pictures in about a second.
TINY = {
    "patch": 16,
    "depth": 2,
    "discriminator_depth": 2,
    "width": 4,
    "latent_channels": 4,
    "batch": 8,
    "learning_rate": 2e-3,
    "megapixels": 0.06,
    "fixed_patches": 0,
}


def draw(height: int, width: int, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 1"]:
    """Draw crossing threads with a random phase and a little noise."""
    rows, columns = np.mgrid[0:height, 0:width]
    phase = rng.uniform(0, PERIOD, 2)
    threads = np.sin((rows + phase[0]) * 2 * np.pi / PERIOD)
    threads = threads + np.cos((columns + phase[1]) * 2 * np.pi / PERIOD)
    values = 128 + 40 * threads + rng.normal(0, 5, (height, width))
    return np.asarray(values.clip(0, 255), np.uint8)[..., None]


def draw_hole(
    height: int, width: int, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "h w 1"], Bool[np.ndarray, "h w"]]:
    """Draw a texture with a dark, flat hole in it, and its mask."""
    pixels, mask = draw(height, width, rng), np.zeros((height, width), np.bool_)
    top, left = int(rng.integers(8, height - 28)), int(rng.integers(8, width - 28))
    mask[top : top + 18, left : left + 20] = True
    pixels[mask] = 30
    return pixels, mask


def write(path: Path, pixels: UInt8[np.ndarray, "h w 1"]) -> Path:
    """Write a grey PNG; its folder is made if it does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[..., 0]).save(path)
    return path


def write_folder(root: Path, *, seed: int = 0) -> Path:
    """Write a texture in MVTec layout: 14 good pictures for training and 6 test pictures."""
    rng = np.random.default_rng(seed)
    for number in range(14):
        write(root / "train" / "good" / f"{number:03}.png", draw(HEIGHT, WIDTH, rng))
    for number in range(3):
        write(root / "test" / "good" / f"{number:03}.png", draw(HEIGHT, WIDTH, rng))
        pixels, mask = draw_hole(HEIGHT, WIDTH, rng)
        write(root / "test" / "hole" / f"{number:03}.png", pixels)
        truth = root / "ground_truth" / "hole" / f"{number:03}_mask.png"
        write(truth, mask[..., None] * np.uint8(255))
    return root


def one_a_family(validation: Sequence[Window]) -> tuple[Window, ...]:
    """Keep the last window of each family: of a defect the largest, and one good and one placebo.

    A family of which there is no window is missing: good material may not fit another place.
    """
    return tuple({window.family: window for window in validation}.values())
