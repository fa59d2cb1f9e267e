"""Searches: what is logged, what limits them, how they end."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import ray.cloudpickle as cloudpickle

from registry import bundle
from search_spaces import Choice
from tests.exams import ListLog, Read, TrialLogExam
from tests.search.tiny_searches import config, search, space
from zoo.errors import SearchError, SpaceError
from zoo.search.progress import Lines
from zoo.search.run import SearchResult, run_search
from zoo.search.trial import trainable
from zoo.training import TrainingData


class TestListLog(TrialLogExam):
    @pytest.fixture
    def log(self) -> ListLog:
        return ListLog()

    @pytest.fixture
    def read(self, log: ListLog) -> Read:
        return lambda: log.entries


@dataclass(frozen=True, kw_only=True)
class Run:
    """A search that has ended, its log and its lines of progress."""

    result: SearchResult
    log: ListLog
    said: list[str]


HUGE = 10**15  # patches in a batch: petabytes


@pytest.fixture(scope="module")
def finished(
    local_ray: None, tiny_data: TrainingData, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A search in which some trials have no latent channel, and some too large a batch."""
    log, storage = ListLog(), tmp_path_factory.mktemp("searches")
    result, said = search(
        log,
        tiny_data,
        storage,
        config("finished", trials=5),
        latent_channels=Choice(values=(4, 0)),
        batch=Choice(values=(8, HUGE)),
    )
    return Run(result=result, log=log, said=said)


@pytest.mark.cluster
def test_each_trial_is_logged_with_one_start_its_reports_and_one_end(finished: Run) -> None:
    log = finished.log
    assert len(log.entries) == 5
    for trial, entry in log.entries.items():
        calls = [what for what, whose in log.calls if whose == trial]
        reports = entry.curves.get("val_pixel_ap", [])
        assert calls == ["started", *["reported"] * len(reports), "ended"]
        assert [step for step, _ in reports] == list(range(1, len(reports) + 1))
        assert 5e-4 <= float(entry.params["learning_rate"]) <= 4e-3
        assert entry.params["depth"] == "2"


@pytest.mark.cluster
def test_a_trial_that_its_settings_make_fail_fails_once_and_the_search_goes_on(
    finished: Run,
) -> None:
    entries = finished.log.entries.values()
    impossible = [entry for entry in entries if entry.params["latent_channels"] == "0"]
    possible = [entry for entry in entries if entry.params["latent_channels"] == "4"]
    huge = [entry for entry in possible if entry.params["batch"] == str(HUGE)]
    modest = [entry for entry in possible if entry.params["batch"] == "8"]
    assert impossible
    assert huge
    assert modest
    for entry in impossible:
        assert entry.usage["reason"].startswith("ConfigError: latent_channels must be")
    for entry in huge:
        assert entry.usage["reason"].startswith("out of memory on cpu: ")
    for entry in impossible + huge:
        assert entry.outcome == "failed"
        assert entry.usage["steps"] == "0"
        assert not entry.curves
        assert not entry.bundle
    assert not any("reason" in entry.usage for entry in modest)
    assert {entry.outcome for entry in modest} <= {"finished", "stopped_early"}
    assert not any("lost its worker" in line for line in finished.said)


@pytest.mark.cluster
def test_outcomes_are_counted_and_distinguished_by_the_reports_made(finished: Run) -> None:
    entries = finished.log.entries.values()
    outcomes = [entry.outcome for entry in entries]
    assert finished.result.outcomes == {
        name: outcomes.count(name)
        for name in ("finished", "stopped_early", "failed", "interrupted")
    }
    assert sum(finished.result.outcomes.values()) == 5
    assert not finished.result.interrupted
    reports = {"finished": 2, "stopped_early": 1, "failed": 0}
    for entry in entries:
        assert entry.outcome is not None
        assert len(entry.curves.get("val_pixel_ap", [])) == reports[entry.outcome]


@pytest.mark.cluster
def test_each_trial_is_logged_with_its_node_and_what_it_used(finished: Run) -> None:
    for entry in finished.log.entries.values():
        assert entry.usage["steps"] == str(len(entry.curves.get("val_pixel_ap", [])))
        assert 0 <= float(entry.usage["cpu_seconds"]) <= finished.result.seconds
        assert float(entry.usage["cpu_seconds"]) > 0 or entry.outcome == "failed"
        assert entry.usage["gpu_seconds"] == "0.0"
        assert entry.usage["node"]
        assert entry.usage["device"] == ("cpu" if entry.curves else "")


