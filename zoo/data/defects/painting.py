"""Paint one synthetic defect on an image, as the camera of the texture would show it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float

from zoo.data.defects.brush import Brush, Pixels, Plane, measure
from zoo.data.defects.families import FAMILIES, Family
from zoo.data.defects.optics import Optics
from zoo.data.defects.shapes import blurred
from zoo.errors import BadImageError, ConfigError, did_you_mean

MARGIN = 2  # pixels around a mask in which changes that are not visible fade out
MIN_SIDE = 16  # pixels; a smaller image cannot hold both a defect and good texture
SOFTEST = 0.12  # largest additional blur of an outline, as a share of the defect's extent
LARGEST = 1.5  # of the shorter side of an image: the extent of a defect that leaves the image
_OUTSIDE = 0.5  # largest share of a defect's extent that may lie outside of the image
_VISIBLE_SHARE = 0.2  # of a shape; where less has changed visibly, it is painted again
_TRIES = 8


@dataclass(frozen=True, kw_only=True)
class Look:
    """The size and the strength of a defect.

    Attributes:
        size: Extent in (0, 1], as a share of the shorter side; multiplied by the family's reach. A
            defect that is longer than the image, or lies at its edge, leaves it.
        contrast: Strength in (0, 1], faint to clear for the image.
        softness: Standard deviation of an additional blur of the outline, as a share of the extent.
    """

    size: float
    contrast: float
    softness: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a size or a contrast that is out of its range."""
        for name in ("size", "contrast"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name} = {getattr(self, name)} is not above 0 and at most 1.")


def paint(
    image: Float[np.ndarray, "h w c"],
    family: str,
    *,
    rng: np.random.Generator,
    look: Look,
    donor: Float[np.ndarray, "h2 w2 c"],
    optics: Optics | None = None,
) -> tuple[Float[np.ndarray, "h w c"], Bool[np.ndarray, "h w"]]:
    """Return the image with one defect, and the mask of what visibly changed.

    The mask is never empty. A defect that is not visible (blur on a smooth area) is painted
    again in another place and stronger; if it is never visible, a hole is painted instead. Pixels
    further than `MARGIN` from the mask keep their values exactly.

    Args:
        image: Grey or RGB in [0, 1], at least 16 pixels high and wide.
        family: One of `FAMILIES`.
        rng: Source of random numbers for place, shape and tone.
        look: Its size and strength.
        donor: Another image of the texture, or the same one; foreign texture is cut from it.
        optics: The camera that the defect is seen through; None is a perfect one.

    Raises:
        ConfigError: The family is unknown.
        BadImageError: The image is too small.
    """
    _check(image, family)
    source = np.ascontiguousarray(image, dtype=np.float32)
    brush = measure(
        source, rng, look.contrast, np.ascontiguousarray(donor, dtype=np.float32), optics
    )
    kind = FAMILIES[family]
    side = extent(image.shape, look.size * kind.reach)
    for attempt in range(_TRIES):
        brush = replace(brush, contrast=min(1.0, look.contrast * 1.5**attempt))
        canvas, corner, inside = framed(source, side, rng)
        change, mask, shown = _stroke(kind, canvas, brush, look.softness * side)
        if shown >= _VISIBLE_SHARE and mask[inside].any():
            break
    else:
        # A hole is visible on any image.
        canvas, corner, inside = framed(source, min(side, *image.shape[:2]), rng, outside=0.0)
        change, mask, _ = _stroke(FAMILIES["hole"], canvas, replace(brush, contrast=1.0), 0.0)
    return laid(image, change, mask, corner, inside)


def extent(shape: tuple[int, ...], size: float) -> int:
    """Return the extent of a defect in pixels, for its size as a share of the shorter side."""
    shorter = min(shape[:2])
    return int(np.clip(round(size * shorter), 6, round(LARGEST * shorter)))


Corner = tuple[int, int]


def framed(
    source: Pixels, side: int, rng: np.random.Generator, *, outside: float = _OUTSIDE
) -> tuple[Float[np.ndarray, "s s c"], Corner, tuple[slice, slice]]:
    """Choose a place for a square, which may lie partly outside of the image.

    Args:
        source: The image.
        side: Of the square, in pixels.
        rng: Draws the place.
        outside: Largest share of the square's side beyond an edge.

    Returns:
        The pixels of the square, mirrored outside of the image; its corner in the image; and the
        part of the square that lies inside.
    """
    corner, needs = [], []
    for length in source.shape[:2]:
        most = max(round(outside * side), side - length)
        # Most defects lie inside: a place near an edge is not more likely than another.
        place = int(rng.integers(-most, length - side + most + 1))
        if side <= length and rng.random() < 0.5:
            place = int(np.clip(place, 0, length - side))
        corner.append(place)
        needs.append((max(0, -place), max(0, place + side - length)))
    (top, bottom), (left, right) = needs
    rows = slice(corner[0] + top, corner[0] + side - bottom)
    columns = slice(corner[1] + left, corner[1] + side - right)
    square = source[rows, columns]
    if top or bottom or left or right:
        square = cv2.copyMakeBorder(square, top, bottom, left, right, cv2.BORDER_REFLECT)
    inside = slice(top, side - bottom), slice(left, side - right)
    square = np.ascontiguousarray(square.reshape(side, side, -1))
    return square, (rows.start, columns.start), inside


