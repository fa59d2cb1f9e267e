"""`zoo score`: a JSON line and an overlay for each image, and images that cannot be scored."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import zoo
from tests.cli.commands import Shop, refused
from zoo.cli import main

ZOO = Path(sys.executable).parent / "zoo"


def test_every_image_is_a_json_line_with_an_overlay_of_its_own(
    capsys: pytest.CaptureFixture[str], shop: Shop, tmp_path: Path
) -> None:
    main(["score", "weave", *map(str, shop.images), "--out", str(tmp_path / "maps")])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["image"] for line in lines] == [str(path) for path in shop.images]
    assert len(lines) == 6
    detector = zoo.load("weave")
    for line in lines:
        score = detector.score(line["image"])
        assert line["score"] == pytest.approx(score.score, abs=1e-5)
        assert line["threshold"] == pytest.approx(score.threshold, abs=1e-5)
        assert line["is_anomalous"] == score.is_anomalous == (score.score > score.threshold)
        assert line["anomalous_pixels"] == score.mask.sum()
    overlays = [Path(line["overlay"]) for line in lines]
    below = [path.relative_to(shop.data / "weave" / "test") for path in shop.images]
    assert overlays == [tmp_path / "maps" / path for path in below]
    assert sorted((tmp_path / "maps").rglob("*.png")) == sorted(overlays)
    for overlay in overlays:
        with Image.open(overlay) as picture:
            assert picture.size == (4 * (72 + 4 + 72), 4 * 64), "both enlarged to 256 pixels"


def test_scoring_again_replaces_its_overlays_and_does_not_score_them(
    capsys: pytest.CaptureFixture[str], shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(shop.data / "weave" / "test", tmp_path / "planks"))
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    for places, out in (
        (["planks"], "planks/maps"),
        (["planks"], str(folder / "maps")),
        (["planks/good", "planks/hole", "planks/maps"], "planks/maps"),
    ):
        lines = lines_of(capsys, *places, "--out", out)
        assert len(lines) == len(before) == 6
        written = [folder / "maps" / path.relative_to(folder) for path in before]
        assert sorted((folder / "maps").rglob("*.png")) == sorted(written)
    assert {path: path.read_bytes() for path in before} == before
    line = refused(capsys, "score", "weave", "planks/maps", "--out", "planks/maps")
    assert "in planks/maps are overlays that `zoo score` wrote" in line


def test_a_picture_of_the_users_is_never_overwritten(
    capsys: pytest.CaptureFixture[str], shop: Shop, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(shop.data / "weave" / "test", tmp_path / "planks"))
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    line = refused(capsys, "score", "weave", folder, "--out", folder)
    assert f"would overwrite {min(before)}" in line
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before


def test_scoring_goes_on_past_an_unreadable_image_and_says_so_at_the_end(
    capsys: pytest.CaptureFixture[str], shop: Shop, tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    images = [shop.images[0], tmp_path / "bad.png", tmp_path / "absent.png", shop.images[1]]
    with pytest.raises(SystemExit) as exit_:
        main(["score", "weave", *map(str, images)])
    assert exit_.value.code == 2
    ended = capsys.readouterr()
    scored = [json.loads(line)["image"] for line in ended.out.splitlines()]
    assert scored == [str(images[0]), str(images[3])]
    said = ended.err.splitlines()
    assert "bad.png" in said[0]
    assert "absent.png" in said[1]
    assert said[2].startswith("zoo: 2 of 4 images could not be scored; the others were.")


def test_a_picture_that_cannot_be_written_is_refused_with_the_place(
    capsys: pytest.CaptureFixture[str], shop: Shop, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    line = refused(capsys, "score", "weave", shop.images[0], "--out", tmp_path / "file" / "maps")
    assert str(tmp_path / "file") in line


@pytest.fixture
def pipe() -> Iterator[int]:
    """The writing end of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


