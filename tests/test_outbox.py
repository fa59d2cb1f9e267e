"""A record that waits for MLflow: with the store at hand, away, back again, and after a kill."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.outbox import FILE, Outbox
from registry.runs import SearchRuns, open_store
from tests.exams import Read, TrialLogExam, drawn_bundle
from tests.processes import free_port, mlflow_server
from tests.test_runs import read
from tests.test_search import recorded
from zoo.errors import StorageError

# mlflow 3.17 uses what SQLAlchemy 2.1 deprecates; may go with the mlflow that does not.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for all tests, as making one takes seconds; searches have names of their own."""
    return f"sqlite:///{tmp_path_factory.mktemp('outbox') / 'mlflow.db'}"


def outbox(uri: str, name: str, folder: Path, say: Callable[[str], None] = print) -> Outbox:
    runs = SearchRuns(open_store(uri), search=name, texture="weave", params={})
    return Outbox(runs, folder, say=say, retry_s=0.2)


class TestOutbox(TrialLogExam):
    @pytest.fixture
    def log(self, uri: str, tmp_path: Path, request: pytest.FixtureRequest) -> Outbox:
        return outbox(uri, request.node.name, tmp_path)

    @pytest.fixture
    def read(self, uri: str, log: Outbox, request: pytest.FixtureRequest) -> Read:
        def delivered() -> dict[str, object]:
            log.drain(patience_s=30.0)
            return recorded(uri, request.node.name)  # type: ignore[return-value]

        return delivered  # type: ignore[return-value]


@pytest.mark.cluster
def test_a_server_that_goes_and_comes_back_misses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said, port, folder = list[str](), free_port(), tmp_path / "search"
    with mlflow_server(tmp_path, port) as uri:
        log = outbox(uri, "night", folder, said.append)
        log.started("a", {"patch": 48})
        log.reported("a", 1, {"val_pixel_ap": 0.125}, {})
        log.drain(patience_s=30.0)
    began = time.monotonic()
    for step in (2, 3):
        log.reported("a", step, {"val_pixel_ap": step / 8}, {})
    log.ended("a", "finished", tmp_path / "bundle", {})
    log.started("b", {"patch": 32})
    log.ended("b", "stopped_early", None, {})
    assert time.monotonic() - began < 1, "the search waited for the server"
    with pytest.raises(StorageError, match=rf"notes of this search wait in .*{FILE}.*--resume"):
        log.drain(patience_s=3.0)
    assert len((folder / FILE).read_text().splitlines()) == 5
    with mlflow_server(tmp_path, port):
        log.close({"val_pixel_ap": 0.375}, "finished", patience_s=60.0)
        found = recorded(uri, "night")
        parent = read(uri, "night")[""]
    assert found["a"].curves == {"val_pixel_ap": [(1, 0.125), (2, 0.25), (3, 0.375)]}
    assert (found["a"].outcome, found["b"].outcome) == ("finished", "stopped_early")
    assert found["a"].bundle == str(tmp_path / "bundle")
    assert (parent.info.status, parent.data.metrics["val_pixel_ap"]) == ("FINISHED", 0.375)
    assert not (folder / FILE).exists()
    assert [line.split(" MLflow store ")[0] for line in said] == ["Cannot write to the", "The"]
    assert said[-1] == "The MLflow store is back."
    assert capsys.readouterr().out == "", "stdout is for answers"


def test_what_a_killed_search_could_not_deliver_is_delivered_when_it_goes_on(
    uri: str, tmp_path: Path
) -> None:
    (tmp_path / FILE).write_text(
        '["started", "a", {"patch": 48}]\n'
        '["reported", "a", 1, {"val_pixel_ap": 0.125}, {}]\n'
        '["close", {}, "interrupted", null]\n'
        '["reported", "a", 2, {"val_pi'  # cut short by the kill: it was never told
    )
    log = outbox(uri, "killed", tmp_path)
    log.reported("a", 2, {"val_pixel_ap": 0.25}, {})
    log.drain(patience_s=30.0)
    assert read(uri, "killed")[""].info.status == "RUNNING"
    log.ended("a", "finished", None, {})
    log.close({}, "finished", patience_s=30.0)
    entry = recorded(uri, "killed")["a"]
    assert entry.params == {"patch": "48"}
    assert entry.curves == {"val_pixel_ap": [(1, 0.125), (2, 0.25)]}
    assert {run.info.status for run in read(uri, "killed").values()} == {"FINISHED"}


def test_what_was_delivered_already_is_noted_once(uri: str, tmp_path: Path) -> None:
    notes = '["started", "a", {}]\n["reported", "a", 1, {"val_pixel_ap": 0.125}, {}]\n'
    for _ in range(2):
        (tmp_path / FILE).write_text(notes)
        log = outbox(uri, "twice", tmp_path)
        log.drain(patience_s=30.0)
    assert recorded(uri, "twice")["a"].curves == {"val_pixel_ap": [(1, 0.125)]}


def test_a_note_of_another_version_is_told_and_holds_nothing_up(uri: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('["renamed", "a", {}]\n["started", "a", {}]\n')
    said = list[str]()
    log = outbox(uri, "other version", tmp_path, said.append)
    log.drain(patience_s=30.0)
    assert "a" in recorded(uri, "other version")
    assert [line for line in said if "['renamed', 'a', {}]" in line]


def test_the_champion_goes_the_same_way(uri: str, tmp_path: Path) -> None:
    picture = tmp_path / "map.png"
    picture.write_bytes(b"drawn")
    log = outbox(uri, "with champion", tmp_path / "search")
    log.champion(drawn_bundle(tmp_path / "bundle"), [picture])
    log.close({}, "finished", patience_s=30.0)
    kept = [file.name for file in Path(uri.removeprefix("sqlite:///")).parent.rglob("*.*")]
    assert {"bundle.json", "weights.safetensors", "map.png"} <= set(kept)


def test_a_folder_that_cannot_be_written_is_named(uri: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"Cannot keep a record in .*file"):
        outbox(uri, "in the way", tmp_path / "file" / "search")
