"""The commands that read the shelf: names, show, history, and a shelf that is damaged or absent."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import zoo
from registry import bundle
from registry.folder_shelf import FolderShelf
from tests.cli.commands import Shop, champion, move_in, refused, search_refused
from tests.exams import flip, publish
from zoo.cli import main


@pytest.mark.parametrize(("pattern", "found"), [("w*", ["weave"]), ("c*", []), ("*", ["weave"])])
def test_names_are_listed_by_wildcard(
    capsys: pytest.CaptureFixture[str], shop: Shop, pattern: str, found: list[str]
) -> None:
    main(["names", pattern])
    assert capsys.readouterr().out.splitlines() == found
    main(["names", pattern, "--json"])
    assert json.loads(capsys.readouterr().out) == found
    for name in found:
        main(["show", name, "--json"])
        shown = json.loads(capsys.readouterr().out)
        assert shown["lineage"]["version"] == 1
        assert shown["digest"] == champion(shop.home).name
        assert not shown["starter"]


def test_names_are_a_table_on_a_terminal_which_says_what_is_a_starter(
    capsys: pytest.CaptureFixture[str],
    shop: Shop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for texture in ("brick", "weave"):
        folder = tmp_path / texture
        bundle.save(replace(bundle.load(champion(shop.home)), texture=texture), folder)
        publish(FolderShelf(tmp_path / "starters"), folder, texture=texture, version=2)
    monkeypatch.setattr("zoo.home.STARTERS", tmp_path / "starters")
    monkeypatch.setenv("ZOO_STARTERS", "on")
    monkeypatch.setenv("NO_COLOR", "1")
    main(["names"])
    assert capsys.readouterr().out.splitlines() == ["brick", "weave"]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    main(["names"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(row[0], row[1], row[-2]) for row in rows] == [
        ("NAME", "VERSION", "FROM"),
        ("brick", "2", "starter"),
        ("weave", "1", "shelf"),
    ]
    for name, is_starter in (("brick", True), ("weave", False)):
        main(["show", name, "--json"])
        shown = json.loads(capsys.readouterr().out)
        assert shown["starter"] is is_starter
        assert shown["lineage"]["version"] == (2 if is_starter else 1)
    main(["history", "brick"])
    assert "promoted" in capsys.readouterr().out


def test_an_empty_shelf_has_no_names_and_says_how_to_make_one(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    main(["names"])
    ended = capsys.readouterr()
    assert ended.out == ""
    assert "zoo search --category" in ended.err
    assert not home.exists()


def test_a_card_shows_where_a_detector_comes_from_and_how_good_it_is(
    capsys: pytest.CaptureFixture[str], shop: Shop
) -> None:
    main(["show", "weave", "--json"])
    card = json.loads(capsys.readouterr().out)
    assert card["texture"] == "weave"
    assert card["metrics"]["test"]["pixel_ap"] == shop.promoted["test_pixel_ap"]
    assert card["data"]["fingerprint"].startswith("sha256:")
    assert card["threshold"]["set_on"] == "calibration and val"
    assert "scores" not in card["threshold"]
    assert card["made_by"]["texture_zoo"]
    assert card["lineage"]["version"] == 1
    assert card["lineage"]["aliases"] == ["champion"]
    assert card["lineage"]["act"] == "forced"
    assert card["lineage"]["reason"] == shop.promoted["reason"]
    assert card["digest"] == champion(shop.home).name
    assert card["seconds_per_image"] > 0
    assert card == json.loads(json.dumps(zoo.show("weave@champion")))
    main(["show", "weave:1"])
    shown = capsys.readouterr().out
    assert shown.splitlines()[:2] == ["The detector", "  Material   weave"]
    assert "  Forced  " in shown


def test_a_history_has_a_line_for_each_change(
    capsys: pytest.CaptureFixture[str], shop: Shop
) -> None:
    main(["history", "weave", "--json"])
    [line] = json.loads(capsys.readouterr().out)
    assert (line["act"], line["version"]) == ("forced", 1)
    assert line["figures"]["test_pixel_ap"] == shop.promoted["test_pixel_ap"]
    main(["history", "weave"])
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["WHEN", "WHAT", "VERSION"]
    assert "forced  1" in row
    assert line["who"] in row
    assert "Did you mean 'weave'" in refused(capsys, "history", "waeve")


def test_a_category_without_a_detector_is_refused_with_the_near_name(
    capsys: pytest.CaptureFixture[str], shop: Shop
) -> None:
    for command in (["show", "waeve"], ["score", "waeve", shop.images[0]]):
        line = refused(capsys, *command)
        assert line.startswith("zoo: No detector 'waeve' on the shelf")
        assert line.endswith("it has weave. Did you mean 'weave'?")


def test_a_bundle_with_one_flipped_byte_is_not_used(
    capsys: pytest.CaptureFixture[str], stocked: Shop, home: Path
) -> None:
    shutil.copytree(stocked.home / "shelf", home / "shelf")
    [weights] = (home / "shelf").rglob(bundle.WEIGHTS)
    flip(weights)
    for command in (["show", "weave"], ["score", "weave", stocked.images[0]]):
        line = refused(capsys, *command)
        assert bundle.WEIGHTS in line
        assert str(weights.parent) in line


def test_a_home_that_cannot_be_made_is_refused_with_the_place(
    capsys: pytest.CaptureFixture[str],
    stocked: Shop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_text("in the way")
    move_in(tmp_path / "file" / "home", monkeypatch)
    lines = [
        refused(capsys, "promote", stocked.made, "--data", stocked.data),
        search_refused(capsys, stocked.data),
        refused(capsys, "score", "weave", stocked.images[0]),
    ]
    assert all(str(tmp_path / "file" / "home") in line for line in lines), lines
