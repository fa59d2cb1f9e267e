"""The detectors that are part of the package: what they find, what they weigh, whose they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import zoo
from registry import bundle
from registry.folder_shelf import FolderShelf
from registry.publish import publish
from tests.scripts import script
from zoo.data import demo, textures
from zoo.data.splits import same_source
from zoo.evaluation.audit import audit
from zoo.home import STARTERS

ROOT = Path(__file__).parent.parent
NAMES = FolderShelf(STARTERS).textures()
MOST_BYTES = 1_000_000  # of a detector


@pytest.fixture(autouse=True)
def only_starters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new user: nothing at home, and nothing said otherwise."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    for name in ("ZOO_SHELF", "ZOO_STARTERS", "ZOO_TRUSTED_KEYS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's data set of each photograph."""
    root = tmp_path_factory.mktemp("demo")
    for name in demo.TEXTURES:
        if name in NAMES:
            demo.make(root, texture=name)
    return root


def test_they_are_there_at_once_and_nothing_is_written(tmp_path: Path, pictures: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in STARTERS.rglob("*")}
    assert zoo.names() == NAMES == list(script("make_starters").NAMES)
    for name in NAMES:
        score = zoo.load(name).score(pictures / name / "test" / "good" / "000.png")
        assert score.map.shape == (demo.MAX_SIZE, demo.MAX_SIZE)
    assert not (tmp_path / "home").exists()
    assert {path: path.stat().st_mtime_ns for path in STARTERS.rglob("*")} == before


@pytest.mark.parametrize("name", NAMES)
def test_one_finds_what_its_card_says_on_pictures_that_it_never_saw(
    name: demo.Photograph, pictures: Path
) -> None:
    """So the figures are of this code and these bytes."""
    detector, texture = zoo.load(name), textures.find(pictures, name)
    known = detector.bundle.metrics
    found = audit(detector, texture)
    for each in ("test_pixel_ap", "test_pixel_auroc", "test_image_auroc"):
        assert found[each] == pytest.approx(known[each], abs=5e-3)
    assert found["test_pixel_ap"] > 0.75
    assert found["test_detection_rate"] == known["test_detection_rate"] == 1
    assert found["test_false_alarm_rate"] == known["test_false_alarm_rate"] == 0
    data = detector.bundle.data
    assert data["fingerprint"] == texture.fingerprint
    assert data["fit"]
    assert not any(same_source(key, each) for key in data["fit"] for each in _test_keys(texture))


def _test_keys(texture: textures.Texture) -> list[str]:
    from zoo.data.images import content_key, read_image

    return [
        content_key(read_image(path)) for path in sorted((texture.root / "test").rglob("*.png"))
    ]


@pytest.mark.parametrize("name", NAMES)
def test_its_card_says_whose_photograph_it_is_and_how_it_became_one(name: str) -> None:
    card = zoo.show(name)
    assert card["starter"]
    assert card["data"]["licence"].startswith("CC0 1.0")
    assert demo.SOURCES[name].split(",")[0] in card["data"]["licence"]
    assert not card["data"]["non_commercial"]
    assert card["lineage"]["act"] == "promoted"
    assert card["lineage"]["aliases"] == ["champion"]
    assert "win" in card["lineage"]["reason"] or "first" in card["lineage"]["reason"]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_in_it_tells_of_people_machines_or_times(name: str) -> None:
    pointer = FolderShelf(STARTERS).pointer(name)
    assert [entry.act for entry in pointer.history].count("promoted") == len(pointer.history)
    assert all(not entry.who and entry.run is None for entry in pointer.history)
    folder = FolderShelf(STARTERS).fetch(name)
    text = (folder / bundle.CARD).read_text("utf-8") + json.dumps(pointer.to_json().decode())
    assert "seconds" not in "".join(zoo.load(name).bundle.metrics)
    assert "/root" not in text
    assert "/home" not in text


def test_they_weigh_little_and_no_object_is_without_a_name() -> None:
    found = {
        folder.name: sum(path.stat().st_size for path in folder.iterdir())
        for folder in (STARTERS / "objects").iterdir()
    }
    shelf = FolderShelf(STARTERS)
    assert set(found) == {
        digest for each in NAMES for digest in shelf.pointer(each).versions.values()
    }
    assert max(found.values()) < MOST_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_it_was_made_with_the_settings_of_the_script(name: str) -> None:
    module = script("make_starters")
    made = zoo.load(name).bundle.made_by
    assert {key: made["settings"][key] for key in module.SETTINGS} == module.SETTINGS
    assert made["seed"] == 0
    assert set(made) >= {"torch", "numpy", "python", "texture_zoo"}


def test_the_folder_is_what_a_web_server_would_hand_out(tmp_path: Path) -> None:
    done = publish(FolderShelf(STARTERS), tmp_path / "published")
    assert set(done.textures) == set(NAMES)
    ours = {path.relative_to(STARTERS): path for path in STARTERS.rglob("*") if path.is_file()}
    assert ours
    for name, path in ours.items():
        assert (tmp_path / "published" / name).read_bytes() == path.read_bytes()
    assert len(ours) == len(done.written)
