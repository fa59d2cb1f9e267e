"""Searches with a Ray of their own: what a record hears of them, what bounds them, how they end."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pytest
import ray
from mlflow.entities import Run as MlflowRun
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState
from ray import tune

from registry.runs import Outcome, SearchRuns, open_store
from search_spaces import Choice, Field, Integer, LogUniform, Space, Uniform
from tests import textures_drawn
from tests.exams import Entry, ListLog, Read, TrialLogExam
from tests.processes import descendants
from zoo import bundle, search
from zoo.errors import BadImageError, ConfigError, SearchError, SpaceError, StorageError
from zoo.listener import PACE_S, Facts, Listener, Plan
from zoo.recipe import Materials
from zoo.search import (
    Found,
    first_trial,
    fitting,
    last_plan,
    new_name,
    paced,
    write_plan,
)

FIXED = textures_drawn.TINY | {"scale": 0.5, "output_stride": 4}


def space(**fields: Any) -> Space:
    return Space(name="tiny", path=Path("tiny.yaml"), fields=FIXED | fields)


def plan(name: str, **changes: Any) -> Plan:
    standard = Plan(
        name=name,
        texture="weave",
        fingerprint="sha256:00",
        seed=0,
        trials=2,
        time_budget_s=120.0,
        threads=1,
        gpus_per_trial=None,
        reports=2,
    )
    return replace(standard, **changes)


# ----------------------------------------------------------------------------------- the record


class TestListLog(TrialLogExam):
    @pytest.fixture
    def log(self) -> ListLog:
        return ListLog()

    @pytest.fixture
    def read(self, log: ListLog) -> Read:
        return lambda: log.entries


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for the exam, as making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('record') / 'mlflow.db'}"


class TestSearchRuns(TrialLogExam):
    @pytest.fixture
    def log(self, uri: str, request: pytest.FixtureRequest) -> SearchRuns:
        return SearchRuns(open_store(uri), search=request.node.name, texture="weave", params={})

    @pytest.fixture
    def read(self, uri: str, request: pytest.FixtureRequest) -> Read:
        return lambda: recorded(uri, request.node.name)


def outcome_of(run: MlflowRun) -> Outcome | None:
    tag = run.data.tags.get("zoo.outcome")
    return next((outcome for outcome in get_args(Outcome) if outcome == tag), None)


def recorded(uri: str, name: str) -> dict[str, Entry]:
    """Read all trials of a search from MLflow, through a client of its own."""
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(experiments, f'tags.`zoo.search` = "{name}"')
    entries = {}
    for run in runs:
        if run.data.tags["zoo.role"] != "trial":
            continue
        trial, run_id = run.data.tags["zoo.trial"], run.info.run_id
        assert trial not in entries, "two runs of one trial"
        entries[trial] = Entry(
            params=run.data.params,
            curves={
                metric: [(point.step, point.value) for point in history]
                for metric in run.data.metrics
                if (history := client.get_metric_history(run_id, metric))
            },
            outcome=outcome_of(run),
            bundle=run.data.tags.get("zoo.bundle"),
            facts={
                name: run.data.tags[f"zoo.{name}"]
                for name in ("steps", "node", "cpu_seconds", "gpu_seconds", "reason")
                if f"zoo.{name}" in run.data.tags
            },
        )
    return entries


# ------------------------------------------------------------------------------------- a real run


@pytest.fixture(scope="module")
def here() -> Iterator[None]:
    """A Ray of this machine, for all searches of this file."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        with search.cluster():
            yield


@dataclass(frozen=True, kw_only=True)
class Run:
    """A search that has ended, and what was heard of it."""

    found: Found
    log: ListLog
    said: list[str]


