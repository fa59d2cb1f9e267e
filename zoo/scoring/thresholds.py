"""Thresholds of pictures, p-values, intervals of the false-alarm rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from zoo.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How often good pictures may be called something else: the operating point.

    Attributes:
        false_alarms: Share of the good pictures that may be called defective. 5 % needs 19 good
            pictures for a threshold by rank, 1 % needs 99.
        look_again: Share of the good pictures that may be above the lower limit of the band "look
            again", above `false_alarms`; None for no band, so that there are two answers.
    """

    false_alarms: float = 0.05
    look_again: float | None = None

    def __post_init__(self) -> None:
        """Refuse rates that are none."""
        for name, rate in (("false alarms", self.false_alarms), ("look again", self.look_again)):
            if rate is not None and not 0 < rate < 1:
                raise ConfigError(
                    f"The rate of {name} must be between 0 and 1, not {rate}. Change it."
                )
        if self.look_again is not None and self.look_again <= self.false_alarms:
            raise ConfigError(
                f"The rate of 'look again' is {self.look_again}, and that of false alarms "
                f"{self.false_alarms}; the band between them needs a higher rate. Raise the first "
                "or lower the second."
            )


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """The threshold of the score, and how it was set.

    Attributes:
        value: A score above it is anomalous.
        false_alarm_rate: Expected share of good images above it.
        rule: `conformal`, a rank among the calibration scores, which holds for any distribution;
            or `normal`, a prediction bound, if there are too few images for that rank. The bound
            is at least so high that the share of the calibration scores above it is the rate.
        images: Number of calibration images (or regions of images).
        independent: Number of groups of relatives among them; each counts as one.
        scores: Scores of the calibration images, ascending; p-values use them.
        groups: The group of each of these scores, a number.
        set_on: The splits of these images.
        varied: Whether the scores are those of the images under benign variation.
        look_again_rate: Expected share of good images above `look_again_value`; None for two
            answers only.
        look_again_value: A score above it, up to `value`, calls for a second look.
    """

    value: float
    false_alarm_rate: float
    rule: Literal["conformal", "normal"]
    images: int
    independent: int
    scores: tuple[float, ...]
    groups: tuple[int, ...]
    set_on: Literal["calibration", "calibration and val"] = "calibration and val"
    varied: bool = False
    look_again_rate: float | None = None
    look_again_value: float | None = None


def fit_threshold(
    scores: Sequence[float], rates: Rates, *, groups: Sequence[int] | None = None
) -> Threshold:
    """Set the score above which an image is anomalous, from scores of good images.

    Args:
        scores: Scores of good images that were not used in training; at least two.
        rates: Allowed shares of good images above the limits.
        groups: A number for each score; images with the same one are relatives, such as crops of
            one photograph. Without it, and if all are relatives, each image counts as independent.

    Raises:
        ConfigError: There are fewer than two scores.

    Source:
        Split conformal prediction (Vovk et al. 2005), for groups in the form of Lee, Barber and
        Willett 2023 ("Distribution-free inference with hierarchical data"), where a group of n_g
        images gives each of them 1 / n_g of its weight. Without relatives this is the k-th smallest
        of n scores, k = ceil((n + 1)(1 - rate)). For k > n, see `_normal_bound`.
    """
    n = len(scores)
    if n < 2:
        raise ConfigError(f"A threshold needs at least 2 good images, not {n}. Add some.")
    order = np.argsort(scores, kind="stable")
    sorted_scores = np.asarray(scores, np.float64)[order]
    known = np.asarray(groups if groups is not None and len(set(groups)) > 1 else range(n))[order]
    value, rule = _limit(sorted_scores, known, rates.false_alarms)
    lower = rates.look_again and _limit(sorted_scores, known, rates.look_again)[0]
    return Threshold(
        value=value,
        false_alarm_rate=rates.false_alarms,
        rule=rule,
        images=n,
        independent=len(set(known.tolist())),
        scores=tuple(sorted_scores.tolist()),
        groups=tuple(known.tolist()),
        look_again_rate=rates.look_again,
        look_again_value=lower,
    )


def _limit(
    scores: Float[np.ndarray, " n"], groups: Int[np.ndarray, " n"], rate: float
) -> tuple[float, Literal["conformal", "normal"]]:
    """Return the limit of ascending scores, and the rule that it is set by."""
    independent = len(np.unique(groups))
    reached = np.cumsum(weights_of(groups))
    by_rank = conformal_rank(independent, rate) <= independent
    share = (1 - rate) * (independent + by_rank)  # a new image counts as one, if there is a rank
    place = min(int(np.searchsorted(reached, share - 1e-9)), len(scores) - 1)
    if by_rank:
        return float(scores[place]), "conformal"
    return max(_normal_bound(scores, groups, rate), float(scores[place])), "normal"


