"""Searches that lose workers, checkpoints or a part of their saved state, one trial at a time."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from optuna.trial import TrialState

from registry import bundle
from registry.trials import Outcome, TrialUsage
from tests.exams import ListLog
from tests.processes import descendants
from tests.search.tiny_searches import config, search
from zoo.search.run import SearchResult
from zoo.search.storage import STATE_FILES
from zoo.training import TrainingData

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("local_ray")]


def workers() -> list[int]:
    """Return the processes of trials that this process's Ray runs."""
    return [each for each, title in descendants(os.getpid()).items() if "ray::Implicit" in title]


# -------------------------------------------------------------------------------- lost workers


@dataclass(kw_only=True)
class SignalLog(ListLog):
    """A log that sends a signal to every worker, once, at a certain report."""

    step: int | None = None
    signal: int = signal.SIGKILL

    def __post_init__(self) -> None:
        super().__init__()
        self.hit: list[int] = []

    def strike(self) -> None:
        if not self.hit:
            self.hit = workers()
            for worker in self.hit:
                os.kill(worker, self.signal)

    def reported(
        self, trial: str, step: int, metrics: Mapping[str, float], usage: TrialUsage
    ) -> None:
        super().reported(trial, step, metrics, usage)
        if step == self.step:
            self.strike()


def test_a_trial_whose_worker_is_killed_goes_on_from_its_last_checkpoint(
    data: TrainingData, tmp_path: Path
) -> None:
    log = SignalLog(step=2)
    result, said = search(log, data, tmp_path, config("killed", trials=1, reports=4))
    assert log.hit
    [(trial, entry)] = log.entries.items()
    steps = [step for step, _ in entry.curves["val_pixel_ap"]]
    assert sorted(set(steps)) == [1, 2, 3, 4]
    assert steps.count(1) == 1, "it began anew"
    assert any(f"trial {trial} lost its worker and will go on" in line for line in said)
    assert (entry.outcome, entry.usage["steps"]) == ("finished", "4")
    assert result.outcomes["finished"] == 1


@dataclass(kw_only=True)
class CheckpointThief(SignalLog):
    """A log that deletes all checkpoints too."""

    storage: Path

    def strike(self) -> None:
        if not self.hit:
            super().strike()
            for folder in self.storage.rglob("checkpoint_*"):
                shutil.rmtree(folder)


def test_a_trial_whose_last_checkpoint_is_gone_begins_anew_and_ends_whole(
    data: TrainingData, tmp_path: Path
) -> None:
    log = CheckpointThief(step=2, storage=tmp_path)
    result, _ = search(log, data, tmp_path, config("thief", trials=1, reports=4))
    assert log.hit
    [entry] = log.entries.values()
    curve = entry.curves["val_pixel_ap"]
    assert [step for step, _ in curve] == [1, 2, 1, 2, 3, 4]
    assert curve[0] == curve[2], "the same seed makes the same reports"
    assert (entry.outcome, entry.usage["steps"]) == ("finished", "4")
    assert bundle.load(result.best).metrics["val_pixel_ap"] == result.value


class BetweenTrialsLog(SignalLog):
    """A log that strikes at the end of the first trial, when its worker is to be reused."""

    def ended(self, trial: str, outcome: Outcome, bundle: Path | None, usage: TrialUsage) -> None:
        super().ended(trial, outcome, bundle, usage)
        self.strike()


def test_a_worker_that_is_lost_between_two_trials_costs_neither(
    data: TrainingData, tmp_path: Path
) -> None:
    log = BetweenTrialsLog()
    result, said = search(log, data, tmp_path, config("between", trials=3))
    assert log.hit
    assert sum("lost its worker and will go on" in line for line in said) == 1
    assert result.outcomes["failed"] == 0
    assert sum(result.outcomes.values()) == len(log.entries) == 3


def test_a_trial_that_hangs_is_ended_as_failed_and_the_search_goes_on(
    data: TrainingData, tmp_path: Path
) -> None:
    log = SignalLog(step=1, signal=signal.SIGSTOP)
    limits = config("hung", trials=2, hung_after_s=5.0)
    result, _ = search(log, data, tmp_path, limits)
    assert log.hit
    failed = [entry for entry in log.entries.values() if entry.outcome == "failed"]
    assert failed
    assert {entry.usage["reason"] for entry in failed} == {"hung: no report for 5 s"}
    assert len(log.entries) == 2
    assert result.outcomes["failed"] == len(failed)
    assert sum(result.outcomes.values()) == 2
    deadline = time.monotonic() + 20  # Ray kills it in its own time
    while set(workers()) & set(log.hit) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not set(workers()) & set(log.hit)


