"""From losses to a score: rules compared with values by hand, thresholds by simulation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from scipy.spatial.distance import mahalanobis
from torch import Tensor

from zoo.errors import ConfigError
from zoo.scoring.aggregation import THESIS_RULE, Calibration, Rule, anomaly_map, calibrate
from zoo.scoring.maps import enlarge, image_score, smooth
from zoo.scoring.selection import MEAN_FILTERS, candidates, choose
from zoo.scoring.thresholds import (
    false_alarm_interval,
    fit_pixel_threshold,
    fit_threshold,
    p_value,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def good_losses() -> list[Tensor]:
    """Return losses of good images of different sizes: two correlated values for each pixel."""
    found = []
    for seed, size in enumerate(((24, 40), (31, 20))):
        raw = noise(2, *size, seed=seed)
        found.append(torch.stack([3 + 2 * raw[0], -1 + raw[0] + 0.5 * raw[1]]))
    return found


def flat(maps: list[Tensor]) -> Tensor:
    return torch.cat([each.flatten(-2) for each in maps], dim=-1)


# ------------------------------------------------------------------------------ simulated figures


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


@pytest.mark.parametrize(("images", "rate"), [(20, 0.1), (40, 0.05), (200, 0.02)])
def test_the_false_alarm_interval_holds_for_as_many_calibration_sets_as_it_says(
    images: int, rate: float
) -> None:
    interval = false_alarm_interval(images, rate, confidence=0.9)
    assert interval is not None
    rng = np.random.default_rng(1)
    rates = []
    for _ in range(2000):
        value = fit_threshold(rng.normal(size=images).tolist(), false_alarm_rate=rate).value
        rates.append(stats.norm.sf(value))  # of all later good images
    inside = np.mean([interval[0] <= each <= interval[1] for each in rates])
    assert inside == pytest.approx(0.9, abs=0.03)
    assert interval[0] < rate < interval[1]


def test_where_there_is_no_rank_there_is_no_interval() -> None:
    assert false_alarm_interval(5, 0.05) is None


# ------------------------------------------------------------------------------------ mean filter


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7, 12, 15])
def test_the_mean_filter_is_that_of_scipy_for_odd_and_even_sides(side: int) -> None:
    maps = noise(2, 18, 25)
    expected = ndimage.uniform_filter(maps.numpy(), size=(0, side, side), mode="mirror")
    np.testing.assert_allclose(smooth(maps, side).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("side", [2, 5, 48])
def test_a_constant_map_stays_constant_and_keeps_its_size(side: int) -> None:
    maps = torch.full((1, 20, 27), 2.5)
    torch.testing.assert_close(smooth(maps, side), maps)


def test_a_filter_larger_than_the_image_is_cut_to_it() -> None:
    maps = noise(1, 9, 30)
    expected = ndimage.uniform_filter(maps.numpy(), size=(0, 9, 21), mode="mirror")
    np.testing.assert_allclose(smooth(maps, 21).numpy(), expected, atol=1e-5)


# ----------------------------------------------------------------------- calibration, aggregation


@pytest.mark.parametrize("which", [0, 1])
def test_good_pixels_have_z_scores_of_mean_0_and_deviation_1(which: int) -> None:
    good = good_losses()
    weights = tuple(float(k == which) for k in range(2))
    calibration = calibrate(Rule(aggregation="linear", weights=weights), good)
    scores = flat([anomaly_map(losses, calibration) for losses in good])
    assert float(scores.mean()) == pytest.approx(0, abs=1e-5)
    assert float(scores.std()) == pytest.approx(1, abs=1e-4)


def test_a_calibration_holds_mean_and_covariance_over_all_good_pixels() -> None:
    good = good_losses()
    calibration = calibrate(Rule(aggregation="max", mean_filter=5), good)
    pixels = flat(good).double().numpy()
    np.testing.assert_allclose(calibration.mean, pixels.mean(axis=1))
    np.testing.assert_allclose(calibration.covariance, np.cov(pixels))


def by_hand(rule: Rule) -> Calibration:
    """Two losses of means 1 and 10, deviations 2 and 5, uncorrelated."""
    return Calibration(rule=rule, mean=(1.0, 10.0), covariance=((4.0, 0.0), (0.0, 25.0)))


LOSSES = torch.tensor([[[1.0, 5.0, -3.0]], [[20.0, 10.0, 10.0]]])  # z-scores 0 2 -2 and 2 0 0


def test_max_takes_the_higher_z_score() -> None:
    found = anomaly_map(LOSSES, by_hand(Rule(aggregation="max")))
    torch.testing.assert_close(found, torch.tensor([[2.0, 2.0, 0.0]]))


def test_linear_weighs_z_scores() -> None:
    found = anomaly_map(LOSSES, by_hand(Rule(aggregation="linear", weights=(0.25, 0.75))))
    torch.testing.assert_close(found, torch.tensor([[1.5, 0.5, -0.5]]))


def test_linear_and_max_are_smoothed_after_they_are_joined() -> None:
    losses = noise(2, 16, 21)
    sharp = anomaly_map(losses, by_hand(Rule(aggregation="max")))
    found = anomaly_map(losses, by_hand(Rule(aggregation="max", mean_filter=4)))
    torch.testing.assert_close(found, smooth(sharp[None], 4)[0])


def test_mahalanobis_is_the_distance_of_scipy() -> None:
    good = good_losses()
    calibration = calibrate(Rule(aggregation="mahalanobis"), good)
    inverse = np.linalg.inv(np.cov(flat(good).double().numpy()))
    losses = 4 * noise(2, 3, 4)
    found = anomaly_map(losses, calibration)
    for row in range(3):
        for column in range(4):
            expected = mahalanobis(losses[:, row, column].numpy(), calibration.mean, inverse)
            assert float(found[row, column]) == pytest.approx(expected, rel=0.02)


def test_mahalanobis_sees_what_is_too_good_as_well_as_what_is_too_bad() -> None:
    found = anomaly_map(LOSSES, by_hand(Rule(aggregation="mahalanobis")))
    torch.testing.assert_close(found, torch.tensor([[2.0, 2.0, 2.0]]), rtol=0.01, atol=0)


def test_mahalanobis_smooths_the_losses_and_calibrates_on_smoothed_ones() -> None:
    good = good_losses()
    calibration = calibrate(Rule(aggregation="mahalanobis", mean_filter=5), good)
    smoothed = [smooth(losses, 5) for losses in good]
    same = calibrate(Rule(aggregation="mahalanobis"), smoothed)
    assert calibration.covariance == same.covariance
    torch.testing.assert_close(anomaly_map(good[0], calibration), anomaly_map(smoothed[0], same))


@pytest.mark.parametrize("aggregation", ["max", "mahalanobis"])
def test_losses_that_are_one_or_do_not_vary_still_give_numbers(aggregation: Any) -> None:
    raw = noise(1, 12, 16)
    for good in (torch.cat([raw, raw]), torch.cat([raw, torch.ones_like(raw)])):
        calibration = calibrate(Rule(aggregation=aggregation), [good])
        assert anomaly_map(good, calibration).isfinite().all()


# --------------------------------------------------------------------------------- the whole image


@pytest.mark.parametrize(
    ("fraction", "score"), [(1.0, 4.5), (0.2, 8.5), (0.1, 9.0), (0.001, 9.0), (0.5, 7.0)]
)
def test_the_image_score_is_the_mean_of_its_highest_pixels(fraction: float, score: float) -> None:
    anomaly = torch.arange(10.0)[
        torch.randperm(10, generator=torch.Generator().manual_seed(0))
    ].reshape(2, 5)
    assert float(image_score(anomaly, fraction)) == pytest.approx(score)


def test_a_map_is_enlarged_to_the_size_of_its_image() -> None:
    anomaly = noise(16, 18)
    assert enlarge(anomaly, 64, 71).shape == (64, 71)
    assert enlarge(anomaly, 16, 18).equal(anomaly)
    torch.testing.assert_close(enlarge(torch.full((4, 5), 3.0), 9, 11), torch.full((9, 11), 3.0))


def test_a_hot_pixel_stays_in_its_place_when_enlarged() -> None:
    anomaly = torch.zeros(10, 12)
    anomaly[7, 3] = 1
    large = enlarge(anomaly, 40, 48)
    rows, columns = (large == large.max()).nonzero().float().mean(dim=0).tolist()
    assert (rows, columns) == pytest.approx((29.5, 13.5), abs=0.6)


# ------------------------------------------------------------------------------------ the threshold


@pytest.mark.parametrize(
    ("n", "rate", "rank"), [(99, 0.01, 99), (19, 0.05, 19), (20, 0.05, 20), (9, 0.5, 5)]
)
def test_the_threshold_is_the_conformal_rank(n: int, rate: float, rank: int) -> None:
    scores = [float(score) for score in np.random.default_rng(0).permutation(n) + 1]
    found = fit_threshold(scores, false_alarm_rate=rate)
    assert (found.value, found.rule, found.images) == (rank, "conformal", n)
    assert found.false_alarm_rate == rate


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (39, 0.1), (60, 0.05)])
def test_good_images_are_above_the_threshold_no_oftener_than_stated(n: int, rate: float) -> None:
    rng = np.random.default_rng(1)
    draws = rng.gamma(0.7, size=(3000, n + 1))  # far from normal
    alarms = [
        row[-1] > fit_threshold(row[:-1].tolist(), false_alarm_rate=rate).value for row in draws
    ]
    error = 3 * math.sqrt(rate * (1 - rate) / 3000)
    assert rate - 1 / (n + 1) - error < np.mean(alarms) < rate + error


def test_few_images_have_the_prediction_bound_of_a_normal_sample() -> None:
    scores = [1.0, 2.0, 4.0, 5.0]  # mean 3, deviation sqrt(10 / 3)
    found = fit_threshold(scores, false_alarm_rate=0.01)
    deviation = math.sqrt(10 / 3) * math.sqrt(1 + 1 / 4)
    assert found.value == pytest.approx(3 + stats.t.ppf(0.99, 3) * deviation)
    assert (found.rule, found.images) == ("normal", 4)


def test_the_bound_for_few_images_holds_its_rate_on_normal_scores() -> None:
    rng, rate = np.random.default_rng(2), 0.05
    draws = rng.normal(7, 2, size=(3000, 6))
    alarms = [
        row[-1] > fit_threshold(row[:-1].tolist(), false_alarm_rate=rate).value for row in draws
    ]
    assert float(np.mean(alarms)) == pytest.approx(rate, abs=3 * math.sqrt(rate / 3000))


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_a_rate_that_is_none_is_refused_with_its_value(rate: float) -> None:
    with pytest.raises(ConfigError, match=f"between 0 and 1, not {rate}"):
        fit_threshold([1.0, 2.0, 3.0], false_alarm_rate=rate)


@pytest.mark.parametrize("n", [0, 1])
def test_a_threshold_from_fewer_than_two_images_is_refused_with_their_number(n: int) -> None:
    with pytest.raises(ConfigError, match=f"at least 2 good images, not {n}"):
        fit_threshold([1.0] * n, false_alarm_rate=0.1)


# ---------------------------------------------------------------------------------------- the rules


@pytest.mark.parametrize(("losses", "shares"), [(1, 1), (2, 5), (3, 15)])
def test_candidates_are_every_mix_of_losses_at_every_width(losses: int, shares: int) -> None:
    rules = candidates(losses)
    widths = set(MEAN_FILTERS)
    assert len(rules) == len(set(rules))
    for kind, count in (("linear", shares), ("max", int(losses > 1)), ("mahalanobis", 1)):
        of_kind = [rule for rule in rules if rule.aggregation == kind]
        assert len(of_kind) == count * len(widths)
        assert not of_kind or {rule.mean_filter for rule in of_kind} == widths
    linear = [rule.weights for rule in rules if rule.aggregation == "linear"]
    assert all(len(weights) == losses and sum(weights) == 1 for weights in linear)
    for which in range(losses):
        assert tuple(float(k == which) for k in range(losses)) in linear


def test_the_preset_is_the_score_of_the_thesis() -> None:
    assert THESIS_RULE.aggregation == "max"
    assert THESIS_RULE.mean_filter == 48


def drawn_defects(
    telling: int,
) -> tuple[list[Tensor], list[np.ndarray], list[tuple[str, ...]]]:
    """Return losses of images where one loss alone is higher in the defects; two have none."""
    val: list[Tensor] = []
    masks: list[np.ndarray] = []
    strata: list[tuple[str, ...]] = []
    for number in range(8):
        mask = np.zeros((32, 40), np.bool_)
        if number < 6:
            mask[8 + number : 16 + number, 12:22] = True
        losses = noise(2, 32, 40, seed=number)
        losses[telling] += 3 * torch.from_numpy(mask)
        val.append(losses)
        masks.append(mask)
        strata.append((("hole", "stain")[number % 2], "large") if mask.any() else ())
    return val, masks, strata


ONE, OTHER = (1.0, 0.0), (0.0, 1.0)


@pytest.mark.parametrize("telling", [0, 1])
def test_the_loss_that_tells_defects_apart_is_chosen(telling: int) -> None:
    good = [noise(2, 32, 40, seed=100), noise(2, 32, 40, seed=101)]
    rules = candidates(2, mean_filters=(1,))
    val, masks, strata = drawn_defects(telling)
    found = choose(rules, good, val, masks, strata)
    assert found.rule.aggregation == "linear"
    assert found.rule.weights[telling] >= 0.75
    assert found == calibrate(found.rule, good)


def test_smoothing_is_chosen_where_the_noise_is_strong() -> None:
    good = [noise(2, 32, 40, seed=100), noise(2, 32, 40, seed=101)]
    val, masks, strata = drawn_defects(telling=0)
    found = choose(candidates(2, mean_filters=(1, 5)), good, val, masks, strata)
    assert found.rule.mean_filter == 5


def test_a_rule_that_alarms_on_good_windows_is_not_chosen() -> None:
    """Loss 0 tells the defects better, and is as high on a part of the windows without a defect."""
    good = [noise(2, 32, 40, seed=100), noise(2, 32, 40, seed=101)]
    val, masks, strata = drawn_defects(telling=0)
    for losses, mask in zip(val, masks, strict=True):
        losses[1] += 2 * torch.from_numpy(mask)
    rules = [rule for rule in candidates(2, mean_filters=(1,)) if rule.weights in (ONE, OTHER)]
    assert choose(rules, good, val, masks, strata).rule.weights == ONE
    for losses, mask in zip(val, masks, strict=True):
        if not mask.any():
            losses[0, :16] += 4
    assert choose(rules, good, val, masks, strata).rule.weights == OTHER


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"aggregation": "max", "mean_filter": 0}, "mean_filter must be 1 or more, not 0"),
        ({"aggregation": "max", "top_fraction": 0.0}, "at most 1, not 0.0"),
        ({"aggregation": "max", "top_fraction": 1.5}, "at most 1, not 1.5"),
    ],
)
def test_a_rule_that_cannot_work_is_refused_with_its_value(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Rule(**values)


def test_an_unknown_aggregation_is_refused_with_the_known_ones() -> None:
    rule = Rule(aggregation="max")
    object.__setattr__(rule, "aggregation", "median")  # typed code cannot pass it
    with pytest.raises(ConfigError, match="one of linear, max, mahalanobis, not 'median'"):
        rule.__post_init__()


# ---------------------------------------------------------------------------- threshold of pixels


def windows_of(seed: int) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Draw maps of windows with a tenth of defective pixels, their masks, and good maps."""
    rng = np.random.default_rng(seed)
    masks = [rng.random((40, 50)) < 0.1 for _ in range(4)]
    maps = [rng.normal(size=mask.shape) + 3 * mask for mask in masks]
    return maps, masks, [rng.normal(size=(30, 30)) for _ in range(3)]


