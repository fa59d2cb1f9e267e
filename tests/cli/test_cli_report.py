"""`zoo report`: which report is meant, where it is written, what is refused."""

from __future__ import annotations

import json
import re
import shutil
import socket
from pathlib import Path

import pytest

from registry import bundle
from registry.folder_shelf import FolderShelf
from registry.runs.records import search_record
from registry.runs.search_runs import SearchRuns
from registry.runs.store import open_store
from tests.cli.commands import Shop, move_in, refused
from tests.exams import publish
from tests.mlflow_runs import new_store
from tests.report.html_read import Read, assert_self_contained
from tests.stored.placed import STORED, place
from zoo.cli import _search_report, main
from zoo.errors import SearchError
from zoo.report import charts, page

SEARCH = "weave-20261127-090727"


def report(capsys: pytest.CaptureFixture[str], *command: str | Path) -> tuple[Path, Read]:
    """Make a report; return its path and what is on it."""
    capsys.readouterr()
    main(["report", *map(str, command), "--json"])
    found = json.loads(capsys.readouterr().out)
    path = Path(found["report"])
    assert found["kilobytes"] == round(path.stat().st_size / 1e3)
    return path, assert_self_contained(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def old_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of version 0.1; nothing but reports is added to it."""
    return place("home", tmp_path_factory.mktemp("stored"))


@pytest.fixture
def old(old_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    move_in(old_home, monkeypatch)
    return old_home


def test_a_detector_has_a_report_in_the_home_with_its_audit(
    capsys: pytest.CaptureFixture[str], shop: Shop, tmp_path: Path
) -> None:
    path, read = report(capsys, "weave", "--out", tmp_path / "new" / "weave.html")
    assert path == tmp_path / "new" / "weave.html"
    words = read.words()
    assert "In use since" in words
    assert read.table("Kind")[1][0] == "hole"
    assert len(read.all("img")) == 6
    pixel_ap = shop.promoted["test_pixel_ap"]
    assert f"pixels, AP {pixel_ap:.3f}" in " ".join(each.text for each in read.all("title"))


def test_a_detector_is_measured_on_the_pictures_that_are_given(
    capsys: pytest.CaptureFixture[str], shop: Shop, tmp_path: Path
) -> None:
    first, _ = report(capsys, "weave", "--out", tmp_path / "a.html")
    second, _ = report(capsys, "weave", "--out", tmp_path / "b.html", "--data", shop.data)
    kept, measured = (Read(each.read_text("utf-8")) for each in (first, second))
    assert kept.table("Kind") == measured.table("Kind")
    line = refused(capsys, "report", "weave", "--data", tmp_path / "absent")
    assert "absent" in line


def test_an_old_search_has_its_report_in_its_folder_and_the_same_one_each_time(
    capsys: pytest.CaptureFixture[str], old: Path
) -> None:
    path, read = report(capsys, SEARCH)
    assert path == old / "searches" / SEARCH / "report.html"
    assert "Promoted: version 1 of 'weave'" in read.words()
    assert len(read.table("Trial")) == 1 + 3
    assert read.table("When")[1][1:3] == ["promoted", "1"]
    before = path.read_bytes()
    report(capsys, SEARCH)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["weave", "weave@previous", "weave:1"])
def test_an_old_detector_has_a_report_with_what_it_has(
    capsys: pytest.CaptureFixture[str], old: Path, name: str
) -> None:
    path, read = report(capsys, name)
    version = 1 if name in ("weave@previous", "weave:1") else 2
    assert path == old / "reports" / f"weave-{version}.html"
    words = read.words()
    assert "The detector was audited elsewhere" in words
    assert "forced" in [row[1] for row in read.table("When")]


@pytest.mark.parametrize("folder", sorted((STORED / "formats").iterdir()), ids=lambda x: x.name)
def test_a_bundle_of_each_format_has_a_report(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    move_in(tmp_path / "home", monkeypatch)
    texture = bundle.load(folder).texture
    publish(FolderShelf(tmp_path / "home" / "shelf"), folder, texture=texture, version=1)
    _, read = report(capsys, texture)
    assert "It has not been tried on test pictures here." in read.words()


def test_a_search_without_mlflow_is_told_from_its_files(
    capsys: pytest.CaptureFixture[str], old: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'absent.db'}")
    _, read = report(capsys, SEARCH, "--out", tmp_path / "a.html")
    assert "The trials are from the files of the search: MLflow has no record" in read.words()
    assert len(read.table("Trial")) == 1 + 3
    assert not (tmp_path / "absent.db").exists(), "nothing is made by reading"
    (tmp_path / "no.db").write_text("this is no database" * 99)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'no.db'}")
    _, read = report(capsys, SEARCH, "--out", tmp_path / "b.html")
    assert "no.db" in read.words()


def test_a_search_whose_folder_is_gone_is_told_from_mlflow(
    capsys: pytest.CaptureFixture[str], old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "home"
    shutil.copytree(old, own)
    move_in(own, monkeypatch)
    shutil.rmtree(own / "searches" / SEARCH)
    path, read = report(capsys, SEARCH)
    assert path == own / "reports" / f"{SEARCH}.html"
    assert "The folder of the search is gone" in read.words()
    assert len(read.table("Trial")) == 1 + 3


def test_a_name_of_neither_is_refused_with_near_ones(
    capsys: pytest.CaptureFixture[str], old: Path
) -> None:
    line = refused(capsys, "report", "weave-20261127-090728")
    assert f"the newest are {SEARCH}. Did you mean '{SEARCH}'?" in line
    assert "it has weave" in line
    assert "Did you mean 'weave'?" in refused(capsys, "report", "waeve")


def test_a_name_that_is_a_path_reaches_no_file(
    capsys: pytest.CaptureFixture[str], old: Path
) -> None:
    for name in (f"../searches/{SEARCH}", f"{SEARCH}/../{SEARCH}", "../../etc", "."):
        assert "Nor is there a search" in refused(capsys, "report", name)


def test_a_file_that_is_no_report_is_refused_before_the_work_and_kept(
    capsys: pytest.CaptureFixture[str], old: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    line = refused(capsys, "report", "weave", "--out", mine)
    assert f"{mine} is not a report" in line
    assert mine.read_text() == "mine"
    assert "is a folder" in refused(capsys, "report", SEARCH, "--out", tmp_path)
    assert "is the name of a picture" in refused(capsys, "report", SEARCH, "--out", "a.png")
    (tmp_path / "r.html").write_text("x")
    report(capsys, SEARCH, "--out", tmp_path / "new.html")
    assert page.is_report(tmp_path / "new.html")


def test_the_end_of_a_search_makes_its_report_and_gives_it_to_mlflow(
    old: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = open_store(new_store(tmp_path / "mlflow.db"))
    SearchRuns(store, search=SEARCH, texture="weave", params={}).close({}, "finished")
    folder = old / "searches" / SEARCH
    (folder / "report.html").unlink(missing_ok=True)
    with _search_report.reported(folder, store) as result:
        result["detector"] = "x"
    assert result == {"detector": "x", "report": str(folder / "report.html")}
    assert f"The report is in {folder / 'report.html'}." in capsys.readouterr().err
    record = search_record(store, SEARCH)
    assert record is not None
    assert record.run is not None
    [kept] = store.client.list_artifacts(record.run, "report")
    assert kept.path == "report/report.html"


def test_a_search_that_ends_by_an_error_has_a_report_too(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(new_store(tmp_path / "mlflow.db"))
    folder = old / "searches" / SEARCH
    (folder / "report.html").unlink(missing_ok=True)
    with (
        pytest.raises(SearchError, match="no detector"),
        _search_report.reported(folder, store),
    ):
        raise SearchError("no detector")
    assert page.is_report(folder / "report.html")
    assert (
        "The trials are from the files of the search"
        in Read((folder / "report.html").read_text("utf-8")).words()
    )


@pytest.mark.parametrize("fault", ["a file of the user's", "a bug"])
def test_a_report_that_fails_harms_no_search_and_says_so_in_one_line(
    old: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    store = open_store(new_store(tmp_path / "mlflow.db"))
    folder = Path(shutil.copytree(old / "searches" / SEARCH, tmp_path / SEARCH))
    (folder / "report.html").unlink(missing_ok=True)
    if fault == "a bug":
        monkeypatch.setattr(charts, "MOST_LINES", None)
    else:
        (folder / "report.html").write_text("mine")
    with _search_report.reported(folder, store) as result:
        result["detector"] = "x"
    assert result == {"detector": "x"}
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("The search is not harmed, but it has no report: ")
    assert "Traceback" not in line


def test_nothing_of_a_report_names_the_machine(
    capsys: pytest.CaptureFixture[str], shop: Shop, tmp_path: Path
) -> None:
    path, _ = report(capsys, "weave", "--out", tmp_path / "a.html")
    assert not re.search(rf"@{re.escape(socket.gethostname())}\b", path.read_text("utf-8"))


def test_a_report_that_mlflow_cannot_take_is_on_disk_and_says_so(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(new_store(tmp_path / "mlflow.db"))
    SearchRuns(store, search=SEARCH, texture="weave", params={}).close({}, "finished")
    folder = old / "searches" / SEARCH
    (folder / "report.html").unlink(missing_ok=True)
    (tmp_path / "mlartifacts").write_text("a file in the way of a folder")
    with _search_report.reported(folder, store) as result:
        pass
    assert result == {"report": str(folder / "report.html")}
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"The report is in {folder / 'report.html'}, and not in MLflow: ")
