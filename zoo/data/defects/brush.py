"""Parameters of painting: the requested strength, and the statistics of the image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float

from zoo.data.defects.optics import Optics

_NOISE_MAX = 0.1  # stronger variation from pixel to pixel is structure, not noise

Pixels = Float[np.ndarray, "h w c"]
Plane = Float[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True)
class Brush:
    """Parameters of painting: the requested strength, and the statistics of the image.

    Attributes:
        rng: Source of all random numbers.
        contrast: Strength in (0, 1], faint to clear.
        donor: Image from which foreign texture is cut.
        low: Quantile 0.01 of the image's grey values.
        high: Quantile 0.99.
        spread: Standard deviation of the grey values.
        noise: Standard deviation of the noise from pixel to pixel.
        colour: How much a foreign tone may differ between channels; 0 on a grey image.
        optics: The camera; its noise is drawn on what is painted.
    """

    rng: np.random.Generator
    contrast: float
    donor: Float[np.ndarray, "_ _ c"]
    low: float
    high: float
    spread: float
    noise: float
    colour: float
    optics: Optics | None = None

    @property
    def visible(self) -> float:
        """Smallest change that counts as visible, given noise, grey range and 8 bits."""
        return max(0.8 * self.noise, 0.05 * (self.high - self.low), 0.6 / 255)

    def shift(self, patch: Pixels) -> Float[np.ndarray, " c"]:
        """Draw a change of tone, one value a channel, brighter or darker as the range allows."""
        clear = max(self.spread, 0.08 * self.high)  # on an even surface a small change is clear
        size = self.rng.uniform(0.5, 1.0) * (0.7 * self.spread + 2.3 * clear * self.contrast)
        beyond = 0.3 * self.spread + 0.2 * self.high * self.contrast
        mean = float(patch.mean())
        up, down = min(self.high + beyond, 1.0) - mean, mean - max(self.low - beyond, 0.0)
        brighter = self.rng.random() < 0.5 if min(up, down) > size else up > down
        size = min(size, max(up if brighter else down, self.spread))
        tint = 1.0 + self.colour * self.rng.standard_normal(patch.shape[2])
        return np.asarray(tint * (size if brighter else -size), dtype=np.float32)

    def grain(self, patch: Pixels) -> Float[np.ndarray, "h w 1"]:
        """Draw noise as strong as the image's; without it painted surfaces look too smooth.

        With a known camera its noise is drawn later, after the paint was blurred.
        """
        height, width, _ = patch.shape
        if self.optics is not None:
            return np.zeros((height, width, 1), np.float32)
        grain = self.rng.standard_normal((height, width, 1), dtype=np.float32)
        return grain * np.float32(self.noise)


def measure(
    image: Pixels,
    rng: np.random.Generator,
    contrast: float,
    donor: Float[np.ndarray, "_ _ c"],
    optics: Optics | None = None,
) -> Brush:
    """Measure the statistics of an image, and return its brush."""
    step = max(1, min(image.shape[:2]) // 64)
    sample = image[::step, ::step]
    grey = sample.mean(axis=2)
    low, high = np.quantile(grey, (0.01, 0.99))
    spread = max(float(grey.std()), 0.015)
    top, left = (max(0, (side - 128) // 2) for side in image.shape[:2])
    centre = np.ascontiguousarray(image[top : top + 128, left : left + 128, 0])
    # Source: Immerkaer 1996, "Fast noise variance estimation"; a median, for it ignores edges.
    edges = cv2.filter2D(centre, -1, np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32))
    return Brush(
        rng=rng,
        contrast=contrast,
        donor=donor,
        low=float(low),
        high=float(high),
        spread=spread,
        noise=min(1.4826 / 6 * float(np.median(np.abs(edges))), spread, _NOISE_MAX),
        colour=min(0.4, float(np.abs(sample - grey[..., None]).mean()) / spread),
        optics=optics and optics.focused(rng),
    )
