"""Which settings matter: only whole trials count, and a setting that decides comes first."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import optuna
import pytest
from ray import tune

from registry.trials import Outcome, ReportRecord, TrialRecord
from zoo.search.importance import FEWEST, RANGES, importance, save_ranges


def trial(value: float, outcome: Outcome | None = "finished", **params: object) -> TrialRecord:
    return TrialRecord(
        trial=f"{value}",
        params={name: str(each) for name, each in params.items()},
        reports=(ReportRecord(step=1, when=0.0, value=value),),
        figures={},
        outcome=outcome,
        usage={},
        began=0.0,
        ended=None,
    )


def trials(count: int, outcome: Outcome = "finished") -> list[TrialRecord]:
    """Return trials whose value is the setting `rate`; the others are drawn."""
    rng = np.random.default_rng(0)
    rates = rng.permutation(count) / count
    return [
        trial(
            float(rate),
            outcome,
            rate=0.001 * 10 ** (2 * rate),
            flag=bool(rng.random() < 0.5),
            depth=int(rng.integers(2, 5)),
            kind=["a", "b"][rng.integers(2)],
            fixed=7,
        )
        for rate in rates
    ]


def test_the_setting_that_decides_comes_first_and_a_fixed_one_is_left_out() -> None:
    found = importance(trials(40))
    assert next(iter(found.shares)) == "rate"
    assert found.shares["rate"] > 0.5
    assert found.shares.keys() == {"rate", "flag", "depth", "kind"}
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found.note == "40 of 40 trials are whole; these are compared with the best 5 of them."


def test_below_ten_whole_trials_nothing_is_said() -> None:
    whole = trials(FEWEST - 1)
    found = importance([*whole, *trials(50, "stopped_early")])
    assert found.shares == {}
    assert found.note.startswith("9 of 59 trials are whole. To say which settings matter takes 10")
    assert importance([*whole, trial(0.5, rate=0.1, flag=True, depth=2, kind="a")]).shares


def test_trials_that_were_stopped_early_change_nothing() -> None:
    whole = trials(20)
    odd = [trial(1.0, "stopped_early", rate=0.001, flag=True, depth=4, kind="b")] * 30
    assert importance([*whole, *odd]).shares == importance(whole).shares


def test_equal_trials_say_nothing() -> None:
    found = importance([trial(0.5, rate=at / 10) for at in range(12)])
    assert (found.shares, found.note) == ({}, "12 of 12 trials are whole, and they do not differ.")


def test_the_ranges_that_were_searched_are_used_and_widened_for_what_lies_outside(
    tmp_path: Path,
) -> None:
    domains = {
        "rate": tune.loguniform(1e-6, 1.0),
        "depth": tune.randint(1, 20),
        "kind": tune.choice(["c", "a"]),
        "fixed": 7,
    }
    save_ranges(domains, tmp_path)
    stored = json.loads((tmp_path / RANGES).read_text())
    assert stored.keys() == {"rate", "depth", "kind"}
    assert stored["rate"]["attributes"] == {"low": 1e-6, "high": 1.0, "log": True, "step": None}
    found, without = importance(trials(40), tmp_path), importance(trials(40))
    assert found.shares.keys() == without.shares.keys()
    assert found.shares != without.shares
    assert next(iter(found.shares)) == "rate"


@pytest.mark.parametrize("content", ["", "[]", '{"rate": 3, "depth": {"name": "x"}}'])
def test_a_damaged_file_of_ranges_is_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / RANGES).write_text(content)
    assert importance(trials(20), tmp_path) == importance(trials(20))


def test_settings_that_are_no_numbers_are_compared_as_texts() -> None:
    odd = ["nan", "inf", "1e999", "x" * 500]
    found = importance([trial(at / 20, odd=odd[at % 4], rate=at) for at in range(20)])
    assert found.shares.keys() == {"odd", "rate"}


def test_optuna_says_nothing_and_its_level_stays(capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    importance(trials(12))
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")
