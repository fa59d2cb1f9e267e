"""The tail of a map is what was counted on good pixels, and log tails of several maps are added."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from zoo.errors import ConfigError
from zoo.scoring.fusion import FEWEST, Fusion, Tail, added, fit_tail, log_tail

TAIL = Tail(knots=(1.0, 2.0, 4.0), heights=(0.0, 1.0, 2.0))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def exponential(*shape: int, seed: int = 0) -> Tensor:
    return torch.empty(*shape).exponential_(generator=torch.Generator().manual_seed(seed))


def good_maps() -> list[Tensor]:
    return [noise(90, 110), noise(70, 130, seed=1)]


def heights(values: list[float], tail: Tail) -> list[float]:
    """Return t, and not log(1 + t), of some values."""
    return log_tail(torch.tensor([values]), tail).expm1()[0].tolist()


# ------------------------------------------------------------------------------------------- laws


def test_the_height_of_a_value_is_the_share_of_good_pixels_at_or_above_it() -> None:
    maps = good_maps()
    tail, values = fit_tail(maps), torch.cat([each.flatten() for each in maps])
    assert len(tail.knots) > 8
    found = heights(list(tail.knots), tail)
    for knot, height in zip(tail.knots, found, strict=True):
        assert height == pytest.approx(
            -math.log10(float((values >= knot).float().mean())), abs=1e-4
        )
    between = heights([0.3, 1.1, 1.9, 2.5], tail)
    for value, height in zip([0.3, 1.1, 1.9, 2.5], between, strict=True):
        assert height == pytest.approx(
            -math.log10(float((values >= value).float().mean())), abs=0.1
        )


def test_a_higher_value_has_no_lower_log_tail() -> None:
    tail = fit_tail(good_maps())
    found = log_tail(torch.linspace(-9, 90, 20_000)[None], tail)[0]
    assert (found.diff() > -1e-6).all()
    beyond = log_tail(torch.linspace(tail.knots[0], 90, 500)[None], tail)[0]
    assert (beyond.diff() > 0).all()


def test_the_log_tail_of_one_picture_does_not_change_its_map() -> None:
    mine = noise(5, 7)
    before = mine.clone()
    assert log_tail(mine, TAIL).shape == (5, 7)
    torch.testing.assert_close(mine, before, rtol=0, atol=0)


def test_tails_of_an_exponential_distribution_are_straight_as_far_as_one_looks() -> None:
    tail = fit_tail([3 * exponential(400, 500)])
    expected = [value / 3 * math.log10(math.e) for value in (6.0, 30.0, 120.0)]
    assert heights([6.0, 30.0, 120.0], tail) == pytest.approx(expected, rel=0.1)


def test_the_last_knot_has_twenty_pixels_or_more_and_no_more_than_needed() -> None:
    for count in (40, 1_000, 20_000, 100_000):
        maps = [noise(count // 10, 10)]
        above = int((maps[0] >= fit_tail(maps).knots[-1]).sum())
        assert FEWEST <= above < 3 * FEWEST


# --------------------------------------------------------------------------------------- examples


def test_a_tail_by_hand() -> None:
    found = heights([-7.0, 1.0, 1.5, 3.0, 4.0, 8.0], TAIL)
    # Beyond the last knot with the slope of the last decade, a half.
    assert found == pytest.approx([0.0, 0.0, 0.5, 1.5, 2.0, 4.0], abs=1e-6)


def test_the_slope_is_that_of_the_last_decade_and_not_of_the_last_segment() -> None:
    steep = Tail(knots=(0.0, 1.0, 2.0, 3.0, 3.001), heights=(0.0, 1.0, 2.0, 2.5, 3.0))
    assert steep.slope == pytest.approx(1 / 1.001)
    assert Tail(knots=(0.0, 2.0), heights=(0.0, 0.5)).slope == 0.25


def test_knots_that_nearly_touch_lose_no_digits() -> None:
    near = float(np.nextafter(np.float32(1), np.float32(2)))
    tail = Tail(knots=(0.0, 1.0, near, 2.0), heights=(0.0, 1.0, 3.0, 4.0))
    assert heights([0.5, 1.0, near, 1.5, 2.0], tail) == pytest.approx(
        [0.5, 1.0, 3.0, 3.5, 4.0], rel=1e-5
    )


def test_many_equal_values_are_counted_as_such() -> None:
    """A map that is mostly 0: its zeros are not rare, however often quantiles meet them."""
    sparse = (noise(100, 100) - 1.5).clamp(min=0)
    tail = fit_tail([sparse])
    assert tail.knots[0] == 0
    assert heights([0.0], tail) == [0.0]
    value = tail.knots[3]
    share = float((sparse >= value).float().mean())
    assert heights([value], tail) == pytest.approx([-math.log10(share)], rel=1e-4)


@pytest.mark.parametrize("value", [0.0, 3.0, -40.0, 1e9])
def test_constant_maps_have_a_tail_that_can_be_used(value: float) -> None:
    tail = fit_tail([torch.full((30, 40), value), torch.full((20, 10), value)])
    low, same, high = heights([value - 1e3, value, value + 2 * max(1, abs(value))], tail)
    assert (low, same) == (0.0, 0.0)
    assert high == pytest.approx(2.0)


def test_maps_of_few_pixels_have_a_tail_that_can_be_used() -> None:
    tail = fit_tail([torch.tensor([[1.0, 2.0, 5.0]])])
    assert heights([1.0, 2.0], tail) == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize(
    "maps",
    [[], [torch.zeros(0, 5)], [torch.tensor([[1.0, torch.nan]])], [torch.tensor([[-torch.inf]])]],
)
def test_a_tail_of_nothing_is_refused(maps: list[Tensor]) -> None:
    with pytest.raises(ConfigError, match="finite values of good pixels; these are"):
        fit_tail(maps)


# ------------------------------------------------------------------------------------------ fused


def fusion(**changes: Any) -> Fusion:
    other = Tail(knots=(0.0, 1.0), heights=(0.5, 1.0))
    given: dict[str, Any] = {
        "tails": (TAIL, other, TAIL), "map_weights": (2.0, 0.0, 0.5),
        "score_weights": (0.0, 1.0, 0.0),
    }  # fmt: skip
    return Fusion(**(given | changes))


def fused(maps: Sequence[Tensor | None], made: Fusion, weights: tuple[float, ...]) -> Tensor:
    pairs = zip(maps, made.tails, strict=True)
    return added([None if each is None else log_tail(each, tail) for each, tail in pairs], weights)


def test_a_fused_map_is_the_weighted_sum_of_log_tails() -> None:
    made, maps = fusion(), [3 * noise(6, 9, seed=seed) for seed in range(3)]
    by_hand = 2 * log_tail(maps[0], TAIL) + 0.5 * log_tail(maps[2], TAIL)
    torch.testing.assert_close(fused(maps, made, made.map_weights), by_hand)
    torch.testing.assert_close(
        fused(maps, made, made.score_weights), log_tail(maps[1], made.tails[1])
    )
    assert made.used == (True, True, True)
    assert fusion(score_weights=(0.0, 0.0, 1.0)).used == (True, False, True)


def test_a_map_of_no_weight_is_not_needed_and_another_is() -> None:
    made, maps = fusion(), [noise(6, 9), None, noise(6, 9, seed=2)]
    assert fused(maps, made, made.map_weights).shape == (6, 9)
    with pytest.raises(ConfigError, match="map of part 1 has weight 1.0 and is missing"):
        fused(maps, made, made.score_weights)
    with pytest.raises(ConfigError, match="nothing to add"):
        fused(maps, made, (0.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"map_weights": (1.0, 1.0)}, "map_weights must have one weight for .* 3 tails, not 2"),
        ({"score_weights": (1.0,) * 4}, "score_weights must have one weight .* not 4"),
        ({"map_weights": (0.0,) * 3}, r"map_weights must be 0 or more, .* not \(0.0, 0.0, 0.0\)"),
        ({"score_weights": (1.0, -0.5, 1.0)}, "score_weights must be 0 or more, .*-0.5"),
        ({"score_weights": (1.0, math.nan, 1.0)}, "score_weights must be 0 or more, .*nan"),
        ({"map_weights": (1.0, math.inf, 1.0)}, "map_weights must be 0 or more, .*inf"),
        ({"tails": (), "map_weights": (), "score_weights": ()}, "one of them above 0"),
        ({"top_fraction": 0.0}, "top_fraction must be above 0 and at most 1, not 0.0"),
        ({"top_fraction": 1.5}, "top_fraction must be above 0 and at most 1, not 1.5"),
    ],
)  # fmt: skip
def test_a_fusion_with_a_value_out_of_its_range_is_refused(
    changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        fusion(**changes)


@pytest.mark.parametrize(
    ("knots", "found", "said"),
    [
        ((1.0,), (0.0,), "two knots or more, and a height for each, not 1 and 1"),
        ((1.0, 2.0), (0.0, 1.0, 2.0), "not 2 and 3"),
        ((1.0, math.nan), (0.0, 1.0), "must be finite"),
        ((1.0, 2.0), (0.0, math.inf), "must be finite"),
        ((1.0, 1e39), (0.0, 1.0), "differ in float32"),
        ((1.0, 1.0), (0.0, 1.0), "knots must ascend"),
        ((2.0, 1.0), (0.0, 1.0), "knots must ascend"),
        ((1.0, 1.0 + 1e-12), (0.0, 1.0), "differ in float32"),
        ((1.0, 2.0), (-0.1, 1.0), "heights must be 0 or more"),
        ((1.0, 2.0, 3.0), (0.0, 1.0, 0.9), "must not descend"),
        ((0.0, 1e-20), (0.0, 1.0), "slope beyond the last knot is 1e[+]20"),
    ],
)
def test_a_tail_that_is_no_function_is_refused(
    knots: tuple[float, ...], found: tuple[float, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        Tail(knots=knots, heights=found)
