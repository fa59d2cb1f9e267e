"""Synthetic defects with masks, painted on real good images, in families.

They stand in for the labelled defects that nobody has: `validation_set` makes what detectors are
chosen by, `training_pair` makes fakes for the discriminator. Every strength is measured against
the image's own statistics, so a dark micrograph and a bright tile both get faint and clear ones,
and a mask is where the picture visibly changed, not where a brush passed.

Three families are never used by `training_pair`. A detector that learnt only to recognise our
brushes would otherwise win the search. They differ in kind from the rest and from one another:

- `contamination`: foreign matter, but in many small specks instead of one shape;
- `stain`: no foreign matter, the texture goes on beneath a change of tone;
- `stretch`: neither matter nor tone, the texture is only displaced, as in a bent wire.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float, Shaped
from PIL import Image, ImageDraw

from zoo.errors import BadImageError, ConfigError, EmptyFolderError, did_you_mean
from zoo.textures import Picture, unit

HELD_OUT = frozenset({"contamination", "stain", "stretch"})
MARGIN = 2  # pixels around a mask in which a change too faint to count fades out
WINDOW = 512  # pixels; largest side of what validation defects are painted on
SIZES = (0.03, 0.25)  # thin wires to large blotches, in shares of the shorter side of a window
# A smaller picture shows the same things, as large as they are: they fill more of it. Bounds of
# what they may fill, in shares of its shorter side.
_IN_SMALL = (0.05, 0.6)
_CROP_SIZES = (0.06, 0.5)  # the same defects fill more of a training crop than of a window
_SMALLEST = 16  # pixels; in less there is no room for a defect and some good texture
_SHOWN = 0.2  # share of a shape that must have changed visibly, else it is painted again
_TRIES = 8
_NOISIEST = 0.1  # what flickers more from pixel to pixel is structure, not noise

_Pixels = Float[np.ndarray, "h w c"]
_Plane = Float[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True)
class Defective:
    """One window of a good picture with one defect on it.

    Attributes:
        image: The window, in the dtype of its picture.
        mask: True where it was visibly changed.
        family: The kind of defect, one of `FAMILIES`.
        source: Key of the picture it was painted on.
    """

    image: Shaped[np.ndarray, "h w c"]
    mask: Bool[np.ndarray, "h w"]
    family: str
    source: str


@dataclass(frozen=True, kw_only=True)
class _Brush:
    """What a family paints with: the strength asked for, and the scales of the image.

    Attributes:
        rng: Draws everything random.
        contrast: Strength in (0, 1], faint to clear.
        donor: Where foreign texture comes from.
        low: Nearly the darkest grey of the image.
        high: Nearly the brightest.
        spread: Standard deviation of its greys.
        noise: Standard deviation of its finest noise.
        colour: How much a foreign tone may differ between channels; 0 on a grey image.
    """

    rng: np.random.Generator
    contrast: float
    donor: Float[np.ndarray, "_ _ c"]
    low: float
    high: float
    spread: float
    noise: float
    colour: float

    @property
    def visible(self) -> float:
        """Least change that counts: over the noise, the tones, and one step of an 8-bit image."""
        return max(0.8 * self.noise, 0.05 * (self.high - self.low), 0.6 / 255)

    def shift(self, patch: _Pixels) -> Float[np.ndarray, " c"]:
        """Draw a change of tone, one value a channel, to the side where there is room for it."""
        clear = max(self.spread, 0.08 * self.high)  # on an even surface little is already clear
        size = self.rng.uniform(0.5, 1.0) * (0.7 * self.spread + 2.3 * clear * self.contrast)
        beyond = 0.3 * self.spread + 0.2 * self.high * self.contrast
        mean = float(patch.mean())
        up, down = min(self.high + beyond, 1.0) - mean, mean - max(self.low - beyond, 0.0)
        brighter = self.rng.random() < 0.5 if min(up, down) > size else up > down
        size = min(size, max(up if brighter else down, self.spread))
        tint = 1.0 + self.colour * self.rng.standard_normal(patch.shape[2])
        return np.asarray(tint * (size if brighter else -size), dtype=np.float32)

    def grain(self, patch: _Pixels) -> Float[np.ndarray, "h w 1"]:
        """Draw the image's own noise, without which a painted surface looks too clean."""
        height, width, _ = patch.shape
        grain = self.rng.standard_normal((height, width, 1), dtype=np.float32)
        return grain * np.float32(self.noise)


