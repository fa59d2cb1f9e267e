"""Thresholds from scores of good pictures, p-values, the interval of the false-alarm rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from zoo.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Where good ends, and how that was found out.

    Attributes:
        value: A score above it is anomalous.
        false_alarm_rate: Share of good images that are expected above it.
        rule: `conformal`, a rank among the calibration scores, which holds for any distribution;
            or `normal`, a prediction bound, where there are too few images for that rank.
        images: Calibration images (or regions of images) that it was set on.
        scores: Theirs, ascending; what a p-value is told by.
        set_on: Their split.
    """

    value: float
    false_alarm_rate: float
    rule: Literal["conformal", "normal"]
    images: int
    scores: tuple[float, ...] = ()
    set_on: Literal["calibration"] = "calibration"


def fit_threshold(scores: Sequence[float], *, false_alarm_rate: float) -> Threshold:
    """Set the score above which an image is anomalous, from scores of good images.

    Args:
        scores: Of good images that were not trained on; at least two.
        false_alarm_rate: Share of good images allowed above the threshold, above 0 and below 1.

    Raises:
        ConfigError: The rate is not between 0 and 1, or there are fewer than two scores.

    Source:
        Split conformal prediction (Vovk et al. 2005): the k-th smallest of n scores, k =
        ceil((n + 1)(1 - rate)), holds the rate for exchangeable images. Where k > n, the upper
        prediction bound of a normal sample, mean + t(1 - rate, n - 1) s sqrt(1 + 1/n).
    """
    n = len(scores)
    if not 0 < false_alarm_rate < 1:
        raise ConfigError(
            f"The false-alarm rate must be between 0 and 1, not {false_alarm_rate}. Change it."
        )
    if n < 2:
        raise ConfigError(f"A threshold needs at least 2 good images, not {n}. Add some.")
    rank = conformal_rank(n, false_alarm_rate)
    if rank <= n:
        value, rule = sorted(scores)[rank - 1], "conformal"
    else:
        from scipy.special import stdtrit

        student = float(stdtrit(n - 1, 1 - false_alarm_rate))  # Student's quantile
        deviation = np.std(scores, ddof=1) * math.sqrt(1 + 1 / n)
        value, rule = float(np.mean(scores) + student * deviation), "normal"
    return Threshold(
        value=float(value),
        false_alarm_rate=false_alarm_rate,
        rule="conformal" if rule == "conformal" else "normal",
        images=n,
        scores=tuple(sorted(float(score) for score in scores)),
    )


def p_value(score: float, good: Sequence[float]) -> float:
    """Return the share of good images at or above a score, the image itself counted as one.

    For images like the calibration ones it is at most p with a chance of at most p, whatever the
    distribution; it is never below 1 / (n + 1).

    Args:
        score: Of the image.
        good: Scores of the calibration images.

    Source: Vovk et al. 2005, chapter 2 (conformal p-values).
    """
    return (1 + sum(each >= score for each in good)) / (len(good) + 1)


def false_alarm_interval(
    images: int, false_alarm_rate: float, *, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Return where the real false-alarm rate of a conformal threshold lies.

    The rate is right on average over calibration sets; that of one set, for all the good images
    to come, has a Beta distribution with these quantiles. None where there were too few images for
    a rank, so that nothing is promised whatever the distribution.

    Source: Vovk 2012, "Conditional validity of inductive conformal predictors".
    """
    rank = conformal_rank(images, false_alarm_rate)
    if rank > images:
        return None
    from scipy.special import betaincinv  # a loaded detector needs none of SciPy

    tail = (1 - confidence) / 2
    low, high = (float(betaincinv(images - rank + 1, rank, p)) for p in (tail, 1 - tail))
    return low, high


def conformal_rank(images: int, false_alarm_rate: float) -> int:
    """Return which of so many ascending scores is the threshold; none is, if it is beyond them.

    Source: as in `fit_threshold`.
    """
    # 1 - 0.42 is a little above 0.58.
    return math.ceil((images + 1) * (1 - false_alarm_rate) - 1e-9)
