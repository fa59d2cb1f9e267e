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
from tests.exams import Entry, ListLog
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


class LossesLog(ListLog):
    """A log that kills or stops the worker at certain events of a search."""

    def __init__(self) -> None:
        super().__init__()
        self.hit: dict[str, list[int]] = {}

    def strike(self, event: str, sent: signal.Signals) -> None:
        """Send a signal to every worker, once for each event."""
        if event not in self.hit:
            self.hit[event] = workers()
            for worker in self.hit[event]:
                os.kill(worker, sent)

    def reported(
        self, trial: str, step: int, metrics: Mapping[str, float], usage: TrialUsage
    ) -> None:
        super().reported(trial, step, metrics, usage)
        number = list(self.entries).index(trial) + 1
        if (number, step) == (1, 2):
            self.strike("in a trial", signal.SIGKILL)
        if (number, step) == (2, 1):
            self.strike("hang", signal.SIGSTOP)

    def ended(self, trial: str, outcome: Outcome, bundle: Path | None, usage: TrialUsage) -> None:
        super().ended(trial, outcome, bundle, usage)
        self.strike("between two trials", signal.SIGKILL)  # its worker is to be used again


@dataclass(frozen=True, kw_only=True)
class Losses:
    """A search that lost three workers.

    Attributes:
        log: Of three trials, in the order in which they started.
        result: What it found.
        said: Its lines of progress.
        left: The workers that were left.
    """

    log: LossesLog
    result: SearchResult
    said: list[str]
    left: set[int]

    def trial(self, number: int) -> tuple[str, Entry]:
        """Return the id and the entry of a trial, from 1."""
        return list(self.log.entries.items())[number - 1]


@pytest.fixture(scope="module")
def losses(
    local_ray: None, tiny_data: TrainingData, tmp_path_factory: pytest.TempPathFactory
) -> Losses:
    """A search that lost a worker in its first trial, one before its second, and one in it."""
    log, limits = LossesLog(), config("losses", trials=3, reports=4, hung_after_s=8.0)
    result, said = search(log, tiny_data, tmp_path_factory.mktemp("losses"), limits)
    assert {event: len(hit) for event, hit in log.hit.items()} == {
        "in a trial": 1,
        "between two trials": 1,
        "hang": 1,
    }
    stopped, deadline = set(log.hit["hang"]), time.monotonic() + 20  # Ray kills it a little later
    while set(workers()) & stopped and time.monotonic() < deadline:
        time.sleep(0.1)
    return Losses(log=log, result=result, said=said, left=set(workers()))


def test_a_trial_whose_worker_is_killed_goes_on_from_its_last_checkpoint(losses: Losses) -> None:
    trial, entry = losses.trial(1)
    steps = [step for step, _ in entry.curves["val_pixel_ap"]]
    assert sorted(set(steps)) == [1, 2, 3, 4]
    assert steps.count(1) == 1, "it began anew"
    assert any(f"trial {trial} lost its worker and will go on" in line for line in losses.said)
    assert (entry.outcome, entry.usage["steps"]) == ("finished", "4")


def test_a_worker_that_is_lost_between_two_trials_costs_neither(losses: Losses) -> None:
    (first, _), (second, entry) = losses.trial(1), losses.trial(2)
    lost = [line.split("| trial ")[-1] for line in losses.said if "lost its worker" in line]
    assert lost == [f"{each} lost its worker and will go on" for each in (first, second)]
    assert entry.curves["val_pixel_ap"][0][0] == 1, "it went on, until it hung"
    assert sum(losses.result.outcomes.values()) == len(losses.log.entries) == 3


def test_a_trial_that_hangs_is_ended_as_failed_and_the_search_goes_on(losses: Losses) -> None:
    outcomes = [entry.outcome for entry in losses.log.entries.values()]
    assert outcomes.index("failed") == 1
    assert losses.result.outcomes["failed"] == outcomes.count("failed") == 1
    assert losses.trial(2)[1].usage["reason"] == "hung: no report for 8 s"
    assert outcomes[2] in ("finished", "stopped_early")
    assert not losses.left & set(losses.log.hit["hang"])


class CheckpointThief(ListLog):
    """A log that deletes all checkpoints at the second report, and kills the worker."""

    def __init__(self, storage: Path) -> None:
        super().__init__()
        self.storage, self.hit = storage, list[int]()

    def reported(
        self, trial: str, step: int, metrics: Mapping[str, float], usage: TrialUsage
    ) -> None:
        super().reported(trial, step, metrics, usage)
        if step == 2 and not self.hit:
            self.hit = workers()
            for worker in self.hit:
                os.kill(worker, signal.SIGKILL)
            for folder in self.storage.rglob("checkpoint_*"):
                shutil.rmtree(folder)


def test_a_trial_whose_last_checkpoint_is_gone_begins_anew_and_ends_whole(
    tiny_data: TrainingData, tmp_path: Path
) -> None:
    log = CheckpointThief(tmp_path)
    result, _ = search(log, tiny_data, tmp_path, config("thief", trials=1, reports=4))
    assert log.hit
    [entry] = log.entries.values()
    curve = entry.curves["val_pixel_ap"]
    assert [step for step, _ in curve] == [1, 2, 1, 2, 3, 4]
    assert curve[0] == curve[2], "the same seed makes the same reports"
    assert (entry.outcome, entry.usage["steps"]) == ("finished", "4")
    assert bundle.load(result.best).metrics["val_pixel_ap"] == result.value


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
    local_ray: None, tiny_data: TrainingData, tmp_path_factory: pytest.TempPathFactory
) -> tuple[EarlyStateLog, SearchResult]:
    """A whole search, and the state that Ray had saved when its second trial started."""
    storage = tmp_path_factory.mktemp("whole")
    log = EarlyStateLog(storage / WHOLE.name)
    return log, search(log, tiny_data, storage, WHOLE)[0]


@pytest.mark.parametrize("stale", STATE_FILES)
def test_all_records_agree_where_one_file_of_the_saved_state_is_older(
    whole: tuple[EarlyStateLog, SearchResult], tiny_data: TrainingData, tmp_path: Path, stale: str
) -> None:
    (log, before), again = whole, ListLog()
    limits = replace(WHOLE, name=f"whole-{stale}")  # Ray keeps files by name elsewhere too
    folder = tmp_path / limits.name
    shutil.copytree(log.folder, folder)
    [older] = [name for name in log.early if name.startswith(stale)]
    assert (folder / older).read_bytes() != log.early[older]
    (folder / older).write_bytes(log.early[older])

    result, _ = search(again, tiny_data, tmp_path, limits)
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
    # With an older state of Ray, Optuna knows of trials that Ray does not.
    known = Counter(outcomes.values()) if stale == "experiment_state" else result.outcomes
    assert states[TrialState.COMPLETE] == known["finished"]
    assert states[TrialState.PRUNED] == known["stopped_early"]


@pytest.fixture(scope="module")
def anew(
    whole: tuple[EarlyStateLog, SearchResult],
    tiny_data: TrainingData,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[ListLog, SearchResult, list[str]]:
    """The same search in the folder of one that was killed while its state was first saved."""
    storage, limits, log = tmp_path_factory.mktemp("anew"), replace(WHOLE, name="anew"), ListLog()
    [state] = whole[0].folder.glob("searcher-state-*")
    shutil.copytree(whole[0].folder, storage / limits.name)
    (storage / limits.name / state.name).rename(storage / limits.name / f"{state.name}.part")
    return log, *search(log, tiny_data, storage, limits)


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