# ------------------------------------------------------------------------ parts of a saved state


class EarlyStateLog(ListLog):
    """A log that keeps the state that Ray has saved when the second trial starts."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.early = folder, dict[str, bytes]()

    def started(self, trial: str, params: Mapping[str, float | int | str]) -> None:
        super().started(trial, params)
        if len(self.entries) == 2 and not self.early:
            self.early = {path.name: path.read_bytes() for path in self.folder.glob("*-*.*")}


WHOLE = config("whole", trials=3)


@pytest.fixture(scope="module")
def whole(
    local_ray: None, data: TrainingData, tmp_path_factory: pytest.TempPathFactory
) -> tuple[EarlyStateLog, SearchResult]:
    """A whole search, of which an older state is kept too."""
    storage = tmp_path_factory.mktemp("whole")
    log = EarlyStateLog(storage / WHOLE.name)
    return log, search(log, data, storage, WHOLE)[0]


@pytest.mark.parametrize("stale", STATE_FILES)
def test_all_records_agree_where_one_file_of_the_saved_state_is_older(
    whole: tuple[EarlyStateLog, SearchResult], data: TrainingData, tmp_path: Path, stale: str
) -> None:
    (log, before), again = whole, ListLog()
    limits = replace(WHOLE, name=f"whole-{stale}")  # Ray keeps files by name elsewhere too
    folder = tmp_path / limits.name
    shutil.copytree(log.folder, folder)
    [older] = [name for name in log.early if name.startswith(stale)]
    assert (folder / older).read_bytes() != log.early[older]
    (folder / older).write_bytes(log.early[older])

    result, _ = search(again, data, tmp_path, limits)
    assert len(result.trials) == 3
    outcomes = {trial: entry.outcome for trial, entry in (log.entries | again.entries).items()}
    counted = Counter(outcomes[trial] for trial in result.trials)
    assert dict(counted) == {name: n for name, n in result.outcomes.items() if n}
    assert result.outcomes["interrupted"] == result.outcomes["failed"] == 0
    if stale != "experiment_state":
        assert set(result.trials) == set(before.trials)
        assert (result.outcomes, result.value) == (before.outcomes, before.value)
    newest = max(folder.glob("searcher-state-*"))
    study = pickle.loads(newest.read_bytes())["_ot_study"]
    states = Counter(trial.state for trial in study.trials)
    assert states[TrialState.RUNNING] == 0
    assert states[TrialState.COMPLETE] == result.outcomes["finished"]
    if stale != "experiment_state":  # else Optuna knows of two more, that Ray does not
        assert states[TrialState.PRUNED] == result.outcomes["stopped_early"]


@pytest.fixture(scope="module")
def anew(
    whole: tuple[EarlyStateLog, SearchResult],
    data: TrainingData,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[ListLog, SearchResult, list[str]]:
    """The same search in the folder of one that was killed while its state was first saved."""
    storage, limits, log = tmp_path_factory.mktemp("anew"), replace(WHOLE, name="anew"), ListLog()
    [state] = whole[0].folder.glob("searcher-state-*")
    shutil.copytree(whole[0].folder, storage / limits.name)
    (storage / limits.name / state.name).rename(storage / limits.name / f"{state.name}.part")
    return log, *search(log, data, storage, limits)


def test_a_search_that_was_killed_while_its_state_was_first_saved_begins_anew(
    whole: tuple[EarlyStateLog, SearchResult], anew: tuple[ListLog, SearchResult, list[str]]
) -> None:
    _, result, said = anew
    assert "Starting search anew" in said[0]
    assert sum(result.outcomes.values()) == len(result.trials) == 3
    assert not set(result.trials) & set(whole[1].trials)


def test_one_trial_at_a_time_the_same_seed_makes_the_same_trials(
    whole: tuple[EarlyStateLog, SearchResult], anew: tuple[ListLog, SearchResult, list[str]]
) -> None:
    seen = [
        [(e.params, e.curves["val_pixel_ap"], e.outcome) for e in log.entries.values()]
        for log in (whole[0], anew[0])
    ]
    assert seen[0] == seen[1]
    assert len({params["learning_rate"] for params, _, _ in seen[0]}) == 3