def laid(
    image: Float[np.ndarray, "h w c"],
    change: Float[np.ndarray, "s s c"],
    mask: Float[np.ndarray, "s s"],
    corner: Corner,
    inside: tuple[slice, slice],
) -> tuple[Float[np.ndarray, "h w c"], Bool[np.ndarray, "h w"]]:
    """Add a change to an image where it is visible; around it the change fades out."""
    shown = np.ascontiguousarray(mask[inside])  # a mask outside of the image marks nothing in it
    fade = np.maximum(shown, cv2.blur(shown, (2 * MARGIN + 1, 2 * MARGIN + 1)))[..., None]
    height, width, _ = fade.shape
    box = (slice(corner[0], corner[0] + height), slice(corner[1], corner[1] + width))
    painted, full = image.copy(), np.zeros(image.shape[:2], dtype=np.bool_)
    touched = np.clip(image[box].astype(np.float32) + change[inside] * fade, 0, 1)
    painted[box] = np.where(fade > 0, touched, image[box])
    full[box] = shown > 0
    return painted, full


def _stroke(
    family: Family, patch: Pixels, brush: Brush, soft: float
) -> tuple[Float[np.ndarray, "h w c"], Plane, float]:
    """Paint one square; return the change, its mask, and the visible share of the shape."""
    fresh, cover = family.paint(patch, brush)
    change = seen_by_camera(np.clip(fresh, 0, 1), cover, patch, brush, family.drawn, soft)
    return change, *visible(change, cover, brush)


def seen_by_camera(
    fresh: Pixels, cover: Plane, patch: Pixels, brush: Brush, drawn: bool, soft: float
) -> Pixels:
    """Return the change of a square, with the sharpness and the noise of the camera.

    Args:
        fresh: The material of the defect, in [0, 1].
        cover: Its opacity.
        patch: The square before.
        brush: Its camera is used, if it has one.
        drawn: Whether `fresh` was drawn; pixels of pictures have passed through the camera.
        soft: Standard deviation of an additional blur of the cover, in pixels.
    """
    optics = brush.optics
    if soft > 0.3:
        cover = blurred(cover, soft)
    if optics is not None:
        cover = optics.softened(cover)
        if drawn:
            fresh = optics.softened(fresh)
            fresh = fresh + optics.grain(np.clip(fresh, 0, 1), brush.rng)
    return np.asarray(cover[..., None] * (np.clip(fresh, 0, 1) - patch), np.float32)


def visible(change: Pixels, cover: Plane, brush: Brush) -> tuple[Plane, float]:
    """Return the mask of what has changed visibly, and the visible share of the shape."""
    side, largest = len(cover), strongest(change)
    # Single pixels of noise are not what one sees of a change that went through the camera.
    size = largest if brush.optics is None else strongest(cv2.blur(change, (3, 3)))
    seen = (size > brush.visible).astype(np.uint8)
    gaps = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5) if side < 64 else (7, 7))
    closed = cv2.morphologyEx(seen, cv2.MORPH_CLOSE, gaps)
    shape = cv2.dilate((cover > 0.1).astype(np.uint8), np.ones((3, 3), np.uint8))
    mask = (closed * shape * (largest > 0)).astype(np.float32)
    return mask, float(mask.sum() / max(int((cover > 0.3).sum()), 4))


def strongest(change: Float[np.ndarray, "s s *c"]) -> Float[np.ndarray, "s s"]:
    """Return the largest absolute change over the channels."""
    channels = np.abs(change.reshape(*change.shape[:2], -1))
    found = channels[..., 0]
    for channel in range(1, channels.shape[2]):  # much faster than a maximum along the last axis
        found = np.maximum(found, channels[..., channel])
    return np.asarray(found)


def _check(image: Pixels, family: str) -> None:
    if family not in FAMILIES:
        raise ConfigError(
            f"There is no defect family '{family}'; there are {', '.join(FAMILIES)}."
            f"{did_you_mean(family, FAMILIES)}"
        )
    height, width, _ = image.shape
    if min(height, width) < MIN_SIDE:
        raise BadImageError(
            f"An image of {height}x{width} pixels is too small for a defect; "
            f"it takes {MIN_SIDE}x{MIN_SIDE}."
        )
