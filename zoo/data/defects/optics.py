"""What a camera does to a picture, measured on good pictures: sharpness, noise, JPEG.

Synthetic defects pass through the same camera. Without it, a network learns that a painted change
is sharper and cleaner than the picture around it, which no real defect is.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image

from zoo.data.images import Tables, unit
from zoo.data.textures import Picture

PICTURES = 16  # that are measured; more change the figures by less than a tenth
_PRE, _POST = 0.8, 1.2  # standard deviations of the two blurs that are compared, in pixels
_GRADIENT = 1 / 3  # variance of a central difference over two pixels, as a blur along it
_STEEP = 0.98  # quantile of the gradients from which on a place is an edge
_SHARPEST = 0.2  # quantile of the widths of these edges: the widest are slopes of the material
_FEWEST_EDGES = 50
_FLAT_SHARE = 0.25  # of the blocks of a picture: those with the least structure show its noise
_BLOCK = 8
SHARPEST, SOFTEST = 0.5, 4.0  # pixels; outside of it an edge does not show the sharpness
LIKELY = 2.5  # pixels; cameras that are in focus have less


@dataclass(frozen=True, kw_only=True)
class Optics:
    """The camera of a texture; the defaults are a perfect one.

    Attributes:
        blur: Standard deviation of the point spread function, in pixels; None if the pictures have
            no edge that shows it. Each defect then has a sharpness of its own; see `focused`.
        noise: Standard deviation of the noise at black, as a share of the full scale.
        noise_gain: Growth of the variance of the noise from black to white.
        correlation: Correlation of the noise of neighbouring pixels, from 0 to 1.
        step: Step of the intensities, as a share of the full scale.
        tables: Quantisation tables of the JPEG files; None if the pictures are no JPEG files.
        white: The full scale as a share of that of the file: a camera of 12 bits uses a sixteenth
            of a file of 16.
    """

    blur: float | None = SHARPEST
    noise: float = 0.0
    noise_gain: float = 0.0
    correlation: float = 0.0
    step: float = 0.0
    tables: Tables | None = None
    white: float = 1.0

    def __str__(self) -> str:
        """Describe the camera in one line."""
        blur = (
            "no edge shows the sharpness"
            if self.blur is None
            else f"edges have a spread of {self.blur:.2f} pixels"
        )
        return (
            f"{blur}; noise is {100 * self.noise_at(0.5):.2f} % of the full scale in the middle "
            f"of it, with a correlation of {self.correlation:.2f}; "
            f"{'JPEG' if self.tables else 'no JPEG'}, steps of 1/{1 / max(self.step, 1e-5):.0f}"
            f"{f'; white is {self.white:.3g} of what the file allows' * (self.white < 1)}"
        )

    def light(self, pixels: Shaped[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w c"]:
        """Return the intensities of the pixels of a file, from 0 to 1 for white."""
        return unit(pixels) / np.float32(self.white)

    def focused(self, rng: np.random.Generator) -> Optics:
        """Return this camera, with a sharpness that is drawn where it is not known.

        A network that has seen defects of one sharpness only looks for it, and on a smooth surface
        nothing says which it should be.
        """
        if self.blur is not None:
            return self
        return replace(self, blur=float(np.exp(rng.uniform(*np.log((SHARPEST, LIKELY))))))

    def noise_at(self, level: float) -> float:
        """Return the standard deviation of the noise at an intensity in [0, 1]."""
        return float(np.sqrt(max(self.noise**2 + self.noise_gain * level, 0.0)))

    def softened(
        self, plane: Float[np.ndarray, "*shape"], *, drawn: float = 0.5
    ) -> Float[np.ndarray, "*shape"]:
        """Blur what was drawn with edges of the spread `drawn` to the sharpness of the camera."""
        extra = (self.blur or 0.0) ** 2 - drawn**2
        if extra < 0.05:
            return plane
        blurred = cv2.GaussianBlur(
            plane, (0, 0), float(np.sqrt(extra)), borderType=cv2.BORDER_REFLECT_101
        )
        return np.asarray(blurred.reshape(plane.shape), np.float32)

    def grain(
        self, level: Float[np.ndarray, "h w c"], rng: np.random.Generator
    ) -> Float[np.ndarray, "h w c"]:
        """Draw noise as strong and as fine as the camera's at these intensities."""
        noise = rng.standard_normal(level.shape, dtype=np.float32)
        if self.correlation > 0.02:
            side = self.correlation / (1 + np.sqrt(1 - min(self.correlation, 0.99) ** 2))
            kernel = np.array([side, 1.0, side], np.float32)
            kernel /= np.linalg.norm(kernel)
            filtered = cv2.sepFilter2D(noise, -1, kernel, kernel)
            noise = np.asarray(filtered.reshape(level.shape), np.float32)
        strength = np.sqrt(np.maximum(self.noise**2 + self.noise_gain * level, 0))
        return np.asarray(noise * strength, np.float32)

    def filed(self, pixels: Shaped[np.ndarray, "h w c"]) -> Shaped[np.ndarray, "h w c"]:
        """Write a picture to a file of the kind of the texture's, and read it again.

        Args:
            pixels: uint8 or uint16; only uint8 can be a JPEG file.
        """
        if self.tables is None or pixels.dtype != np.uint8:
            return pixels
        file = io.BytesIO()
        plain = pixels[..., 0] if pixels.shape[2] == 1 else pixels
        tables = {number: list(table) for number, table in enumerate(self.tables)}
        Image.fromarray(plain).save(file, "JPEG", qtables=tables, subsampling=0)
        with Image.open(file) as image:
            return np.asarray(image, np.uint8).reshape(pixels.shape)

    def exposed(
        self, image: Float[np.ndarray, "h w c"], dtype: np.dtype
    ) -> Shaped[np.ndarray, "h w c"]:
        """Return intensities from 0 to 1 as the pixels of a file of the texture."""
        top = np.iinfo(dtype).max * self.white
        levels = np.rint(np.clip(image, 0, 1) / self.step) * self.step if self.step else image
        return self.filed(np.rint(np.clip(levels, 0, 1) * top).astype(dtype))


