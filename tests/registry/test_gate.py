"""The rules of promotion, on figures."""

from __future__ import annotations

import pytest

from registry import gate
from registry.gate import FEWEST_FAMILIES, FEWEST_WINDOWS, WIN_SHARE, Decision


def against(challenger_ap: float, champion_ap: float, win_share: float) -> Decision:
    return gate.against_champion(
        challenger_ap=challenger_ap, champion_ap=champion_ap, win_share=win_share, draws=1000
    )


def test_a_higher_ap_and_enough_wins_promote() -> None:
    decision = against(0.5, 0.4, WIN_SHARE)
    assert decision.promoted
    assert decision.reason == (
        "The challenger's val AP of 0.500 beats the champion's 0.400; it wins 90.0% of 1000 paired "
        "bootstrap draws, and 90% are needed."
    )
    assert (decision.act, decision.alias) == ("promoted", "champion")
    assert decision.figures == {
        "val_pixel_ap": 0.5,
        "champion_val_pixel_ap": 0.4,
        "win_share": WIN_SHARE,
    }


@pytest.mark.parametrize(
    ("ap", "share"), [(0.5, WIN_SHARE - 0.001), (0.4, 1.0), (0.3, 1.0), (0.3, 0.0)]
)
def test_too_few_wins_or_no_higher_ap_is_refused_with_the_figures(ap: float, share: float) -> None:
    decision = against(ap, 0.4, share)
    assert not decision.promoted
    assert f"val AP of {ap:.3f} {'beats' if ap > 0.4 else 'does not beat'}" in decision.reason
    assert f"champion's 0.400; it wins {share:.1%} of 1000" in decision.reason
    assert (decision.act, decision.alias) == ("refused", "challenger")


@pytest.mark.parametrize(
    ("windows", "families", "enough"),
    [
        (FEWEST_WINDOWS, FEWEST_FAMILIES, True),
        (FEWEST_WINDOWS - 1, FEWEST_FAMILIES, False),
        (FEWEST_WINDOWS, FEWEST_FAMILIES - 1, False),
        (0, 0, False),
    ],
)
def test_a_comparison_takes_windows_of_several_families(
    windows: int, families: int, enough: bool
) -> None:
    assert gate.comparable(windows=windows, families=families) == enough


def test_too_few_windows_are_refused_with_their_number() -> None:
    decision = gate.too_few_windows(windows=40, unseen=6, families=3, challenger_ap=0.5)
    assert not decision.promoted
    assert "Of 40 validation windows, 6 in 3 families show no pixel" in decision.reason
    assert decision.figures == {"val_pixel_ap": 0.5}


def test_a_texture_without_a_champion_takes_the_first_challenger() -> None:
    decision = gate.first_champion("wood", challenger_ap=0.5)
    assert decision.promoted
    assert "'wood' has no champion yet" in decision.reason


def test_the_champion_is_not_promoted_again() -> None:
    assert not gate.already_champion("wood", challenger_ap=0.5).promoted


def above(decision: Decision, challenger_ap: float, untrained_ap: float, loss: float) -> Decision:
    return gate.above_untrained(
        decision, "the floor", challenger_ap=challenger_ap, untrained_ap=untrained_ap, loss=loss
    )


def test_a_challenger_that_an_untrained_method_beats_is_refused_with_both_figures() -> None:
    first = gate.first_champion("wood", challenger_ap=0.5)
    decision = above(first, 0.5, 0.6, WIN_SHARE)
    assert not decision.promoted
    assert (decision.act, decision.alias) == ("refused", "challenger")
    assert "val AP of 0.500 is below that of the floor (0.600, in 90.0% of" in decision.reason
    assert decision.figures == first.figures


@pytest.mark.parametrize(
    ("untrained_ap", "loss"), [(0.5, 1.0), (0.4, 1.0), (0.6, WIN_SHARE - 0.001), (0.6, 0.0)]
)
def test_an_untrained_method_that_is_not_better_or_only_by_chance_refuses_nobody(
    untrained_ap: float, loss: float
) -> None:
    first = gate.first_champion("wood", challenger_ap=0.5)
    assert above(first, 0.5, untrained_ap, loss) == first


def test_a_challenger_that_was_refused_stays_refused_for_its_first_reason() -> None:
    refused = against(0.3, 0.4, 0.0)
    assert above(refused, 0.3, 0.6, 1.0) == refused
    assert above(refused, 0.6, 0.3, 0.0) == refused


def test_a_refused_challenger_can_be_forced_and_the_reason_is_kept() -> None:
    refused = against(0.3, 0.4, 0.0)
    decision = gate.forced(refused, because="the line must run tonight.")
    assert (decision.promoted, decision.act, decision.alias) == (True, "forced", "champion")
    assert decision.reason == (
        f"Forced, because the line must run tonight. The gate said: {refused.reason}"
    )
    assert decision.figures == refused.figures


def test_force_changes_nothing_for_a_challenger_that_passes() -> None:
    passed = against(0.5, 0.4, 1.0)
    assert gate.forced(passed, because="just in case") == passed


def test_a_challenger_whose_verdicts_are_doubted_is_refused_with_the_doubts() -> None:
    won = against(0.5, 0.4, 1.0)
    assert gate.doubted(won, []) == won
    decision = gate.doubted(won, ["It calls all anomalous.", "It finds nothing."])
    assert not decision.promoted
    assert decision.reason == "It calls all anomalous. It finds nothing."
    overruled = gate.forced(decision, because="the line must run")
    assert gate.doubted(overruled, ["It finds nothing."]).promoted
    lost = against(0.3, 0.4, 1.0)
    assert gate.doubted(lost, ["It finds nothing."]) == lost


def test_the_first_champion_stays_and_says_what_is_doubted() -> None:
    decision = gate.doubted(gate.first_champion("wood", challenger_ap=0.5), ["It finds nothing."])
    assert decision.promoted
    assert decision.reason.endswith("becomes the first. But: It finds nothing.")
