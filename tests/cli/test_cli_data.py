"""`zoo data check`: what it says of a folder, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.commands import refused
from tests.data.pictures_written import drawn, write
from zoo.cli import main


@pytest.fixture
def silk(tmp_path: Path) -> Path:
    for number in range(12):
        write(tmp_path / "silk" / "good" / f"{number}.png", drawn(seed=number))
    for number in (1, 2):
        write(tmp_path / "silk" / "bad" / f"{number}.png", drawn(50, 70, seed=30 + number))
        mask = np.zeros((50, 70, 1), np.uint8)
        mask[number, 3:9] = 255
        write(tmp_path / "silk" / "masks" / f"{number}.png", mask)
    return tmp_path / "silk"


def said(capsys: pytest.CaptureFixture[str], folder: Path) -> list[dict[str, Any]]:
    main(["data", "check", str(folder), "--json"])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_folder_says_what_it_was_understood_as(
    capsys: pytest.CaptureFixture[str], silk: Path
) -> None:
    (found,) = said(capsys, silk)
    assert (found["texture"], found["layout"], found["mode"]) == ("silk", "flat", "L")
    assert (found["good"], found["sizes"]) == (12, "48x64")
    assert (found["test"], found["masks"]) == ("2 bad", 2)
    assert "12 good images" in found["split"]
    assert found["warnings"]
    main(["data", "check", str(silk)])
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == "silk"
    assert "  Arranged as    flat layout" in lines
    assert "  Good pictures  12, grey, of 48x64 pixels (height x width)" in lines
    assert any(line.startswith("  Warning        ") for line in lines)


def test_a_folder_of_textures_says_it_of_each(
    capsys: pytest.CaptureFixture[str], silk: Path
) -> None:
    shutil.copytree(silk, silk.parent / "wool")
    shutil.rmtree(silk.parent / "wool" / "masks")
    silk_, wool = said(capsys, silk.parent)
    assert (silk_["texture"], wool["texture"]) == ("silk", "wool")
    assert wool["masks"] == "none: a test of pictures only"


def test_what_is_not_used_is_said(capsys: pytest.CaptureFixture[str], silk: Path) -> None:
    (found,) = said(capsys, silk)
    assert found["unused"] == "none"
    write(silk / "scratched" / "1.png", drawn())
    (found,) = said(capsys, silk)
    assert found["unused"] == "1 in scratched/"


def test_a_picture_beside_folders_of_textures_is_no_texture(
    capsys: pytest.CaptureFixture[str], silk: Path
) -> None:
    write(silk.parent / "preview.png", drawn())
    (found,) = said(capsys, silk.parent)
    assert found["texture"] == "silk"


def test_a_texture_in_a_folder_of_its_own_name_is_found(
    capsys: pytest.CaptureFixture[str], silk: Path, tmp_path: Path
) -> None:
    shutil.move(silk, tmp_path / "all" / "silk" / "silk")
    (found,) = said(capsys, tmp_path / "all")
    (same,) = said(capsys, tmp_path / "all" / "silk")
    assert found == same
    assert (found["texture"], found["good"]) == ("silk", 12)


def test_folders_in_that_of_a_texture_are_not_taken_for_textures(
    capsys: pytest.CaptureFixture[str], silk: Path
) -> None:
    (silk / "good").rename(silk / "better")
    for kind, name in (("good", "1.png"), ("bad", "2.png"), ("bad", "2_label.png")):
        write(silk / "test" / kind / name, drawn(50, 70))
    shutil.rmtree(silk / "bad")
    shutil.rmtree(silk / "masks")
    (silk / "train").mkdir()
    (silk / "better").rename(silk / "train" / "good")
    write(silk / "test" / "loose.png", drawn())
    (found,) = said(capsys, silk)
    assert (found["texture"], found["layout"]) == ("silk", "mvtec")
    assert (found["test"], found["masks"]) == ("1 bad, 1 good", 1)


def test_a_mask_that_does_not_fit_is_refused(
    capsys: pytest.CaptureFixture[str], silk: Path
) -> None:
    write(silk / "masks" / "2.png", drawn(40, 70))
    assert "is 40x70" in refused(capsys, "data", "check", silk)


def test_a_folder_without_pictures_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "No picture of good" in refused(capsys, "data", "check", tmp_path)
    assert "No folder" in refused(capsys, "data", "check", tmp_path / "absent")
