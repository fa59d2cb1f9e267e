"""Paint one synthetic defect on an image, and make the pairs used in training."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Bool, Float

from zoo.data.defects.brush import Brush, Pixels, measure
from zoo.data.defects.families import FAMILIES, TRAINED, Painter
from zoo.errors import BadImageError, ConfigError, did_you_mean

MARGIN = 2  # pixels around a mask in which changes that are not visible fade out
_CROP_SIZES = (0.06, 0.5)  # a defect fills a larger share of a training crop than of a window
MIN_SIDE = 16  # pixels; a smaller image cannot hold both a defect and good texture
_VISIBLE_SHARE = 0.2  # of a shape; where less has changed visibly, it is painted again
_TRIES = 8


def paint(
    image: Float[np.ndarray, "h w c"],
    family: str,
    *,
    rng: np.random.Generator,
    size: float,
    contrast: float,
    donor: Float[np.ndarray, "h2 w2 c"],
) -> tuple[Float[np.ndarray, "h w c"], Bool[np.ndarray, "h w"]]:
    """Return the image with one defect, and the mask of what visibly changed.

    The mask is never empty. A defect that is not visible (blur on a smooth area) is painted
    again in another place and stronger; if it is never visible, a hole is painted instead. Pixels
    further than `MARGIN` from the mask keep their values exactly.

    Args:
        image: Grey or RGB in [0, 1], at least 16 pixels high and wide.
        family: One of `FAMILIES`.
        rng: Source of random numbers for place, shape and tone.
        size: Extent in (0, 1], as a share of the shorter side; multiplied by the family's reach.
        contrast: Strength in (0, 1], faint to clear for this image.
        donor: Another image of the texture, or the same one; foreign texture is cut from it.

    Raises:
        ConfigError: The family is unknown, or a size or contrast is out of range.
        BadImageError: The image is too small.
    """
    _check(image, family, size, contrast)
    source = np.ascontiguousarray(image, dtype=np.float32)
    brush = measure(source, rng, contrast, np.ascontiguousarray(donor, dtype=np.float32))
    kind = FAMILIES[family]
    shorter = min(image.shape[:2])
    side = int(np.clip(round(size * kind.reach * shorter), 6, shorter))
    for attempt in range(_TRIES):
        brush = replace(brush, contrast=min(1.0, contrast * 1.5**attempt))
        corner = _place(source.shape, side, rng)
        change, mask, shown = _stroke(kind.paint, source, corner, side, brush)
        if shown >= _VISIBLE_SHARE:
            break
    else:
        # A hole is visible on any image, and training may see it.
        hole, clearest = FAMILIES["hole"].paint, replace(brush, contrast=1.0)
        change, mask, _ = _stroke(hole, source, corner, side, clearest)
    top, left = corner
    fade = np.maximum(mask, cv2.blur(mask, (2 * MARGIN + 1, 2 * MARGIN + 1)))
    painted, full = image.copy(), np.zeros(image.shape[:2], dtype=np.bool_)
    box = slice(top, top + side), slice(left, left + side)
    touched = np.clip(source[box] + change * fade[..., None], 0, 1)
    painted[box] = np.where(fade[..., None] > 0, touched, image[box])
    full[box] = mask > 0
    return painted, full


def _stroke(
    painter: Painter, image: Pixels, corner: tuple[int, int], side: int, brush: Brush
) -> tuple[Float[np.ndarray, "s s c"], Float[np.ndarray, "s s"], float]:
    """Paint one square; return the change, its mask, and the visible share of the shape."""
    top, left = corner
    patch = np.ascontiguousarray(image[top : top + side, left : left + side])
    fresh, cover = painter(patch, brush)
    change = cover[..., None] * (np.clip(fresh, 0, 1) - patch)
    seen = (np.abs(change).max(axis=2) > brush.visible).astype(np.uint8)
    gaps = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5) if side < 64 else (7, 7))
    seen = cv2.morphologyEx(seen, cv2.MORPH_CLOSE, gaps) * (cover > 0.1)
    shown = float(seen.sum() / max(int((cover > 0.3).sum()), 4))
    return change, seen.astype(np.float32), shown


def _check(image: Pixels, family: str, size: float, contrast: float) -> None:
    if family not in FAMILIES:
        raise ConfigError(
            f"There is no defect family '{family}'; there are {', '.join(FAMILIES)}."
            f"{did_you_mean(family, FAMILIES)}"
        )
    for name, value in (("size", size), ("contrast", contrast)):
        if not 0 < value <= 1:
            raise ConfigError(f"{name} = {value} is not above 0 and at most 1.")
    height, width, _ = image.shape
    if min(height, width) < MIN_SIDE:
        raise BadImageError(
            f"An image of {height}x{width} pixels is too small for a defect; "
            f"it takes {MIN_SIDE}x{MIN_SIDE}."
        )


def _place(shape: tuple[int, ...], side: int, rng: np.random.Generator) -> tuple[int, int]:
    top, left = (int(rng.integers(0, length - side + 1)) for length in shape[:2])
    return top, left


def training_pair(
    image: Float[np.ndarray, "h w c"],
    *,
    rng: np.random.Generator,
    donor: Float[np.ndarray, "h2 w2 c"],
) -> tuple[Float[np.ndarray, "h w c"], Bool[np.ndarray, "h w"]]:
    """Return the image with one to three defects of `TRAINED` families, and their common mask.

    Args:
        image: A crop of a good image in [0, 1], at least 16 pixels high and wide.
        rng: Source of random numbers for families, sizes and contrasts.
        donor: Another crop or image of the texture.

    Raises:
        BadImageError: The image is too small.
    """
    mask = np.zeros(image.shape[:2], dtype=np.bool_)
    smallest, largest = np.log(_CROP_SIZES)
    for _ in range(int(rng.integers(1, 4))):
        image, added = paint(
            image,
            TRAINED[rng.integers(len(TRAINED))],
            rng=rng,
            size=float(np.exp(rng.uniform(smallest, largest))),
            contrast=float(rng.uniform(0.05, 1.0)),
            donor=donor,
        )
        mask |= added
    return image, mask
