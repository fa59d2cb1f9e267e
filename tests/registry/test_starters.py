"""The starters behind a shelf: found when it has no such texture, hidden for good when it has."""

from __future__ import annotations

import shutil
from pathlib import Path

import boto3
import pytest

from registry import bundle
from registry.folder_shelf import FolderShelf
from registry.pointer import pointer_from_json
from registry.s3_shelf import S3Shelf
from registry.shelf import Shelf, lineage, names_on, open_shelf, pointer_of, shelf_to_read
from registry.starters import ReadableShelf, ShelfWithStarters
from tests.exams import drawn_bundle, flip, publish
from zoo import home
from zoo.errors import BundleError, ConfigError, SignatureError, UnknownDetectorError


@pytest.fixture
def starters(tmp_path: Path) -> Path:
    """A folder with the starters brick and grass."""
    for seed, texture in enumerate(("brick", "grass")):
        folder = drawn_bundle(tmp_path / texture, texture=texture, seed=seed)
        publish(FolderShelf(tmp_path / "starters"), folder, texture=texture, version=1)
    return tmp_path / "starters"


@pytest.fixture
def own(tmp_path: Path) -> FolderShelf:
    """The shelf of the user, which has wood."""
    shelf = FolderShelf(tmp_path / "own")
    publish(shelf, drawn_bundle(tmp_path / "wood", texture="wood"), texture="wood", version=1)
    return shelf


@pytest.fixture
def shelf(own: FolderShelf, starters: Path) -> ShelfWithStarters:
    return ShelfWithStarters(own, starters)


def own_brick(own: Shelf, tmp_path: Path, *, version: int = 3) -> str:
    """Publish a brick on the shelf of the user, and return its digest."""
    folder = drawn_bundle(tmp_path / "own brick", texture="brick", seed=9)
    return publish(own, folder, texture="brick", version=version)


def digest_of(shelf: ReadableShelf, name: str) -> str:
    return bundle.digest(shelf.fetch(name))


def test_all_textures_are_listed_and_each_is_loaded(
    shelf: ShelfWithStarters, own: FolderShelf, starters: Path
) -> None:
    assert shelf.textures() == ["brick", "grass", "wood"]
    assert list(shelf.pointers()) == ["brick", "grass", "wood"]
    assert shelf.starters() == ["brick", "grass"]
    assert [shelf.is_starter(each) for each in ("brick", "grass", "wood", "stone")] == [
        True,
        True,
        False,
        False,
    ]
    assert digest_of(shelf, "wood") == digest_of(own, "wood")
    behind = FolderShelf(starters)
    for name in ("brick", "brick@champion", "brick:1", "grass"):
        assert shelf.resolve(name) == behind.resolve(name)
    pinned = f"brick@sha256:{digest_of(behind, 'brick')}"
    assert shelf.fetch(pinned) == behind.fetch("brick")
    assert pointer_of(shelf, "brick").history[0].act == "promoted"
    shown = lineage(pointer_of(shelf, "brick"), digest=digest_of(shelf, "brick"))
    assert shown["lineage"]["version"] == 1


