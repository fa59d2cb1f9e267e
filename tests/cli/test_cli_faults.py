"""What a disk, a terminal or an environment may do to any command: one line, and exit code 2."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from registry import bundle
from registry.bundle import CARD
from registry.folder_shelf import FolderShelf
from registry.pointer import Entry
from tests.cli.commands import Shop, move_in, refused, search_refused, without_privileges
from tests.exams import drawn_bundle, publish
from tests.memo import Memo
from tests.mlflow_runs import new_store
from zoo import files
from zoo.cli import main
from zoo.cli.output import answer, put, say, table
from zoo.data import textures
from zoo.training import gather

Forbid = Callable[[Path, int], None]


@pytest.fixture
def forbid() -> Forbid:
    """Return what takes permissions from a path; a test that it does not hold for is skipped."""

    def forbid(path: Path, mode: int) -> None:
        path.chmod(mode)
        with without_privileges():
            if os.access(path, os.W_OK, effective_ids=True):
                pytest.skip("this user may do anything")

    return forbid


READING = (["names"], ["show", "weave"], ["history", "weave"], ["shelf", "verify"], ["shelf", "gc"])


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_a_shelf_that_may_not_be_read_is_refused_with_its_place(
    capsys: pytest.CaptureFixture[str], home: Path, forbid: Forbid, command: list[str]
) -> None:
    (home / "shelf" / "textures").mkdir(parents=True)
    forbid(home / "shelf", 0)
    with without_privileges():
        line = refused(capsys, *command)
    assert f"{home / 'shelf' / 'textures'}" in line
    assert "permission denied; let this user" in line


def test_a_folder_that_may_not_be_listed_is_not_taken_for_an_empty_one(
    capsys: pytest.CaptureFixture[str], home: Path, forbid: Forbid, tmp_path: Path
) -> None:
    (home / "shelf" / "textures").mkdir(parents=True)
    (tmp_path / "seen" / "inner").mkdir(parents=True)
    for folder in (home / "shelf" / "textures", tmp_path / "seen" / "inner"):
        forbid(folder, 0o111)
    with without_privileges():
        for command in (["names"], ["score", "weave", str(tmp_path / "seen")]):
            assert "permission denied" in refused(capsys, *command)


@pytest.mark.parametrize("command", [["data", "check", "DIR"], ["score", "weave", "DIR/a.png"]])
def test_pictures_that_may_not_be_read_are_refused_with_their_place(
    capsys: pytest.CaptureFixture[str],
    home: Path,
    forbid: Forbid,
    tmp_path: Path,
    command: list[str],
) -> None:
    (tmp_path / "data").mkdir()
    forbid(tmp_path / "data", 0)
    given = [part.replace("DIR", str(tmp_path / "data")) for part in command]
    with without_privileges():
        line = refused(capsys, *given)
    assert line.startswith(f"zoo: Cannot do `zoo {' '.join(given)}`: {tmp_path / 'data'}")
    assert "permission denied" in line


@pytest.mark.parametrize("command", [["names"], ["history", "weave"], ["runs"]], ids=" ".join)
def test_a_home_that_is_read_only_can_be_read(
    capsys: pytest.CaptureFixture[str], home: Path, forbid: Forbid, command: list[str]
) -> None:
    folder = drawn_bundle(home / "b", texture="weave")
    publish(FolderShelf(home / "shelf"), folder, texture="weave", version=1)
    new_store(home / "mlflow.db")
    main(["runs"])  # makes its experiment
    for path in (home, *home.rglob("*")):
        forbid(path, 0o555 if path.is_dir() else 0o444)
    with without_privileges():
        main(command)


def test_a_detector_in_a_home_that_is_read_only_can_be_used(
    capsys: pytest.CaptureFixture[str], stocked: Shop, home: Path, forbid: Forbid
) -> None:
    shutil.copytree(stocked.home, home)
    for path in (home, *home.rglob("*")):
        forbid(path, 0o555 if path.is_dir() else 0o444)
    with without_privileges():
        main(["show", "weave"])
        main(["score", "weave", str(stocked.images[0])])
    assert '"verdict": ' in capsys.readouterr().out


@pytest.mark.parametrize("command", ["show", "history", "score", "rollback"])
def test_a_name_too_long_for_a_file_is_no_name(
    capsys: pytest.CaptureFixture[str], home: Path, command: str
) -> None:
    more = ["a.png"] if command == "score" else []
    line = refused(capsys, command, "x" * 300, *more)
    assert f"'{'x' * 300}'" in line


def test_a_category_too_long_for_a_folder_is_refused(
    capsys: pytest.CaptureFixture[str], home: Path, weave: Path
) -> None:
    line = refused(capsys, "search", "--category", "x" * 300, "--data", weave.parent)
    assert "the name is longer than the disk allows" in line


@pytest.mark.parametrize("version", ["²", "٣", "-1", "1.0", "9" * 5000, ""])
def test_what_is_no_number_is_no_version(
    capsys: pytest.CaptureFixture[str], home: Path, version: str
) -> None:
    line = refused(capsys, "shelf", "remove", f"brick:{version}")
    assert f"not 'brick:{version}'" in line


@pytest.mark.parametrize(
    "command", [["names"], ["names", "--json"], ["show", "weave"], ["history", "weave"], ["--help"]]
)
def test_an_answer_that_cannot_be_written_is_refused(shop: Shop, command: list[str]) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "zoo.cli", *command],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 2
    assert ended.stderr == (
        "zoo: Cannot write the answer to standard output: the disk is full; free some space, then "
        "run the same command again.\n"
    )


def test_progress_that_cannot_be_written_ends_nothing(shop: Shop) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "zoo.cli", "names", "zzz"]
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, check=False)
    assert ended.returncode == 0


# ------------------------------------------------------------------------- before the first trial


def test_a_shelf_that_cannot_be_written_is_refused_before_a_search(
    capsys: pytest.CaptureFixture[str], home: Path, weave: Path, forbid: Forbid
) -> None:
    (home / "shelf" / "textures").mkdir(parents=True)
    forbid(home / "shelf" / "textures", 0o555)
    with without_privileges():
        line = search_refused(capsys, weave.parent)
    assert f"Cannot write 'weave' to {home / 'shelf' / 'textures'}" in line
    assert not (home / "searches").exists()


def test_a_disk_that_is_nearly_full_is_refused_before_a_search(
    capsys: pytest.CaptureFixture[str],
    home: Path,
    weave: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "LEAST_FREE", 2**60)
    line = search_refused(capsys, weave.parent)
    assert "MB are free there, and it should be 1152921504607." in line
    assert not home.exists()


def test_a_key_that_is_none_is_refused_before_a_search(
    capsys: pytest.CaptureFixture[str], home: Path, weave: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_SIGNING_KEY", str(home / "gone.pem"))
    line = search_refused(capsys, weave.parent)
    assert "gone.pem" in line
    assert not (home / "searches").exists()


def test_a_damaged_champion_is_refused_before_a_search(
    capsys: pytest.CaptureFixture[str], home: Path, weave: Path
) -> None:
    folder = drawn_bundle(home / "b", texture="weave")
    digest = publish(FolderShelf(home / "shelf"), folder, texture="weave", version=1)
    (damaged,) = (home / "shelf").rglob(f"{digest}/{CARD}")
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes() + b" ")
    line = search_refused(capsys, weave.parent)
    assert "The champion of 'weave' cannot be opened" in line
    assert not (home / "searches").exists()


def test_a_name_that_no_shelf_takes_is_refused_before_a_search_with_one_that_it_takes(
    capsys: pytest.CaptureFixture[str], home: Path, weave: Path
) -> None:
    weave.rename(weave.with_name("oak:A"))
    line = refused(capsys, "search", "--category", "oak:A", "--data", weave.parent)
    assert "'oak:A' cannot name a texture" in line
    assert "--category 'oak-A'" in line
    assert not home.exists()


# ----------------------------------------------------------------------- terminals and passwords

HOSTILE = "a\x1b[2J\nPromoted\r\x9b\u202e\udcff"
SHOWN = r"a\x1b[2J\nPromoted\r\x9b\u202e\udcff"


def test_what_a_terminal_would_act_on_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    put(HOSTILE)
    table([("NAME", "WHO"), (HOSTILE, "me")])
    answer({"name": HOSTILE}, as_json=False)
    answer({"name": "\x7f"}, as_json=True)
    ended = capsys.readouterr()
    assert ended.err == f"{SHOWN}\n"
    assert ended.out.splitlines() == [
        SHOWN,
        f"{'NAME':<{len(SHOWN)}}  WHO",
        f"{SHOWN}  me",
        f"name  {SHOWN}",
        r'{"name": "\u007f"}',
    ]


def test_a_hostile_history_is_shown_and_not_obeyed(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    shelf, folder = FolderShelf(home / "shelf"), drawn_bundle(home / "b", texture="weave")
    digest = publish(shelf, folder, texture="weave", version=1)
    entry = Entry(act="promoted", version=1, reason=HOSTILE[:-1], who="\x1b]0;title\x07")
    shelf.change("weave", lambda old: old.with_version(digest, None, entry))
    main(["history", "weave"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert SHOWN[:-6] in lines[2]


def test_letters_that_a_terminal_does_not_have_are_written_as_codes(shop: Shop) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    code = "from zoo.cli.output import put; put('caf\\u00e9 \\u6728')"
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert out.stdout == "caf\\xe9 \\u6728\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_TRACKING_URI", "http://me:hunter2@127.0.0.1:1/?api_token=hunter2"),
        ("MLFLOW_TRACKING_URI", "postgresql://me:hunter/2@hunter2@there/db"),
        ("ZOO_SHELF", "https://me:hunter2@there/shelf"),
        ("ZOO_SHELF", "s3://key:hunter2@bucket/shelf"),
        ("RAY_ADDRESS", "ray://me:hunter2@127.0.0.1:1"),
        ("ZOO_STORAGE", "s3://key:hunter2@bucket/trials"),
    ],
)
def test_no_message_has_a_password(
    capsys: pytest.CaptureFixture[str],
    stocked: Shop,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    reading = {"MLFLOW_TRACKING_URI": ["runs"], "ZOO_SHELF": ["names"]}
    search = ["search", "--category", "weave", "--data", str(stocked.data), "--no-promote"]
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main(reading.get(name, search))
    assert exit_.value.code == 2
    ended = capsys.readouterr()
    assert "hunter" not in ended.out + ended.err
    assert "***@" in ended.err
    written = [path for path in home.rglob("*") if path.is_file()]
    assert not [path for path in written if b"hunter" in path.read_bytes()]


# --------------------------------------------------------------------------- names and places


def test_a_folder_that_is_gone_is_told(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    assert "it is not there; look at its name" in refused(capsys, "data", "check", "x")


def test_too_little_memory_is_told(
    capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("zoo.data.textures.find", full)
    line = refused(capsys, "data", "check", "x")
    assert line.startswith("zoo: There is not enough memory for `zoo data check x`. Use smaller")


@pytest.mark.parametrize(
    "command", [["score", "weave", "a.png", "--csv"], ["export", "weave", "--to", "onnx", "--out"]]
)
def test_an_answer_never_replaces_a_picture(
    capsys: pytest.CaptureFixture[str], home: Path, command: list[str]
) -> None:
    line = refused(capsys, *command, "good/000.PNG")
    assert "'good/000.PNG' is the name of a picture; it would be replaced" in line


def test_a_file_name_of_another_coding_is_in_the_table_as_codes(shop: Shop, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    shutil.copy(shop.images[0], odd)
    main(["score", "weave", str(odd), "--csv", str(tmp_path / "scores.csv")])
    assert "caf\\udce9.png" in (tmp_path / "scores.csv").read_text("utf-8")


# ------------------------------------------------------------------------------------- containers


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can become another user"
)
def test_a_user_without_a_name_and_a_home_can_promote_and_score(
    stocked: Shop, untrained_once: Memo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    move_in(mine / "home", monkeypatch)
    # A champion that is better, so that what learns nothing is not fitted.
    better = untrained_once.untrained(gather(textures.find(stocked.data, "weave")))[0]
    bundle.save(better, tmp_path / "better")
    publish(FolderShelf(mine / "home" / "shelf"), tmp_path / "better", texture="weave", version=1)
    for path in (mine, *mine.rglob("*")):
        os.chown(path, 12345, 12345)
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/")
    # It may read the project and the data, wherever they are, as in a container.
    rights = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    user = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", *rights]
    because = ["--force", "--because", "a test"]
    for command in (
        ["promote", str(stocked.made), "--data", str(stocked.data), *because],
        ["score", "weave", str(stocked.images[0]), "--out", str(mine / "maps")],
        ["history", "weave"],
    ):
        ended = subprocess.run(
            [*user, sys.executable, "-m", "zoo.cli", *command],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
    assert "forced" in ended.stdout
    assert "unknown@" in ended.stdout
