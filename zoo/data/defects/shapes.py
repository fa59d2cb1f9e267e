"""Shapes that defect families paint: outlines, lines, smooth noise, blur and relief."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float

from zoo.data.defects.brush import Plane


def outline(
    side: int,
    rng: np.random.Generator,
    *,
    aspect: tuple[float, float] = (0.45, 1.0),
    turn: float | None = None,
    corners: int = 48,
    soft: float = 0.6,
) -> Float[np.ndarray, "{side} {side}"]:
    """Draw an irregular filled shape: round with many corners, angular with few.

    Args:
        side: Height and width of the plane, in pixels; the shape fills it.
        rng: Source of random numbers.
        aspect: Range of the ratio of its short to its long axis.
        turn: Direction of the long axis, in radians; None draws it.
        corners: Number of corners; with fewer than 12 the shape is angular.
        soft: Standard deviation of the edge's blur, in pixels.
    """
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radius = np.ones(corners)
    if corners < 12:
        radius = rng.uniform(0.55, 1.0, corners)
    for wave in range(2, 7):
        radius += 0.3 / wave * rng.standard_normal() * np.cos(wave * angles + rng.uniform(0, 6.28))
    radius = np.clip(radius, 0.25, None) / radius.max()
    along, across = radius * np.cos(angles), radius * np.sin(angles) * rng.uniform(*aspect)
    turn = rng.uniform(0, np.pi) if turn is None else turn
    points = np.stack(
        [np.cos(turn) * along - np.sin(turn) * across, np.sin(turn) * along + np.cos(turn) * across]
    )
    extent = max(side / 2 - 1 - 1.5 * soft, side / 4)
    plane = np.zeros((side, side), np.uint8)
    fixed = np.rint((points.T * extent + (side - 1) / 2) * 16).astype(np.int32)
    cv2.fillPoly(plane, [fixed], 255, lineType=cv2.LINE_AA, shift=4)
    return blurred(plane.astype(np.float32) / 255, soft)


def line(
    side: int, path: Float[np.ndarray, "n 2"], widths: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "{side} {side}"]:
    """Draw a line of varying width through points (x, y), all in pixels."""
    plane = np.zeros((side, side), np.uint8)
    fixed = np.rint(path * 16).astype(int).tolist()
    for start, end, width in zip(fixed, fixed[1:], np.rint(widths).astype(int), strict=False):
        cv2.line(plane, start, end, 255, max(1, int(width)), cv2.LINE_AA, 4)
    return blurred(plane.astype(np.float32) / 255, 0.4)


def clouds(
    side: int, rng: np.random.Generator, *, cells: int
) -> Float[np.ndarray, "{side} {side}"]:
    """Draw smooth noise of mean 0 and deviation near 1, with about `cells` periods along a side."""
    total = np.zeros((side, side), np.float32)
    for octave in range(3):
        count = min(cells * 2**octave + 1, side)
        grid = rng.standard_normal((count, count), dtype=np.float32)
        total += cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC) / 2**octave
    return total


def blurred(image: Float[np.ndarray, "*shape"], sigma: float) -> Float[np.ndarray, "*shape"]:
    """Blur an image with a Gaussian of this standard deviation, in pixels."""
    sigma = max(sigma, 0.3)  # OpenCV refuses 0
    blurred = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred.reshape(image.shape), dtype=np.float32)


def relief(cover: Plane, rng: np.random.Generator) -> Float[np.ndarray, "h w 1"]:
    """Light the edges of a shape from a random side and shade the opposite ones, in [-1, 1]."""
    light = rng.uniform(0, 2 * np.pi)
    across, down = (cv2.Sobel(cover, -1, dx, 1 - dx, ksize=3, scale=0.25) for dx in (1, 0))
    lit = np.cos(light) * across + np.sin(light) * down
    return np.asarray(lit[..., None], dtype=np.float32)
