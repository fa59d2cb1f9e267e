"""The result of a detector for one picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Float

if TYPE_CHECKING:
    from zoo.scoring.regions import Region


Verdict = Literal["good", "look again", "defective"]


@dataclass(frozen=True, kw_only=True)
class Score:
    """The result of a detector for one picture.

    Attributes:
        map: Anomaly of each pixel, "h w" like the picture, float32; higher is more anomalous.
        score: Anomaly of the picture: the mean of the highest pixels of the map.
        p_value: The share of the calibration pictures and this one that score as high or higher.
            None if there were too few calibration pictures to set the threshold by rank.
        threshold: A score or a pixel above it is anomalous. It is 1: the score is divided by the
            detector's limit of pictures, the map by its limit of pixels, which is usually higher.
        look_again: A score above it, up to the threshold, calls for a second look; it is the
            threshold for a detector that gives two answers.
        share_of_peak: An anomalous pixel has at least this share of the highest value near it, so
            that outlines do not follow the slopes of the map around a clear defect.
        smallest_region: Pixels of a region; good pictures rarely have one of so many.
        statistics: Light, detail and colour of the picture and the median of its map, by the names
            of `zoo.data.statistics`; empty if the detector does not know those of good pictures.
        warnings: A line for each statistic that is outside of what the good pictures had: the score
            may then be wrong. The part before the first colon is the same for all pictures.
    """

    map: Float[np.ndarray, "h w"]
    score: float
    p_value: float | None = None
    threshold: float = 1.0
    look_again: float = 1.0
    share_of_peak: float = 0.0
    smallest_region: int = 1
    statistics: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def is_anomalous(self) -> bool:
        """Whether the picture is above the threshold."""
        return self.score > self.threshold

    @property
    def verdict(self) -> Verdict:
        """The answer in words."""
        if self.is_anomalous:
            return "defective"
        return "look again" if self.score > self.look_again else "good"

    @property
    def mask(self) -> Bool[np.ndarray, "h w"]:
        """Which pixels are anomalous: those above the threshold, without slopes around them."""
        from zoo.scoring.outlines import anomalous_pixels

        return anomalous_pixels(
            self.map, threshold=self.threshold, share_of_peak=self.share_of_peak
        )

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """Connected pixels above the threshold, the highest peak first, without small regions."""
        from zoo.scoring.regions import find_regions

        return find_regions(
            self.map,
            np.asarray(self.map > self.threshold),
            outlined=self.mask,
            smallest=self.smallest_region,
        )

    def as_json(self) -> dict[str, Any]:
        """Return all but the map, for JSON; the score is rounded."""
        return {
            "score": round(self.score, 6),
            "threshold": self.threshold,
            "verdict": self.verdict,
            "p_value": self.p_value,
            "is_anomalous": self.is_anomalous,
            "anomalous_pixels": int(self.mask.sum()),
            "regions": [region.as_json() for region in self.regions],
            "statistics": {name: round(value, 6) for name, value in self.statistics.items()},
            "warnings": list(self.warnings),
        }

    def __repr__(self) -> str:
        """Show everything but the pixels."""
        height, width = self.map.shape
        warned = f", warnings={len(self.warnings)}" * bool(self.warnings)
        return (
            f"Score(score={self.score:.4g}, threshold={self.threshold:.4g}, "
            f"verdict='{self.verdict}', map={height}x{width}{warned})"
        )


def calibrated(raw: Any, threshold: float) -> Any:
    """Rescale a map or a score so that the threshold is 1; the order of values stays the same.

    Values are divided by the threshold, so 0 stays 0: the mean of good pixels for rules that add
    z-scores. If the threshold is 0 or below, values are shifted instead.

    Example:
        >>> calibrated(6.0, 3.0), calibrated(-1.0, -2.0), calibrated(0.5, 0.0)
        (2.0, 1.5, 1.5)
    """
    return raw / threshold if threshold > 0 else 1 + (raw - threshold) / (abs(threshold) or 1.0)
