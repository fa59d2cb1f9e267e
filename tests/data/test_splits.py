"""The division of good pictures into splits that share no pixel."""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from tests.data.pictures_written import drawn, write, write_good
from zoo.data.splits import Splits, same_source, split
from zoo.data.testset import read_test
from zoo.data.textures import Texture, find
from zoo.errors import BadImageError


@pytest.mark.parametrize(("count", "held"), [(12, 4), (20, 5), (40, 10), (100, 25), (300, 40)])
def test_whole_images_are_kept_apart_in_shares(tmp_path: Path, count: int, held: int) -> None:
    texture = find(write_good(tmp_path, count, 6, 8), "x")
    splits = split(texture, seed=3)
    assert (len(splits.val), len(splits.calibration)) == (held, held)
    keys = [picture.key for picture in splits.fit + splits.val + splits.calibration]
    assert sorted(keys) == sorted(picture.key for picture in texture.pictures)
    assert f"{count} good images: {count - 2 * held} to fit, {held} to validate" in splits.note
    assert splits.seed == 3


def test_the_same_seed_gives_the_same_split_whatever_the_files_are_called(tmp_path: Path) -> None:
    for number in range(14):
        write(tmp_path / "one" / f"{number:02}.png", drawn(seed=number))
        write(tmp_path / "two" / f"{99 - number:02}.png", drawn(seed=number))
    one, two = find(tmp_path, "one"), find(tmp_path, "two")

    def keys(texture: Texture, seed: int) -> list[list[str]]:
        parts = split(texture, seed=seed)
        return [[p.key for p in part] for part in (parts.fit, parts.val, parts.calibration)]

    assert keys(one, 0) == keys(one, 0) == keys(two, 0)
    assert keys(one, 0) != keys(one, 1)


def test_duplicates_go_into_one_split_once_and_are_counted(tmp_path: Path) -> None:
    write_good(tmp_path, 13)
    for number in range(3):
        write(tmp_path / "train" / "good" / f"copy{number}.png", drawn(seed=number))
    splits = split(find(tmp_path, "x"))
    keys = [picture.key for picture in splits.fit + splits.val + splits.calibration]
    assert len(keys) == len(set(keys)) == 13
    assert "Duplicates left out: 3." in splits.note


@pytest.mark.parametrize(("height", "width"), [(40, 200), (203, 45)])
@pytest.mark.parametrize("count", [1, 5])
def test_few_images_are_divided_into_regions_that_cover_each_pixel_once(
    tmp_path: Path, height: int, width: int, count: int
) -> None:
    texture = find(write_good(tmp_path, count, height, width), "x")
    for seed in range(4):
        splits = split(texture, seed=seed)
        assert len(splits.fit) == len(splits.val) == len(splits.calibration) == count
        for picture in texture.pictures:
            seen = np.zeros(picture.pixels.shape, int)
            for region in splits.fit + splits.val + splits.calibration:
                key, _, box = region.key.partition("@")
                if key == picture.key:
                    top, left, rows, columns = map(int, box.split(","))
                    cut = np.s_[top : top + rows, left : left + columns]
                    seen[cut] += 1
                    np.testing.assert_array_equal(region.pixels, picture.pixels[cut])
                    assert np.shares_memory(region.pixels, picture.pixels)
                    spans = f"[{top}:{top + rows},{left}:{left + columns}]"
                    assert region.name == picture.name + spans
            assert (seen == 1).all()
        assert splits.fit[0].pixels.size == pytest.approx(0.6 * height * width, rel=0.02)
        expected = "5 good images are too few" if count == 5 else "1 good image is too few"
        assert expected in splits.note


def test_no_split_gets_the_same_side_of_every_image(tmp_path: Path) -> None:
    texture = find(write_good(tmp_path, 3, 40, 200), "x")
    for seed in range(6):
        splits = split(texture, seed=seed)
        for part in (splits.fit, splits.val, splits.calibration):
            assert len({p.key.partition("@")[2] for p in part}) == 3


def test_a_seed_moves_the_regions_of_a_single_image(tmp_path: Path) -> None:
    texture = find(write_good(tmp_path, 1, 40, 200), "x")
    assert len({split(texture, seed=seed).val[0].name for seed in range(12)}) > 1


@pytest.mark.parametrize(("height", "width"), [(31, 400), (90, 159)])
def test_an_image_too_small_to_be_divided_is_refused_with_sizes(
    tmp_path: Path, height: int, width: int
) -> None:
    texture = find(write_good(tmp_path, 1, height, width), "x")
    sizes = rf"000\.png is {height}x{width} pixels.*takes 32x160.*at least 12"
    with pytest.raises(BadImageError, match=sizes):
        split(texture)


def test_pictures_share_pixels_exactly_when_same_source_says_so(tmp_path: Path) -> None:
    texture = find(write_good(tmp_path, 2, 40, 200), "x")
    splits = split(texture)
    every = [*texture.pictures, *splits.fit, *splits.val, *splits.calibration]
    answers = set()
    for a, b in itertools.product(every, every):
        answer = same_source(a.key, b.key)
        assert answer == np.shares_memory(a.pixels, b.pixels)
        answers.add(answer)
    assert answers == {True, False}


@pytest.mark.parametrize(
    ("box", "shared"), [("3,4,2,2", True), ("5,0,5,9", False), ("0,6,5,2", False)]
)
def test_regions_that_touch_share_nothing_and_overlapping_ones_do(box: str, shared: bool) -> None:
    assert same_source("k@0,0,5,6", f"k@{box}") is shared
    assert same_source(f"k@{box}", "k@0,0,5,6") is shared
    assert not same_source("k@0,0,5,6", f"j@{box}")