def test_the_starters_behind_textures_that_are_known_are_told_without_the_shelf(
    starters: Path, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    away.write_text("a shelf that cannot be read")
    shelf = ShelfWithStarters(FolderShelf(away), starters)
    assert list(shelf.behind(["wood", "grass"])) == ["brick"]


def test_a_texture_of_the_user_hides_the_starter_of_its_name_with_all_its_versions(
    shelf: ShelfWithStarters, own: FolderShelf, starters: Path, tmp_path: Path
) -> None:
    pinned = f"brick@sha256:{digest_of(shelf, 'brick')}"
    digest = own_brick(own, tmp_path)
    assert digest_of(shelf, "brick") == digest
    assert shelf.starters() == ["grass"]
    assert names_on(shelf)["brick"] == {"champion": digest, "3": digest}
    for name in ("brick:1", "brick@previous", pinned):
        with pytest.raises(UnknownDetectorError, match=f"{name}' on .* it has brick@champion"):
            shelf.fetch(name)
    assert digest_of(ShelfWithStarters(own, starters), "grass") == digest_of(shelf, "grass")


def test_a_texture_without_a_champion_hides_the_starter_too(
    shelf: ShelfWithStarters, own: FolderShelf, tmp_path: Path
) -> None:
    own_brick(own, tmp_path, version=1)
    own.change("brick", lambda old: old.with_version(old.versions[1], "challenger", old.history[0]))
    own.change("brick", lambda old: pointer_from_json(_without_champion(old.to_json()), where=""))
    with pytest.raises(UnknownDetectorError, match="'brick' on the shelf .*brick@challenger"):
        shelf.fetch("brick")
    assert not shelf.is_starter("brick")


def _without_champion(pointer: bytes) -> bytes:
    return pointer.replace(b'"champion": 1', b'"of_old": 1')


def test_what_the_shelf_had_once_does_not_become_a_starter(
    shelf: ShelfWithStarters, own: FolderShelf, tmp_path: Path
) -> None:
    """As when a disk is no longer mounted under a service that goes on."""
    own_brick(own, tmp_path)
    assert shelf.textures() == ["brick", "grass", "wood"]
    shutil.rmtree(tmp_path / "own")
    assert shelf.textures() == ["grass"]
    assert not shelf.is_starter("brick")
    with pytest.raises(UnknownDetectorError, match="'brick' on the shelf .*; it is empty"):
        shelf.fetch("brick")


@pytest.mark.parametrize("ask", ["fetch", "is_starter", "pointers"])
def test_every_way_to_ask_notes_what_the_shelf_has(
    shelf: ShelfWithStarters, own: FolderShelf, tmp_path: Path, ask: str
) -> None:
    own_brick(own, tmp_path)
    asks = {
        "fetch": lambda: shelf.fetch("brick"),
        "is_starter": lambda: shelf.is_starter("brick"),
        "pointers": shelf.pointers,
    }
    asks[ask]()
    shutil.rmtree(tmp_path / "own")
    with pytest.raises(UnknownDetectorError, match="it is empty"):
        shelf.fetch("brick")


def test_a_damaged_pointer_is_not_replaced_by_a_starter(
    shelf: ShelfWithStarters, own: FolderShelf, tmp_path: Path
) -> None:
    own_brick(own, tmp_path)
    (tmp_path / "own" / "textures" / "brick.json").write_text("{")
    for ask in (shelf.fetch, shelf.pointer):
        with pytest.raises(BundleError, match="brick.json is damaged"):
            ask("brick")
    assert not shelf.is_starter("brick")
    assert "brick" in shelf.textures()


def test_a_damaged_starter_is_refused(shelf: ShelfWithStarters) -> None:
    flip(shelf.fetch("brick") / bundle.WEIGHTS)
    with pytest.raises(BundleError, match=r"weights\.safetensors is damaged"):
        shelf.fetch("brick")


def test_a_wrong_name_is_answered_with_the_starters_as_well(shelf: ShelfWithStarters) -> None:
    with pytest.raises(
        UnknownDetectorError,
        match=r"'brik' on the shelf .*; it has wood\. Starters: brick, grass\. "
        r"Did you mean 'brick'\?",
    ):
        shelf.fetch("brik")
    with pytest.raises(UnknownDetectorError, match="'brick:7' on the shelf of the starters"):
        shelf.fetch("brick:7")


def test_nothing_can_be_published_on_them(shelf: ShelfWithStarters) -> None:
    assert isinstance(shelf, ReadableShelf)
    assert not isinstance(shelf, Shelf)
    assert isinstance(open_shelf("folder"), Shelf)


def test_accents_written_apart_hide_a_starter(tmp_path: Path, own: FolderShelf) -> None:
    folder = drawn_bundle(tmp_path / "a", texture="caf\u00e9")
    publish(FolderShelf(tmp_path / "s"), folder, texture="caf\u00e9", version=1)
    shelf = ShelfWithStarters(own, tmp_path / "s")
    assert shelf.is_starter("cafe\u0301")
    assert shelf.resolve("cafe\u0301")[1] == 1
    publish(own, folder, texture="cafe\u0301", version=4)
    assert shelf.resolve("caf\u00e9")[1] == 4


def test_a_shelf_in_s3_hides_them_too_and_asks_for_no_more_than_their_names(
    bucket: str, starters: Path, tmp_path: Path
) -> None:
    own = S3Shelf("s3://zoo/shelf", tmp_path / "cache", boto3.client("s3"))
    shelf = ShelfWithStarters(own, starters)
    assert shelf.is_starter("brick")
    assert shelf.resolve("brick")[1] == 1
    digest = own_brick(own, tmp_path)
    assert digest_of(shelf, "brick") == digest
    assert shelf.textures() == ["brick", "grass"]
    assert shelf.starters() == ["grass"]


# --------------------------------------------------------------------------------------- switch


def test_they_are_behind_the_shelf_of_the_environment_and_behind_no_other(
    starters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "STARTERS", starters)
    monkeypatch.delenv("ZOO_TRUSTED_KEYS", raising=False)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ZOO_STARTERS", raising=False)
    assert shelf_to_read().textures() == ["brick", "grass"]
    assert shelf_to_read(str(tmp_path / "own")).textures() == []
    monkeypatch.setenv("ZOO_SHELF", str(tmp_path / "other"))
    assert shelf_to_read().textures() == ["brick", "grass"]
    with pytest.raises(
        UnknownDetectorError, match="The starter 'brick' is not on a shelf.*read-only"
    ):
        open_shelf().fetch("brick")
    monkeypatch.setenv("ZOO_STARTERS", "off")
    assert shelf_to_read().textures() == []
    with pytest.raises(UnknownDetectorError, match="it is empty") as refused:
        shelf_to_read().fetch("brick")
    assert "Starters" not in str(refused.value)
    monkeypatch.setenv("ZOO_STARTERS", "no")
    with pytest.raises(ConfigError, match="ZOO_STARTERS must be on or off, not 'no'"):
        shelf_to_read()


def test_trusted_keys_turn_them_off_unless_they_are_turned_on(
    starters: Path, own: FolderShelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever removes a pointer of a shelf would have a detector loaded that nobody signed."""
    from tests.registry.test_signing import new_key

    monkeypatch.setattr(home, "STARTERS", starters)
    monkeypatch.setenv("ZOO_SHELF", str(tmp_path / "own"))
    monkeypatch.setenv("ZOO_TRUSTED_KEYS", str(new_key(tmp_path / "keys")[1]))
    monkeypatch.delenv("ZOO_STARTERS", raising=False)
    assert shelf_to_read().textures() == ["wood"]
    monkeypatch.setenv("ZOO_STARTERS", "on")
    assert digest_of(shelf_to_read(), "brick") == FolderShelf(starters).pointer("brick").versions[1]
    with pytest.raises(SignatureError):
        shelf_to_read().fetch("wood")
