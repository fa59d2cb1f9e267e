"""Random drawn textures, on which `make pretrained` trains; no photograph is among them.

A texture is drawn once, as a `Material`; each picture of it is another piece of the same material
under slightly different light.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy.random import Generator
from scipy import ndimage

from zoo.data.defects.optics import SHARPEST, Optics

SIDE = 256  # of a picture
PERIODS = (5.0, 48.0)  # pixels from one thread, cell or grain to the next

Plane = Float[np.ndarray, "h w"]
Piece = Callable[[Generator], Plane]


@dataclass(frozen=True, kw_only=True)
class Material:
    """A texture that pictures are taken of.

    Attributes:
        piece: Draws the relief of another piece, with a mean of about 0 and a deviation of about 1.
        blur: Standard deviation of the blur that the camera adds, in pixels.
        noise: Standard deviation of its noise, as a share of the full scale.
        colours: RGB of the lowest and of the highest places, in [0, 1].
        uneven: Relative deviation of the brightness between pictures.
    """

    piece: Piece
    blur: float
    noise: float
    colours: Float[np.ndarray, "2 3"]
    uneven: float

    @property
    def optics(self) -> Optics:
        """The camera, whose edges are as sharp as a pixel if it adds no blur."""
        return Optics(blur=float(np.hypot(SHARPEST, self.blur)), noise=self.noise, step=1 / 255)

    def picture(self, rng: Generator) -> UInt8[np.ndarray, "h w 3"]:
        """Take a picture of another piece."""
        high = np.clip(0.5 + 0.22 * self.piece(rng), 0, 1)[..., None]
        low, top = self.colours
        light = (low + (top - low) * high) * (1 + self.uneven * rng.normal())
        if self.blur:
            light = cv2.GaussianBlur(light, (0, 0), self.blur, borderType=cv2.BORDER_REFLECT_101)
        light = light + self.noise * rng.normal(size=light.shape)
        return np.asarray(np.rint(light.clip(0, 1) * 255), np.uint8)


def material(rng: Generator) -> Material:
    """Draw a texture: one of `KINDS`, perhaps lit from one side, with colours and a camera."""
    piece = KINDS[rng.integers(len(KINDS))](rng)
    if rng.random() < 0.3:
        piece = _lit(piece, rng)
    return Material(
        piece=piece,
        blur=float(rng.uniform(0.4, 1.6)) if rng.random() < 0.4 else 0.0,
        noise=float(rng.uniform(0, 0.015)),
        colours=_colours(rng),
        uneven=float(rng.uniform(0, 0.08)),
    )


def _colours(rng: Generator) -> Float[np.ndarray, "2 3"]:
    """Draw two shades, of grey or of nearly the same hue, at least .25 apart."""
    levels = np.sort(rng.uniform(0.05, 0.95, 2))
    if levels[1] - levels[0] < 0.25:
        levels = np.clip(levels.mean() + np.array([-0.15, 0.15]), 0.02, 0.98)
    hue = rng.uniform(0.5, 1.0, 3) if rng.random() < 0.5 else np.ones(3)
    other = np.clip(hue + rng.normal(0, 0.08, 3), 0.3, 1)
    return np.stack([levels[0] * hue, levels[1] * other])[:: rng.choice((-1, 1))]


def _period(rng: Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(PERIODS))))


def _standard(plane: Plane) -> Plane:
    return np.asarray((plane - plane.mean()) / max(float(plane.std()), 1e-6))


def _lit(piece: Piece, rng: Generator) -> Piece:
    """Light a relief from one side: what is bright is its slope."""
    turn = rng.uniform(0, 2 * np.pi)

    def lit(rng: Generator) -> Plane:
        rows, columns = np.gradient(ndimage.gaussian_filter(piece(rng), 1.0))
        return _standard(rows * np.sin(turn) + columns * np.cos(turn))

    return lit


def _clouds(rng: Generator) -> Piece:
    """Noise of one spectrum: a band, narrow or wide, perhaps longer in one direction."""
    rows, columns = np.meshgrid(*[np.fft.fftfreq(SIDE)] * 2, indexing="ij")
    turn, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(0, 1.8))
    along = (columns * np.cos(turn) + rows * np.sin(turn)) * stretch
    across = (rows * np.cos(turn) - columns * np.sin(turn)) / stretch
    far = np.hypot(along, across) + 1e-4
    band = np.exp(-(np.log(far * _period(rng)) ** 2) / (2 * rng.uniform(0.2, 1.2) ** 2))
    spectrum = band + rng.uniform(0, 0.01) * far ** -rng.uniform(0.3, 1.8)

    def clouds(rng: Generator) -> Plane:
        waves = np.fft.fft2(rng.normal(size=(SIDE, SIDE))) * spectrum
        return _standard(np.fft.ifft2(waves).real)

    return clouds


def _layers(rng: Generator) -> Piece:
    """The higher of two kinds of clouds at each place."""
    lower, upper, gain = _clouds(rng), _clouds(rng), rng.uniform(0.5, 1.5)
    return lambda rng: _standard(np.maximum(lower(rng), gain * upper(rng)))


def _fibres(rng: Generator) -> Piece:
    """Bent fibres, in all directions or nearly in one, on a ground."""
    ground, count = _clouds(rng), int(rng.uniform(60, 450))
    turn, spread = rng.uniform(0, np.pi), float(rng.choice((0.15, 3.0)))
    length, thick, bend = rng.uniform(30, 250), int(rng.integers(1, 5)), rng.uniform(0, 0.4)
    steps = np.linspace(0, 1, 12)

    def fibres(rng: Generator) -> Plane:
        plane = np.zeros((SIDE, SIDE), np.float32)
        for _ in range(count):
            turns = turn + spread * rng.normal() + bend * rng.normal() * 3 * steps
            start = rng.uniform(-40, SIDE + 40, 2)
            path = start + length * steps[:, None] * np.stack([np.cos(turns), np.sin(turns)], 1)
            shade = float(rng.uniform(0.4, 1))
            layer = np.zeros_like(plane)
            cv2.polylines(
                layer, [(path * 16).astype(np.int32)], False, shade, thick, cv2.LINE_AA, 4
            )
            plane = np.maximum(plane, layer)
        return _standard(plane) + 0.3 * ground(rng)

    return fibres


def _weave(rng: Generator) -> Piece:
    """Threads in one direction or two, from soft to sharp, a little out of place."""
    ground, wide, high = _clouds(rng), _period(rng), float(rng.uniform(0.5, 1.5))
    turn = float(rng.uniform(0, np.pi)) if rng.random() < 0.5 else 0.0
    sharp, crossed = rng.uniform(1, 7), rng.random() < 0.7
    shaken, rough = rng.uniform(0, 0.1) * wide, rng.uniform(0, 0.4)
    rows, columns = np.mgrid[:SIDE, :SIDE]

    def weave(rng: Generator) -> Plane:
        shift = shaken * _standard(ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 12))
        along = (columns * np.cos(turn) + rows * np.sin(turn) + shift) / wide
        across = (rows * np.cos(turn) - columns * np.sin(turn) + shift) / (wide * high)
        plane = np.tanh(sharp * np.cos(2 * np.pi * (along + rng.uniform())))
        if crossed:
            plane = plane + np.tanh(sharp * np.cos(2 * np.pi * (across + rng.uniform())))
        return _standard(plane) + rough * ground(rng)

    return weave


def _cells(rng: Generator) -> Piece:
    """Cells as of leather or gravel: the distance to the nearest of random points, and a shade."""
    ground, wide = _clouds(rng), max(8.0, _period(rng))
    sign, shades, rough = rng.choice((-1, 1)), rng.uniform(0, 1), rng.uniform(0, 0.4)
    count = int(1.3 * (SIDE / wide) ** 2) + 20

    def cells(rng: Generator) -> Plane:
        seeds = np.ones((SIDE, SIDE), np.bool_)
        rows, columns = rng.integers(0, SIDE, (2, count))
        seeds[rows, columns] = False
        far, (row, column) = ndimage.distance_transform_edt(seeds, return_indices=True)
        shade = rng.normal(size=(SIDE, SIDE))[row, column]
        return _standard(sign * _standard(far) + shades * shade) + rough * ground(rng)

    return cells


def _grain(rng: Generator) -> Piece:
    """Grain along one side, as of wood or brushed metal."""
    ground, rough = _clouds(rng), rng.uniform(0, 0.5)
    fine, long, turned = rng.uniform(0.7, 4), rng.uniform(15, 90), rng.random() < 0.5

    def grain(rng: Generator) -> Plane:
        plane = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), (long, fine), mode="wrap")
        return _standard(plane.T if turned else plane) + rough * ground(rng)

    return grain


KINDS: tuple[Callable[[Generator], Piece], ...] = (
    _clouds,
    _layers,
    _fibres,
    _weave,
    _cells,
    _grain,
)
