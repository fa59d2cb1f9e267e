"""The regions of anomalous pixels of a map: one for each defect that can be pointed at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True, kw_only=True)
class Region:
    """What is outlined of connected pixels above the threshold; diagonal neighbours are connected.

    Attributes:
        top: First row.
        left: First column.
        height: Number of rows.
        width: Number of columns.
        area: Number of outlined pixels.
        peak: Largest value of the map in it.
        mean: Mean value of the map in it.
        centroid: Row and column of its centre.
        contour: Row and column of the corners of its outer outline, of its largest part if it has
            several.
    """

    top: int
    left: int
    height: int
    width: int
    area: int
    peak: float
    mean: float
    centroid: tuple[float, float]
    contour: tuple[tuple[int, int], ...]

    def as_json(self) -> dict[str, Any]:
        """Return its attributes, rounded, for JSON."""
        rounded = {"peak": round(self.peak, 4), "mean": round(self.mean, 4)}
        centre = tuple(round(each, 1) for each in self.centroid)
        return asdict(self) | rounded | {"centroid": centre}


def find_regions(
    map_: Float[np.ndarray, "h w"],
    above: Bool[np.ndarray, "h w"],
    *,
    outlined: Bool[np.ndarray, "h w"] | None = None,
    smallest: int = 1,
) -> tuple[Region, ...]:
    """Return the regions of a map, that of the highest peak first.

    Args:
        map_: Anomaly of each pixel.
        above: Which pixels are above the threshold. Those that are connected are one region.
        outlined: Which of them the region says where it is by; None for all. A region without any
            is left out: it is the slope of another.
        smallest: Regions of fewer pixels above the threshold are left out.
    """
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(
        above.astype(np.uint8), connectivity=8
    )
    found = []
    for label in range(1, count):
        left, top, width, height, area = map(int, boxes[label])
        if area < smallest:
            continue
        place = np.s_[top : top + height, left : left + width]
        own = labels[place] == label
        if outlined is not None:
            own &= outlined[place]
        if own.any():
            found.append(_region(map_[place], own, top, left))
    return tuple(sorted(found, key=lambda region: -region.peak))


def _region(
    map_: Float[np.ndarray, "h w"], own: Bool[np.ndarray, "h w"], top: int, left: int
) -> Region:
    """Return the region of the pixels of a part of a map that begins at a row and a column."""
    rows, columns = np.nonzero(own)
    values = map_[own]
    lines, _ = cv2.findContours(own.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    largest = max(lines, key=cv2.contourArea)
    return Region(
        top=top + int(rows.min()),
        left=left + int(columns.min()),
        height=int(np.ptp(rows)) + 1,
        width=int(np.ptp(columns)) + 1,
        area=rows.size,
        peak=float(values.max()),
        mean=float(values.mean()),
        centroid=(top + float(rows.mean()), left + float(columns.mean())),
        contour=tuple((int(row) + top, int(column) + left) for column, row in largest[:, 0]),
    )


def smallest_region(masks: Sequence[Bool[np.ndarray, "_ _"]], *, false_alarm_rate: float) -> int:
    """Return an area that the regions of good pictures do not reach.

    Args:
        masks: Which pixels of good pictures are above the threshold.
        false_alarm_rate: Share of the good pictures in which a region may reach it.
    """
    largest = []
    for mask in masks:
        _, _, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        largest.append(int(boxes[1:, cv2.CC_STAT_AREA].max(initial=0)))
    return 1 + int(np.quantile(largest, 1 - false_alarm_rate, method="lower"))
