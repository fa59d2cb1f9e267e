"""Each layout with each wrong input: refused in one line that says what was found."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.commands import refused
from tests.data.pictures_written import drawn, write, write_good, write_truncated
from tests.data.test_layouts import (
    btad,
    flat,
    hole,
    kolektor,
    kolektor_2,
    nanotwice,
    plain_train,
    visa,
)
from zoo.data.textures import find
from zoo.errors import EmptyFolderError


@dataclass(frozen=True, kw_only=True)
class Made:
    """A layout, and in it a defective test picture and its mask."""

    make: Callable[[Path], None]
    picture: str
    mask: str


MADE = {
    "btad": Made(make=btad, picture="test/ko/8.bmp", mask="ground_truth/ko/8.png"),
    "plain_train": Made(make=plain_train, picture="test/bad/8.png", mask="mask/8_label.png"),
    "visa": Made(make=visa, picture="Data/Images/Anomaly/8.JPG", mask="Data/Masks/Anomaly/8.png"),
    "kolektor": Made(make=kolektor, picture="kos1/Part1.jpg", mask="kos1/Part1_label.bmp"),
    "kolektor_2": Made(make=kolektor_2, picture="test/8.png", mask="test/8_GT.png"),
    "nanotwice": Made(
        make=nanotwice, picture="Anomalous/images/8.tif", mask="Anomalous/gt/8_gt.png"
    ),
    "good_bad": Made(
        make=flat("good", "bad", "masks/8.png"), picture="bad/8.png", mask="masks/8.png"
    ),
    "ok_ng": Made(
        make=flat("OK", "NG", "mask/NG/8_mask.png"), picture="NG/8.png", mask="mask/NG/8_mask.png"
    ),
    "normal_abnormal": Made(
        make=flat("normal", "abnormal", "ground_truth/8_label.png"),
        picture="abnormal/8.png",
        mask="ground_truth/8_label.png",
    ),
}


def of_another_size(picture: Path, mask: Path) -> str:
    write(mask, hole(40, 64))
    return rf"{re.escape(str(picture))} is 48x64 pixels .* {re.escape(str(mask))} is 40x64"


def without_a_picture(picture: Path, mask: Path) -> str:
    lost = mask.with_name(mask.name.replace("8", "9").replace("Part1", "Part7"))
    write(lost, hole())
    return f"The mask {re.escape(str(lost))} has no picture"


def missing(picture: Path, mask: Path) -> str:
    mask.unlink()
    return f"{re.escape(str(picture))} has no (mask|label) "


def damaged(picture: Path, mask: Path) -> str:
    write_truncated(mask)
    return f"The mask {re.escape(str(mask))} is damaged"


def twice(picture: Path, mask: Path) -> str:
    write(mask.with_suffix(".tif"), hole())
    return f"{re.escape(str(picture))} has 2 masks: .*{mask.stem}"


def of_a_name_that_two_have(picture: Path, mask: Path) -> str:
    write(picture.with_suffix(".webp"), drawn(seed=9))
    return f"2 test pictures in {re.escape(str(picture.parent))} are called '{picture.stem}'"


WRONG = [
    of_another_size,
    without_a_picture,
    missing,
    damaged,
    twice,
    of_a_name_that_two_have,
]


CASES = [(layout, wrong) for layout in MADE for wrong in WRONG]

# Layouts that may be one folder: the folders of both have the same names.
ALIKE = [
    {"good_bad", "ok_ng", "normal_abnormal"},
    {"btad", "plain_train"},
    {"kolektor", "kolektor_2"},
    {"kolektor_2", "plain_train"},
]
PAIRS = [
    (one, other)
    for one in MADE
    for other in MADE
    if one < other and not any({one, other} <= alike for alike in ALIKE)
]


@pytest.mark.parametrize(("layout", "wrong"), CASES)
def test_a_wrong_mask_is_refused_in_one_line_with_what_was_found(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    layout: str,
    wrong: Callable[[Path, Path], str],
) -> None:
    made, root = MADE[layout], tmp_path / "cloth"
    made.make(root)
    assert (root / made.mask).is_file()
    expected = wrong(root / made.picture, root / made.mask)
    assert re.search(expected, refused(capsys, "data", "check", root))


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_two_layouts_in_one_folder_are_refused_with_both(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, one: str, other: str
) -> None:
    for name in (one, other):
        MADE[name].make(tmp_path / "cloth")
    line = refused(capsys, "data", "check", tmp_path / "cloth")
    assert re.search("cloth is arranged in two ways: .+ and .+ Keep one of them", line)


@pytest.mark.parametrize("place", ["ground_truth/hole/000_mask.png", "masks/8.png"])
@pytest.mark.parametrize("good", ["", "good", "train/good"])
def test_masks_without_any_test_picture_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, good: str, place: str
) -> None:
    for number in range(3):
        write(tmp_path / "cloth" / good / f"{number}.png", drawn(seed=number))
    lost = write(tmp_path / "cloth" / place, hole())
    line = refused(capsys, "data", "check", tmp_path / "cloth")
    assert f"The mask {lost} has no picture among those of the test" in line


def test_a_mask_that_two_pictures_may_have_is_refused_with_both(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = write_good(tmp_path / "cloth", 3)
    both = [write(root / "test" / kind / "8.png", drawn(seed=8)) for kind in ("cut", "hole")]
    mask = write(root / "masks" / "8.png", hole())
    line = refused(capsys, "data", "check", root)
    assert f"The mask {mask} may be that of {both[0]} and that of {both[1]}" in line


def test_names_with_backslashes_are_refused_with_one_of_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write(tmp_path / "a.png", drawn())
    (tmp_path / "a.png").rename(tmp_path / r"wood\train\good\a.png")
    assert r"'wood\train\good\a.png'" in refused(capsys, "data", "check", tmp_path)


@pytest.mark.parametrize("data", [".", "cloth"])
def test_folders_beside_good_that_may_hold_anything_are_refused_with_what_to_do(
    tmp_path: Path, data: str
) -> None:
    for path in ("good/1.png", "scratch/8.png", "new/9.png"):
        write(tmp_path / "cloth" / path, drawn(seed=int(path[-5])))
    with pytest.raises(EmptyFolderError) as caught:
        find(tmp_path / data, "cloth")
    wanted = f"beside good (new, scratch) hold defects, put them into {tmp_path / 'cloth' / 'bad'};"
    assert wanted in str(caught.value)
    for name in ("scratch", "new"):
        (tmp_path / "cloth" / "bad").mkdir(exist_ok=True)
        (tmp_path / "cloth" / name).rename(tmp_path / "cloth" / "bad" / name)
    assert [each.name for each in find(tmp_path / data, "cloth").pictures] == ["good/1.png"]
