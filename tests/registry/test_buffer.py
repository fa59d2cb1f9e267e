"""The buffer before MLflow: the store at hand, away, back again, and after a kill."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from registry.runs.buffer import FILE, BufferedRuns
from registry.runs.search_runs import SearchRuns
from registry.runs.store import open_store
from tests.exams import Entry, Read, TrialLogExam, drawn_bundle
from tests.faulty import Fault, Faulty, running
from tests.mlflow_runs import entries_of, new_store, runs_of
from tests.processes import free_port, mlflow_server
from zoo.errors import StorageError


def buffered(uri: str, name: str, folder: Path, say: Callable[[str], None] = print) -> BufferedRuns:
    runs = SearchRuns(open_store(uri), search=name, texture="weave", params={})
    return BufferedRuns(runs, folder, say=say, retry_s=0.2)


class TestBufferedRuns(TrialLogExam):
    @pytest.fixture
    def log(self, uri: str, tmp_path: Path, request: pytest.FixtureRequest) -> BufferedRuns:
        return buffered(uri, request.node.name, tmp_path)

    @pytest.fixture
    def read(self, uri: str, log: BufferedRuns, request: pytest.FixtureRequest) -> Read:
        def delivered() -> Mapping[str, Entry]:
            log.drain(timeout_s=30.0)
            return entries_of(uri, request.node.name)

        return delivered


@pytest.mark.cluster
def test_a_server_that_goes_and_comes_back_misses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said, folder, faults = list[str](), tmp_path / "search", list[Fault]()
    new_store(tmp_path / "mlflow.db")
    server = mlflow_server(tmp_path, free_port())
    with server as there, running(Faulty(there, lambda *_: (faults or ["none"])[0])) as uri:
        log = buffered(uri, "night", folder, said.append)
        log.started("a", {"patch": 48})
        log.reported("a", 1, {"val_pixel_ap": 0.125}, {})
        log.drain(timeout_s=30.0)
        faults.append("away")
        began = time.monotonic()
        for step in (2, 3):
            log.reported("a", step, {"val_pixel_ap": step / 8}, {})
        log.ended("a", "finished", tmp_path / "bundle", {})
        log.started("b", {"patch": 32})
        log.ended("b", "stopped_early", None, {})
        assert time.monotonic() - began < 1, "the search waited for the server"
        with pytest.raises(StorageError, match=rf"entries of this search .*{FILE}.*--resume"):
            log.drain(timeout_s=1.0)
        assert len((folder / FILE).read_text().splitlines()) == 5
        faults.clear()
        log.close({"val_pixel_ap": 0.375}, "finished", timeout_s=60.0)
        found = entries_of(uri, "night")
        parent = runs_of(uri, "night")[""]
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
        '["reported", "a", 2, {"val_pi'  # cut short by the kill: it was never an entry
    )
    log = buffered(uri, "killed", tmp_path)
    log.reported("a", 2, {"val_pixel_ap": 0.25}, {})
    log.drain(timeout_s=30.0)
    assert runs_of(uri, "killed")[""].info.status == "RUNNING"
    log.ended("a", "finished", None, {})
    log.close({}, "finished", timeout_s=30.0)
    entry = entries_of(uri, "killed")["a"]
    assert entry.params == {"patch": "48"}
    assert entry.curves == {"val_pixel_ap": [(1, 0.125), (2, 0.25)]}
    assert {run.info.status for run in runs_of(uri, "killed").values()} == {"FINISHED"}


def test_a_search_that_goes_on_keeps_nothing_of_an_end_that_was_none(
    uri: str, tmp_path: Path
) -> None:
    (tmp_path / FILE).write_text('["close", {}, "interrupted", null]\n')
    log = buffered(uri, "resumed", tmp_path)
    assert not (tmp_path / FILE).exists()
    log.close({}, "finished", timeout_s=30.0)
    assert {run.info.status for run in runs_of(uri, "resumed").values()} == {"FINISHED"}


def test_what_was_delivered_already_is_noted_once(uri: str, tmp_path: Path) -> None:
    notes = '["started", "a", {}]\n["reported", "a", 1, {"val_pixel_ap": 0.125}, {}]\n'
    for _ in range(2):
        (tmp_path / FILE).write_text(notes)
        log = buffered(uri, "twice", tmp_path)
        log.drain(timeout_s=30.0)
    assert entries_of(uri, "twice")["a"].curves == {"val_pixel_ap": [(1, 0.125)]}


def test_an_entry_of_another_version_is_reported_and_left_out(uri: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('["renamed", "a", {}]\n["started", "a", {}]\n')
    said = list[str]()
    log = buffered(uri, "other version", tmp_path, said.append)
    log.drain(timeout_s=30.0)
    assert "a" in entries_of(uri, "other version")
    assert [line for line in said if "['renamed', 'a', {}]" in line]


def test_a_line_that_a_kill_cut_short_is_removed_with_its_file(uri: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('["reported", "a", 1, {"val_pi')
    buffered(uri, "cut", tmp_path)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    "line",
    [
        "oops",
        "{}",
        "[]",
        "[3]",
        "[" * 10**5,
        '["started", 3, {}]',
        '["reported", "a", 1, {"val_pixel_ap": "high"}, {}]',
        '["reported", "a", 1, {}, {}]',
        f'["reported", "a", 1, {{"val_pixel_ap": {10**400}}}, {{}}]',
        f'["reported", "a", {2**63}, {{"val_pixel_ap": 0.5}}, {{}}]',
        '["ended", "a", "won", null, {}]',
        '["champion", "bundle", "picture"]',
        '["close", {}]',
    ],
)
def test_a_damaged_record_is_refused_by_its_line_and_kept(
    uri: str, tmp_path: Path, line: str
) -> None:
    held = f'["started", "a", {{}}]\n{line}\n'
    (tmp_path / FILE).write_text(held)
    with pytest.raises(StorageError, match=rf"{FILE} is damaged in line 2: .* remove the line"):
        buffered(uri, "damaged", tmp_path)
    assert (tmp_path / FILE).read_text() == held


def test_the_champion_goes_the_same_way(uri: str, tmp_path: Path) -> None:
    picture = tmp_path / "map.png"
    picture.write_bytes(b"drawn")
    log = buffered(uri, "with champion", tmp_path / "search")
    log.champion(drawn_bundle(tmp_path / "bundle"), [picture])
    log.close({}, "finished", timeout_s=30.0)
    kept = [file.name for file in Path(uri.removeprefix("sqlite:///")).parent.rglob("*.*")]
    assert {"bundle.json", "weights.safetensors", "map.png"} <= set(kept)


def test_a_folder_that_cannot_be_written_is_named(uri: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"Cannot keep a record in .*file"):
        buffered(uri, "in the way", tmp_path / "file" / "search")
