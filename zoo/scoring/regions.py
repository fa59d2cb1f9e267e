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
    """Connected anomalous pixels; diagonal neighbours are connected.

    Attributes:
        top: First row.
        left: First column.
        height: Number of rows.
        width: Number of columns.
        area: Number of pixels.
        peak: Largest value of the map in it.
        mean: Mean value of the map in it.
        centroid: Row and column of its centre.
        contour: Row and column of the corners of its outer outline.
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
    map_: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"], *, smallest: int = 1
) -> tuple[Region, ...]:
    """Return the regions of a mask, that of the highest peak first.

    Args:
        map_: Anomaly of each pixel.
        mask: Which pixels are anomalous.
        smallest: Regions of fewer pixels are left out.
    """
    count, labels, boxes, centres = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    found = []
    for label in range(1, count):
        left, top, width, height, area = map(int, boxes[label])
        if area < smallest:
            continue
        own = labels[top : top + height, left : left + width] == label
        values = map_[top : top + height, left : left + width][own]
        lines, _ = cv2.findContours(
            own.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
        )
        found.append(
            Region(
                top=top,
                left=left,
                height=height,
                width=width,
                area=area,
                peak=float(values.max()),
                mean=float(values.mean()),
                centroid=(float(centres[label][1]), float(centres[label][0])),
                contour=tuple(
                    (int(row) + top, int(column) + left) for column, row in lines[0][:, 0]
                ),
            )
        )
    return tuple(sorted(found, key=lambda region: -region.peak))


def smallest_region(masks: Sequence[Bool[np.ndarray, "_ _"]], *, false_alarm_rate: float) -> int:
    """Return an area that the regions of good pictures do not reach.

    Args:
        masks: Which pixels of good pictures are called anomalous.
        false_alarm_rate: Share of the good pictures in which a region may reach it.
    """
    largest = []
    for mask in masks:
        _, _, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        largest.append(int(boxes[1:, cv2.CC_STAT_AREA].max(initial=0)))
    return 1 + int(np.quantile(largest, 1 - false_alarm_rate, method="lower"))
