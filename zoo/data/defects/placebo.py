"""Placebos: the same edit as a defect, with good material in it, labelled good.

A placebo is a control. What fires on it has learned the edit and not the defect. Good material
must fit its place, or it is a defect: a wire that is shifted, a knot of wood on the conveyor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Shaped

from zoo.data.defects.brush import Pixels, Plane, measure
from zoo.data.defects.families import FAMILIES
from zoo.data.defects.optics import Optics
from zoo.data.defects.painting import framed, laid, seen_by_camera

# Families whose shape is cut out of the picture; the others displace or blur what is there.
SHAPES = tuple(
    name for name, family in FAMILIES.items() if family.drawn and family.kind in ("matter", "line")
)
PICTURES = 24  # pictures that give material
SEARCHED = 320  # pixels; side of the part of a donor that is searched for a place that fits
SIDE = 96  # pixels; largest side of a square that is compared, larger ones are reduced
_PROBES = 128  # places at which it is measured whether surroundings foretell what lies inside
_PROBE = 48  # pixels; side of these places
# Where the best surroundings leave less than this share of the difference between two random
# places, the texture is arranged, and material has to fit its place.
ARRANGED = 0.7
_WORST = 0.5  # quantile of the mismatch of good places: beyond it nothing fits


@dataclass(frozen=True, kw_only=True)
class Donors:
    """Good pictures as a source of material, and how well it must fit its place.

    Attributes:
        images: Good pictures, in [0, 1].
        foretold: Difference of two places with alike surroundings, as a share of that of two random
            places; 1 is a texture in which any place is as good as another.
        limit: Largest mismatch of surroundings, as a share of the spread of grey values; beyond it
            there is no placebo. Infinite where material need not fit.
    """

    images: Sequence[Float[np.ndarray, "_ _ c"]]
    foretold: float
    limit: float

    @property
    def arranged(self) -> bool:
        """Whether material must fit its place."""
        return self.foretold < ARRANGED

    def material(self, patch: Pixels, keep: Plane, rng: np.random.Generator) -> Pixels | None:
        """Return good material for a square, or None if nothing fits.

        Args:
            patch: The square of the picture that gets the material.
            keep: True (1) where the square stays as it is.
            rng: Draws the donor.
        """
        image = self.images[int(rng.integers(len(self.images)))]
        side = len(patch)
        if min(image.shape[:2]) < side:
            return None
        if not self.arranged:
            top, left = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
            return np.asarray(image[top : top + side, left : left + side])
        searched = _part(image, max(SEARCHED, round(1.5 * side)), rng)
        (top, left), mismatch = _best_place(searched, patch, keep)
        if mismatch > self.limit:
            return None
        return np.asarray(searched[top : top + side, left : left + side])


def material(
    pixels: Sequence[Shaped[np.ndarray, "_ _ c"]], optics: Optics
) -> list[Float[np.ndarray, "_ _ c"]]:
    """Return up to about `PICTURES` of these uint8 or uint16 pictures, spread evenly, in [0, 1]."""
    return [optics.light(each) for each in pixels[:: max(1, len(pixels) // PICTURES)]]


def donors_of(images: Sequence[Float[np.ndarray, "_ _ c"]], *, seed: int = 0) -> Donors:
    """Measure whether the surroundings of a place foretell what lies inside.

    In a wire grid they do, in leather they do not.

    Args:
        images: Good pictures in [0, 1]; of those smaller than 48 pixels nothing can be told.
        seed: Of the places that are compared.
    """
    rng = np.random.default_rng(seed)
    keep = np.ones((_PROBE, _PROBE), np.float32)
    border = _PROBE // 4
    keep[border:-border, border:-border] = 0
    best, chance, mismatches = [], [], []
    large = [image for image in images if min(image.shape[:2]) >= 2 * _PROBE]
    for _ in range(_PROBES if large else 0):
        one, other = (large[int(index)] for index in rng.integers(len(large), size=2))
        patch = _part(one, _PROBE, rng)
        searched = _part(other, SEARCHED, rng)
        (top, left), mismatch = _best_place(searched, patch, keep)
        found = searched[top : top + _PROBE, left : left + _PROBE]
        mismatches.append(mismatch)
        best.append(_difference(found, patch, keep == 0))
        chance.append(_difference(_part(other, _PROBE, rng), patch, keep == 0))
    if not best:
        return Donors(images=images, foretold=1.0, limit=np.inf)
    foretold = float(np.median(best) / max(np.median(chance), 1e-6))
    limit = float(np.quantile(mismatches, _WORST)) if foretold < ARRANGED else np.inf
    return Donors(images=images, foretold=foretold, limit=limit)


def placebo(
    image: Float[np.ndarray, "h w c"],
    *,
    rng: np.random.Generator,
    side: int,
    donors: Donors,
    optics: Optics | None = None,
    softness: float = 0.0,
) -> tuple[Float[np.ndarray, "h w c"], Bool[np.ndarray, "h w"]] | None:
    """Return the image with good material of another place, and where it is; None if none fits.

    The shape and its edge are those of a random family. The material is shifted to the mean tone of
    its place.

    Args:
        image: In [0, 1].
        rng: Source of random numbers.
        side: Extent of the shape, in pixels.
        donors: Where the material comes from.
        optics: The camera.
        softness: As in `paint`.
    """
    source = np.ascontiguousarray(image, dtype=np.float32)
    brush = measure(source, rng, float(rng.uniform(0.05, 1.0)), source[:2, :2], optics)
    patch, corner, inside = framed(source, side, rng)
    family = FAMILIES[SHAPES[rng.integers(len(SHAPES))]]
    _, cover = family.paint(patch, brush)
    keep = (cover < 0.1).astype(np.float32)
    fresh = donors.material(patch, keep, rng)
    if fresh is None:
        return None
    weight = np.maximum(cover, 1e-6)[..., None]
    shift = ((patch - fresh) * weight).sum(axis=(0, 1)) / weight.sum()
    change = seen_by_camera(fresh + shift, cover, patch, brush, False, softness * side)
    mask = (cover > 0.1).astype(np.float32)
    if not mask[inside].any():
        return None
    return laid(image, change, mask, corner, inside)


def _part(image: Pixels, side: int, rng: np.random.Generator) -> Float[np.ndarray, "h2 w2 c"]:
    """Cut a square of at most this side at a random place."""
    height, width = (min(length, side) for length in image.shape[:2])
    top = int(rng.integers(0, image.shape[0] - height + 1))
    left = int(rng.integers(0, image.shape[1] - width + 1))
    return image[top : top + height, left : left + width]


def _best_place(
    searched: Float[np.ndarray, "h2 w2 c"], patch: Pixels, keep: Plane
) -> tuple[tuple[int, int], float]:
    """Return the corner at which the surroundings fit best, and the difference there.

    The difference is the root mean square over the kept pixels, as a share of the spread of the
    part that is searched.
    """
    shrink = min(1.0, SIDE / len(patch))
    where, what = (np.ascontiguousarray(each.mean(axis=2)) for each in (searched, patch))
    if shrink < 1:
        where, what = (
            cv2.resize(each, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
            for each in (where, what)
        )
        keep = cv2.resize(keep, what.shape[::-1], interpolation=cv2.INTER_NEAREST)
    squares = cv2.matchTemplate(where, what, cv2.TM_SQDIFF, mask=keep)
    squares = np.nan_to_num(squares, nan=np.inf, posinf=np.inf)
    row, column = np.unravel_index(int(squares.argmin()), squares.shape)
    error = np.sqrt(max(float(squares[row, column]), 0) / max(float(keep.sum()), 1.0))
    limit = [length - len(patch) for length in searched.shape[:2]]
    corner = (min(round(row / shrink), limit[0]), min(round(column / shrink), limit[1]))
    return corner, float(error / max(float(where.std()), 1e-3))


def _difference(one: Pixels, other: Pixels, where: Bool[np.ndarray, "s s"]) -> float:
    return float(np.sqrt(np.square(one - other)[where].mean()))
