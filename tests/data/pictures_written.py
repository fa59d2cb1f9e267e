"""Small pictures, drawn and written to files in the formats and depths that are read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def drawn(height: int = 48, width: int = 64, *, seed: int = 0, channels: int = 1) -> np.ndarray:
    """Draw a woven texture, 8 bits, not square."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((height, width))
    weave = 120 + 60 * np.sin(y / 2) * np.cos(x / 3)
    return (weave[..., None] + rng.uniform(0, 60, (height, width, channels))).astype(np.uint8)


def drawn_deep(height: int = 12, width: int = 20, *, channels: int) -> np.ndarray:
    """Draw 16-bit noise whose low bytes differ from its high bytes."""
    rng = np.random.default_rng(7)
    return rng.integers(0, 65536, (height, width, channels)).astype(np.uint16)


def write(path: Path, pixels: np.ndarray) -> Path:
    """Write pixels with one channel or three, making the folders on the way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[..., ::-1])
    return path


def write_good(root: Path, count: int, height: int = 48, width: int = 64) -> Path:
    """Make the training half of an MVTec folder."""
    for number in range(count):
        write(root / "train" / "good" / f"{number:03}.png", drawn(height, width, seed=number))
    return root


def write_truncated(path: Path) -> Path:
    """Write the first half of a picture."""
    whole = write(path, drawn(seed=99)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path
