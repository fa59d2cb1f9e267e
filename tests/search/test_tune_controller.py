"""How the files in which Ray saves a search are copied to the folder of the search."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem

from zoo.search.tune_controller import WholeFiles


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "trial").mkdir(parents=True)
    (source / "state.json").write_text("one")
    (source / "trial" / "result.json").write_text("{}\n")
    return source, target


def send(source: Path, target: Path) -> None:
    syncer = WholeFiles(LocalFileSystem())
    assert syncer.sync_up(str(source), str(target))
    syncer.wait()


def held(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_new_and_changed_files_are_copied_and_the_others_are_not_touched(
    folders: tuple[Path, Path],
) -> None:
    source, target = folders
    send(source, target)
    assert held(target) == held(source)
    before = (target / "trial" / "result.json").stat().st_ino
    (source / "state.json").write_text("two")
    os.utime(source / "state.json", ns=(0, 1))  # as long as before, and another time
    send(source, target)
    assert held(target) == held(source)
    assert (target / "trial" / "result.json").stat().st_ino == before


def test_a_copy_that_fails_leaves_the_old_file(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = folders
    send(source, target)

    def full(_: object, coming: Path) -> None:
        Path(coming).write_text("tw")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zoo.search.tune_controller.shutil.copy2", full)
    (source / "state.json").write_text("two, and longer")
    with pytest.raises(OSError, match="No space left"):
        send(source, target)
    assert (target / "state.json").read_text() == "one"
