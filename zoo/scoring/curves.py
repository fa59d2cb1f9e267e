"""The curves behind average precision and AUROC, as few points as a chart needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from zoo.scoring import metrics

POINTS = 300  # of a curve; a chart has about as many pixels
DIGITS = 5


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Precision over recall, and the true over the false positive rate.

    Attributes:
        recall: Ascending.
        precision: At each recall.
        false_rate: Ascending, from 0 to 1.
        true_rate: At each false positive rate.
    """

    recall: tuple[float, ...]
    precision: tuple[float, ...]
    false_rate: tuple[float, ...]
    true_rate: tuple[float, ...]


def curves(
    scores: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"], *, points: int = POINTS
) -> Curves:
    """Return both curves, exact up to `points` distinct positive scores, else at so many of them.

    Args:
        scores: Higher is more anomalous.
        labels: True is anomalous.
        points: Highest number of distinct positive scores that are kept.

    Raises:
        DataError: There is no positive, no negative, or a score that is not a number.

    Example:
        >>> found = curves(np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, False, True, False]))
        >>> found.recall, found.precision
        ((0.5, 1.0), (1.0, 0.66667))
        >>> found.false_rate, found.true_rate
        ((0.0, 0.0, 0.0, 0.5, 0.5, 1.0), (0.0, 0.0, 0.5, 0.5, 1.0, 1.0))
    """
    positives, negatives = metrics.sorted_classes(scores, labels)
    values, first = np.unique(positives, return_index=True)
    kept = np.unique(np.linspace(0, len(values) - 1, min(points, len(values))).round().astype(int))
    values, first = values[kept][::-1], first[kept][::-1]
    found = positives.size - first
    false = negatives.size - np.searchsorted(negatives, values, side="left")
    above = negatives.size - np.searchsorted(negatives, values, side="right")
    # At each value the false rate first grows alone, by the negatives above the value.
    before = np.append(0, found[:-1])
    false_rate = np.append(np.stack([above, false], axis=1).ravel(), negatives.size)
    true_rate = np.append(np.stack([before, found], axis=1).ravel(), positives.size)
    return Curves(
        recall=_rounded(found / positives.size),
        precision=_rounded(found / (found + false)),
        false_rate=_rounded(np.append(0, false_rate) / negatives.size),
        true_rate=_rounded(np.append(0, true_rate) / positives.size),
    )


def _rounded(values: Float[np.ndarray, " n"]) -> tuple[float, ...]:
    return tuple(values.round(DIGITS).tolist())
