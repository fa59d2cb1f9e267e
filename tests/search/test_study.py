"""The state and the value of each trial in Optuna: pruned, or complete with its best report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState
from ray import tune

from zoo.search.study import Study
from zoo.search.trial import FAILURE

SPACE = {"width": tune.randint(4, 64), "patch": 64}


@pytest.fixture
def study() -> Study:
    return begun()


def begun(*widths: int) -> Study:
    made = Study(seed=0, reports=4, first=[{"width": width} for width in widths or (8,)])
    assert made.set_search_properties("val_pixel_ap", "max", SPACE)
    return made


def report(value: float, step: int) -> dict[str, Any]:
    return {"val_pixel_ap": value, "training_iteration": step, "done": False}


def run(study: Study, trial: str, values: Sequence[float]) -> None:
    """Report all values but the last, which Ray hands over with the end of the trial."""
    study.suggest(trial)
    for step, value in enumerate(values[:-1], start=1):
        study.on_trial_result(trial, report(value, step))
    study.on_trial_complete(trial, report(values[-1], len(values)))


def trials_of(study: Study) -> list[FrozenTrial]:
    return list(study._ot_study.trials)


def test_a_trial_that_was_stopped_is_pruned_with_its_curve(study: Study) -> None:
    run(study, "a", [0.1, 0.3])
    [trial] = trials_of(study)
    assert trial.state == TrialState.PRUNED
    assert trial.intermediate_values == {1: 0.1, 2: 0.3}


def test_a_whole_trial_is_complete_and_its_value_is_its_best_report(study: Study) -> None:
    run(study, "a", [0.1, 0.3, 0.6, 0.5])
    [trial] = trials_of(study)
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.6)
    assert trial.intermediate_values == {1: 0.1, 2: 0.3, 3: 0.6, 4: 0.5}


def test_a_trial_that_ends_by_itself_hands_over_its_last_report_twice(study: Study) -> None:
    study.suggest("a")
    for step in range(1, 5):
        study.on_trial_result("a", report(0.1 * step, step))
    study.on_trial_complete("a", report(0.4, 4) | {"done": True})
    [trial] = trials_of(study)
    assert trial.state == TrialState.COMPLETE
    assert trial.value == pytest.approx(0.4)


@pytest.mark.parametrize("reports", [0, 3])
def test_a_trial_that_failed_is_a_failure_however_far_it_came(study: Study, reports: int) -> None:
    study.suggest("a")
    for step in range(1, reports + 1):
        study.on_trial_result("a", report(0.9, step))
    study.on_trial_complete("a", error=True)
    [trial] = trials_of(study)
    assert (trial.state, trial.value) == (TrialState.FAIL, None)


def test_a_trial_that_reports_a_failure_has_failed(study: Study) -> None:
    study.suggest("a")
    study.on_trial_result("a", report(0.9, 1))
    last = report(0.0, 2) | {FAILURE: "it diverged"}
    study.on_trial_result("a", last)
    study.on_trial_complete("a", last | {"done": True})
    [trial] = trials_of(study)
    assert (trial.state, trial.intermediate_values) == (TrialState.FAIL, {1: 0.9})


def test_a_trial_stopped_before_any_report_is_pruned(study: Study) -> None:
    study.suggest("a")
    study.on_trial_complete("a", {"done": True})
    assert [trial.state for trial in trials_of(study)] == [TrialState.PRUNED]


def test_a_report_that_is_not_a_number_is_ignored(study: Study) -> None:
    run(study, "a", [0.2, math.nan])
    [trial] = trials_of(study)
    assert (trial.state, trial.intermediate_values) == (TrialState.PRUNED, {1: 0.2})


def test_a_report_made_again_after_a_resumption_is_passed_on_once(
    study: Study, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    study.suggest("a")
    study.on_trial_result("a", report(0.2, 1))
    study.save(str(tmp_path / "searcher.pkl"))
    resumed = begun()
    resumed.restore(str(tmp_path / "searcher.pkl"))
    assert [trial.state for trial in trials_of(resumed)] == [TrialState.RUNNING]
    resumed.on_trial_result("a", report(0.25, 1))
    resumed.on_trial_complete("a", report(0.3, 2))
    [trial] = trials_of(resumed)
    assert trial.intermediate_values == {1: 0.2, 2: 0.3}
    assert not recwarn.list


def test_the_first_trials_are_those_asked_for_and_the_rest_follow_from_the_seed() -> None:
    def drawn() -> list[int]:
        study = begun(8, 9)
        found = []
        for number in range(12):
            parameters = study.suggest(str(number))
            assert parameters is not None
            found.append(int(parameters["width"]))
            study.on_trial_complete(str(number), report(1 / found[-1], 4))
        return found

    once = drawn()
    assert once[:2] == [8, 9]
    assert len(set(once)) > 3
    assert drawn() == once


def test_an_early_value_does_not_count_as_the_final_value_of_the_settings(study: Study) -> None:
    run(study, "early", [0.9])
    run(study, "whole", [0.1, 0.2, 0.3, 0.4])
    assert study._ot_study.best_value == 0.4
