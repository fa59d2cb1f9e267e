"""Two detectors on the same validation windows: average precision and a paired bootstrap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from zoo.data.defects.validation import Window
from zoo.detectors import Detector
from zoo.scoring import metrics, objective
from zoo.scoring.objective import Paired

Maps = Sequence[Float[np.ndarray, "_ _"]]


def window_maps(detector: Detector, windows: Sequence[Window]) -> Maps:
    """Return the map that a detector makes of each window."""
    return [detector.map(window.image) for window in windows]


def window_ap(maps: Maps, windows: Sequence[Window]) -> float:
    """Return the objective: the mean over strata of the pixel AP at a fixed prevalence.

    Raises:
        DataError: No window has a defect, or a map is not a number.
    """
    counts, strata = _counts(maps, windows), [window.strata for window in windows]
    return objective.of_map(objective.stratum_average_precision(counts, strata))


def compare(challenger: Maps, champion: Maps, windows: Sequence[Window]) -> Paired:
    """Compare two detectors by their maps of the same windows; the same maps give the same figures.

    The bootstrap draws windows with replacement within each family, the same ones for both
    detectors, so that what makes a window difficult for both cancels out.

    Args:
        challenger: Its map of each window.
        champion: Its map of each window. Only the order within the maps of one detector counts.
        windows: The windows.

    Raises:
        DataError: No window has a defect, or a map is not a number.
    """
    strata = [window.strata for window in windows]
    return objective.paired_maps(_counts(challenger, windows), _counts(champion, windows), strata)


def _counts(maps: Maps, windows: Sequence[Window]) -> metrics.Counts:
    return metrics.count(maps, [window.mask for window in windows])