def noise(seed: int, height: int = 64, width: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 1), np.uint8)


def write_copies(root: Path, sizes: list[int]) -> Texture:
    """Write photographs, each with copies of another brightness, named without any order."""
    for photograph, size in enumerate(sizes):
        for copy in range(size):
            pixels = (noise(photograph) * (1 - 0.01 * copy)).astype(np.uint8)
            write(root / "train" / "good" / f"{copy:02}_{photograph:03}.png", pixels)
    return find(root, "x")


def photographs(splits: Splits) -> list[set[str]]:
    """Return which photographs each split has pictures of."""
    parts = (splits.fit, splits.val, splits.calibration)
    return [{picture.name[-7:-4] for picture in part} for part in parts]


@pytest.mark.parametrize(
    "sizes", [[1, 2] * 8, [4] * 4, [20, *[1] * 12], [6, 5, 5], [30, 4, 4], [3] * 5]
)
def test_relatives_are_in_one_split_and_each_split_has_about_its_share(
    tmp_path: Path, sizes: list[int]
) -> None:
    texture = write_copies(tmp_path, sizes)
    for seed in range(4):
        splits = split(texture, seed=seed)
        fit, val, calibration = photographs(splits)
        assert len(fit) + len(val) + len(calibration) == len(fit | val | calibration)
        assert len(fit | val | calibration) == splits.independent == len(sizes)
        count = sum(sizes)
        held = min(count // 4, (count - max(sizes)) // 2)
        assert 0.7 * held <= len(splits.val) <= max(1.5 * held, 6)
        assert 0.7 * held <= len(splits.calibration) <= max(1.5 * held, 6)
        found = f"{count} good images, which seem to come from {len(sizes)} photographs: "
        assert splits.note.startswith(f"{found}{len(splits.fit)} to fit, {len(splits.val)} to val")


@pytest.mark.parametrize(
    ("sizes", "words"), [([16], "1 photograph"), ([14, 1, 1], "3 photographs")]
)
def test_relatives_are_divided_when_a_split_would_be_all_but_empty(
    tmp_path: Path, sizes: list[int], words: str
) -> None:
    splits = split(write_copies(tmp_path, sizes))
    assert min(len(splits.fit), len(splits.val), len(splits.calibration)) >= 3
    assert f"16 good images, which seem to come from {words}: " in splits.note
    assert splits.independent == len(sizes)


def test_without_relatives_the_split_is_that_of_each_picture_alone(tmp_path: Path) -> None:
    """A stored detector can be promoted only while the pictures are divided as they were."""
    texture = find(write_good(tmp_path, 20), "x")
    splits = split(texture, seed=5)
    draws = {p.key: hashlib.sha256(f"5:{p.key}".encode()).hexdigest() for p in texture.pictures}
    keys = sorted(draws, key=draws.__getitem__)
    assert [p.key for p in splits.calibration] == keys[:5]
    assert [p.key for p in splits.val] == keys[5:10]
    assert [p.key for p in splits.fit] == keys[10:]
    assert splits.independent == 20


def test_groups_of_relatives_are_divided_alike_whatever_the_files_are_called(
    tmp_path: Path,
) -> None:
    one = write_copies(tmp_path / "one", [1, 2, 4] * 4)
    for number, each in enumerate(reversed(one.pictures)):
        write(tmp_path / "two" / f"{number:02}.png", each.pixels)
    keys = []
    for texture in (one, find(tmp_path / "two", "x")):
        parts = split(texture, seed=2)
        keys.append([[p.key for p in part] for part in (parts.fit, parts.val, parts.calibration)])
    assert keys[0] == keys[1]
    other = split(one, seed=3)
    assert keys[0][0] != [p.key for p in other.fit]


def test_few_images_of_one_photograph_are_divided_into_regions_and_the_note_says_so(
    tmp_path: Path,
) -> None:
    for copy in range(3):
        pixels = (noise(0, 60, 200) * (1 - 0.01 * copy)).astype(np.uint8)
        write(tmp_path / f"{copy}.png", pixels)
    splits = split(find(tmp_path, "x"))
    assert splits.note.endswith("They seem to come from 1 photograph.")
    assert splits.independent == 1


@pytest.mark.real
def test_crops_of_one_photograph_of_leather_are_in_one_split() -> None:
    folder = os.environ.get("ZOO_REAL_DATA")
    if folder is None or not (Path(folder) / "leather_crops" / "leather").is_dir():
        pytest.skip("ZOO_REAL_DATA names no folder with leather_crops/leather in it")
    splits = split(find(Path(folder) / "leather_crops", "leather"))
    assert splits.independent == 3  # four photographs, two of which overlap
    parts = (splits.fit, splits.val, splits.calibration)
    names = [{Path(picture.name).name[:3] for picture in part} for part in parts]
    assert sorted(map(len, names)) == [1, 1, 2]


@pytest.mark.real
def test_the_five_good_images_of_nanotwice_are_divided_into_regions() -> None:
    folder = os.environ.get("ZOO_REAL_DATA")
    if folder is None or not (Path(folder) / "nanotwice" / "nanofibres").is_dir():
        pytest.skip("ZOO_REAL_DATA names no folder with nanotwice/nanofibres in it")
    texture = find(Path(folder) / "nanotwice", "nanofibres")
    assert texture.mode == "L"
    assert [picture.pixels.shape for picture in texture.pictures] == [(700, 1024, 1)] * 5
    splits = split(texture)
    assert [picture.pixels.shape for picture in splits.fit] == [(700, 614, 1)] * 5
    tests = list(read_test(texture))
    assert tests
    assert all(picture.defective for picture in tests)
