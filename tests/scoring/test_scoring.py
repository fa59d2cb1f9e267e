"""From losses to a score: rules compared with values by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.distance import mahalanobis
from torch import Tensor

from zoo.errors import ConfigError
from zoo.scoring.aggregation import THESIS_RULE, Calibration, Rule, anomaly_map, calibrate
from zoo.scoring.maps import enlarge, image_score, smooth
from zoo.scoring.selection import MEAN_FILTERS, candidates, choose


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