def test_a_reader_that_has_left_is_no_error(shop: Shop, pipe: int) -> None:
    ended = subprocess.run(
        [ZOO, "score", "weave", *shop.images],
        stdout=pipe,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def lines_of(capsys: pytest.CaptureFixture[str], *more: str | Path) -> list[dict[str, Any]]:
    capsys.readouterr()
    main(["score", "weave", *map(str, more)])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_folder_and_a_pattern_stand_for_their_pictures_each_once(
    capsys: pytest.CaptureFixture[str], shop: Shop
) -> None:
    folder = shop.data / "weave" / "test"
    (first,) = {path.parent for path in shop.images[:1]}
    expected = [str(path) for path in shop.images]
    assert [line["image"] for line in lines_of(capsys, folder)] == expected
    assert [line["image"] for line in lines_of(capsys, folder / "*" / "*.png")] == expected
    twice = lines_of(capsys, shop.images[0], first)
    assert [line["image"] for line in twice] == [str(each) for each in sorted(first.iterdir())]


@pytest.mark.parametrize("place", ["empty", "none-*.png"])
def test_a_place_without_a_picture_is_refused(
    capsys: pytest.CaptureFixture[str], shop: Shop, tmp_path: Path, place: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".hidden.png").write_bytes(b"")
    line = refused(capsys, "score", "weave", shop.images[0], tmp_path / place)
    assert f"No picture in {tmp_path / place}" in line


def test_regions_are_those_of_the_score_and_a_csv_counts_them(
    capsys: pytest.CaptureFixture[str], shop: Shop, tmp_path: Path
) -> None:
    lines = lines_of(capsys, *shop.images, "--csv", tmp_path / "out" / "scores.csv")
    detector = zoo.load("weave")
    found = [detector.score(path).regions for path in shop.images]
    assert any(found)
    for line, regions in zip(lines, found, strict=True):
        assert [each["area"] for each in line["regions"]] == [each.area for each in regions]
    with (tmp_path / "out" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [str(path) for path in shop.images]
    assert [int(row["regions"]) for row in rows] == [len(regions) for regions in found]


def test_a_terminal_shows_a_table(
    capsys: pytest.CaptureFixture[str], shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    main(["score", "weave", *map(str, shop.images)])
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["image", "verdict", "score", "p", "regions", "largest", "warnings"]
    detector = zoo.load("weave")
    for row, path in zip(rows, shop.images, strict=True):
        image, verdict, score, *_ = row.split()
        expected = detector.score(path)
        assert (image, verdict) == (str(path), "DEFECTIVE" if expected.is_anomalous else "good")
        assert float(score) == pytest.approx(expected.score, abs=1e-3)
    main(["score", "weave", str(shop.images[0]), "--json"])
    assert json.loads(capsys.readouterr().out)["image"] == str(shop.images[0])


@pytest.fixture
def dark(shop: Shop, tmp_path: Path) -> list[Path]:
    """Three test pictures, two of them in less than half of the light."""
    first, second, third = shop.images[:3]
    return [first, darker(second, tmp_path / "a.png"), darker(third, tmp_path / "b.png")]


def darker(path: Path, to: Path) -> Path:
    with Image.open(path) as picture:
        picture.point(lambda level: level * 0.4).save(to)
    return to


def test_a_line_and_a_csv_have_the_statistics_and_the_warnings(
    capsys: pytest.CaptureFixture[str], dark: list[Path], tmp_path: Path
) -> None:
    lines = lines_of(capsys, *dark, "--csv", tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    detector = zoo.load("weave")
    for line, row, path in zip(lines, rows, dark, strict=True):
        score = detector.score(path)
        assert line["warnings"] == list(score.warnings)
        assert line["statistics"] == pytest.approx(score.statistics, abs=1e-4)
        assert row["warnings"] == " ".join(score.warnings)
        assert float(row["brightness"]) == line["statistics"]["brightness"]
    assert [bool(line["warnings"]) for line in lines] == [False, True, True]


def test_a_terminal_marks_warnings_and_says_each_once(
    capsys: pytest.CaptureFixture[str], dark: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    main(["score", "weave", *map(str, dark)])
    shown = capsys.readouterr()
    marks = [row.split()[-1] for row in shown.out.splitlines()[1:]]
    assert marks[0] == "-"
    assert all(int(mark) > 0 for mark in marks[1:])
    said = shown.err.splitlines()
    (light,) = (line for line in said if "Brightness" in line)
    assert light.startswith("2 of 3 images: Brightness is outside of what the good pictures had")
    assert light.endswith("zoo recalibrate weave --good DIR.")
    assert len(said) == max(int(mark) for mark in marks[1:])


def test_an_anomalous_image_fails_where_that_is_asked_for(
    capsys: pytest.CaptureFixture[str], shop: Shop
) -> None:
    detector = zoo.load("weave")
    verdicts = {path: detector.score(path).is_anomalous for path in shop.images}
    good = [path for path, anomalous in verdicts.items() if not anomalous]
    assert 0 < len(good) < len(verdicts)
    assert len(lines_of(capsys, *good, "--fail-on-defect")) == len(good)
    with pytest.raises(SystemExit) as exit_:
        main(["score", "weave", *map(str, verdicts), "--fail-on-defect"])
    assert exit_.value.code == 1
    assert len(capsys.readouterr().out.splitlines()) == len(verdicts)