def weights_of(groups: Sequence[int] | Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return the weight of each image: 1 divided by the number of images of its group.

    Example:
        >>> weights_of([0, 3, 3]).tolist()
        [1.0, 0.5, 0.5]
    """
    _, place, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    return np.asarray(1 / sizes[place])


def _normal_bound(
    scores: Float[np.ndarray, " n"], groups: Int[np.ndarray, " n"], rate: float
) -> float:
    """Return the upper prediction bound of a new image of a new group, for normal scores."""
    from scipy.special import stdtrit  # imported here: to load a detector does not need SciPy

    mean, deviation, freedom = _normal_prediction(scores, groups)
    return float(mean + stdtrit(freedom, 1 - rate) * deviation)


def _normal_prediction(
    scores: Float[np.ndarray, " n"], groups: Int[np.ndarray, " n"]
) -> tuple[float, float, float]:
    """Return the t distribution of a new image of a new group, for normal scores.

    Without relatives a bound is mean + t(1 - rate, n - 1) s sqrt(1 + 1/n). With relatives, the
    variance between groups adds to that within them.

    Returns:
        Its middle, its scale and its degrees of freedom.

    Source: the bound of a normal sample (Hahn 1969), with the variance components of a one-way
    random-effects model and the degrees of freedom of their sum (Satterthwaite 1946).
    """
    _, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    count = len(sizes)
    means = np.bincount(place, scores) / sizes
    between, within = float(np.var(means, ddof=1)) * (1 + 1 / count), 0.0
    freedom, inner = float(count - 1), len(scores) - count
    if inner:
        inside = float(np.sum((scores - means[place]) ** 2) / inner)
        within = inside * (1 - float(np.mean(1 / sizes)))
        parts = between**2 / freedom + within**2 / inner
        freedom = (between + within) ** 2 / parts if parts else freedom
    return float(np.mean(means)), math.sqrt(between + within), freedom


def rates_above(
    limits: Sequence[float],
    scores: Sequence[float],
    *,
    groups: Sequence[int],
    rule: Literal["conformal", "normal"],
) -> Float[np.ndarray, " m"]:
    """Return the expected share of good images above each limit: `fit_threshold` read backwards.

    The limit that `fit_threshold` sets for a rate has at most that rate here. By rank no limit has
    less than 1 / (n + 1): the next image may be above all that are known.

    Args:
        limits: Any limits of the score.
        scores: Of the good images that the threshold was set on.
        groups: Of each score, as a `Threshold` has them.
        rule: That of the threshold.

    Source: as in `fit_threshold`.

    Example:
        >>> rates_above([0.0, 2.0, 9.0], [1.0, 2.0, 3.0], groups=[0, 1, 2], rule="conformal")
        array([1.  , 0.5 , 0.25])
    """
    order = np.argsort(scores, kind="stable")
    known, own = np.asarray(scores, np.float64)[order], np.asarray(groups)[order]
    weights = weights_of(own)
    reached = np.concatenate([[0.0], np.cumsum(weights)])
    asked, total = np.asarray(limits, np.float64), float(reached[-1])
    above = (total - reached[np.searchsorted(known, asked, side="right")]).clip(min=0)
    if rule == "conformal":
        return np.asarray((1 + above) / (1 + total))
    from scipy.special import stdtr  # imported here: to load a detector does not need SciPy

    mean, deviation, freedom = _normal_prediction(known, own)
    far = (mean - asked) / deviation if deviation else np.where(asked < mean, np.inf, -np.inf)
    return np.asarray(np.maximum(stdtr(freedom, far), above / total))


def p_value(score: float, good: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Return the share of good images at or above a score; the image itself counts as one.

    For good images it is at most p with a probability of at most p, for any distribution. It is
    never below 1 / (n + 1).

    Args:
        score: Score of the image.
        good: Scores of the calibration images.
        weights: Of each of them, as `weights_of` returns them; None is 1 for each.

    Source: as in `fit_threshold`.
    """
    each = np.ones(len(good)) if weights is None else np.asarray(weights)
    above = float(each[np.asarray(good) >= score].sum())
    return (1 + above) / (1 + float(each.sum()))


def false_alarm_interval(
    images: int, false_alarm_rate: float, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the interval of the true false-alarm rate of a threshold that was set on few images.

    The mean rate over calibration sets is the given one; the rate with one calibration set, for all
    later good images, is in this interval. With enough images for a rank it holds for any
    distribution: the rate has a Beta distribution. With fewer it holds for normal scores: it is the
    share of a normal distribution above the limit that the t-bound of such a sample may have.

    Args:
        images: Number of independent calibration images, at least 2.
        false_alarm_rate: The stated rate.
        confidence: Share of the calibration sets whose rate is in the interval.

    Source:
        Vovk 2012, "Conditional validity of inductive conformal predictors". For normal scores the
        non-central t distribution of a tolerance bound (Owen 1968).
    """
    from scipy import optimize, special, stats  # imported here: a detector does not need SciPy

    rank, tail = conformal_rank(images, false_alarm_rate), (1 - confidence) / 2
    if rank <= images:
        low, high = (
            float(special.betaincinv(images - rank + 1, rank, p)) for p in (tail, 1 - tail)
        )
        return low, high
    root = math.sqrt(images)
    factor = float(special.stdtrit(images - 1, 1 - false_alarm_rate)) * math.sqrt(1 + 1 / images)

    def share_below(z: float) -> float:
        """Return how often the limit lies below z deviations over the true mean."""
        return float(stats.nct.sf(factor * root, images - 1, z * root))

    ends = (
        optimize.brentq(lambda z, p=p: 1 - share_below(z) - p, -10.0, 40.0)
        for p in (1 - tail, tail)
    )
    high, low = (float(stats.norm.sf(end)) for end in ends)
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


def independent_images(threshold: Mapping[str, Any]) -> int:
    """Return the number of independent images that set the threshold of a bundle."""
    return int(threshold.get("independent", threshold["images"]))  # older ones: all of them


def conformal_rank(images: int, false_alarm_rate: float) -> int:
    """Return the rank of the threshold among ascending scores; above `images` there is none.

    Source: as in `fit_threshold`.
    """
    # The small number is for rounding: 1 - 0.42 is a little above 0.58.
    return math.ceil((images + 1) * (1 - false_alarm_rate) - 1e-9)
