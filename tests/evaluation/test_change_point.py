"""The sequential test: laws by enumeration, false reports and delays by drawing."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from zoo.evaluation.change_point import BLOCK, Watched, stake, watch

NOTHING = np.array([])


def mean_stake(values: tuple[float, ...], n: int) -> np.ndarray:
    """Over all orders of the values, of which the first n are the reference."""
    orders = [np.array(each) for each in permutations(values)]
    return np.asarray(np.mean([np.exp(stake(each[n:], each[:n])) for each in orders], axis=0))


@pytest.mark.parametrize("values", [(1.0, 2.0, 3.0, 4.0, 5.0, 6.0), (1.0, 1.0, 1.0, 7.0, 7.0, 9.0)])
def test_over_all_orders_the_mean_stake_on_shifts_is_the_share_that_has_begun(
    values: tuple[float, ...],
) -> None:
    begun = 1 - 1 / np.arange(2, 8)
    assert mean_stake(values, 0) == pytest.approx(begun / 2)


def test_over_all_orders_the_mean_stake_is_never_above_one() -> None:
    begun = 1 - 1 / np.arange(2, 6)
    assert mean_stake((1.0, 2.0, 3.0, 4.0, 5.0, 6.0), 2) == pytest.approx(begun / 2 + 1 / 2)
    with_ties = mean_stake((1.0, 1.0, 1.0, 7.0, 7.0, 9.0), 2)
    assert (with_ties < begun / 2 + 1 / 2).all()


@pytest.mark.parametrize("n", [0, 5, 40])
def test_a_change_is_rarely_told_where_there_is_none(n: int) -> None:
    rng = np.random.default_rng(n)
    told = [watch(rng.normal(size=300), rng.normal(size=n), p=0.1).told for _ in range(200)]
    assert sum(each is not None for each in told) <= 0.1 * 200


def test_a_few_outliers_are_no_change() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        values = rng.normal(size=300)
        values[rng.random(300) < 0.05] += 9
        assert watch(values, rng.normal(size=20), p=0.01).told is None


@pytest.mark.parametrize(
    ("n", "before", "shift", "within"),
    [(20, 0, 4, 8), (20, 100, 4, 12), (60, 0, -2, 25), (5, 0, -6, 17), (0, 60, 4, 16)],
)
def test_a_shift_is_told_soon_with_its_beginning_and_its_direction(
    n: int, before: int, shift: int, within: int
) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=before + 60)
        values[before:] += shift
        found = watch(values, rng.normal(size=n), p=0.001)
        assert found.told is not None
        assert found.since is not None
        assert before <= found.told < before + within
        assert abs(found.since - before) <= 6
        assert found.rose == (shift > 0)
        assert found.p_value <= 0.001


def test_only_the_order_of_values_counts_and_later_ones_do_not_change_what_was_told() -> None:
    rng = np.random.default_rng(3)
    values, reference = rng.normal(size=80), rng.normal(size=20)
    values[40:] += 3
    found = watch(values, reference, p=0.001)
    assert found.told is not None
    assert watch(np.exp(values), np.exp(reference), p=0.001) == found
    upside_down = watch(-values, -reference, p=0.001)
    assert (upside_down.told, upside_down.since) == (found.told, found.since)
    assert upside_down.rose != found.rose
    first = watch(values[: found.told + 1], reference, p=0.001)
    assert (first.told, first.since) == (found.told, found.since)
    assert watch(values[: found.told], reference, p=0.001).told is None


def test_ranks_over_several_blocks_are_those_over_one(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 50, 300).astype(float)
    assert len(values) < BLOCK
    whole = stake(values, values[:7])
    monkeypatch.setattr("zoo.evaluation.change_point.BLOCK", 64)
    assert stake(values, values[:7]) == pytest.approx(whole)


def test_equal_values_say_nothing() -> None:
    assert watch(np.ones(200), np.ones(20), p=0.01).told is None
    assert watch(np.ones(1), NOTHING, p=0.01) == Watched(p_value=1.0)
