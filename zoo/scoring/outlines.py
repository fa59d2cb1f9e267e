"""Which pixels of a map are anomalous: a threshold, and a share of the peak near a pixel.

A map falls off around a defect over the receptive field of its method. Around a clear defect that
slope is above a threshold that finds faint ones; the peak near a pixel tells the two apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float

from zoo.errors import ConfigError
from zoo.scoring.metrics import f1_curve

REACH = 8  # pixels; the peak near a pixel is the highest value of the square of 17 around it
PREVALENCE = 0.005  # defective share of the pixels for which the threshold of a pixel is best
MOST_FALSE = 0.002  # share of the pixels of good pictures that may lie above it
SHARES_OF_PEAK = (0.0, 0.7, 0.75, 0.8, 0.85)  # that the outline of a defect may follow


def peaks_near(map_: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Return the highest value of a map within `REACH` pixels of each pixel, itself included."""
    around = np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)
    return np.asarray(cv2.dilate(map_, around))


def anomalous_pixels(
    map_: Float[np.ndarray, "h w"], *, threshold: float, share_of_peak: float = 0.0
) -> Bool[np.ndarray, "h w"]:
    """Return which pixels are above the threshold and not far below the highest one near them.

    Args:
        map_: Anomaly of each pixel.
        threshold: A pixel must be above it.
        share_of_peak: A pixel must have at least this share of the peak near it; 0 for no such
            limit. It has a meaning for a threshold above 0 only.

    Example:
        >>> slope = np.array([[0.0, 2.0, 3.0, 9.0, 3.0]], np.float32)
        >>> anomalous_pixels(slope, threshold=1.0, share_of_peak=0.5).tolist()
        [[False, False, False, True, False]]
    """
    above = np.asarray(map_ > threshold)
    if share_of_peak and above.any():
        above &= map_ >= share_of_peak * peaks_near(map_)
    return above


@dataclass(frozen=True, kw_only=True)
class PixelThreshold:
    """What a pixel must have to be anomalous, as `anomalous_pixels` takes it.

    Attributes:
        value: It must be above it.
        share_of_peak: It must have this share of the highest value near it.
    """

    value: float
    share_of_peak: float


def fit_pixel_threshold(
    maps: Sequence[Float[np.ndarray, "_ _"]],
    masks: Sequence[Bool[np.ndarray, "_ _"]],
    good: Sequence[Float[np.ndarray, "_ _"]],
    *,
    prevalence: float = PREVALENCE,
    most_false: float = MOST_FALSE,
    thin: int = 1,
) -> PixelThreshold:
    """Set which pixels are anomalous: those of the highest F1 on synthetic defects.

    Args:
        maps: Maps of windows with and without synthetic defects.
        masks: True where they are defective.
        good: Maps of good pictures. The threshold is at least so high that only the share
            `most_false` of their pixels is anomalous.
        prevalence: Share of defective pixels that F1 is meant for. Windows have more of them than
            pictures of a production line, and the best threshold depends on it.
        most_false: See `good`.
        thin: Every `thin`-th pixel in both directions is used.

    Raises:
        ConfigError: No pixel is defective, or all are.
    """
    labels = np.concatenate([each[::thin, ::thin].ravel() for each in masks])
    defective = int(labels.sum())
    if not 0 < defective < labels.size:
        raise ConfigError(
            f"A threshold of pixels needs defective and good ones; of {labels.size}, {defective} "
            "are defective. Give windows with synthetic defects."
        )
    (painted, around), (calm, calm_around) = (_pixels(each, thin) for each in (maps, good))
    best, reached = PixelThreshold(value=0.0, share_of_peak=0.0), -1.0
    for share in SHARES_OF_PEAK:
        limit, f1 = _best_limit(_outlined(painted, around, share), labels, prevalence)
        if f1 > reached and (not share or limit > 0):
            least = np.quantile(_outlined(calm, calm_around, share), 1 - most_false)
            best, reached = PixelThreshold(value=max(limit, float(least)), share_of_peak=share), f1
    return best


def _pixels(
    maps: Sequence[Float[np.ndarray, "_ _"]], thin: int
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return the values of the pixels of all maps, and the peaks near them."""
    values = [each[::thin, ::thin].ravel() for each in maps]
    peaks = [peaks_near(each)[::thin, ::thin].ravel() for each in maps]
    return np.concatenate(values), np.concatenate(peaks)


def _outlined(
    values: Float[np.ndarray, " n"], peaks: Float[np.ndarray, " n"], share_of_peak: float
) -> Float[np.ndarray, " n"]:
    """Return the values; where they are far below the peak near them, the lowest of all."""
    if not share_of_peak:
        return values
    return np.where(values < share_of_peak * peaks, values.min(), values)


def _best_limit(
    values: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"], prevalence: float
) -> tuple[float, float]:
    """Return the limit of the highest F1, in the middle between two values, and that F1."""
    found, f1 = f1_curve(values, labels, prevalence=prevalence)
    at = len(f1) - 1 - int(f1[::-1].argmax())
    best, below = float(found[at]), float(values[values < found[at]].max(initial=-np.inf))
    return (best + below) / 2 if np.isfinite(below) else best, float(f1[at])
