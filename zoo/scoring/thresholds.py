"""Thresholds of pictures and pixels, p-values, intervals of the false-alarm rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from zoo.errors import ConfigError

PREVALENCE = 0.005  # defective share of the pixels for which the threshold of a pixel is best
MOST_FALSE = 0.002  # share of the pixels of good pictures that may lie above it


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """The threshold of the score, and how it was set.

    Attributes:
        value: A score above it is anomalous.
        false_alarm_rate: Expected share of good images above it.
        rule: `conformal`, a rank among the calibration scores, which holds for any distribution;
            or `normal`, a prediction bound, if there are too few images for that rank.
        images: Number of calibration images (or regions of images).
        scores: Scores of the calibration images, ascending; p-values use them.
        set_on: The splits of these images.
    """

    value: float
    false_alarm_rate: float
    rule: Literal["conformal", "normal"]
    images: int
    scores: tuple[float, ...] = ()
    set_on: Literal["calibration", "calibration and val"] = "calibration and val"


def fit_threshold(scores: Sequence[float], *, false_alarm_rate: float) -> Threshold:
    """Set the score above which an image is anomalous, from scores of good images.

    Args:
        scores: Scores of good images that were not used in training; at least two.
        false_alarm_rate: Allowed share of good images above the threshold, above 0 and below 1.

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


def fit_pixel_threshold(
    maps: Sequence[Float[np.ndarray, "_ _"]],
    masks: Sequence[Bool[np.ndarray, "_ _"]],
    good: Sequence[Float[np.ndarray, "_ _"]],
    *,
    prevalence: float = PREVALENCE,
    most_false: float = MOST_FALSE,
) -> float:
    """Set the value above which a pixel is anomalous: that of the highest F1 on synthetic defects.

    Args:
        maps: Maps of windows with and without synthetic defects.
        masks: True where they are defective.
        good: Maps of good pictures. The threshold is at least so high that only the share
            `most_false` of their pixels lies above it.
        prevalence: Share of defective pixels that F1 is meant for. Windows have more of them than
            pictures of a production line, and the best threshold depends on it.
        most_false: See `good`.

    Raises:
        ConfigError: No pixel is defective, or all are.
    """
    from zoo.scoring.metrics import f1_curve  # imported here: to score does not need it

    values = np.concatenate([each.ravel() for each in maps])
    labels = np.concatenate([each.ravel() for each in masks])
    defective = int(labels.sum())
    if not 0 < defective < labels.size:
        raise ConfigError(
            f"A threshold of pixels needs defective and good ones; of {labels.size}, {defective} "
            "are defective. Give windows with synthetic defects."
        )
    found, f1 = f1_curve(values, labels, prevalence=prevalence)
    best = found[::-1][int(f1[::-1].argmax())]
    below = values[values < best].max(initial=-np.inf)
    limit = (float(best) + float(below)) / 2 if np.isfinite(below) else float(best)
    calm = np.quantile(np.concatenate([each.ravel() for each in good]), 1 - most_false)
    return float(max(limit, calm))


def p_value(score: float, good: Sequence[float]) -> float:
    """Return the share of good images at or above a score; the image itself counts as one.

    For good images it is at most p with a probability of at most p, for any distribution. It is
    never below 1 / (n + 1).

    Args:
        score: Score of the image.
        good: Scores of the calibration images.

    Source: Vovk et al. 2005, chapter 2 (conformal p-values).
    """
    return (1 + sum(each >= score for each in good)) / (len(good) + 1)


def false_alarm_interval(
    images: int, false_alarm_rate: float, *, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Return the interval of the true false-alarm rate of a conformal threshold.

    The mean rate over calibration sets is the given one. The rate with one calibration set, for all
    later good images, has a Beta distribution with these quantiles. None if there were too few
    images for a rank; there is then no guarantee for all distributions.

    Source: Vovk 2012, "Conditional validity of inductive conformal predictors".
    """
    rank = conformal_rank(images, false_alarm_rate)
    if rank > images:
        return None
    from scipy.special import betaincinv  # imported here: to load a detector does not need SciPy

    tail = (1 - confidence) / 2
    low, high = (float(betaincinv(images - rank + 1, rank, p)) for p in (tail, 1 - tail))
    return low, high


def expected_alarms(pictures: int, *, images: int, false_alarm_rate: float) -> Any:
    """Return the distribution of the number of alarms among good pictures, as one of scipy.stats.

    For a threshold by a prediction bound, which has no rank, it is that of the stated rate.

    Args:
        pictures: Number of good pictures that are scored.
        images: Number of calibration images.
        false_alarm_rate: Of the threshold.

    Source:
        The rate of a threshold by rank has a Beta distribution (Vovk 2012), so the number of alarms
        among later images has a beta-binomial one.
    """
    from scipy.stats import betabinom

    rank = conformal_rank(images, false_alarm_rate)
    above = max(images + 1 - rank, false_alarm_rate * (images + 1))
    return betabinom(pictures, above, images + 1 - above)


def conformal_rank(images: int, false_alarm_rate: float) -> int:
    """Return the rank of the threshold among ascending scores; above `images` there is none.

    Source: as in `fit_threshold`.
    """
    # The small number is for rounding: 1 - 0.42 is a little above 0.58.
    return math.ceil((images + 1) * (1 - false_alarm_rate) - 1e-9)
