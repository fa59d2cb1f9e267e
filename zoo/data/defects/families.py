"""Families of synthetic defects. To add one, write its function and its line in `FAMILIES`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from zoo.data.defects.brush import Brush, Pixels, Plane
from zoo.data.defects.shapes import blurred, clouds, line, outline, relief

Painter = Callable[[Pixels, Brush], tuple[Pixels, Plane]]
Kind = Literal["matter", "line", "tone", "structure"]
PHOTOGRAPHS = ("brick", "grass", "gravel")  # CC0, in scikit-image; their own texture is foreign


@dataclass(frozen=True, kw_only=True)
class Family:
    """One kind of defect.

    Attributes:
        paint: Takes a square patch, and returns the painted patch and its opacity in [0, 1].
        kind: Foreign matter, a line, a change of tone, or a change of the texture's structure.
        reach: Length of a defect, as a multiple of the requested size.
        taught: Whether a training may use it. Some families only judge: a training with large
            changes that are hardly visible finds everything else less well.
        drawn: Whether the paint was drawn, and so did not pass through the camera yet. Other
            families use the pixels of pictures.
    """

    paint: Painter
    kind: Kind
    reach: float = 1.0
    taught: bool = True
    drawn: bool = True


def _cut_paste(patch: Pixels, brush: Brush) -> tuple[Pixels, Plane]:
    """Texture from another place, rotated, and magnified or reduced so that it does not fit."""
    rng, side = brush.rng, patch.shape[0]
    zoom = 2.0 ** (rng.choice((-1, 1)) * (0.3 + 0.9 * brush.contrast))
    height, width, _ = brush.donor.shape
    centre = (rng.uniform(0, width), rng.uniform(0, height))
    affine = cv2.getRotationMatrix2D(centre, rng.uniform(25, 155), zoom)
    affine[:, 2] += side / 2 - np.array(centre)
    fresh = cv2.warpAffine(
        brush.donor, affine, (side, side), borderMode=cv2.BORDER_REFLECT_101
    ).reshape(patch.shape)
    fresh = fresh + 0.15 * brush.contrast * brush.shift(patch)
    return fresh, outline(side, rng, soft=1.0) * np.float32(0.5 + 0.5 * brush.contrast)


def _noise_blob(patch: Pixels, brush: Brush) -> tuple[Pixels, Plane]:
    """A piece of foreign matter: ragged, of another tone, with a different surface."""
    rng, side = brush.rng, patch.shape[0]
    ragged = np.clip(3 * clouds(side, rng, cells=3) + 4, 0, 1)
    cover = blurred(outline(side, rng, aspect=(0.6, 1.0)) * ragged, 0.5)
    surface = clouds(side, rng, cells=max(4, side // 6))[..., None]
    level = patch.mean(axis=(0, 1)) + brush.shift(patch)
    lit = 0.35 * surface + 2 * relief(blurred(cover, 0.03 * side), rng)
    return level + np.float32(brush.spread) * lit + brush.grain(patch), cover


def _scratch(patch: Pixels, brush: Brush) -> tuple[Pixels, Plane]:
    """A thin, nearly straight groove, dark or bright, with a raised edge along it."""
    rng, side = brush.rng, patch.shape[0]
    steps = np.linspace(-1, 1, 12)
    turn, bend = rng.uniform(0, np.pi), rng.normal(0, 0.12)
    drift = bend * steps**2 + np.cumsum(rng.normal(0, 0.012, steps.size))
    along, across = np.array((np.cos(turn), np.sin(turn))), np.array((-np.sin(turn), np.cos(turn)))
    path = (side - 1) / 2 + side * 0.46 * (np.outer(steps, along) + np.outer(drift, across))
    widest = rng.uniform(0.01, 0.04) * side
    widths = widest * (1 - 0.8 * np.abs(steps)) * rng.uniform(0.6, 1.2, steps.size)
    cover = line(side, path, widths)
    level = patch.mean(axis=(0, 1)) + brush.shift(patch)
    return level + np.float32(brush.spread) * relief(cover, rng) + brush.grain(patch), cover


def _blur(patch: Pixels, brush: Brush) -> tuple[Pixels, Plane]:
    """The texture is lost: polished, molten or out of focus."""
    side = patch.shape[0]
    fresh = blurred(patch, side * (0.04 + 0.16 * brush.contrast))
    return fresh + 0.5 * brush.grain(patch), outline(side, brush.rng, soft=1.0 + 0.02 * side)


def _stain(patch: Pixels, brush: Brush) -> tuple[Pixels, Plane]:
    """A soft change of tone; the texture continues beneath it."""
    side = patch.shape[0]
    uneven = 1 + 0.2 * clouds(side, brush.rng, cells=2)[..., None]
    return patch + 0.6 * brush.shift(patch) * uneven, outline(side, brush.rng, soft=0.06 * side)


def _stretch(patch: Pixels, brush: Brush) -> tuple[Pixels, Plane]:
    """The texture is only displaced: shifted, twisted or magnified around a point."""
    rng, side = brush.rng, patch.shape[0]
    shape = outline(side, rng, aspect=(0.6, 1.0), soft=0.5)
    bump = blurred(shape * shape, 0.12 * side) * shape
    down, right = np.meshgrid(*[np.arange(side, dtype=np.float32)] * 2, indexing="ij")
    y, x = down - (side - 1) / 2, right - (side - 1) / 2
    amount = (0.25 + 0.6 * brush.contrast) * rng.choice((-1, 1))
    turn = rng.uniform(0, np.pi)
    push = 0.35 * side * np.cos(turn), 0.35 * side * np.sin(turn)
    dx, dy = ((push[0], push[1]), (-2.2 * y, 2.2 * x), (0.8 * x, 0.8 * y))[rng.integers(3)]
    strength = np.float32(amount) * bump
    fresh = cv2.remap(
        patch,
        (right + strength * dx).astype(np.float32),
        (down + strength * dy).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return fresh.reshape(patch.shape), (bump > 0.02).astype(np.float32)


def _thread(patch: Pixels, brush: Brush) -> tuple[Pixels, Plane]:
    """A long curved fibre on the texture, with its shadow beside it."""
    rng, side = brush.rng, patch.shape[0]
    steps = np.linspace(0, 1, 40)
    heading = rng.uniform(0, 6.28) + rng.normal(0, 1.2) * steps  # an arc with waves
    for waves in (1, 2, 4):
        phase = 2 * np.pi * (waves * steps + rng.random())
        heading += rng.normal(0, 1.0) / waves * np.sin(phase)
    path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0)
    path -= (path.max(axis=0) + path.min(axis=0)) / 2
    path = (side - 1) / 2 + path * (0.46 * side / max(np.abs(path).max(), 1.0))
    width = max(1.0, rng.uniform(0.01, 0.035) * side)
    fibre = line(side, path, np.full(40, width) * rng.uniform(0.75, 1.25, 40))
    shade = blurred(np.roll(fibre, rng.integers(-1, 2, 2) * int(width + 1), (0, 1)), 0.6 * width)
    level = patch.mean(axis=(0, 1)) + brush.shift(patch)
    twist = 0.4 * clouds(side, rng, cells=max(4, side // 4))[..., None]
    light = np.float32(brush.spread) * (twist + relief(fibre, rng))
    dark = 0.4 * patch
    fresh = dark + (level + light - dark) * fibre[..., None]
    return fresh, np.maximum(fibre, 0.35 * shade)


def _hole(patch: Pixels, brush: Brush) -> tuple[Pixels, Plane]:
    """A broken-out piece: angular, with an evenly dark or bright bottom and a lit rim."""
    rng, side = brush.rng, patch.shape[0]
    cover = outline(side, rng, corners=int(rng.integers(5, 11)), soft=0.5)
    shift = brush.shift(patch)
    rim = cover - blurred(cover, 0.5 + 0.02 * side) * cover
    slope = np.linspace(-0.3, 0.3, side, dtype=np.float32).reshape((side, 1, 1))
    bottom = patch.mean(axis=(0, 1)) + shift * (1.1 + slope)
    lit = 1.5 * np.float32(brush.spread) * relief(cover, rng)
    return bottom - 1.5 * shift * rim[..., None] + lit + brush.grain(patch), cover


def _contamination(patch: Pixels, brush: Brush) -> tuple[Pixels, Plane]:
    """A cluster of small specks, denser in the middle, each with its own tone."""
    rng, side = brush.rng, patch.shape[0]
    shape, tone = np.zeros((side, side), np.uint8), np.zeros((side, side), np.float32)
    for _ in range(int(rng.integers(4, 16))):
        spot = np.clip(rng.normal(0, 0.19, 2), -0.42, 0.42) * side + (side - 1) / 2
        radii = np.clip(rng.lognormal(-2.8, 0.5, 2) * side, 0.8, 0.12 * side)
        centre, axes = (np.rint(16 * pair).astype(int).tolist() for pair in (spot, radii))
        turn = rng.uniform(0, 180)
        cv2.ellipse(shape, centre, axes, turn, 0, 360, 255, -1, cv2.LINE_AA, 4)
        cv2.ellipse(tone, centre, axes, turn, 0, 360, rng.uniform(0.7, 1.3), -1, shift=4)
    cover = blurred(shape.astype(np.float32) / 255, 0.5)
    lit = 1.5 * np.float32(brush.spread) * relief(cover, rng)
    spread_out = cv2.dilate(tone, np.ones((3, 3), np.uint8))[..., None]  # below the soft edges too
    level = patch.mean(axis=(0, 1)) + brush.shift(patch) * spread_out
    return level + lit + brush.grain(patch), cover


def _smear(patch: Pixels, brush: Brush) -> tuple[Pixels, Plane]:
    """The texture is blurred into streaks along one direction."""
    rng, side = brush.rng, patch.shape[0]
    turn = rng.uniform(0, np.pi)
    reach = max(2.0, side * (0.08 + 0.2 * brush.contrast))
    size = 2 * int(reach) + 3
    ends = size / 2 - 0.5 + np.outer((-reach, reach), (np.cos(turn), np.sin(turn)))
    kernel = line(size, ends, np.ones(2))
    fresh = cv2.filter2D(patch, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)
    cover = outline(side, rng, aspect=(0.25, 0.5), turn=turn, soft=1.0 + 0.01 * side)
    return fresh.reshape(patch.shape) + 0.15 * brush.shift(patch) + 0.5 * brush.grain(patch), cover


def _gap(patch: Pixels, brush: Brush) -> tuple[Pixels, Plane]:
    """Structure is missing: wires, fibres or dots are replaced by the background around them."""
    rng, side = brush.rng, patch.shape[0]
    width = max(3.0, side * rng.uniform(0.15, 0.3))
    shrink = min(1.0, 9 / width)  # the result is smooth, so a smaller copy suffices
    small = cv2.resize(patch, (0, 0), fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(width * shrink / 2) + 1,) * 2)
    act = cv2.MORPH_CLOSE if rng.random() < 0.5 else cv2.MORPH_OPEN
    ground = blurred(cv2.morphologyEx(small, act, kernel), 0.15 * width * shrink)
    fresh = cv2.resize(ground, (side, side), interpolation=cv2.INTER_LINEAR).reshape(patch.shape)
    cover = outline(side, rng, soft=0.8) * np.float32(0.5 + 0.5 * brush.contrast)
    return fresh + brush.grain(patch), cover


def _crack(patch: Pixels, brush: Brush) -> tuple[Pixels, Plane]:
    """A thin crack with sharp bends and a branch, dark or bright, of varying depth."""
    rng, side = brush.rng, patch.shape[0]
    cover = np.zeros((side, side), np.float32)
    turn = rng.uniform(0, 2 * np.pi)
    middle, length = np.full(2, (side - 1) / 2), 0.9 * side
    start = middle - 0.5 * length * np.array((np.cos(turn), np.sin(turn)))
    width = max(1.0, rng.uniform(0.004, 0.016) * side)
    for branch in range(int(rng.integers(1, 4))):
        count = int(rng.integers(8, 20))
        bends = turn + np.cumsum(rng.normal(0, 0.22, count)) + rng.normal(0, 0.25, count)
        steps = np.stack([np.cos(bends), np.sin(bends)], axis=1) * (length / count)
        path = start + np.cumsum(np.vstack([np.zeros(2), steps]), axis=0)
        widths = width * np.linspace(1, 0.4, len(path)) * rng.uniform(0.6, 1.4, len(path))
        depth = np.float32(0.55 + 0.45 / (1 + branch))
        cover = np.maximum(cover, depth * line(side, path, widths))
        start = path[rng.integers(1, len(path) - 1)]  # where the next branch begins
        turn, length = turn + rng.choice((-1, 1)) * rng.uniform(0.4, 1.2), 0.45 * length
    uneven = np.clip(0.8 + 0.3 * clouds(side, rng, cells=4), 0.25, 1)
    return patch.mean(axis=(0, 1)) + 1.3 * brush.shift(patch) + brush.grain(patch), cover * uneven


def _soft_line(patch: Pixels, brush: Brush) -> tuple[Pixels, Plane]:
    """A long line with a soft profile, straight or slightly bent; the texture stays visible."""
    rng, side = brush.rng, patch.shape[0]
    turn, bend = rng.uniform(0, np.pi), rng.normal(0, 0.15)
    steps = np.linspace(-1, 1, 24)
    along, across = np.array((np.cos(turn), np.sin(turn))), np.array((-np.sin(turn), np.cos(turn)))
    path = (side - 1) / 2 + side * 0.47 * (
        np.outer(steps, along) + bend * np.outer(steps**2, across)
    )
    width = np.exp(rng.uniform(np.log(1.0), np.log(max(1.5, 0.04 * side))))
    cover = blurred(line(side, path, np.full(24, width)), 0.5 + 0.6 * width)
    cover = cover / max(float(cover.max()), 1e-6)
    faded = np.clip(0.8 + 0.35 * clouds(side, rng, cells=2), 0.2, 1)
    return patch + brush.shift(patch), np.asarray(cover * faded, np.float32)


def _faint(patch: Pixels, brush: Brush) -> tuple[Pixels, Plane]:
    """A large region of a slightly different tone with a wide soft edge."""
    side = patch.shape[0]
    cover = outline(side, brush.rng, aspect=(0.3, 1.0), soft=0.1 * side)
    return patch + 0.4 * brush.shift(patch), cover


def _disorder(patch: Pixels, brush: Brush) -> tuple[Pixels, Plane]:
    """The texture loses its regularity: every place is displaced by another distance."""
    rng, side = brush.rng, patch.shape[0]
    cells = int(np.clip(side / rng.uniform(8, 24), 2, 12))
    reach = np.float32(side / cells * (0.35 + 0.6 * brush.contrast))
    dx, dy = (reach * clouds(side, rng, cells=cells) for _ in range(2))
    down, right = np.meshgrid(*[np.arange(side, dtype=np.float32)] * 2, indexing="ij")
    fresh = cv2.remap(
        patch, right + dx, down + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return fresh.reshape(patch.shape), outline(side, rng, soft=0.8)


def _foreign(patch: Pixels, brush: Brush) -> tuple[Pixels, Plane]:
    """A piece of another material: a photograph of bricks, grass or gravel, brought to a tone."""
    rng, side = brush.rng, patch.shape[0]
    photo = photograph(PHOTOGRAPHS[rng.integers(len(PHOTOGRAPHS))])
    taken = int(np.clip(side * rng.uniform(0.6, 2.5), 8, min(photo.shape)))
    top, left = (int(rng.integers(0, length - taken + 1)) for length in photo.shape)
    piece = cv2.resize(
        np.rot90(photo[top : top + taken, left : left + taken], int(rng.integers(4))),
        (side, side),
        interpolation=cv2.INTER_AREA,
    )
    piece = (piece - piece.mean()) / max(float(piece.std()), 0.02)
    strength = np.float32(brush.spread * (0.4 + 0.8 * brush.contrast))
    level = patch.mean(axis=(0, 1)) + 0.8 * brush.shift(patch)
    ragged = np.clip(3 * clouds(side, rng, cells=3) + 4, 0, 1)
    cover = blurred(outline(side, rng, aspect=(0.5, 1.0)) * ragged, 0.5)
    return level + strength * piece[..., None], cover


@cache
def photograph(name: str) -> Plane:
    """Return a photograph of scikit-image, grey, in [0, 1]."""
    import skimage

    path = Path(skimage.__file__).parent / "data" / f"{name}.png"
    found = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert found is not None, path  # part of the package since its first release
    return np.asarray(found, np.float32) / 255


# A new family goes at the end: the validation windows of the others then stay the same.
FAMILIES: dict[str, Family] = {
    "cut_paste": Family(paint=_cut_paste, kind="structure", drawn=False),
    "noise_blob": Family(paint=_noise_blob, kind="matter"),
    "scratch": Family(paint=_scratch, kind="line", reach=3.0),
    "blur": Family(paint=_blur, kind="structure", drawn=False),
    # No foreign matter: the texture continues beneath a change of tone.
    "stain": Family(paint=_stain, kind="tone", reach=1.3, taught=False, drawn=False),
    # Neither foreign matter nor a change of tone: the texture is displaced, like a bent wire.
    "stretch": Family(paint=_stretch, kind="structure", reach=1.3, taught=False, drawn=False),
    "thread": Family(paint=_thread, kind="line", reach=3.0),
    "hole": Family(paint=_hole, kind="matter"),
    # Foreign matter, but in many small specks instead of one shape.
    "contamination": Family(paint=_contamination, kind="matter", reach=1.3),
    "smear": Family(paint=_smear, kind="structure", reach=1.5, drawn=False),
    "gap": Family(paint=_gap, kind="structure", drawn=False),
    "crack": Family(paint=_crack, kind="line", reach=4.0),
    "soft_line": Family(paint=_soft_line, kind="line", reach=5.0, drawn=False),
    "faint": Family(paint=_faint, kind="tone", reach=3.0, taught=False, drawn=False),
    "disorder": Family(paint=_disorder, kind="structure", taught=False, drawn=False),
    "foreign": Family(paint=_foreign, kind="matter"),
}
_KINDS: tuple[Kind, ...] = ("matter", "line", "tone", "structure")
_ROTATING: tuple[Kind, ...] = ("matter", "line")  # a training misses one taught family of each


def _judges(kind: Kind) -> list[str]:
    """Return the families of a kind that may judge: taught ones of matter and lines."""
    taught = kind in _ROTATING
    return [name for name, each in FAMILIES.items() if each.kind == kind and each.taught == taught]


ROTATIONS = math.lcm(*(len(_judges(kind)) for kind in _KINDS))  # then they begin again


def judged(seed: int) -> tuple[str, ...]:
    """Return the families of validation, one of each kind; they rotate over the seeds.

    No training of the same seed sees them. Without that, a search would prefer detectors that only
    recognise the paint of training.

    Example:
        >>> judged(0)
        ('noise_blob', 'scratch', 'stain', 'stretch')
    """
    names = [_judges(kind) for kind in _KINDS]
    return tuple(each[seed % len(each)] for each in names)


def held_out(seed: int) -> frozenset[str]:
    """Return the families that no training of this seed sees."""
    never = {name for name, family in FAMILIES.items() if not family.taught}
    return frozenset(never | set(judged(seed)))
