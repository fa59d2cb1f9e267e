"""A search is read back from MLflow as plain values."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from registry.runs.records import search_record
from registry.runs.search_runs import SearchRuns
from registry.runs.searches import log_files
from registry.runs.store import Store, open_store
from registry.trials import SearchRecord
from tests.mlflow_runs import new_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with two searches, of which one has ended with a trial of each kind."""
    opened = open_store(new_store(tmp_path_factory.mktemp("home") / "mlflow.db"))
    runs = SearchRuns(opened, search="ended", texture="grid", params={"seed": 0, "space": "tiny"})
    runs.started("a", {"depth": 3, "rate": 0.5})
    runs.reported("a", 1, {"val_pixel_ap": 0.25, "val_image_auroc": 0.5}, {"steps": 1})
    runs.reported("a", 2, {"val_pixel_ap": 0.5, "val_image_auroc": 0.75}, {"steps": 2})
    runs.reported("a", 3, {"val_pixel_ap": math.nan, "val_image_auroc": 0.625}, {"steps": 3})
    runs.ended("a", "finished", None, {"cpu_seconds": 12.5, "gpu_seconds": 0.5, "node": "n"})
    runs.started("b", {"depth": 4})
    runs.ended("b", "failed", None, {"cpu_seconds": 1.0, "reason": "out of memory"})
    runs.close({"val_pixel_ap": 0.5}, "finished", ["a", "b"])
    other = SearchRuns(opened, search="going on", texture="grid", params={})
    other.started("c", {})
    return opened


@pytest.fixture(scope="module")
def ended(store: Store) -> SearchRecord:
    found = search_record(store, "ended")
    assert found is not None
    return found


def test_a_search_has_what_was_asked_and_found(ended: SearchRecord) -> None:
    assert (ended.name, ended.texture, ended.outcome, ended.running) == (
        "ended",
        "grid",
        "finished",
        False,
    )
    assert ended.params == {"seed": "0", "space": "tiny"}
    assert ended.figures["val_pixel_ap"] == 0.5
    assert ended.figures["cpu_seconds"] == 13.5
    assert {"ray", "optuna", "mlflow"} <= ended.versions.keys()
    assert ended.began is not None
    assert ended.ended is not None
    assert ended.began <= ended.ended


def test_its_trials_come_in_their_order_with_settings_reports_and_usage(
    ended: SearchRecord,
) -> None:
    first, second = ended.trials
    assert (first.trial, first.outcome) == ("a", "finished")
    assert first.params == {"depth": "3", "rate": "0.5"}
    assert [(each.step, each.value) for each in first.reports] == [(1, 0.25), (2, 0.5)]
    assert first.best == 0.5, "a figure that is no number does not count"
    assert first.reports[0].when <= first.reports[1].when
    assert first.figures["val_image_auroc"] == 0.625, "of the last report"
    assert first.usage["cpu_seconds"] == "12.5"
    assert (second.trial, second.outcome, second.best) == ("b", "failed", None)
    assert second.usage["reason"] == "out of memory"


def test_a_search_that_goes_on_has_no_end(store: Store) -> None:
    found = search_record(store, "going on")
    assert found is not None
    assert (found.running, found.outcome, found.ended) == (True, None, None)
    assert (found.trials[0].outcome, found.trials[0].ended) == (None, None)


def test_a_search_that_the_store_does_not_have_is_none(store: Store) -> None:
    assert search_record(store, "end") is None
    assert search_record(store, "a' or 'b") is None


def test_files_are_kept_with_the_search_they_are_of(store: Store, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("a report")
    log_files(store, "ended", [tmp_path / "report.html"], under="report")
    log_files(store, "unknown", [tmp_path / "report.html"], under="report")
    found = search_record(store, "ended")
    assert found is not None
    assert found.run is not None
    [kept] = store.client.list_artifacts(found.run, "report")
    assert kept.path == "report/report.html"
