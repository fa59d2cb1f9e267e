"""Two detectors on the same validation windows: average precision and a paired bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from zoo.data.defects.validation import Defective
from zoo.detectors import Detector
from zoo.scoring import metrics

DRAWS = 1000  # of the bootstrap

Maps = Sequence[Float[np.ndarray, "_ _"]]
Masks = Sequence[Bool[np.ndarray, "_ _"]]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Challenger and champion on the same windows.

    Attributes:
        challenger_ap: Mean over families of the pixel AP at a fixed prevalence.
        champion_ap: The same of the champion.
        win_share: Share of the bootstrap draws in which the challenger's AP is higher.
        draws: Number of draws.
    """

    challenger_ap: float
    champion_ap: float
    win_share: float
    draws: int = DRAWS


def window_maps(detector: Detector, windows: Sequence[Defective]) -> Maps:
    """Return the map that a detector makes of each window."""
    return [detector.map(window.image) for window in windows]


def window_ap(maps: Maps, windows: Sequence[Defective]) -> float:
    """Return the mean over families of the pixel AP at a fixed prevalence.

    Raises:
        DataError: A family has no anomalous or no normal pixel, or a map is not a number.
    """
    counts = metrics.count(maps, [window.mask for window in windows])
    return _mean_ap(counts, [window.family for window in windows])


def compare(
    challenger: Maps, champion: Maps, *, masks: Masks, families: Sequence[str]
) -> Comparison:
    """Compare two detectors by their maps of the same windows; the same maps give the same figures.

    The bootstrap draws windows with replacement within each family, the same ones for both
    detectors, so that what makes a window difficult for both cancels out.

    Args:
        challenger: Its map of each window.
        champion: Its map of each window. Only the order within the maps of one detector counts.
        masks: True is defective.
        families: The family of each window.

    Raises:
        DataError: A family has no anomalous or no normal pixel, or a map is not a number.
    """
    counts = [metrics.count(maps, masks) for maps in (challenger, champion)]
    drawn = [_bootstrap(each, families, np.random.default_rng(0)) for each in counts]
    return Comparison(
        challenger_ap=_mean_ap(counts[0], families),
        champion_ap=_mean_ap(counts[1], families),
        win_share=float(np.mean(drawn[0] > drawn[1])),
    )


def _mean_ap(counts: metrics.Counts, families: Sequence[str]) -> float:
    return float(np.mean(list(metrics.family_average_precision(counts, families).values())))


def _bootstrap(
    counts: metrics.Counts, families: Sequence[str], rng: np.random.Generator
) -> Float[np.ndarray, " r"]:
    """Return the mean AP of each of `DRAWS` draws of windows, those of a family among themselves.

    A family of six windows has only 462 different draws, so equal draws are measured once.
    """
    kinds = list(dict.fromkeys(families))
    total = np.zeros(DRAWS)
    for family in kinds:
        rows = np.flatnonzero([each == family for each in families])
        anomalous, normal = counts.anomalous[rows], counts.normal[rows]
        times = rng.multinomial(rows.size, np.full(rows.size, 1 / rows.size), size=DRAWS)
        different, which = np.unique(times, axis=0, return_inverse=True)
        found = [
            metrics.average_precision_of_counts(
                each @ anomalous, each @ normal, prevalence=metrics.PREVALENCE
            )
            for each in different
        ]
        total += np.array(found)[which.ravel()]
    return total / len(kinds)