@pytest.fixture(scope="module")
def finished(
    here: None, tiny_materials: Materials, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A search of four trials, some of which have no latent channel and so must fail."""
    log, said = ListLog(), list[str]()
    found = search.run(
        tiny_materials,
        space(learning_rate=LogUniform(low=5e-4, high=4e-3), latent_channels=Choice(values=(4, 0))),
        plan("finished", trials=4),
        storage=tmp_path_factory.mktemp("searches"),
        log=log,
        say=said.append,
    )
    return Run(found=found, log=log, said=said)


@pytest.mark.cluster
def test_the_record_hears_each_trial_begin_once_report_and_end_once(finished: Run) -> None:
    log = finished.log
    assert len(log.entries) == 4
    for trial, entry in log.entries.items():
        told = [what for what, whose in log.told if whose == trial]
        reports = entry.curves.get("val_pixel_ap", [])
        assert told == ["started", *["reported"] * len(reports), "ended"]
        assert [step for step, _ in reports] == list(range(1, len(reports) + 1))
        assert 5e-4 <= float(entry.params["learning_rate"]) <= 4e-3
        assert entry.params["batch"] == "8"


@pytest.mark.cluster
def test_a_trial_with_impossible_settings_fails_and_the_search_goes_on(finished: Run) -> None:
    entries = finished.log.entries.values()
    impossible = [entry for entry in entries if entry.params["latent_channels"] == "0"]
    possible = [entry for entry in entries if entry.params["latent_channels"] == "4"]
    assert impossible
    assert possible
    assert {entry.outcome for entry in impossible} == {"failed"}
    for entry in impossible:
        assert entry.facts["reason"].startswith("ConfigError: latent_channels must be")
        assert entry.facts["steps"] == "0"
    assert not any("reason" in entry.facts for entry in possible)
    assert not any(entry.curves or entry.bundle for entry in impossible)
    assert {entry.outcome for entry in possible} <= {"finished", "stopped_early"}


@pytest.mark.cluster
def test_outcomes_are_counted_and_told_apart_by_the_reports_made(finished: Run) -> None:
    entries = finished.log.entries.values()
    outcomes = [entry.outcome for entry in entries]
    assert finished.found.outcomes == {
        name: outcomes.count(name)
        for name in ("finished", "stopped_early", "failed", "interrupted")
    }
    assert sum(finished.found.outcomes.values()) == 4
    assert not finished.found.interrupted
    reports = {"finished": 2, "stopped_early": 1, "failed": 0}
    for entry in entries:
        assert entry.outcome is not None
        assert len(entry.curves.get("val_pixel_ap", [])) == reports[entry.outcome]


@pytest.mark.cluster
def test_each_trial_says_where_it_ran_and_what_it_took(finished: Run) -> None:
    for entry in finished.log.entries.values():
        assert entry.facts["steps"] == str(len(entry.curves.get("val_pixel_ap", [])))
        assert 0 <= float(entry.facts["cpu_seconds"]) <= finished.found.seconds
        assert float(entry.facts["cpu_seconds"]) > 0 or entry.outcome == "failed"
        assert entry.facts["gpu_seconds"] == "0.0"
        assert entry.facts["node"]
        assert entry.facts["device"] == ("cpu" if entry.curves else "")


@pytest.mark.cluster
def test_the_best_report_of_all_trials_is_found_with_its_detector(finished: Run) -> None:
    found, entries = finished.found, finished.log.entries
    values = {
        trial: max(value for _, value in entry.curves["val_pixel_ap"])
        for trial, entry in entries.items()
        if entry.curves
    }
    assert found.value == max(values.values()) == values[found.best_trial]
    best = bundle.load(found.best)
    assert best.metrics["val_pixel_ap"] == pytest.approx(found.value)
    rate = best.made_by["training"]["learning_rate"]
    assert str(rate) == entries[found.best_trial].params["learning_rate"]
    assert str(found.best) == entries[found.best_trial].bundle


@pytest.mark.cluster
def test_the_person_who_waits_hears_of_trials_best_so_far_and_time_left(finished: Run) -> None:
    cores = int(ray.cluster_resources()["CPU"])
    assert finished.said[0].startswith("Starting search finished: up to 4 trials")
    assert f" {cores} at once with 1 thread(s) and 0 GPU each" in finished.said[0]
    best = f"best {finished.found.value:.3f} ({finished.found.best_trial})"
    assert best in finished.said[-1]
    assert finished.said[-1].split(" left")[0][-5:] < "02:00"
    assert "the first failure: ConfigError: latent_channels must" in finished.said[-1]


@pytest.mark.cluster
def test_one_trial_at_a_time_the_same_seed_makes_the_same_trials(
    here: None, tiny_materials: Materials, tmp_path: Path
) -> None:
    cores = int(ray.cluster_resources()["CPU"])
    seen = []
    for name in ("once", "again"):
        log = ListLog()
        search.run(
            tiny_materials,
            space(learning_rate=LogUniform(low=5e-4, high=4e-3)),
            plan(name, trials=3, threads=cores),
            storage=tmp_path,
            log=log,
            say=list[str]().append,
        )
        entries = log.entries.values()
        seen.append([(e.params, e.curves["val_pixel_ap"], e.outcome) for e in entries])
    assert seen[0] == seen[1]
    assert len({params["learning_rate"] for params, _, _ in seen[0]}) == 3


@pytest.mark.cluster
def test_a_search_without_any_detector_ends_with_the_first_failure(
    here: None, tiny_materials: Materials, tmp_path: Path
) -> None:
    log = ListLog()
    with pytest.raises(
        SearchError,
        match=r"Search hopeless ended .* without any detector: 1 failed\. "
        "The first failure: .*latent_channels must be .*not 0.* Give it a longer --time-budget",
    ):
        search.run(
            tiny_materials,
            space(latent_channels=Choice(values=(0,))),
            plan("hopeless", trials=1),
            storage=tmp_path,
            log=log,
            say=list[str]().append,
        )
    assert [entry.outcome for entry in log.entries.values()] == ["failed"]


@pytest.mark.cluster
def test_the_time_bounds_a_search_of_many_long_trials(
    here: None, tiny_materials: Materials, tmp_path: Path
) -> None:
    log, budget, began = ListLog(), 6.0, time.monotonic()
    pattern = r"Search endless ended after \d+ s without any detector: .*longer --time-budget"
    with pytest.raises(SearchError, match=pattern):
        search.run(
            tiny_materials,
            space(megapixels=Choice(values=(1e5,))),
            plan("endless", trials=500, time_budget_s=budget),
            storage=tmp_path,
            log=log,
            say=list[str]().append,
        )
    assert budget <= time.monotonic() - began < budget + 30
    assert len(log.entries) <= int(ray.cluster_resources()["CPU"])
    assert {entry.outcome for entry in log.entries.values()} <= {"interrupted"}
    assert not [each for each in open_files() if "endless" in each], "Tune's logs were left open"


def workers() -> list[int]:
    """Return the processes of trials that a Ray of ours runs."""
    return [each for each, title in descendants(os.getpid()).items() if "ray::Implicit" in title]


@dataclass(kw_only=True)
class Saboteur(ListLog):
    """A record that sends a signal to every trial's worker, once, at a certain report."""

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

    def reported(self, trial: str, step: int, metrics: Mapping[str, float], facts: Facts) -> None:
        super().reported(trial, step, metrics, facts)
        if step == self.step:
            self.strike()


def hurt(
    log: ListLog, materials: Materials, storage: Path, bounds: Plan, **fields: Field
) -> tuple[Found, list[str]]:
    """Search with a record that does harm; return what was found, and what was said."""
    said: list[str] = []
    rates = {"learning_rate": LogUniform(low=5e-4, high=4e-3)}
    found = search.run(
        materials, space(**rates, **fields), bounds, storage=storage, log=log, say=said.append
    )
    return found, said


@pytest.mark.cluster
def test_a_trial_whose_worker_is_killed_goes_on_from_its_last_checkpoint(
    here: None, tiny_materials: Materials, tmp_path: Path
) -> None:
    log = Saboteur(step=2)
    found, said = hurt(log, tiny_materials, tmp_path, plan("killed", trials=1, reports=4))
    assert log.hit
    [(trial, entry)] = log.entries.items()
    steps = [step for step, _ in entry.curves["val_pixel_ap"]]
    assert sorted(set(steps)) == [1, 2, 3, 4]
    assert steps.count(1) == 1, "it began anew"
    assert any(f"trial {trial} lost its worker and will go on" in line for line in said)
    assert (entry.outcome, entry.facts["steps"]) == ("finished", "4")
    assert found.outcomes["finished"] == 1


@dataclass(kw_only=True)
class Vandal(Saboteur):
    """A saboteur that takes the checkpoints away too."""

    storage: Path

    def strike(self) -> None:
        if not self.hit:
            super().strike()
            for folder in self.storage.rglob("checkpoint_*"):
                shutil.rmtree(folder)


@pytest.mark.cluster
def test_a_trial_whose_last_checkpoint_is_gone_begins_anew_and_ends_whole(
    here: None, tiny_materials: Materials, tmp_path: Path
) -> None:
    log = Vandal(step=2, storage=tmp_path)
    found, _ = hurt(log, tiny_materials, tmp_path, plan("vandal", trials=1, reports=4))
    assert log.hit
    [entry] = log.entries.values()
    curve = entry.curves["val_pixel_ap"]
    assert [step for step, _ in curve] == [1, 2, 1, 2, 3, 4]
    assert curve[0] == curve[2], "the same seed makes the same reports"
    assert (entry.outcome, entry.facts["steps"]) == ("finished", "4")
    assert bundle.load(found.best).metrics["val_pixel_ap"] == found.value


class Reaper(Saboteur):
    """A saboteur that waits for the end of the first trial, when its worker is to be reused."""

    def ended(self, trial: str, outcome: Outcome, bundle: Path | None, facts: Facts) -> None:
        super().ended(trial, outcome, bundle, facts)
        self.strike()


@pytest.mark.cluster
def test_a_worker_that_is_lost_between_two_trials_costs_neither(
    here: None, tiny_materials: Materials, tmp_path: Path
) -> None:
    log, bounds = Reaper(), plan("between", trials=3, threads=os.cpu_count() or 1)
    found, said = hurt(log, tiny_materials, tmp_path, bounds)
    assert log.hit
    assert sum("lost its worker and will go on" in line for line in said) == 1
    assert found.outcomes["failed"] == 0
    assert sum(found.outcomes.values()) == len(log.entries) == 3


class Photographer(ListLog):
    """A record that keeps what Ray has written down of a search when its second trial begins."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.kept = folder, dict[str, bytes]()

    def started(self, trial: str, params: Mapping[str, float | int | str]) -> None:
        super().started(trial, params)
        if len(self.entries) == 2 and not self.kept:
            self.kept = {path.name: path.read_bytes() for path in self.folder.glob("*-*.*")}


TORN = plan("torn", trials=3, threads=os.cpu_count() or 1)


@pytest.fixture(scope="module")
def torn(
    here: None, tiny_materials: Materials, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Photographer, Found]:
    """A whole search, of which an older state is kept too."""
    storage = tmp_path_factory.mktemp("torn")
    log = Photographer(storage / TORN.name)
    return log, hurt(log, tiny_materials, storage, TORN)[0]


@pytest.mark.cluster
@pytest.mark.parametrize("stale", search.STATE_PARTS)
def test_the_books_balance_where_a_part_of_what_ray_wrote_down_is_older(
    torn: tuple[Photographer, Found], tiny_materials: Materials, tmp_path: Path, stale: str
) -> None:
    (log, whole), again = torn, ListLog()
    bounds = replace(TORN, name=f"torn-{stale}")  # Ray keeps files by name elsewhere too
    folder = tmp_path / bounds.name
    shutil.copytree(log.folder, folder)
    [older] = [name for name in log.kept if name.startswith(stale)]
    assert (folder / older).read_bytes() != log.kept[older]
    (folder / older).write_bytes(log.kept[older])

    found, _ = hurt(again, tiny_materials, tmp_path, bounds)
    assert len(found.trials) == 3
    outcomes = {trial: entry.outcome for trial, entry in (log.entries | again.entries).items()}
    counted = Counter(outcomes[trial] for trial in found.trials)
    assert dict(counted) == {name: n for name, n in found.outcomes.items() if n}
    assert found.outcomes["interrupted"] == found.outcomes["failed"] == 0
    if stale != "experiment_state":
        assert set(found.trials) == set(whole.trials)
        assert (found.outcomes, found.value) == (whole.outcomes, whole.value)
    newest = max(folder.glob("searcher-state-*"))
    study = pickle.loads(newest.read_bytes())["_ot_study"]
    states = Counter(trial.state for trial in study.trials)
    assert states[TrialState.RUNNING] == 0
    assert states[TrialState.COMPLETE] == found.outcomes["finished"]
    if stale != "experiment_state":  # else Optuna knows of two more, that Ray does not
        assert states[TrialState.PRUNED] == found.outcomes["stopped_early"]


@pytest.mark.cluster
def test_a_search_that_was_killed_while_it_was_first_written_down_begins_anew(
    torn: tuple[Photographer, Found], tiny_materials: Materials, tmp_path: Path
) -> None:
    bounds = replace(TORN, name="first")
    [state] = torn[0].folder.glob("searcher-state-*")
    shutil.copytree(torn[0].folder, tmp_path / bounds.name)
    (tmp_path / bounds.name / state.name).rename(tmp_path / bounds.name / f"{state.name}.part")
    found, said = hurt(ListLog(), tiny_materials, tmp_path, bounds)
    assert "Starting search first" in said[0]
    assert sum(found.outcomes.values()) == len(found.trials) == 3
    assert not set(found.trials) & set(torn[1].trials)


@pytest.mark.cluster
def test_a_trial_without_enough_memory_fails_once_and_the_search_goes_on(
    here: None, tiny_materials: Materials, tmp_path: Path
) -> None:
    log, batch = ListLog(), Choice(values=(8, 50_000_000))
    bounds = plan("greedy", trials=4, reports=1)
    _, said = hurt(log, tiny_materials, tmp_path, bounds, batch=batch)
    greedy = [entry for entry in log.entries.values() if entry.params["batch"] == "50000000"]
    modest = [entry for entry in log.entries.values() if entry.params["batch"] == "8"]
    assert greedy
    assert modest
    for entry in greedy:
        assert entry.outcome == "failed"
        assert entry.facts["reason"].startswith("out of memory on cpu: ")
    assert {entry.outcome for entry in modest} <= {"finished", "stopped_early"}
    assert not any("lost its worker" in line for line in said)


@pytest.mark.cluster
def test_a_trial_that_hangs_is_ended_as_failed_and_the_search_goes_on(
    here: None, tiny_materials: Materials, tmp_path: Path
) -> None:
    log = Saboteur(step=1, signal=signal.SIGSTOP)
    bounds = plan("hung", trials=3, reports=2, hung_after_s=8.0)
    found, _ = hurt(log, tiny_materials, tmp_path, bounds)
    assert log.hit
    failed = [entry for entry in log.entries.values() if entry.outcome == "failed"]
    assert failed
    assert {entry.facts["reason"] for entry in failed} == {"hung: no report for 8 s"}
    assert len(log.entries) == 3
    assert found.outcomes["failed"] == len(failed)
    assert sum(found.outcomes.values()) == 3
    deadline = time.monotonic() + 20  # Ray kills it in its own time
    while set(workers()) & set(log.hit) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not set(workers()) & set(log.hit)


@pytest.mark.parametrize("where", ["127.0.0.1:9", "ray://127.0.0.1:9"])
def test_an_address_without_a_ray_is_refused_with_what_to_check(where: str) -> None:
    said = f"Cannot join the Ray at '{where}': .*refused"
    with pytest.raises(ConfigError, match=said) as caught, search.cluster(where):
        pytest.fail("there is none")
    assert "Check that it runs (`ray status`)" in str(caught.value)


@pytest.mark.cluster
def test_trials_at_once_times_threads_are_the_cores(here: None) -> None:
    cores = int(ray.cluster_resources()["CPU"])
    assert search.room_for_trials(plan("p", threads=1)) == (0.0, cores)
    assert search.room_for_trials(plan("p", threads=cores)) == (0.0, 1)


@pytest.mark.cluster
def test_a_gpu_share_that_was_asked_for_is_kept_where_no_gpu_is_up_yet(here: None) -> None:
    assert search.room_for_trials(plan("p", gpus_per_trial=0.25)) == (0.25, search.CLUSTER_SLOTS)


@pytest.mark.cluster
def test_pictures_go_into_the_object_store_and_not_along_with_each_trial(
    here: None, tiny_materials: Materials
) -> None:
    import ray.cloudpickle as cloudpickle

    few = replace(tiny_materials, validation=())
    sizes = [
        len(cloudpickle.dumps(search._trainable(each, plan("p"), 0.0)))
        for each in (few, tiny_materials)
    ]
    pixels = sum(picture.pixels.nbytes for picture in tiny_materials.splits.fit)
    assert abs(sizes[1] - sizes[0]) < 100
    assert max(sizes) < pixels / 2


def open_files() -> list[str]:
    links = [Path("/proc/self/fd", each) for each in os.listdir("/proc/self/fd")]
    return [os.readlink(link) for link in links if link.is_symlink()]


# --------------------------------------------------------------------------------- without any Ray


def test_a_space_becomes_rays_distributions_and_fixed_values_stay() -> None:
    found = search.parameter_space(
        Space(
            name="s",
            path=Path("s.yaml"),
            fields={
                "a": Uniform(low=0.0, high=1.0),
                "b": LogUniform(low=1e-4, high=1e-2),
                "c": Integer(low=2, high=3),
                "d": Choice(values=(8, 16)),
                "e": "batch",
            },
        )
    )
    assert isinstance(found["a"], tune.search.sample.Float)
    draws = {name: {found[name].sample() for _ in range(64)} for name in "abcd"}
    assert all(0 <= value < 1 for value in draws["a"])
    assert all(1e-4 <= value < 1e-2 for value in draws["b"])
    assert sum(value < 1e-3 for value in draws["b"]) > 16, "half of the decades, not of the range"
    assert draws["c"] == {2, 3}
    assert draws["d"] == {8, 16}
    assert found["e"] == "batch"


def test_a_space_that_fixes_every_field_is_refused_before_anything_is_written(
    tiny_materials: Materials, tmp_path: Path
) -> None:
    with pytest.raises(SpaceError, match=r"'tiny' \(tiny.yaml\) fixes every field.*`zoo train`"):
        search.run(
            tiny_materials,
            space(),
            plan("p"),
            storage=tmp_path,
            log=ListLog(),
            say=list[str]().append,
        )
    assert not list(tmp_path.iterdir())


SCALES, PATCHES = (0.25, 0.5, 1.0), (16, 32, 64)


def sizes(field: Field) -> list[float]:
    """Return the numbers that a field chooses from."""
    assert isinstance(field, Choice)
    assert field.values
    return [value for value in field.values if isinstance(value, int | float)]


@pytest.mark.parametrize("side", [16, 24, 40, 64, 100, 128, 200, 255, 256, 1000])
def test_whatever_is_left_of_a_space_fits_the_smallest_picture(side: int) -> None:
    wide = space(scale=Choice(values=SCALES), patch=Choice(values=PATCHES))
    narrow, note = fitting(wide, side)
    scales, patches = (sizes(narrow.fields[name]) for name in ("scale", "patch"))
    assert round(side * min(scales)) >= max(patches)
    assert set(scales) <= set(SCALES)
    assert set(patches) <= set(PATCHES)
    assert {k: v for k, v in narrow.fields.items() if k not in ("scale", "patch")} == {
        k: v for k, v in wide.fields.items() if k not in ("scale", "patch")
    }
    assert (note == "") == (narrow == wide) == (round(side / 4) >= 64)


def test_a_space_that_was_narrowed_says_to_what() -> None:
    wide = space(scale=Choice(values=SCALES), patch=Choice(values=PATCHES))
    _, note = fitting(wide, 100)
    assert note == (
        "The smallest good picture has a side of 100 pixels, so scale is one of [0.5, 1.0] and "
        "patch one of [16, 32]."
    )


def test_a_picture_smaller_than_the_smallest_patch_is_refused_with_both_sizes() -> None:
    wide = space(scale=Choice(values=(0.25, 0.5)), patch=Choice(values=PATCHES))
    with pytest.raises(BadImageError, match=r"side of 30 pixels; space 'tiny' needs 32 .*--space"):
        fitting(wide, 30)
    assert fitting(wide, 32)[0].fields["patch"] == Choice(values=(16,))


def test_small_pictures_are_tried_at_full_size_too_unless_the_space_is_the_users_own() -> None:
    wide = space(scale=Choice(values=(0.25, 0.5)), patch=Choice(values=PATCHES))
    found, note = fitting(wide, 256, widen=True)
    assert sizes(found.fields["scale"]) == [0.25, 0.5, 1.0]
    assert "scale is one of [0.25, 0.5, 1.0]" in note
    assert fitting(wide, 256) == (wide, "")
    assert fitting(wide, 1024, widen=True) == (wide, "")


def test_more_time_makes_longer_trials_and_says_so() -> None:
    wide = space(megapixels=300.0)
    longer, note = paced(wide, 2 * PACE_S)
    assert longer.fields["megapixels"] == 600.0
    assert note == (
        "Trials train on 600 megapixels: space 'tiny' has 300 for a search of 20 minutes, and this "
        "one has 40."
    )
    assert paced(wide, PACE_S) == (wide, "")
    ranged = space(megapixels=LogUniform(low=1.0, high=2.0))
    assert paced(ranged, 2 * PACE_S) == (ranged, "")


def test_a_search_begins_with_the_middle_of_its_ranges_and_the_first_of_its_choices() -> None:
    wide = space(
        patch=Choice(values=(64, 48)),
        width=Integer(low=12, high=24),
        learning_rate=LogUniform(low=1e-4, high=1e-2),
        ema=Uniform(low=0.5, high=0.9),
        batch=16,
    )
    start = first_trial(wide)
    assert start == {
        "patch": 64,
        "width": 18,
        "learning_rate": pytest.approx(1e-3),
        "ema": pytest.approx(0.7),
    }


def test_a_space_without_scale_or_patch_is_left_alone() -> None:
    plain = Space(name="plain", path=Path("p.yaml"), fields={"width": 4})
    assert fitting(plain, 10) == (plain, "")


def test_the_newest_plan_of_a_texture_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    plans = [plan("weave-20250101"), plan("weave-20260101", seed=3), plan("a", texture="wood")]
    for each in plans:
        write_plan(each, tmp_path / each.name)
    assert last_plan(tmp_path, "weave") == plans[1]
    assert last_plan(tmp_path, "wood") == plans[2]


def test_a_plan_of_a_newer_version_is_read_for_what_this_one_knows(tmp_path: Path) -> None:
    known = plan("weave-1")
    (tmp_path / "weave-1").mkdir()
    (tmp_path / "weave-1" / search.PLAN).write_text(json.dumps(asdict(known) | {"hats": 3}))
    assert last_plan(tmp_path, "weave") == known


def test_resuming_what_was_never_begun_is_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=f"no search of 'weave' under {tmp_path}.*none at all"):
        last_plan(tmp_path, "weave")
    for name in ("wood", "grid"):
        write_plan(plan(name, texture=name), tmp_path / name)
    with pytest.raises(SearchError, match="'weave' .* there are searches of grid, wood. Start one"):
        last_plan(tmp_path, "weave")


def test_searches_that_begin_in_the_same_second_have_names_of_their_own(tmp_path: Path) -> None:
    names = [new_name(tmp_path / "searches", "weave-1") for _ in range(3)]
    assert names == ["weave-1", "weave-1-2", "weave-1-3"]
    (tmp_path / "file").write_text("in the way")
    for storage in (tmp_path / "file", tmp_path / "file" / "searches"):
        with pytest.raises(StorageError, match=f"Cannot begin a search in {storage}"):
            new_name(storage, "weave-1")


def test_a_plan_that_cannot_be_written_is_refused_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=f"Cannot begin the search p: {tmp_path}/file.*ZOO_HOME"):
        write_plan(plan("p"), tmp_path / "file" / "p")


def test_when_the_time_is_over_the_listener_ends_the_search_once() -> None:
    heard: list[int] = []
    listener = Listener(ListLog(), plan("p", time_budget_s=1e-9), list[str]().append, folder=Path())
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        for step in range(3):
            listener.on_step_end(step, [])
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1]
    listener.close([])
    assert not listener.interrupted


def test_a_search_that_ends_before_its_bounds_was_interrupted() -> None:
    listener = Listener(ListLog(), plan("p", trials=1), list[str]().append, folder=Path())
    listener.close([])
    assert listener.interrupted


def test_what_a_listener_counted_goes_on_in_the_one_that_resumes() -> None:
    first, second = (
        Listener(ListLog(), plan("p"), list[str]().append, folder=Path()) for _ in range(2)
    )
    first.ended, first.best, first.best_trial = {"a": "finished"}, 0.5, "a"
    first.held, first.running = {"a": 40.0, "b": 2.0}, {"b": time.monotonic() - 60}
    second.set_state(json.loads(json.dumps(first.get_state())))
    assert second.outcomes["finished"] == 1
    assert second.summary() == "1 finished"
    assert (second.best, second.best_trial) == (0.5, "a")
    assert second.held == {"a": 40.0, "b": pytest.approx(62, abs=1)}
    assert not second.running


# ---------------------------------------------------------------------------------------- Ctrl-C

SPACE_FILE = "".join(f"{name}: {value}\n" for name, value in FIXED.items()).replace(
    "learning_rate: 0.002", "learning_rate: {log_uniform: [5.0e-4, 4.0e-3]}"
)


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """A user's terminal, in a home of its own."""

    root: Path

    def zoo(self, *more: str) -> subprocess.Popen[str]:
        """Start a search of three trials, in a process group of its own as a shell does."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("ZOO_SHELF", "MLFLOW_TRACKING_URI", "RAY_ADDRESS")
        }
        zoo = str(Path(sys.executable).parent / "zoo")
        command = [zoo, "search", "--category", "weave", "--json"]
        options = ["--data", f"{self.root}/data", "--space", f"{self.root}/tiny.yaml"]
        bounds = ["--trials", "3", "--reports", "3", "--time-budget", "3m"]
        return subprocess.Popen(
            [*command, *options, *bounds, *more],
            env=environment | {"ZOO_HOME": str(self.root / "home")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def statuses(self) -> list[str]:
        """Return the status of every run in the record."""
        uri = f"sqlite:///{self.root / 'home' / 'mlflow.db'}"
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        experiments = [each.experiment_id for each in client.search_experiments()]
        return [run.info.status for run in client.search_runs(experiments)]

    def trials(self, search_name: str) -> dict[str, Entry]:
        """Return the record of every trial."""
        return recorded(f"sqlite:///{self.root / 'home' / 'mlflow.db'}", search_name)


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    textures_drawn.write_folder(tmp_path / "data" / "weave")
    (tmp_path / "tiny.yaml").write_text(SPACE_FILE, "utf-8")
    return Terminal(root=tmp_path)


@pytest.mark.cluster
def test_ctrl_c_keeps_what_was_found_and_resume_goes_on_with_the_same_trials(
    terminal: Terminal,
) -> None:
    running = terminal.zoo()
    assert running.stderr is not None
    heard = next((line for line in running.stderr if "better:" in line), None)
    assert heard is not None, running.wait()
    os.killpg(running.pid, signal.SIGINT)
    printed, said = running.communicate(timeout=60)
    assert running.returncode == 0, said
    kept = json.loads(printed)
    assert "Interrupted; what was found is kept." in said
    assert "--resume" in said
    assert "Traceback" not in said
    first = bundle.load(Path(kept["detector"]))
    assert first.metrics["val_pixel_ap"] == pytest.approx(kept["val_pixel_ap"])
    assert "RUNNING" not in terminal.statuses()
    name = Path(kept["detector"]).parent.name
    before = terminal.trials(name)
    interrupted = {trial for trial, entry in before.items() if entry.outcome == "interrupted"}
    assert interrupted

    resumed = terminal.zoo("--resume")
    printed, said = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, said
    assert f"Resuming search {name}" in said
    found = json.loads(printed)
    assert "promoted" in found  # whether such brief trials pass the gate is another matter
    after = terminal.trials(name)
    assert before.keys() <= after.keys()
    assert len(after) == 3
    outcomes: list[Outcome | None] = [entry.outcome for entry in after.values()]
    assert found["trials_finished"] == outcomes.count("finished") >= 1
    assert found["trials_stopped_early"] == outcomes.count("stopped_early")
    assert found["trials_finished"] + found["trials_stopped_early"] == 3
    assert set(terminal.statuses()) == {"FINISHED"}
    values = []
    for trial, entry in after.items():
        curve = entry.curves["val_pixel_ap"]
        assert [step for step, _ in curve] == list(range(1, len(curve) + 1)), trial
        values += [value for _, value in curve]
    for trial, entry in before.items():
        kept_curve = entry.curves.get("val_pixel_ap", [])
        assert after[trial].curves["val_pixel_ap"][: len(kept_curve)] == kept_curve
    assert found["val_pixel_ap"] == pytest.approx(max(values))
