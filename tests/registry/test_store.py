"""An MLflow store: opened by several at once, away, damaged."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from registry.gate import first_champion
from registry.runs.model_versions import register, set_alias
from registry.runs.search_runs import SearchRuns
from registry.runs.store import EXPERIMENT, open_store
from tests.exams import drawn_bundle
from tests.mlflow_runs import new_store
from zoo.errors import StorageError
from zoo.home import tracking_uri


def test_opening_a_store_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'new.db'}")
    runs = SearchRuns(store, search="silent", texture="grid", params={})
    runs.started("t", {})
    runs.ended("t", "finished", None, {})
    runs.close({}, "finished")
    assert capfd.readouterr() == ("", "")


def test_several_processes_may_open_a_fresh_store_at_once(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["registry.runs.store"])  # imports MLflow once for all
    processes = [context.Process(target=open_store, args=(uri,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    experiments = MlflowClient(uri, uri).search_experiments()
    assert [each.name for each in experiments].count(EXPERIMENT) == 1, "one experiment for all"


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


@pytest.mark.parametrize("driver", ["postgresql", "mysql+pymysql", "mssql+pyodbc"])
def test_a_database_without_its_driver_is_refused_with_what_to_install(driver: str) -> None:
    with pytest.raises(StorageError, match=r"'\w+', which drives .*pip install") as caught:
        open_store(f"{driver}://me:hunter2@there/db")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["a%20b", "a b", "a#b", "a?b=c", "caf\u00e9 \u6728", "100%"])
def test_a_home_of_any_name_has_its_store_in_it_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / name))
    store = open_store(tracking_uri())
    SearchRuns(store, search="odd", texture="grid", params={}).champion(tmp_path / "here", [])
    assert (tmp_path / name / "mlflow.db").is_file()
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([name, "here"])
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize("texture", ["wood (2)", "50% it's", "wood.2", "caf\u00e9"])
def test_a_model_of_a_texture_of_any_name_is_registered_once(tmp_path: Path, texture: str) -> None:
    store = open_store(new_store(tmp_path / "mlflow.db"))
    folder = drawn_bundle(tmp_path / "b", texture=texture)
    decision = first_champion(texture, challenger_ap=0.5)
    made = [register(store, folder, decision, metrics={}) for _ in range(2)]
    set_alias(store, made[0], "champion")
    assert [each.version for each in made] == [1, 1]
    assert made[0].texture == texture


def test_a_store_that_vanishes_is_named(tmp_path: Path) -> None:
    uri = new_store(tmp_path / "mlflow.db")
    runs = SearchRuns(open_store(uri), search="vanishing", texture="grid", params={})
    (tmp_path / "mlflow.db").write_text("this is no database, however long the text may be" * 99)
    with pytest.raises(StorageError, match=f"Cannot write to the MLflow store {uri}"):
        runs.reported("t", 0, {"val_pixel_ap": 0.1}, {})


def test_the_store_is_under_the_home_unless_set_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    assert tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:5000")
    assert tracking_uri() == "http://there:5000"
