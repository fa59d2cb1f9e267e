"""Thresholds of pictures and pixels, p-values and intervals, by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from zoo.errors import ConfigError
from zoo.scoring.thresholds import (
    Rates,
    false_alarm_interval,
    fit_threshold,
    p_value,
    rates_above,
    weights_of,
)


@pytest.mark.parametrize(
    ("n", "rate", "rank"), [(99, 0.01, 99), (19, 0.05, 19), (20, 0.05, 20), (9, 0.5, 5)]
)
def test_the_threshold_is_the_conformal_rank(n: int, rate: float, rank: int) -> None:
    scores = [float(score) for score in np.random.default_rng(0).permutation(n) + 1]
    found = fit_threshold(scores, Rates(false_alarms=rate))
    assert (found.value, found.rule, found.images) == (rank, "conformal", n)
    assert found.false_alarm_rate == rate


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (39, 0.1), (60, 0.05)])
def test_good_images_are_above_the_threshold_no_oftener_than_stated(n: int, rate: float) -> None:
    rng = np.random.default_rng(1)
    draws = rng.gamma(0.7, size=(3000, n + 1))  # far from normal
    alarms = [
        row[-1] > fit_threshold(row[:-1].tolist(), Rates(false_alarms=rate)).value for row in draws
    ]
    error = 3 * math.sqrt(rate * (1 - rate) / 3000)
    assert rate - 1 / (n + 1) - error < np.mean(alarms) < rate + error


def test_few_images_have_the_prediction_bound_of_a_normal_sample() -> None:
    scores = [1.0, 2.0, 4.0, 5.0]  # mean 3, deviation sqrt(10 / 3)
    found = fit_threshold(scores, Rates(false_alarms=0.01))
    deviation = math.sqrt(10 / 3) * math.sqrt(1 + 1 / 4)
    assert found.value == pytest.approx(3 + stats.t.ppf(0.99, 3) * deviation)
    assert (found.rule, found.images) == ("normal", 4)


def test_the_bound_for_few_images_holds_its_rate_on_normal_scores() -> None:
    rng, rate = np.random.default_rng(2), 0.05
    draws = rng.normal(7, 2, size=(3000, 6))
    alarms = [
        row[-1] > fit_threshold(row[:-1].tolist(), Rates(false_alarms=rate)).value for row in draws
    ]
    assert float(np.mean(alarms)) == pytest.approx(rate, abs=3 * math.sqrt(rate / 3000))


def test_a_bound_holds_its_rate_on_the_scores_that_it_was_set_on() -> None:
    scores = np.tile([1.0] * 4 + [0.0] * 36, 2)  # mean + 1.66 deviations is .6
    groups = np.repeat([0, 1], 40).tolist()
    found = fit_threshold(scores.tolist(), Rates(), groups=groups)
    assert found.rule == "normal"
    assert (scores > found.value).mean() <= 0.05


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_a_rate_that_is_none_is_refused_with_its_value(rate: float) -> None:
    with pytest.raises(ConfigError, match=f"false alarms must be between 0 and 1, not {rate}"):
        Rates(false_alarms=rate)
    with pytest.raises(ConfigError, match=f"look again must be between 0 and 1, not {rate}"):
        Rates(look_again=rate)


def test_a_band_without_width_is_refused_with_both_rates() -> None:
    with pytest.raises(ConfigError, match="'look again' is 0.05, and that of false alarms 0.05"):
        Rates(false_alarms=0.05, look_again=0.05)


@pytest.mark.parametrize("n", [0, 1])
def test_a_threshold_from_fewer_than_two_images_is_refused_with_their_number(n: int) -> None:
    with pytest.raises(ConfigError, match=f"at least 2 good images, not {n}"):
        fit_threshold([1.0] * n, Rates(false_alarms=0.1))


def test_the_band_has_a_lower_limit_by_the_same_rule() -> None:
    scores = np.random.default_rng(4).normal(size=39).tolist()
    found = fit_threshold(scores, Rates(false_alarms=0.05, look_again=0.2))
    assert found.look_again_value == fit_threshold(scores, Rates(false_alarms=0.2)).value
    assert found.look_again_value is not None
    assert found.look_again_value < found.value
    assert fit_threshold(scores, Rates()).look_again_value is None


# ------------------------------------------------------------------------------------- relatives


def crops(rng: np.random.Generator, photographs: int, each: int) -> np.ndarray:
    """Draw scores of crops: those of one photograph differ less than those of several."""
    own = rng.normal(size=(photographs, 1))
    return np.asarray(own + 0.4 * rng.normal(size=(photographs, each)))


@pytest.mark.parametrize(("photographs", "rate"), [(24, 0.05), (12, 0.1)])
def test_crops_of_few_photographs_hold_the_rate_on_a_new_one(photographs: int, rate: float) -> None:
    rng, groups = np.random.default_rng(0), np.repeat(np.arange(photographs), 8).tolist()
    alarms, blind = [], []
    for _ in range(1500):
        drawn = crops(rng, photographs + 1, 8)
        known, new = drawn[:-1].ravel().tolist(), drawn[-1]
        limit = fit_threshold(known, Rates(false_alarms=rate), groups=groups)
        assert (limit.rule, limit.independent) == ("conformal", photographs)
        alarms.append((new > limit.value).mean())
        blind.append((new > fit_threshold(known, Rates(false_alarms=rate)).value).mean())
    assert np.mean(alarms) < rate + 0.01
    assert np.mean(blind) > np.mean(alarms)


def test_crops_of_very_few_photographs_have_a_bound_that_allows_for_a_new_one() -> None:
    rng, rate = np.random.default_rng(1), 0.05
    groups = np.repeat(np.arange(3), 8).tolist()
    alarms, blind = [], []
    for _ in range(2000):
        drawn = crops(rng, 4, 8)
        known, new = drawn[:-1].ravel().tolist(), drawn[-1]
        limit = fit_threshold(known, Rates(false_alarms=rate), groups=groups)
        assert (limit.rule, limit.independent, limit.images) == ("normal", 3, 24)
        alarms.append((new > limit.value).mean())
        blind.append((new > fit_threshold(known, Rates(false_alarms=rate)).value).mean())
    assert np.mean(alarms) < 2 * rate
    assert np.mean(blind) > np.mean(alarms) + rate, "without groups the threshold is too low"


def test_groups_of_one_image_change_nothing() -> None:
    for images in (7, 40):
        scores = np.random.default_rng(images).normal(size=images).tolist()
        alone = fit_threshold(scores, Rates())
        found = fit_threshold(scores, Rates(), groups=list(range(images))[::-1])
        assert found.value == pytest.approx(alone.value, rel=1e-12)


def test_crops_of_a_single_photograph_count_as_independent_for_want_of_another() -> None:
    scores = np.random.default_rng(5).normal(size=20).tolist()
    found = fit_threshold(scores, Rates(), groups=[3] * 20)
    assert (found.value, found.independent) == (fit_threshold(scores, Rates()).value, 20)


def test_a_p_value_agrees_with_the_threshold_where_there_are_relatives() -> None:
    rng = np.random.default_rng(6)
    groups = rng.integers(0, 30, 80).tolist()
    found = fit_threshold(rng.normal(size=80).tolist(), Rates(false_alarms=0.1), groups=groups)
    weights = weights_of(found.groups).tolist()
    above = [score for score in found.scores if score > found.value]
    assert above
    assert all(p_value(each + 1e-9, found.scores, weights) <= 0.1 for each in (found.value, *above))
    assert p_value(found.value, found.scores, weights) > 0.1


# -------------------------------------------------------------------------- p-values, intervals


def test_a_p_value_counts_the_good_images_at_or_above_and_the_image_itself() -> None:
    good = [1.0, 2.0, 2.0, 5.0]
    found = [p_value(score, good) for score in (0.5, 2.0, 3.0, 5.0, 9.0)]
    assert found == [5 / 5, 4 / 5, 2 / 5, 2 / 5, 1 / 5]


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5])
def test_good_images_have_a_p_value_within_p_no_more_often_than_p(p: float) -> None:
    draws = np.random.default_rng(0).exponential(size=(4000, 20))
    share = np.mean([p_value(row[-1], row[:-1].tolist()) <= p for row in draws])
    assert share <= p + 3 * math.sqrt(p * (1 - p) / len(draws))
    assert share > p - 0.06


@pytest.mark.parametrize(
    ("images", "rate"), [(20, 0.1), (40, 0.05), (200, 0.02), (5, 0.05), (12, 0.01)]
)
def test_the_false_alarm_interval_holds_for_as_many_calibration_sets_as_it_says(
    images: int, rate: float
) -> None:
    interval = false_alarm_interval(images, rate, confidence=0.9)
    rng = np.random.default_rng(1)
    rates = []
    for _ in range(2000):
        value = fit_threshold(rng.normal(size=images).tolist(), Rates(false_alarms=rate)).value
        rates.append(stats.norm.sf(value))  # of all later good images
    inside = np.mean([interval[0] <= each <= interval[1] for each in rates])
    assert inside == pytest.approx(0.9, abs=0.03)
    assert interval[0] < rate < interval[1]


@pytest.mark.parametrize("sizes", [[1] * 39, [1] * 6, [3] * 5, [1, 1, 6, 2, 9], [2] * 60])
@pytest.mark.parametrize("rate", [0.3, 0.05, 0.013])
def test_the_rate_above_the_limit_for_a_rate_is_that_rate(sizes: list[int], rate: float) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes).tolist()
    scores = np.random.default_rng(5).gamma(2.0, size=len(groups)).tolist()
    found = fit_threshold(scores, Rates(false_alarms=rate), groups=groups)
    near = [found.value, math.nextafter(found.value, -math.inf)]
    at, below = rates_above(near, found.scores, groups=found.groups, rule=found.rule)
    assert at <= rate + 1e-9
    if found.rule == "conformal":
        assert below > rate  # the next lower limit promises less
        assert at > rate - 1 / (found.independent + 1) - 1e-9
    else:
        assert below == pytest.approx(rate, abs=1e-6) or below > rate


def test_a_higher_limit_never_has_a_higher_rate() -> None:
    scores, groups = [1.0, 1.0, 2.0, 5.0], [0, 0, 1, 2]
    limits = np.linspace(-3, 9, 200).tolist()
    for rule in ("conformal", "normal"):
        rates = rates_above(limits, scores, groups=groups, rule=rule)
        assert (np.diff(rates) <= 0).all()
        assert 0 < rates[-1] < rates[0] <= 1
    assert rates_above([9.0], scores, groups=groups, rule="conformal")[0] == 1 / 4


def test_equal_scores_have_a_rate_too() -> None:
    rates = rates_above([1.0, 2.0, 3.0], [2.0, 2.0, 2.0], groups=[0, 1, 2], rule="normal")
    assert rates.tolist() == [1, 0, 0]
