"""Every layout of a folder: what is good, what is for the test, which mask is whose."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.data.pictures_written import drawn, write, write_good
from zoo.data.layouts import layout_of
from zoo.data.testset import has_test, read_test
from zoo.data.textures import find
from zoo.errors import BadMaskError, DataError


def hole(height: int = 48, width: int = 64) -> np.ndarray:
    mask = np.zeros((height, width, 1), np.uint8)
    mask[10:20, 30:35] = 255
    return mask


def black() -> np.ndarray:
    return np.zeros((48, 64, 1), np.uint8)


def btad(root: Path) -> None:
    for number in range(3):
        write(root / "train" / "ok" / f"{number}.png", drawn(seed=number))
    write(root / "test" / "ok" / "7.png", drawn(seed=7))
    write(root / "test" / "ko" / "8.bmp", drawn(seed=8))
    write(root / "ground_truth" / "ko" / "8.png", hole())


def plain_train(root: Path) -> None:
    for number in range(3):
        write(root / "train" / f"{number}.png", drawn(seed=number))
    write(root / "test" / "good" / "7.png", drawn(seed=7))
    write(root / "test" / "bad" / "8.png", drawn(seed=8))
    write(root / "mask" / "8_label.png", hole())


def visa(root: Path) -> None:
    for number in range(3):
        write(root / "Data" / "Images" / "Normal" / f"{number}.JPG", drawn(seed=number))
    write(root / "Data" / "Images" / "Anomaly" / "8.JPG", drawn(seed=8))
    write(root / "Data" / "Masks" / "Anomaly" / "8.png", hole())


def kolektor(root: Path) -> None:
    for number in range(3):
        write(root / f"kos{number}" / "Part0.jpg", drawn(seed=number))
        write(root / f"kos{number}" / "Part0_label.bmp", black())
    write(root / "kos1" / "Part1.jpg", drawn(seed=8))
    write(root / "kos1" / "Part1_label.bmp", hole())


def kolektor_2(root: Path) -> None:
    for number in range(3):
        write(root / "train" / f"{number}.png", drawn(seed=number))
        write(root / "train" / f"{number}_GT.png", black())
    write(root / "train" / "6.png", drawn(seed=6))
    write(root / "train" / "6_GT.png", hole())
    for number, mask in ((7, black()), (8, hole())):
        write(root / "test" / f"{number}.png", drawn(seed=number))
        write(root / "test" / f"{number}_GT.png", mask)


def flat(good: str, bad: str, mask: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for number in range(3):
            write(root / good / f"{number}.png", drawn(seed=number))
        write(root / bad / "8.png", drawn(seed=8))
        write(root / mask, hole())

    return make


@pytest.mark.parametrize(
    ("make", "layout", "kinds"),
    [
        (btad, "mvtec", ["ko", "good"]),
        (plain_train, "mvtec", ["bad", "good"]),
        (visa, "visa", ["anomaly"]),
        (kolektor, "kolektor", ["defective"]),
        (kolektor_2, "kolektor", ["good", "defective"]),
        (flat("good", "bad", "ground_truth/bad/8_mask.png"), "flat", ["bad"]),
        (flat("normal", "abnormal", "masks/abnormal/8.png"), "flat", ["abnormal"]),
        (flat("Normal", "Abnormal", "masks/8.png"), "flat", ["abnormal"]),
        (flat("OK", "NG", "mask/8_label.png"), "flat", ["ng"]),
    ],
)
def test_a_layout_gives_good_pictures_and_test_pictures_with_their_masks(
    tmp_path: Path, make: Callable[[Path], None], layout: str, kinds: list[str]
) -> None:
    make(tmp_path / "cloth")
    texture = find(tmp_path, "cloth")
    assert texture.layout == layout
    assert len(texture.pictures) == 3
    assert has_test(texture)
    tests = list(read_test(texture))
    assert [each.kind for each in tests] == kinds
    for each in tests:
        assert each.mask is not None
        assert (each.mask.sum() == 50) == each.defective == (each.kind != "good")
        assert each.mask.sum() in (0, 50)
    keys = {picture.key for picture in texture.pictures}
    assert len(keys) == 3, "no label and no defective picture is among the good ones"


@pytest.mark.parametrize("make", [btad, visa, flat("good", "bad", "masks/8.png")])
def test_labels_without_masks_are_a_test_of_pictures_only(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path)
    for folder in ("ground_truth", "masks", "Data/Masks/Anomaly"):
        for mask in (tmp_path / folder).rglob("*.png"):
            mask.unlink()
        for empty in sorted((tmp_path / folder).rglob("*"), reverse=True):
            empty.rmdir()
        if (tmp_path / folder).is_dir():
            (tmp_path / folder).rmdir()
    (bad,) = (each for each in read_test(find(tmp_path, "x")) if each.kind != "good")
    assert bad.mask is None
    assert bad.defective


def test_a_folder_named_good_alone_is_a_texture(tmp_path: Path) -> None:
    write(tmp_path / "good" / "a.png", drawn())
    texture = find(tmp_path, "x")
    assert [picture.name for picture in texture.pictures] == ["good/a.png"]
    assert not has_test(texture)


def test_a_folder_of_textures_is_none_itself(tmp_path: Path) -> None:
    for name in ("good", "silk"):
        write_good(tmp_path / name, 1)
    assert layout_of(tmp_path) is None
    assert find(tmp_path, "good").root == tmp_path / "good"


def test_a_folder_arranged_in_two_ways_is_refused_with_both(tmp_path: Path) -> None:
    write_good(tmp_path, 1)
    flat("good", "bad", "masks/8.png")(tmp_path)
    expected = "in two ways: train/good as MVTec AD and a folder of good and one of bad pictures"
    with pytest.raises(DataError, match=expected):
        find(tmp_path, "x")


def test_two_masks_of_one_picture_are_refused_with_both(tmp_path: Path) -> None:
    btad(tmp_path)
    other = write(tmp_path / "ground_truth" / "ko" / "8_mask.png", hole())
    with pytest.raises(
        BadMaskError, match=rf"8\.bmp has 2 masks: .*8\.png, {re.escape(str(other))}"
    ):
        list(read_test(find(tmp_path, "x")))


def test_a_mask_without_a_picture_is_refused_with_its_path(tmp_path: Path) -> None:
    btad(tmp_path)
    lost = write(tmp_path / "ground_truth" / "ko" / "9.png", hole())
    with pytest.raises(BadMaskError, match=f"The mask {re.escape(str(lost))} has no picture"):
        list(read_test(find(tmp_path, "x")))


def test_two_test_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    btad(tmp_path)
    write(tmp_path / "test" / "ko" / "8.png", drawn(seed=9))
    with pytest.raises(BadMaskError, match="2 test pictures in .*ko are called '8'"):
        list(read_test(find(tmp_path, "x")))


@pytest.mark.parametrize(("make", "lost"), [(kolektor, "kos2/Part0_label.bmp"), (btad, "")])
def test_a_picture_without_its_mask_is_refused(
    tmp_path: Path, make: Callable[[Path], None], lost: str
) -> None:
    make(tmp_path)
    if lost:
        (tmp_path / lost).unlink()
        expected = r"Part0\.jpg has no label Part0_label\.bmp"
    else:
        (tmp_path / "ground_truth" / "ko" / "8.png").unlink()
        expected = r"8\.bmp has no mask .*ground_truth.ko.8_mask\.png"
    with pytest.raises(BadMaskError, match=expected):
        list(read_test(find(tmp_path, "x")))


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    visa(tmp_path)
    write(tmp_path / "Data" / "Masks" / "Anomaly" / "8.png", hole(40, 64))
    with pytest.raises(BadMaskError, match="is 48x64 pixels .* is 40x64"):
        list(read_test(find(tmp_path, "x")))
