"""Draw the stand-in for surfaces with cracks of docs/experiments.md.

    python -m benchmarks.cracked_surfaces DIR
    python -m benchmarks.real_defects commutator=DIR --seeds 1 --out OUT

Moulded grey surfaces with vignetting, clouds, faint scratches and pits as good material, and thin
branching cracks, seen through a lens with noise. Nothing of it is from the painter of a training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

HEIGHT, WIDTH = 704, 320
TRAIN, GOOD, CRACKED = 60, 40, 40  # pictures
LENS, NOISE = 1.5, 0.012  # standard deviations: pixels, and a share of the full scale

Plane = Float[np.ndarray, "h w"]


def surface(rng: np.random.Generator) -> Plane:
    """Draw a good surface."""
    low = ndimage.gaussian_filter(rng.normal(size=(HEIGHT, WIDTH)), (40, 20))
    low /= low.std()
    mid = ndimage.gaussian_filter(rng.normal(size=(HEIGHT, WIDTH)), 3)
    mid /= mid.std()
    fine = rng.normal(size=(HEIGHT, WIDTH))
    x, y = np.linspace(-1, 1, WIDTH)[None, :], np.linspace(-1, 1, HEIGHT)[:, None]
    base = 0.38 + 0.05 * rng.normal() + 0.06 * (1 - x**2) * (1 + 0.2 * rng.normal())
    base = base + 0.03 * y * rng.normal()
    scratches = np.zeros((HEIGHT, WIDTH), np.float32)
    for _ in range(rng.integers(5, 25)):
        start = rng.uniform(0, [WIDTH, HEIGHT])
        turn, length = rng.uniform(0, np.pi), rng.uniform(10, 60)
        end = start + length * np.array([np.cos(turn), np.sin(turn)])
        line(scratches, start, end, float(rng.uniform(0.02, 0.06)), 1)
    pits, count = np.zeros((HEIGHT, WIDTH)), rng.integers(20, 80)
    depths = rng.uniform(0.3, 2, count)
    pits[rng.integers(0, HEIGHT, count), rng.integers(0, WIDTH, count)] = -depths
    grain = 0.012 * low + 0.015 * mid + 0.05 * fine * 0.3
    return np.asarray(base + grain + scratches + ndimage.gaussian_filter(pits, 1.2))


def line(
    plane: Float[np.ndarray, "h w"],
    start: Float[np.ndarray, " 2"],
    end: Float[np.ndarray, " 2"],
    shade: float,
    thick: int,
) -> None:
    """Draw a line between two places, to a sixteenth of a pixel."""
    ends = [tuple(int(value * 16) for value in place) for place in (start, end)]
    cv2.line(plane, ends[0], ends[1], shade, thick, cv2.LINE_AA, 4)


def cracked(plane: Plane, rng: np.random.Generator) -> tuple[Plane, Bool[np.ndarray, "h w"]]:
    """Return a surface with a crack, and its mask."""
    crack = np.zeros((HEIGHT, WIDTH), np.float32)

    def walk(place: Float[np.ndarray, " 2"], turn: float, length: float, width: float) -> None:
        while length > 0:
            step = rng.uniform(3, 9)
            turn += rng.normal() * 0.35
            end = place + step * np.array([np.cos(turn), np.sin(turn)])
            line(crack, place, end, 1.0, max(1, round(width)))
            place, length = end, length - step
            width = max(0.8, width + rng.normal() * 0.25)
            if rng.random() < 0.03:
                aside = rng.choice((-1, 1)) * rng.uniform(0.5, 1.2)
                walk(place, turn + aside, length * 0.3, width * 0.7)

    start = rng.uniform([40, 60], [WIDTH - 40, HEIGHT - 60])
    walk(start, rng.uniform(0, 2 * np.pi), rng.uniform(40, 220), rng.uniform(1, 3))
    mask = ndimage.binary_dilation(crack > 0.3)
    return plane - crack * rng.uniform(0.08, 0.25), np.asarray(mask, np.bool_)


def taken(plane: Plane, rng: np.random.Generator) -> UInt8[np.ndarray, "h w"]:
    """Take a picture of a surface."""
    seen = cv2.GaussianBlur(plane, (0, 0), LENS) + NOISE * rng.normal(size=plane.shape)
    return np.asarray(np.clip(seen * 255, 0, 255).round(), np.uint8)


def write(path: Path, pixels: UInt8[np.ndarray, "h w"]) -> None:
    """Write a PNG, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)


def main() -> None:
    """Draw the pictures in MVTec layout."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", metavar="DIR", type=Path)
    root, rng = parser.parse_args().out / "commutator", np.random.default_rng(5)
    for number in range(TRAIN):
        write(root / "train" / "good" / f"{number:03}.png", taken(surface(rng), rng))
    for number in range(GOOD):
        write(root / "test" / "good" / f"{number:03}.png", taken(surface(rng), rng))
    for number in range(CRACKED):
        plane, mask = cracked(surface(rng), rng)
        write(root / "test" / "crack" / f"{number:03}.png", taken(plane, rng))
        truth = root / "ground_truth" / "crack" / f"{number:03}_mask.png"
        write(truth, mask.astype(np.uint8) * 255)


if __name__ == "__main__":
    main()
