"""Detectors on the same validation windows: average precision and a paired bootstrap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from zoo.data.defects.validation import Window
from zoo.detectors import Detector
from zoo.scoring import metrics
from zoo.scoring.objective import Judged

Maps = Sequence[Float[np.ndarray, "_ _"]]


def window_maps(detector: Detector, windows: Sequence[Window]) -> Maps:
    """Return the map that a detector makes of each window."""
    return [detector.map(window.image) for window in windows]


def judged(maps: Maps, windows: Sequence[Window]) -> Judged:
    """Judge a detector by its maps of windows; `objective.paired_maps` compares two of them.

    The bootstrap draws windows with replacement within each family, the same ones for each
    detector, so that what makes a window difficult for two of them cancels out.

    Args:
        maps: Its map of each window. Only the order within the maps of one detector counts.
        windows: The windows.

    Raises:
        DataError: No window has a defect, or a map is not a number.
    """
    counts = metrics.count(maps, [window.mask for window in windows])
    return Judged(counts=counts, strata=[window.strata for window in windows])
