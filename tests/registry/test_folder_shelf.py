"""A shelf in a folder: the exam of shelves, and what is special to a folder."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from registry import bundle
from registry.folder_shelf import FolderShelf
from registry.objects import locked
from registry.shelf import names_on
from tests.exams import ShelfExam, drawn_bundle, flip, publish
from zoo.errors import BundleError, StorageError


class TestFolderShelf(ShelfExam):
    @pytest.fixture
    def shelf(self, tmp_path: Path) -> FolderShelf:
        return FolderShelf(tmp_path / "shelf")


@pytest.mark.parametrize("file", [bundle.WEIGHTS, bundle.CARD])
@pytest.mark.parametrize("at", [0, 8, -1])
def test_a_flipped_byte_on_a_shelf_is_found(tmp_path: Path, file: str, at: int) -> None:
    shelf = FolderShelf(tmp_path / "shelf")
    digest = publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    flip(tmp_path / "shelf" / "objects" / digest / file, at)
    with pytest.raises(BundleError, match=digest):
        shelf.fetch("grid")


def test_another_whole_bundle_in_its_place_is_found_by_the_address(tmp_path: Path) -> None:
    shelf, other = FolderShelf(tmp_path / "shelf"), drawn_bundle(tmp_path / "other", seed=1)
    digest = publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    assert bundle.digest(other) != digest
    for file in (bundle.CARD, bundle.WEIGHTS):
        shutil.copy(other / file, tmp_path / "shelf" / "objects" / digest / file)
    found = bundle.digest(other)
    with pytest.raises(BundleError, match=f"digest should be {digest} and is {found}"):
        shelf.fetch("grid")


def test_publishing_again_puts_a_damaged_bundle_right(tmp_path: Path) -> None:
    shelf, folder = FolderShelf(tmp_path / "shelf"), drawn_bundle(tmp_path / "b")
    digest = publish(shelf, folder, texture="grid", version=1)
    flip(tmp_path / "shelf" / "objects" / digest / bundle.WEIGHTS)
    publish(shelf, folder, texture="grid", version=1)
    assert bundle.digest(shelf.fetch("grid")) == digest


def test_a_missing_object_is_named(tmp_path: Path) -> None:
    shelf = FolderShelf(tmp_path / "shelf")
    digest = publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    (tmp_path / "shelf" / "objects" / digest / bundle.WEIGHTS).unlink()
    with pytest.raises(BundleError, match=f"{digest}.*{bundle.WEIGHTS} is missing"):
        shelf.fetch("grid")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff", b'{"texture": "grid", "aliases": {"a": 1}, "versions": {}}']
)
def test_a_damaged_pointer_is_named(tmp_path: Path, content: bytes) -> None:
    shelf = FolderShelf(tmp_path / "shelf")
    publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    (tmp_path / "shelf" / "textures" / "grid.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"pointer .*grid\.json is damaged"):
        shelf.fetch("grid")


ENTRY = {"act": "promoted", "version": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": "one"},
        {"when": "yesterday"},
        {"when": 1e300},
        {"when": float("nan")},
        {"figures": 3},
        {"figures": {"val_pixel_ap": "high"}},
        {"figures": {"val_pixel_ap": 10**400}},
        {"reason": None},
        {"run": 7},
        {"act": ["promoted"]},
        {"who": {}},
    ],
)
def test_a_history_with_a_value_of_another_type_is_damaged(
    tmp_path: Path, wrong: dict[str, object]
) -> None:
    shelf = FolderShelf(tmp_path / "shelf")
    publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    path = tmp_path / "shelf" / "textures" / "grid.json"
    pointer = json.loads(path.read_bytes())
    path.write_text(json.dumps(pointer | {"history": [ENTRY]}))
    assert shelf.pointer("grid").history[0].version == 1
    path.write_text(json.dumps(pointer | {"history": [ENTRY | wrong]}))
    with pytest.raises(BundleError, match=r"pointer .*grid\.json is damaged"):
        shelf.pointer("grid")


def test_a_file_that_no_texture_is_kept_in_is_no_texture(tmp_path: Path) -> None:
    shelf = FolderShelf(tmp_path / "shelf")
    publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    for name in ("..%2F..%2Fetc.json", "wood (2).json", "%67rid.json", "grid.txt", ".json"):
        (tmp_path / "shelf" / "textures" / name).write_text("{}")
    assert shelf.textures() == ["grid"]


def test_a_file_in_the_way_of_the_shelf_is_named(tmp_path: Path) -> None:
    (tmp_path / "shelf").write_text("in the way")
    with pytest.raises(StorageError, match=f"Cannot publish 'grid' on {tmp_path / 'shelf'}"):
        publish(
            FolderShelf(tmp_path / "shelf"), drawn_bundle(tmp_path / "b"), texture="grid", version=1
        )


def test_a_failed_publication_leaves_the_champion(tmp_path: Path) -> None:
    shelf = FolderShelf(tmp_path / "shelf")
    first = publish(shelf, drawn_bundle(tmp_path / "a", seed=1), texture="grid", version=1)
    second = drawn_bundle(tmp_path / "b", seed=2)
    (tmp_path / "shelf" / "objects" / bundle.digest(second)).write_text("in the way")
    with pytest.raises(StorageError, match="Cannot publish 'grid'"):
        publish(shelf, second, texture="grid", version=2)
    assert bundle.digest(shelf.fetch("grid")) == first
    assert names_on(shelf) == {"grid": {"champion": first, "1": first}}


PUBLISH_TEN = """
import sys
from pathlib import Path
from registry import bundle
from registry.folder_shelf import FolderShelf
from registry.objects import locked
from registry.pointer import CHAMPION, Entry

root, folder, first = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
digest = bundle.digest(folder)
print("ready", flush=True)
sys.stdin.readline()
for version in range(first, first + 10):
    entry = Entry(act="promoted", version=version)
    FolderShelf(root).change(
        "grid", lambda old: old.with_version(digest, CHAMPION, entry), folder=folder
    )
"""


def test_publishers_in_other_processes_lose_no_version(tmp_path: Path) -> None:
    workers = []
    for n in range(2):
        folder = drawn_bundle(tmp_path / f"b{n}", seed=n)
        arguments = [str(tmp_path / "shelf"), str(folder), str(10 * n + 1)]
        command = [sys.executable, "-c", PUBLISH_TEN, *arguments]
        pipe = subprocess.PIPE
        workers.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
    for worker in workers:
        assert worker.stdout
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:  # at the same moment, so that they meet
        assert worker.stdin
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=60)
    assert [worker.returncode for worker in workers] == [0, 0]
    found = names_on(FolderShelf(tmp_path / "shelf"))["grid"]
    assert {str(version) for version in range(1, 21)} == set(found) - {"champion", "previous"}


def test_a_process_that_was_forked_while_a_shelf_was_locked_does_not_keep_it_locked(
    tmp_path: Path,
) -> None:
    reading, writing = os.pipe()
    with locked(tmp_path):  # in a server another thread holds the lock
        child = os.fork()
        if not child:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
    with (tmp_path / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for end in (reading, writing):
        os.close(end)
    os.waitpid(child, 0)
