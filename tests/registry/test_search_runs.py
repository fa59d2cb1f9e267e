"""A search in MLflow, written by one client and read back by another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from registry.runs.search_runs import SearchRuns
from registry.runs.searches import searches
from registry.runs.store import open_store
from registry.trials import Outcome
from tests.exams import Read, TrialLogExam, drawn_bundle
from tests.mlflow_runs import entries_of, new_store, runs_of


def search_runs(uri: str, search: str, **params: float | int | str) -> SearchRuns:
    return SearchRuns(open_store(uri), search=search, texture="grid", params={"seed": 0, **params})


class TestSearchRuns(TrialLogExam):
    @pytest.fixture
    def log(self, uri: str, request: pytest.FixtureRequest) -> SearchRuns:
        return search_runs(uri, request.node.name)

    @pytest.fixture
    def read(self, uri: str, request: pytest.FixtureRequest) -> Read:
        return lambda: entries_of(uri, request.node.name)


def test_a_trial_is_a_child_run_with_its_params_curve_and_tags(uri: str, tmp_path: Path) -> None:
    runs = search_runs(uri, "first", fingerprint="sha256:aa")
    runs.started("t1", {"patch": 48, "lr": 1e-4, "mode": "two_sided"})
    for step in range(3):
        runs.reported("t1", step, {"val_pixel_ap": 0.1 * step, "train_loss": 1.0}, {})
    runs.ended("t1", "finished", tmp_path / "bundle", {})
    runs.close({"val_pixel_ap": 0.2}, "finished")

    found = runs_of(uri, "first")
    child, parent = found["t1"], found[""]
    assert child.data.params == {"patch": "48", "lr": "0.0001", "mode": "two_sided"}
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id == runs.run_id
    wanted = {"zoo.texture": "grid", "zoo.outcome": "finished", "zoo.role": "trial"}
    assert wanted.items() <= child.data.tags.items()
    assert child.data.tags["zoo.bundle"] == str(tmp_path / "bundle")
    history = MlflowClient(uri, uri).get_metric_history(child.info.run_id, "val_pixel_ap")
    assert [(point.step, point.value) for point in history] == [(0, 0.0), (1, 0.1), (2, 0.2)]
    assert parent.data.params == {"seed": "0", "fingerprint": "sha256:aa"}
    assert parent.data.metrics["val_pixel_ap"] == 0.2
    assert parent.data.metrics["trials_finished"] == 1
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["zoo.version.mlflow"].startswith("3.")
    assert "mlflow.parentRunId" not in parent.data.tags


COSTS: list[dict[str, float | str]] = [
    {"steps": 8, "node": "n1", "cpu_seconds": 61.5, "gpu_seconds": 30.0},
    {"steps": 2, "node": "n2", "cpu_seconds": 20.5, "gpu_seconds": 10.0},
]


def test_the_totals_of_a_search_are_the_sums_of_its_trials(uri: str) -> None:
    runs = search_runs(uri, "sums")
    for trial, outcome, cost in zip("ab", ("finished", "stopped_early"), COSTS, strict=True):
        runs.started(trial, {})
        runs.ended(trial, outcome, None, cost)  # type: ignore[arg-type]
    runs.started("c", {})
    runs.reported("c", 1, {"val_pixel_ap": 0.1}, {"steps": 1, "cpu_seconds": 4.0})  # and was killed
    runs.close({}, "finished")
    found = runs_of(uri, "sums")
    parent = found.pop("").data.metrics
    for name in ("steps", "cpu_seconds", "gpu_seconds"):
        each = [float(run.data.tags.get(f"zoo.{name}", 0)) for run in found.values()]
        assert parent[name] == sum(each) > 0
    outcomes = [run.data.tags["zoo.outcome"] for run in found.values()]
    for outcome in ("finished", "stopped_early", "failed", "interrupted"):
        assert parent[f"trials_{outcome}"] == outcomes.count(outcome)
    assert sorted(outcomes) == ["finished", "interrupted", "stopped_early"]


def test_a_trial_that_the_search_forgot_is_counted_as_interrupted_with_what_it_took(
    uri: str,
) -> None:
    runs = search_runs(uri, "forgetful")
    for trial, cost in zip("ab", COSTS, strict=True):
        runs.started(trial, {})
        runs.ended(trial, "finished", None, cost)
    runs.close({}, "finished", known=["b"])
    found = runs_of(uri, "forgetful")
    parent = found[""].data.metrics
    assert (parent["trials_finished"], parent["trials_interrupted"]) == (1, 1)
    assert parent["cpu_seconds"] == 82.0
    assert "made another in its place" in found["a"].data.tags["zoo.reason"]
    assert found["a"].info.status == "KILLED"


def test_searches_are_listed_with_their_trials_and_what_they_took(tmp_path: Path) -> None:
    uri = new_store(tmp_path / "mlflow.db")
    first = search_runs(uri, "first")
    first.started("a", {})
    first.reported("a", 1, {"val_pixel_ap": 0.25}, {})
    first.ended("a", "finished", None, COSTS[0])
    first.close({"val_pixel_ap": 0.25}, "finished")
    second = SearchRuns(open_store(uri), search="second", texture="wood", params={})
    second.started("a", {})
    second.ended("a", "interrupted", None, COSTS[1])
    second.started("a", {})  # it goes on
    second.started("b", {})
    second.reported("b", 1, {"val_pixel_ap": 0.5}, {})
    newest, oldest = searches(open_store(uri))
    assert (oldest.name, oldest.texture, oldest.state) == ("first", "grid", "finished")
    assert (oldest.best, oldest.running, oldest.totals["trials_finished"]) == (0.25, 0, 1)
    assert oldest.totals["gpu_seconds"] == 30
    assert (newest.name, newest.texture, newest.state) == ("second", "wood", "running")
    assert (newest.best, newest.running, newest.totals["trials_interrupted"]) == (0.5, 2, 0)
    assert newest.totals["cpu_seconds"] == 20.5
    assert oldest.began <= newest.began
    assert [each.name for each in searches(open_store(uri), "wood")] == ["second"]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("finished", "FINISHED"),
        ("stopped_early", "FINISHED"),
        ("failed", "FAILED"),
        ("interrupted", "KILLED"),
    ],
)
def test_the_status_of_a_run_follows_from_the_outcome(
    uri: str, outcome: Outcome, status: str
) -> None:
    runs = search_runs(uri, f"outcome {outcome}")
    runs.started("t", {})
    runs.ended("t", outcome, None, {})
    child = runs_of(uri, f"outcome {outcome}")["t"]
    assert (child.info.status, child.data.tags["zoo.outcome"]) == (status, outcome)


def test_a_resumed_search_goes_on_in_the_same_runs(uri: str) -> None:
    first = search_runs(uri, "resumed", trials=10)
    first.started("t1", {"patch": 48})
    first.reported("t1", 0, {"val_pixel_ap": 0.1}, {})
    first.close({}, "interrupted")  # t1 was still running
    assert {run.info.status for run in runs_of(uri, "resumed").values()} == {"KILLED"}

    second = search_runs(uri, "resumed", trials=20)
    second.started("t1", {"patch": 48})
    assert {run.info.status for run in runs_of(uri, "resumed").values()} == {"RUNNING"}
    for step, value in ((0, 0.1), (1, 0.2)):  # the first of them once more
        second.reported("t1", step, {"val_pixel_ap": value}, {})
    second.ended("t1", "finished", None, {})
    second.started("t2", {"patch": 32})
    second.ended("t2", "stopped_early", None, {})
    second.close({}, "finished")

    found = runs_of(uri, "resumed")
    assert set(found) == {"", "t1", "t2"}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    history = MlflowClient(uri, uri).get_metric_history(found["t1"].info.run_id, "val_pixel_ap")
    assert [point.step for point in history] == [0, 1]
    assert found[""].data.params["trials"] == "10"
    assert found[""].data.tags["zoo.resumed_with"] == '{"trials": "20"}'


def test_closing_kills_the_orphans_of_this_search_and_no_others(uri: str) -> None:
    mine, other = search_runs(uri, "mine"), search_runs(uri, "other")
    mine.started("t1", {})
    mine.started("t2", {})
    mine.ended("t2", "failed", None, {})
    other.started("t1", {})
    mine.close({}, "finished")
    found = runs_of(uri, "mine")
    assert {trial: run.info.status for trial, run in found.items()} == {
        "": "FINISHED",
        "t1": "KILLED",
        "t2": "FAILED",
    }
    assert found["t1"].data.tags["zoo.outcome"] == "interrupted"
    assert {run.info.status for run in runs_of(uri, "other").values()} == {"RUNNING"}


def test_a_figure_that_is_not_a_number_is_kept_as_such(uri: str) -> None:
    runs = search_runs(uri, "diverged")
    runs.reported("t", 0, {"train_loss": math.nan}, {})
    assert math.isnan(runs_of(uri, "diverged")["t"].data.metrics["train_loss"])


def test_the_champion_and_its_pictures_are_kept_beside_the_database(
    uri: str, tmp_path: Path
) -> None:
    runs = search_runs(uri, "with champion")
    picture = tmp_path / "map.png"
    picture.write_bytes(b"drawn")
    runs.champion(drawn_bundle(tmp_path / "bundle"), [picture])
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def listed(folder: str) -> Mapping[str, int | None]:
        return {file.path: file.file_size for file in client.list_artifacts(runs.run_id, folder)}

    assert set(listed("champion")) == {"champion/bundle.json", "champion/weights.safetensors"}
    assert listed("maps") == {"maps/map.png": 5}
    beside = Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts"
    assert len(list(beside.rglob("bundle.json"))) == 1


def test_a_search_named_with_a_quote_is_found_again(uri: str) -> None:
    first, second = search_runs(uri, "bob's wood"), search_runs(uri, "bob's wood")
    assert first.run_id == second.run_id
    assert set(runs_of(uri, "bob's wood")) == {""}