def _measure(
    image: _Pixels, rng: np.random.Generator, contrast: float, donor: Float[np.ndarray, "_ _ c"]
) -> _Brush:
    step = max(1, min(image.shape[:2]) // 64)
    sample = image[::step, ::step]
    grey = sample.mean(axis=2)
    low, high = np.quantile(grey, (0.01, 0.99))
    spread = max(float(grey.std()), 0.015)
    top, left = (max(0, (side - 128) // 2) for side in image.shape[:2])
    centre = np.ascontiguousarray(image[top : top + 128, left : left + 128, 0])
    # Immerkaer 1996, "Fast noise variance estimation", with a median that edges do not move.
    edges = cv2.filter2D(centre, -1, np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32))
    return _Brush(
        rng=rng,
        contrast=contrast,
        donor=donor,
        low=float(low),
        high=float(high),
        spread=spread,
        noise=min(1.4826 / 6 * float(np.median(np.abs(edges))), spread, _NOISIEST),
        colour=min(0.4, float(np.abs(sample - grey[..., None]).mean()) / spread),
    )


def _outline(
    side: int,
    rng: np.random.Generator,
    *,
    aspect: tuple[float, float] = (0.45, 1.0),
    turn: float | None = None,
    corners: int = 48,
    soft: float = 0.6,
) -> Float[np.ndarray, "{side} {side}"]:
    """Draw an irregular filled shape: round with many corners, a splinter with few.

    Args:
        side: Height and width of the plane, in pixels; the shape fills it.
        rng: Draws the shape.
        aspect: Range of its short to its long axis.
        turn: Direction of the long axis, in radians; None draws it.
        corners: How many; fewer than a dozen look broken, not grown.
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
    room = max(side / 2 - 1 - 1.5 * soft, side / 4)
    plane = np.zeros((side, side), np.uint8)
    fixed = np.rint((points.T * room + (side - 1) / 2) * 16).astype(np.int32)
    cv2.fillPoly(plane, [fixed], 255, lineType=cv2.LINE_AA, shift=4)
    return _blurred(plane.astype(np.float32) / 255, soft)


def _line(
    side: int, path: Float[np.ndarray, "n 2"], widths: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "{side} {side}"]:
    """Draw a line of varying width through points (x, y), all in pixels."""
    plane = np.zeros((side, side), np.uint8)
    fixed = np.rint(path * 16).astype(int).tolist()
    for start, end, width in zip(fixed, fixed[1:], np.rint(widths).astype(int), strict=False):
        cv2.line(plane, start, end, 255, max(1, int(width)), cv2.LINE_AA, 4)
    return _blurred(plane.astype(np.float32) / 255, 0.4)


def _clouds(
    side: int, rng: np.random.Generator, *, cells: int
) -> Float[np.ndarray, "{side} {side}"]:
    """Draw smooth noise of mean 0 and deviation near 1, with about `cells` clouds along a side."""
    total = np.zeros((side, side), np.float32)
    for octave in range(3):
        count = min(cells * 2**octave + 1, side)
        grid = rng.standard_normal((count, count), dtype=np.float32)
        total += cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC) / 2**octave
    return total


def _blurred(image: Float[np.ndarray, "*shape"], sigma: float) -> Float[np.ndarray, "*shape"]:
    sigma = max(sigma, 0.3)  # cv2 refuses 0
    blurred = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred.reshape(image.shape), dtype=np.float32)


def _relief(cover: _Plane, rng: np.random.Generator) -> Float[np.ndarray, "h w 1"]:
    """Light the edges of a shape from one side and shade them on the other, in [-1, 1]."""
    light = rng.uniform(0, 2 * np.pi)
    across, down = (cv2.Sobel(cover, -1, dx, 1 - dx, ksize=3, scale=0.25) for dx in (1, 0))
    lit = np.cos(light) * across + np.sin(light) * down
    return np.asarray(lit[..., None], dtype=np.float32)


def _cut_paste(patch: _Pixels, brush: _Brush) -> tuple[_Pixels, _Plane]:
    """Texture of another place, turned, and magnified or shrunk so that it does not fit in."""
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
    return fresh, _outline(side, rng, soft=1.0) * np.float32(0.5 + 0.5 * brush.contrast)


def _noise_blob(patch: _Pixels, brush: _Brush) -> tuple[_Pixels, _Plane]:
    """A lump of foreign matter: ragged, of another tone, with a surface of its own."""
    rng, side = brush.rng, patch.shape[0]
    ragged = np.clip(3 * _clouds(side, rng, cells=3) + 4, 0, 1)
    cover = _blurred(_outline(side, rng, aspect=(0.6, 1.0)) * ragged, 0.5)
    surface = _clouds(side, rng, cells=max(4, side // 6))[..., None]
    level = patch.mean(axis=(0, 1)) + brush.shift(patch)
    lit = 0.35 * surface + 2 * _relief(_blurred(cover, 0.03 * side), rng)
    return level + np.float32(brush.spread) * lit + brush.grain(patch), cover


def _scratch(patch: _Pixels, brush: _Brush) -> tuple[_Pixels, _Plane]:
    """A thin, nearly straight groove, dark or bright, with a burr along it."""
    rng, side = brush.rng, patch.shape[0]
    steps = np.linspace(-1, 1, 12)
    turn, bend = rng.uniform(0, np.pi), rng.normal(0, 0.12)
    drift = bend * steps**2 + np.cumsum(rng.normal(0, 0.012, steps.size))
    along, across = np.array((np.cos(turn), np.sin(turn))), np.array((-np.sin(turn), np.cos(turn)))
    path = (side - 1) / 2 + side * 0.46 * (np.outer(steps, along) + np.outer(drift, across))
    widest = rng.uniform(0.01, 0.04) * side
    widths = widest * (1 - 0.8 * np.abs(steps)) * rng.uniform(0.6, 1.2, steps.size)
    cover = _line(side, path, widths)
    level = patch.mean(axis=(0, 1)) + brush.shift(patch)
    return level + np.float32(brush.spread) * _relief(cover, rng) + brush.grain(patch), cover


def _blur(patch: _Pixels, brush: _Brush) -> tuple[_Pixels, _Plane]:
    """The texture lost: polished, molten or out of focus."""
    side = patch.shape[0]
    fresh = _blurred(patch, side * (0.04 + 0.16 * brush.contrast))
    return fresh + 0.5 * brush.grain(patch), _outline(side, brush.rng, soft=1.0 + 0.02 * side)


def _stain(patch: _Pixels, brush: _Brush) -> tuple[_Pixels, _Plane]:
    """A soft change of tone, with the texture going on beneath it."""
    side = patch.shape[0]
    uneven = 1 + 0.2 * _clouds(side, brush.rng, cells=2)[..., None]
    return patch + 0.6 * brush.shift(patch) * uneven, _outline(side, brush.rng, soft=0.06 * side)


def _stretch(patch: _Pixels, brush: _Brush) -> tuple[_Pixels, _Plane]:
    """The texture pushed aside, twisted or magnified around a point, and nothing else."""
    rng, side = brush.rng, patch.shape[0]
    shape = _outline(side, rng, aspect=(0.6, 1.0), soft=0.5)
    bump = _blurred(shape * shape, 0.12 * side) * shape
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


def _thread(patch: _Pixels, brush: _Brush) -> tuple[_Pixels, _Plane]:
    """A long curved fibre lying on the texture, with its shadow beside it."""
    rng, side = brush.rng, patch.shape[0]
    steps = np.linspace(0, 1, 40)
    heading = rng.uniform(0, 6.28) + rng.normal(0, 1.2) * steps  # an arc, with waves on it
    for waves in (1, 2, 4):
        phase = 2 * np.pi * (waves * steps + rng.random())
        heading += rng.normal(0, 1.0) / waves * np.sin(phase)
    path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0)
    path -= (path.max(axis=0) + path.min(axis=0)) / 2
    path = (side - 1) / 2 + path * (0.46 * side / max(np.abs(path).max(), 1.0))
    width = max(1.0, rng.uniform(0.01, 0.035) * side)
    fibre = _line(side, path, np.full(40, width) * rng.uniform(0.75, 1.25, 40))
    shade = _blurred(np.roll(fibre, rng.integers(-1, 2, 2) * int(width + 1), (0, 1)), 0.6 * width)
    level = patch.mean(axis=(0, 1)) + brush.shift(patch)
    twist = 0.4 * _clouds(side, rng, cells=max(4, side // 4))[..., None]
    light = np.float32(brush.spread) * (twist + _relief(fibre, rng))
    dark = 0.4 * patch
    fresh = dark + (level + light - dark) * fibre[..., None]
    return fresh, np.maximum(fibre, 0.35 * shade)


def _hole(patch: _Pixels, brush: _Brush) -> tuple[_Pixels, _Plane]:
    """A broken-out piece: an angular, evenly dark or bright floor, and a rim that catches light."""
    rng, side = brush.rng, patch.shape[0]
    cover = _outline(side, rng, corners=int(rng.integers(5, 11)), soft=0.5)
    shift = brush.shift(patch)
    rim = cover - _blurred(cover, 0.5 + 0.02 * side) * cover
    slope = np.linspace(-0.3, 0.3, side, dtype=np.float32).reshape((side, 1, 1))
    floor = patch.mean(axis=(0, 1)) + shift * (1.1 + slope)
    lit = 1.5 * np.float32(brush.spread) * _relief(cover, rng)
    return floor - 1.5 * shift * rim[..., None] + lit + brush.grain(patch), cover


def _contamination(patch: _Pixels, brush: _Brush) -> tuple[_Pixels, _Plane]:
    """A cluster of small specks, dense in the middle, each with its own tone."""
    rng, side = brush.rng, patch.shape[0]
    shape, tone = np.zeros((side, side), np.uint8), np.zeros((side, side), np.float32)
    for _ in range(int(rng.integers(4, 16))):
        spot = np.clip(rng.normal(0, 0.19, 2), -0.42, 0.42) * side + (side - 1) / 2
        radii = np.clip(rng.lognormal(-2.8, 0.5, 2) * side, 0.8, 0.12 * side)
        centre, axes = (np.rint(16 * pair).astype(int).tolist() for pair in (spot, radii))
        turn = rng.uniform(0, 180)
        cv2.ellipse(shape, centre, axes, turn, 0, 360, 255, -1, cv2.LINE_AA, 4)
        cv2.ellipse(tone, centre, axes, turn, 0, 360, rng.uniform(0.7, 1.3), -1, shift=4)
    cover = _blurred(shape.astype(np.float32) / 255, 0.5)
    lit = 1.5 * np.float32(brush.spread) * _relief(cover, rng)
    spread_out = cv2.dilate(tone, np.ones((3, 3), np.uint8))[..., None]  # under the soft edges too
    level = patch.mean(axis=(0, 1)) + brush.shift(patch) * spread_out
    return level + lit + brush.grain(patch), cover


def _smear(patch: _Pixels, brush: _Brush) -> tuple[_Pixels, _Plane]:
    """The texture drawn out into streaks along one direction."""
    rng, side = brush.rng, patch.shape[0]
    turn = rng.uniform(0, np.pi)
    reach = max(2.0, side * (0.08 + 0.2 * brush.contrast))
    size = 2 * int(reach) + 3
    ends = size / 2 - 0.5 + np.outer((-reach, reach), (np.cos(turn), np.sin(turn)))
    kernel = _line(size, ends, np.ones(2))
    fresh = cv2.filter2D(patch, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)
    cover = _outline(side, rng, aspect=(0.25, 0.5), turn=turn, soft=1.0 + 0.01 * side)
    return fresh.reshape(patch.shape) + 0.15 * brush.shift(patch) + 0.5 * brush.grain(patch), cover


def _gap(patch: _Pixels, brush: _Brush) -> tuple[_Pixels, _Plane]:
    """Structure missing: wires, fibres or dots taken out, the ground closed over them."""
    rng, side = brush.rng, patch.shape[0]
    width = max(3.0, side * rng.uniform(0.15, 0.3))
    shrink = min(1.0, 9 / width)  # what is left is smooth, so a small copy will do
    small = cv2.resize(patch, (0, 0), fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(width * shrink / 2) + 1,) * 2)
    act = cv2.MORPH_CLOSE if rng.random() < 0.5 else cv2.MORPH_OPEN
    ground = _blurred(cv2.morphologyEx(small, act, kernel), 0.15 * width * shrink)
    fresh = cv2.resize(ground, (side, side), interpolation=cv2.INTER_LINEAR).reshape(patch.shape)
    cover = _outline(side, rng, soft=0.8) * np.float32(0.5 + 0.5 * brush.contrast)
    return fresh + brush.grain(patch), cover


_Painter = Callable[[_Pixels, _Brush], tuple[_Pixels, _Plane]]
# Each with its reach: how many times longer than `size` the family is.
_PAINTERS: dict[str, tuple[_Painter, float]] = {
    "cut_paste": (_cut_paste, 1.0),
    "noise_blob": (_noise_blob, 1.0),
    "scratch": (_scratch, 3.0),
    "blur": (_blur, 1.0),
    "stain": (_stain, 1.3),
    "stretch": (_stretch, 1.3),
    "thread": (_thread, 3.0),
    "hole": (_hole, 1.0),
    "contamination": (_contamination, 1.3),
    "smear": (_smear, 1.5),
    "gap": (_gap, 1.0),
}
FAMILIES: tuple[str, ...] = tuple(_PAINTERS)
TRAINED: tuple[str, ...] = tuple(family for family in FAMILIES if family not in HELD_OUT)


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

    The mask is never empty. A defect that does not show (blur on a smooth spot) is painted
    again elsewhere and stronger; if the image has nothing to blur, bend or paste, a hole takes
    its place. Beyond `MARGIN` pixels around the mask not one value differs.

    Args:
        image: Grey or RGB in [0, 1], at least 16 pixels high and wide.
        family: One of `FAMILIES`.
        rng: Draws place, shape and tone.
        size: Extent in (0, 1], in shares of the shorter side; scratches and threads are thrice
            as long.
        contrast: Strength in (0, 1], faint to clear for this image.
        donor: Another image of the texture, or the same, to cut from.

    Raises:
        ConfigError: No such family, or a size or contrast out of range.
        BadImageError: The image is too small.
    """
    _check(image, family, size, contrast)
    source = np.ascontiguousarray(image, dtype=np.float32)
    brush = _measure(source, rng, contrast, np.ascontiguousarray(donor, dtype=np.float32))
    painter, reach = _PAINTERS[family]
    shorter = min(image.shape[:2])
    side = int(np.clip(round(size * reach * shorter), 6, shorter))
    for attempt in range(_TRIES):
        brush = replace(brush, contrast=min(1.0, contrast * 1.5**attempt))
        corner = _place(source.shape, side, rng)
        change, mask, shown = _stroke(painter, source, corner, side, brush)
        if shown >= _SHOWN:
            break
    else:
        # A hole shows on anything, and is no held-out family that training must not see.
        change, mask, _ = _stroke(_hole, source, corner, side, replace(brush, contrast=1.0))
    top, left = corner
    fade = np.maximum(mask, cv2.blur(mask, (2 * MARGIN + 1, 2 * MARGIN + 1)))
    painted, full = image.copy(), np.zeros(image.shape[:2], dtype=np.bool_)
    box = slice(top, top + side), slice(left, left + side)
    touched = np.clip(source[box] + change * fade[..., None], 0, 1)
    painted[box] = np.where(fade[..., None] > 0, touched, image[box])
    full[box] = mask > 0
    return painted, full


def _stroke(
    painter: _Painter, image: _Pixels, corner: tuple[int, int], side: int, brush: _Brush
) -> tuple[Float[np.ndarray, "s s c"], Float[np.ndarray, "s s"], float]:
    """Let a family paint one square, and return the change, its mask, and how much of it shows."""
    top, left = corner
    patch = np.ascontiguousarray(image[top : top + side, left : left + side])
    fresh, cover = painter(patch, brush)
    change = cover[..., None] * (np.clip(fresh, 0, 1) - patch)
    seen = (np.abs(change).max(axis=2) > brush.visible).astype(np.uint8)
    gaps = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5) if side < 64 else (7, 7))
    seen = cv2.morphologyEx(seen, cv2.MORPH_CLOSE, gaps) * (cover > 0.1)
    shown = float(seen.sum() / max(int((cover > 0.3).sum()), 4))
    return change, seen.astype(np.float32), shown