def measure_optics(pictures: Sequence[Picture]) -> tuple[Optics, list[str]]:
    """Measure the camera of good pictures.

    Args:
        pictures: At least one.

    Returns:
        The camera, and lines for the user about what could not be measured.

    Source:
        Zhuo and Sim 2011, "Defocus map estimation from a single image" (the ratio of gradients
        before and after a known blur). Ours: the sharpest edges of all pictures count.
    """
    chosen = pictures[:: max(1, len(pictures) // PICTURES)][:PICTURES]
    white = _white([picture.pixels for picture in pictures])
    planes = [unit(picture.pixels).mean(axis=2) / np.float32(white) for picture in chosen]
    notes = []
    blur, why = _blur(planes)
    if why:
        notes.append(
            f"The sharpness of the pictures cannot be measured: {why}. Synthetic defects are "
            "painted from sharp to soft; check the focus of the camera."
        )
    noise, gain, correlation = _noise(planes)
    first = pictures[0].pixels
    tables = next((each.tables for each in chosen if each.tables), None)
    return (
        Optics(
            blur=blur,
            noise=noise,
            noise_gain=gain,
            correlation=correlation,
            step=_step([picture.pixels for picture in chosen]) / white,
            tables=tables if first.dtype == np.uint8 else None,
            white=white,
        ),
        notes,
    )


def _blur(planes: Sequence[Float[np.ndarray, "_ _"]]) -> tuple[float | None, str]:
    """Return the spread of the sharpest edges, or None and the reason."""
    widths = []
    for plane in planes:
        first = cv2.GaussianBlur(plane, (0, 0), _PRE)
        second = cv2.GaussianBlur(first, (0, 0), _POST)
        slopes = [np.hypot(*np.gradient(each)) for each in (first, second)]
        top = cv2.dilate(slopes[0], np.ones((3, 3), np.uint8))
        edge = (slopes[0] >= top) & (slopes[0] >= np.quantile(slopes[0], _STEEP))
        edge &= slopes[0] > max(8 * _mad(plane - first), 4e-3)
        ratio = slopes[0][edge] / np.maximum(slopes[1][edge], 1e-9)
        variance = _POST**2 / np.maximum(ratio**2 - 1, 1e-6) - _PRE**2 - _GRADIENT
        widths.append(np.sqrt(np.maximum(variance, 0)))
    found = np.concatenate(widths)
    if found.size < _FEWEST_EDGES:
        return None, f"they have only {found.size} edges that stand out from the noise"
    spread = float(np.quantile(found, _SHARPEST))
    if spread > SOFTEST:
        return None, f"even the sharpest edges are {spread:.1f} pixels wide"
    return max(spread, SHARPEST), ""


def _noise(planes: Sequence[Float[np.ndarray, "_ _"]]) -> tuple[float, float, float]:
    """Return the noise at black, the growth of its variance, and the correlation of neighbours."""
    levels, variances, shared = [], [], []
    for plane in planes:
        rows, columns = (side // _BLOCK * _BLOCK for side in plane.shape)
        if not rows or not columns:
            continue
        cells = plane[:rows, :columns].reshape(rows // _BLOCK, _BLOCK, columns // _BLOCK, _BLOCK)
        blocks = cells.transpose(0, 2, 1, 3).reshape(-1, _BLOCK, _BLOCK)
        # The second difference of a diagonal cancels slopes; its variance is that of the noise
        # times 4, if neighbours are independent.
        rest = blocks[:, 1:, 1:] - blocks[:, :-1, 1:] - blocks[:, 1:, :-1] + blocks[:, :-1, :-1]
        variance = rest.var(axis=(1, 2)) / 4
        flat = variance <= np.quantile(variance, _FLAT_SHARE)
        levels.append(blocks[flat].mean(axis=(1, 2)))
        variances.append(variance[flat])
        pairs = (rest[flat][:, :, 2:] * rest[flat][:, :, :-2]).mean()
        shared.append((float(pairs), float(rest[flat].var())))
    level, variance = np.concatenate(levels), np.concatenate(variances)
    base = float(np.median(variance))
    gain = 0.0
    if np.ptp(level) > 0.1:
        gain = float(np.clip(np.polyfit(level, variance, 1)[0], 0, 2 * base))
    black = max(base - gain * float(np.median(level)), 0.0)
    mean = [sum(each) for each in zip(*shared, strict=True)]
    correlation = float(np.clip(mean[0] / max(mean[1], 1e-12), 0, 0.9))
    return float(np.sqrt(black)), gain, correlation


def _white(pictures: Sequence[Shaped[np.ndarray, "_ _ _"]]) -> float:
    """Return the full scale of the camera, as a share of that of the file.

    It has as many bits as the brightest pixel, and at least 8.
    """
    top = int(np.iinfo(pictures[0].dtype).max)
    bits = max(8, *(int(pixels.max()).bit_length() for pixels in pictures))
    return float((2**bits - 1) / top)


def _step(pictures: Sequence[Shaped[np.ndarray, "_ _ _"]]) -> float:
    """Return the step of the intensities, as a share of the full scale."""
    values = np.unique(np.concatenate([np.unique(pixels) for pixels in pictures]))
    top = float(np.iinfo(pictures[0].dtype).max)
    gaps = [b - a for a, b in itertools.pairwise(values.astype(np.int64).tolist())]
    return float(np.gcd.reduce(gaps)) / top if gaps else 1 / top


def _mad(values: Float[np.ndarray, "_ _"]) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))