@pytest.mark.cluster
def test_the_best_report_of_all_trials_is_found_with_its_detector(finished: Run) -> None:
    result, entries = finished.result, finished.log.entries
    values = {
        trial: max(value for _, value in entry.curves["val_pixel_ap"])
        for trial, entry in entries.items()
        if entry.curves
    }
    assert result.value == max(values.values()) == values[result.best_trial]
    best = bundle.load(result.best)
    assert best.metrics["val_pixel_ap"] == pytest.approx(result.value)
    rate = best.made_by["settings"]["learning_rate"]
    assert str(rate) == entries[result.best_trial].params["learning_rate"]
    assert str(result.best) == entries[result.best_trial].bundle


@pytest.mark.cluster
def test_the_progress_shows_trials_best_value_and_time_left(finished: Run) -> None:
    assert finished.said[0].startswith("Starting search finished: up to 5 trials")
    assert " 1 at once with 1 thread(s) and 0 GPU each" in finished.said[0]
    best = f"best {finished.result.value:.3f} ({finished.result.best_trial})"
    assert best in finished.said[-1]
    assert finished.said[-1].split(" left")[0][-5:] < "02:00"
    assert "the first failure: ConfigError: latent_channels must" in finished.said[-1]


@pytest.mark.cluster
def test_after_a_whole_search_ctrl_c_stops_what_follows(finished: Run) -> None:
    assert finished.result.outcomes["finished"]
    # Ignored, if the tests run in the background of a script.
    assert signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_IGN)


@pytest.mark.cluster
def test_a_search_without_any_detector_ends_with_the_first_failure(
    local_ray: None, tiny_data: TrainingData, tmp_path: Path
) -> None:
    log = ListLog()
    with pytest.raises(
        SearchError,
        match=r"Search hopeless ended .* without any detector: 1 failed\. "
        "The first failure: .*latent_channels must be .*not 0.* Give it a longer --time-budget",
    ):
        search(
            log,
            tiny_data,
            tmp_path,
            config("hopeless", trials=1),
            latent_channels=Choice(values=(0,)),
        )
    assert [entry.outcome for entry in log.entries.values()] == ["failed"]


@pytest.mark.cluster
def test_the_time_limits_a_search_of_many_long_trials(
    local_ray: None, tiny_data: TrainingData, tmp_path: Path
) -> None:
    log, budget, began = ListLog(), 4.0, time.monotonic()
    pattern = r"Search endless ended after \d+ s without any detector: .*longer --time-budget"
    limits = config("endless", trials=500, time_budget_s=budget)
    with pytest.raises(SearchError, match=pattern):
        search(log, tiny_data, tmp_path, limits, megapixels=Choice(values=(1e5,)))
    assert budget <= time.monotonic() - began < budget + 30
    assert len(log.entries) <= 1
    assert {entry.outcome for entry in log.entries.values()} <= {"interrupted"}
    assert not [each for each in open_files() if "endless" in each], "Tune's logs were left open"


def open_files() -> list[str]:
    links = [Path("/proc/self/fd", each) for each in os.listdir("/proc/self/fd")]
    return [os.readlink(link) for link in links if link.is_symlink()]


@pytest.mark.cluster
def test_images_go_into_the_object_store_and_not_along_with_each_trial(
    local_ray: None, tiny_data: TrainingData
) -> None:
    few = replace(tiny_data, validation=())
    sizes = [
        len(cloudpickle.dumps(trainable(each, config("p"), gpu_share=0.0)))
        for each in (few, tiny_data)
    ]
    pixels = sum(picture.pixels.nbytes for picture in tiny_data.splits.fit)
    assert abs(sizes[1] - sizes[0]) < 100
    assert max(sizes) < pixels / 2


def test_a_space_that_fixes_every_field_is_refused_before_anything_is_written(
    tiny_data: TrainingData, tmp_path: Path
) -> None:
    with pytest.raises(SpaceError, match=r"'tiny' \(tiny.yaml\) fixes every field.*`zoo train`"):
        run_search(
            tiny_data,
            space(),
            config("p"),
            storage=tmp_path,
            log=ListLog(),
            progress=Lines(list[str]().append),
        )
    assert not list(tmp_path.iterdir())
