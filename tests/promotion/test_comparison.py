"""Two detectors by their maps of the same windows, and what the gate decides on that."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from jaxtyping import Bool, Float

from registry import gate
from registry.gate import Decision
from zoo.promotion.comparison import compare

FAMILIES = [family for family in ("scratch", "stain", "hole") for _ in range(6)]


@pytest.fixture
def masks() -> list[Bool[np.ndarray, "h w"]]:
    rng = np.random.default_rng(1)
    found = []
    for _ in FAMILIES:
        mask = np.zeros((24, 20), np.bool_)
        top, left = rng.integers(2, 14, 2)
        mask[top : top + 4, left : left + 5] = True
        found.append(mask)
    return found


def maps(
    masks: list[Bool[np.ndarray, "h w"]], *, signal: float, seed: int
) -> list[Float[np.ndarray, "h w"]]:
    """Draw maps of noise, higher by `signal` deviations where the mask is."""
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=mask.shape) + signal * mask).astype(np.float32) for mask in masks]


def decide(
    challenger: list[Float[np.ndarray, "h w"]],
    champion: list[Float[np.ndarray, "h w"]],
    masks: list[Bool[np.ndarray, "h w"]],
) -> Decision:
    return gate.against_champion(
        **asdict(compare(challenger, champion, masks=masks, families=FAMILIES))
    )


def test_a_clearly_better_challenger_passes(masks: list[Bool[np.ndarray, "h w"]]) -> None:
    better, worse = maps(masks, signal=2.5, seed=1), maps(masks, signal=1.0, seed=2)
    decision = decide(better, worse, masks)
    assert decision.promoted
    assert decision.champion_ap is not None
    assert decision.challenger_ap > decision.champion_ap + 0.1
    assert decision.win_share == 1.0
    assert "beats" in decision.reason


def test_a_worse_challenger_is_refused_with_both_figures_and_the_win_share(
    masks: list[Bool[np.ndarray, "h w"]],
) -> None:
    better, worse = maps(masks, signal=2.5, seed=1), maps(masks, signal=1.0, seed=2)
    decision = decide(worse, better, masks)
    assert not decision.promoted
    assert f"val AP of {decision.challenger_ap:.3f} does not beat" in decision.reason
    assert f"champion's {decision.champion_ap:.3f}; it wins 0.0% of 1000" in decision.reason


def test_an_equal_challenger_is_refused(masks: list[Bool[np.ndarray, "h w"]]) -> None:
    drawn = maps(masks, signal=1.5, seed=1)
    decision = decide(drawn, drawn, masks)
    assert not decision.promoted
    assert decision.challenger_ap == decision.champion_ap
    assert decision.win_share == 0.0


def test_a_challenger_that_is_higher_by_luck_is_refused(
    masks: list[Bool[np.ndarray, "h w"]],
) -> None:
    decisions = [
        decide(maps(masks, signal=1.5, seed=seed), maps(masks, signal=1.5, seed=seed + 100), masks)
        for seed in range(3)
    ]
    lucky = [each for each in decisions if each.challenger_ap > (each.champion_ap or 0)]
    unsure = [each for each in lucky if each.win_share is not None and each.win_share < 0.9]
    assert unsure, "none of the draws was higher and unsure"
    assert not any(each.promoted for each in unsure)
    assert all("90% are needed" in each.reason for each in unsure)


def test_only_the_order_within_a_detector_counts(masks: list[Bool[np.ndarray, "h w"]]) -> None:
    ours, theirs = maps(masks, signal=1.6, seed=1), maps(masks, signal=1.4, seed=2)
    plain = compare(ours, theirs, masks=masks, families=FAMILIES)
    scaled = compare([1000 + 8 * each for each in ours], theirs, masks=masks, families=FAMILIES)
    assert scaled.win_share == plain.win_share
    assert scaled.challenger_ap == pytest.approx(plain.challenger_ap, abs=1e-3)


def test_each_family_weighs_the_same_however_many_windows_it_has(
    masks: list[Bool[np.ndarray, "h w"]],
) -> None:
    families = ["stain"] * 16 + ["hole"] * 2
    good, blind = maps(masks, signal=9, seed=1), maps(masks, signal=0, seed=2)
    sees_two = compare(blind[:16] + good[16:], blind, masks=masks, families=families)
    assert 0.45 < sees_two.challenger_ap < 0.6
