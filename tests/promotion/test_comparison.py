"""Two detectors by their maps of the same windows, and what the gate decides on that."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import Float

from registry import gate
from registry.gate import Decision
from zoo.data.defects.validation import GOOD, Window
from zoo.promotion.comparison import judged
from zoo.scoring.objective import DRAWS, Paired, paired_maps

FAMILIES = [family for family in ("scratch", "stain", "hole") for _ in range(6)] + [GOOD] * 4
Maps = list[Float[np.ndarray, "24 20"]]


def drawn(families: list[str]) -> list[Window]:
    """Return windows with a square defect, but for those of the family of good ones."""
    rng = np.random.default_rng(1)
    found = []
    for family in families:
        mask = np.zeros((24, 20), np.bool_)
        top, left = rng.integers(2, 14, 2)
        mask[top : top + 4, left : left + 5] = family != GOOD
        found.append(
            Window(
                image=np.zeros((24, 20, 1), np.uint8),
                mask=mask,
                family=family,
                source="a",
                strata=(family,) if family != GOOD else (),
            )
        )
    return found


@pytest.fixture
def windows() -> list[Window]:
    return drawn(FAMILIES)


def maps(windows: list[Window], *, signal: float, seed: int) -> Maps:
    """Draw maps of noise, higher by `signal` deviations where the mask is."""
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(size=each.mask.shape) + signal * each.mask).astype(np.float32)
        for each in windows
    ]


def compare(challenger: Maps, champion: Maps, windows: list[Window]) -> Paired:
    return paired_maps(judged(challenger, windows), judged(champion, windows))


def decide(challenger: Maps, champion: Maps, windows: list[Window]) -> Decision:
    found = compare(challenger, champion, windows)
    return gate.against_champion(
        challenger_ap=found.one,
        champion_ap=found.other,
        win_share=found.win_share,
        draws=found.draws,
    )


def test_a_clearly_better_challenger_passes(windows: list[Window]) -> None:
    better, worse = maps(windows, signal=2.5, seed=1), maps(windows, signal=1.0, seed=2)
    decision = decide(better, worse, windows)
    assert decision.promoted
    assert decision.champion_ap is not None
    assert decision.challenger_ap > decision.champion_ap + 0.1
    assert decision.win_share == 1.0
    assert "beats" in decision.reason


def test_a_worse_challenger_is_refused_with_both_figures_and_the_win_share(
    windows: list[Window],
) -> None:
    better, worse = maps(windows, signal=2.5, seed=1), maps(windows, signal=1.0, seed=2)
    decision = decide(worse, better, windows)
    assert not decision.promoted
    assert f"val AP of {decision.challenger_ap:.3f} does not beat" in decision.reason
    assert f"champion's {decision.champion_ap:.3f}; it wins 0.0% of {DRAWS}" in decision.reason


def test_an_equal_challenger_is_refused(windows: list[Window]) -> None:
    drawn = maps(windows, signal=1.5, seed=1)
    decision = decide(drawn, drawn, windows)
    assert not decision.promoted
    assert decision.challenger_ap == decision.champion_ap
    assert decision.win_share == 0.0


def test_a_challenger_that_is_higher_by_luck_is_refused(
    windows: list[Window],
) -> None:
    decisions = [
        decide(
            maps(windows, signal=1.5, seed=seed),
            maps(windows, signal=1.5, seed=seed + 100),
            windows,
        )
        for seed in range(3)
    ]
    lucky = [each for each in decisions if each.challenger_ap > (each.champion_ap or 0)]
    unsure = [each for each in lucky if each.win_share is not None and each.win_share < 0.9]
    assert unsure, "none of the draws was higher and unsure"
    assert not any(each.promoted for each in unsure)
    assert all("90% are needed" in each.reason for each in unsure)


def test_only_the_order_within_a_detector_counts(windows: list[Window]) -> None:
    ours, theirs = maps(windows, signal=1.6, seed=1), maps(windows, signal=1.4, seed=2)
    plain = compare(ours, theirs, windows)
    scaled = compare([1000 + 8 * each for each in ours], theirs, windows)
    assert scaled.win_share == plain.win_share
    assert scaled.one == pytest.approx(plain.one, abs=1e-3)
    own = [judged(each, windows).objective for each in (ours, theirs)]
    assert [plain.one, plain.other] == own
    assert own[0] > own[1]


def test_each_family_weighs_the_same_however_many_windows_it_has() -> None:
    windows = drawn(["stain"] * 16 + ["hole"] * 2)
    good, blind = maps(windows, signal=9, seed=1), maps(windows, signal=0, seed=2)
    sees_two = compare(blind[:16] + good[16:], blind, windows)
    assert 0.45 < sees_two.one < 0.6


def test_an_alarm_on_a_good_window_costs_a_challenger_its_place(windows: list[Window]) -> None:
    ours, theirs = maps(windows, signal=3.0, seed=1), maps(windows, signal=1.5, seed=2)
    assert decide(ours, theirs, windows).promoted
    loud = [
        each + 9 * np.float32(window.family == GOOD)
        for each, window in zip(ours, windows, strict=True)
    ]
    assert not decide(loud, theirs, windows).promoted
