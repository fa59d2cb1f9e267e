"""MLflow's record of a search, written by one client and read back by another."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from registry.runs import EXPERIMENT, Outcome, SearchRuns, open_store, searches, tracking_uri
from tests.exams import drawn_bundle
from zoo.errors import StorageError

# mlflow 3.17 uses what SQLAlchemy 2.1 deprecates; may go with the mlflow that does not.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for all tests, as making one takes seconds; searches have names of their own."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow store') / 'mlflow.db'}"


def search_runs(uri: str, search: str, **params: float | int | str) -> SearchRuns:
    return SearchRuns(open_store(uri), search=search, texture="grid", params={"seed": 0, **params})


def read(uri: str, search: str) -> dict[str, Run]:
    """Return the runs of a search by trial id; the parent's is empty."""
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f'tags.`zoo.search` = "{search}"')
    found = {run.data.tags.get("zoo.trial", ""): run for run in runs}
    assert len(found) == len(runs), "two runs of one trial"
    return found


def test_a_trial_is_a_child_run_with_its_params_curve_and_tags(uri: str, tmp_path: Path) -> None:
    runs = search_runs(uri, "first", fingerprint="sha256:aa")
    runs.started("t1", {"patch": 48, "lr": 1e-4, "mode": "two_sided"})
    for step in range(3):
        runs.reported("t1", step, {"val_pixel_ap": 0.1 * step, "train_loss": 1.0}, {})
    runs.ended("t1", "finished", tmp_path / "bundle", {})
    runs.close({"val_pixel_ap": 0.2}, "finished")

    found = read(uri, "first")
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
    found = read(uri, "sums")
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
    found = read(uri, "forgetful")
    parent = found[""].data.metrics
    assert (parent["trials_finished"], parent["trials_interrupted"]) == (1, 1)
    assert parent["cpu_seconds"] == 82.0
    assert "made another in its place" in found["a"].data.tags["zoo.reason"]
    assert found["a"].info.status == "KILLED"


def test_searches_are_listed_with_their_trials_and_what_they_took(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
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
    child = read(uri, f"outcome {outcome}")["t"]
    assert (child.info.status, child.data.tags["zoo.outcome"]) == (status, outcome)


def test_a_resumed_search_goes_on_in_the_same_runs(uri: str) -> None:
    first = search_runs(uri, "resumed", trials=10)
    first.started("t1", {"patch": 48})
    first.reported("t1", 0, {"val_pixel_ap": 0.1}, {})
    first.close({}, "interrupted")  # t1 was still running
    assert {run.info.status for run in read(uri, "resumed").values()} == {"KILLED"}

    second = search_runs(uri, "resumed", trials=20)
    second.started("t1", {"patch": 48})
    assert {run.info.status for run in read(uri, "resumed").values()} == {"RUNNING"}
    for step, value in ((0, 0.1), (1, 0.2)):  # the first of them once more
        second.reported("t1", step, {"val_pixel_ap": value}, {})
    second.ended("t1", "finished", None, {})
    second.started("t2", {"patch": 32})
    second.ended("t2", "stopped_early", None, {})
    second.close({}, "finished")

    found = read(uri, "resumed")
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
    found = read(uri, "mine")
    assert {trial: run.info.status for trial, run in found.items()} == {
        "": "FINISHED",
        "t1": "KILLED",
        "t2": "FAILED",
    }
    assert found["t1"].data.tags["zoo.outcome"] == "interrupted"
    assert {run.info.status for run in read(uri, "other").values()} == {"RUNNING"}


def test_a_figure_that_is_not_a_number_is_kept_as_such(uri: str) -> None:
    runs = search_runs(uri, "diverged")
    runs.reported("t", 0, {"train_loss": math.nan}, {})
    assert math.isnan(read(uri, "diverged")["t"].data.metrics["train_loss"])


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
    assert set(read(uri, "bob's wood")) == {""}


def test_opening_a_store_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    runs = search_runs(f"sqlite:///{tmp_path / 'new.db'}", "silent")
    runs.started("t", {})
    runs.ended("t", "finished", None, {})
    runs.close({}, "finished")
    assert capfd.readouterr() == ("", "")


def test_several_processes_may_open_a_fresh_store_at_once(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}"
    code = f"from registry.runs import open_store; print(open_store({uri!r}).experiment)"
    command = [sys.executable, "-W", "ignore", "-c", code]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [each.communicate(timeout=120) for each in running]
    assert [each.returncode for each in running] == [0, 0, 0], said
    assert len({printed for printed, _ in said}) == 1, "one experiment for all"


def test_a_store_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "no.db").write_text("this is no database, however long the text may be" * 99)
    for uri in (f"sqlite:///{tmp_path / 'no.db'}", f"sqlite:///{tmp_path / 'no.db' / 'm.db'}"):
        with pytest.raises(StorageError, match=f"Cannot open .*{uri}.*MLFLOW_TRACKING_URI"):
            open_store(uri)


def test_a_server_that_is_away_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StorageError, match=r"Cannot open the MLflow store http://127\.0\.0\.1:9: "):
        open_store("http://127.0.0.1:9")
    assert not list(tmp_path.iterdir()), "a server's address is no path to lock"


def test_a_store_that_vanishes_is_named(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    runs = search_runs(uri, "vanishing")
    (tmp_path / "mlflow.db").write_text("this is no database, however long the text may be" * 99)
    with pytest.raises(StorageError, match=f"Cannot write to the MLflow store {uri}"):
        runs.reported("t", 0, {"val_pixel_ap": 0.1}, {})


def test_the_store_is_under_the_home_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    assert tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:5000")
    assert tracking_uri() == "http://there:5000"