@pytest.mark.parametrize("prevalence", [0.002, 0.05, 0.3])
def test_the_threshold_of_pixels_has_the_highest_f1_at_the_prevalence(prevalence: float) -> None:
    maps, masks, good = windows_of(0)
    found = fit_pixel_threshold(maps, masks, good, prevalence=prevalence, most_false=0.5)
    values, labels = np.stack(maps), np.stack(masks)

    def f1(threshold: float) -> float:
        recall = (values > threshold)[labels].mean()
        false = (values > threshold)[~labels].mean()
        flagged = prevalence * recall + (1 - prevalence) * false
        return float(2 * prevalence * recall / (flagged + prevalence))

    best = max(f1(each) for each in np.linspace(-1, 6, 2000))
    assert f1(found) >= best - 1e-9
    assert f1(found - 0.5) < best
    assert f1(found + 0.5) < best


def test_few_pixels_of_good_pictures_lie_above_the_threshold_of_pixels() -> None:
    maps, masks, _ = windows_of(1)
    noisy = [5 * np.random.default_rng(2).normal(size=(60, 60))]
    found = fit_pixel_threshold(maps, masks, noisy, most_false=0.01)
    assert (noisy[0] > found).mean() == pytest.approx(0.01, abs=1e-3)


def test_equal_values_are_on_one_side_of_the_threshold_of_pixels() -> None:
    maps, masks = [np.array([[0.0, 0.0, 1.0, 1.0]])], [np.array([[False, False, True, True]])]
    assert 0 < fit_pixel_threshold(maps, masks, [np.zeros((2, 2))]) < 1


@pytest.mark.parametrize("mask", [False, True])
def test_a_threshold_of_pixels_needs_defective_and_good_ones(mask: bool) -> None:
    with pytest.raises(ConfigError, match=r"of 4, \d are defective"):
        fit_pixel_threshold([np.zeros((2, 2))], [np.full((2, 2), mask)], [np.zeros((2, 2))])