def _check(image: _Pixels, family: str, size: float, contrast: float) -> None:
    if family not in _PAINTERS:
        raise ConfigError(
            f"There is no defect family '{family}'; there are {', '.join(FAMILIES)}."
            f"{did_you_mean(family, FAMILIES)}"
        )
    for name, value in (("size", size), ("contrast", contrast)):
        if not 0 < value <= 1:
            raise ConfigError(f"{name} = {value} is not above 0 and at most 1.")
    height, width, _ = image.shape
    if min(height, width) < _SMALLEST:
        raise BadImageError(
            f"An image of {height}x{width} pixels is too small for a defect; "
            f"it takes {_SMALLEST}x{_SMALLEST}."
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
    """Return the image with one to three defects of `TRAINED` families, and their joint mask.

    Args:
        image: A crop of a good image in [0, 1], at least 16 pixels high and wide.
        rng: Draws families, sizes and contrasts.
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


def _window(picture: Picture, window: int, rng: np.random.Generator) -> Picture:
    """Cut a square of at most `window` pixels a side at a random place."""
    height, width = (min(side, window) for side in picture.pixels.shape[:2])
    top = int(rng.integers(0, picture.pixels.shape[0] - height + 1))
    left = int(rng.integers(0, picture.pixels.shape[1] - width + 1))
    return replace(picture, pixels=picture.pixels[top : top + height, left : left + width])


def _defective(
    good: Picture,
    donor: Picture,
    family: str,
    *,
    rng: np.random.Generator,
    size: float,
    contrast: float,
) -> Defective:
    painted, mask = paint(
        unit(good.pixels), family, rng=rng, size=size, contrast=contrast, donor=unit(donor.pixels)
    )
    dtype = good.pixels.dtype
    image = np.rint(painted * np.iinfo(dtype).max).astype(dtype)
    return Defective(image=image, mask=mask, family=family, source=good.key)


def sizes_on(side: int, window: int = WINDOW) -> tuple[float, float]:
    """Return the smallest and largest defect of validation, in shares of a picture's shorter side.

    Args:
        side: Of the picture, in pixels; from `window` on the shares are `SIZES`.
        window: The side that `SIZES` is meant for, in pixels.

    Example:
        >>> sizes_on(512), sizes_on(128)
        ((0.03, 0.25), (0.05, 0.6))
    """
    grown = window / min(side, window)
    return min(SIZES[0] * grown, _IN_SMALL[0]), min(SIZES[1] * grown, _IN_SMALL[1])


def validation_set(
    pictures: Sequence[Picture], *, seed: int, per_family: int = 4, window: int = WINDOW
) -> tuple[Defective, ...]:
    """Return `per_family` defective windows of every family, family by family.

    The pictures take turns in an order drawn by the seed. Within a family the sizes ascend
    evenly over `sizes_on` the window, and the contrasts cover faint to clear in a drawn order.

    Args:
        pictures: Good images that training does not see; donors come from them as well.
        seed: Another seed draws other windows, shapes and tones throughout.
        per_family: How many windows of each family.
        window: Largest height and width, in pixels; a smaller picture is used whole.

    Raises:
        EmptyFolderError: There is no picture.
        ConfigError: `per_family` or `window` is too small.
        BadImageError: A picture is too small for a defect.
    """
    if not pictures:
        raise EmptyFolderError("There is no good picture to paint validation defects on.")
    if per_family < 1 or window < _SMALLEST:
        raise ConfigError(
            f"per_family = {per_family} and window = {window}; "
            f"they must be at least 1 and {_SMALLEST}."
        )
    order = np.random.default_rng(seed).permutation(len(pictures))
    validation: list[Defective] = []
    for family in FAMILIES:
        # Seeded by its name, so that a new family leaves the others as they were.
        rng = np.random.default_rng((seed, zlib.crc32(family.encode())))
        contrasts = (rng.permutation(per_family) + rng.random(per_family)) / per_family
        for index in range(per_family):
            turn = len(validation)
            good = _window(pictures[order[turn % len(order)]], window, rng)
            other = order[(turn + rng.integers(1, max(2, len(order)))) % len(order)]
            donor = _window(pictures[other], window, rng)
            share = (index + rng.random()) / per_family
            smallest, largest = sizes_on(min(good.pixels.shape[:2]), window)
            size = smallest * (largest / smallest) ** share
            contrast = 0.05 + 0.95 * contrasts[index]
            validation.append(
                _defective(good, donor, family, rng=rng, size=size, contrast=contrast)
            )
    return tuple(validation)


def fingerprint(validation: Sequence[Defective]) -> str:
    """Return `sha256:` and the hash of every pixel, mask, family and source, in order."""
    digest = hashlib.sha256()
    for defective in validation:
        image, mask = defective.image, defective.mask
        digest.update(f"{defective.family} {defective.source} ".encode())
        digest.update(f"{image.dtype} {image.shape} ".encode())
        digest.update(np.ascontiguousarray(image).tobytes())
        digest.update(np.packbits(mask).tobytes())
    return f"sha256:{digest.hexdigest()}"


def sheet(pictures: Sequence[Picture], *, seed: int) -> Image.Image:
    """Return one row a family: windows of growing size and contrast, each beside its outlined mask.

    Args:
        pictures: Good images to paint on.
        seed: Draws places, shapes and tones.

    Raises:
        EmptyFolderError: There is no picture.
        BadImageError: A picture is too small for a defect.
    """
    if not pictures:
        raise EmptyFolderError("There is no good picture to paint a sheet of defects on.")
    columns, cell, label = 5, 192, 120
    page = Image.new("RGB", (label + columns * 2 * cell, len(FAMILIES) * cell), "white")
    draw = ImageDraw.Draw(page)
    rng = np.random.default_rng(seed)
    for row, family in enumerate(FAMILIES):
        draw.text((4, row * cell + 4), family, fill="black")
        if family in HELD_OUT:
            draw.text((4, row * cell + 20), "held out", fill="red")
        for column in range(columns):
            share = (column + 0.5) / columns
            good, donor = (
                _window(pictures[i], 320, rng) for i in rng.integers(len(pictures), size=2)
            )
            size = SIZES[0] * (SIZES[1] / SIZES[0]) ** share
            shown = _defective(good, donor, family, rng=rng, size=size, contrast=share)
            for place, tile in enumerate(_tiles(shown, cell)):
                page.paste(tile, (label + (2 * column + place) * cell, row * cell))
    return page


def _tiles(shown: Defective, cell: int) -> tuple[Image.Image, Image.Image]:
    """Return the window, and the window with its mask outlined in red."""
    scale = (cell - 4) / max(shown.mask.shape)
    height, width = (max(1, round(side * scale)) for side in shown.mask.shape)
    levels = np.rint(unit(shown.image) * 255).astype(np.uint8)
    rgb = np.repeat(levels, 3, axis=2) if levels.shape[2] == 1 else levels
    plain = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    mask = cv2.resize(shown.mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    outline = cv2.dilate(mask, np.ones((3, 3), np.uint8)) > mask
    outlined = plain.copy()
    outlined[outline] = (255, 0, 0)
    return Image.fromarray(plain), Image.fromarray(outlined)
