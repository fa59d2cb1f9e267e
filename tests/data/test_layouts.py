"""Every layout of a folder: what is good, what is for the test, which mask is whose."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.data.pictures_written import drawn, write, write_good
from zoo.data.layouts import arranged, layout_of, unused
from zoo.data.testset import has_test, read_test
from zoo.data.textures import find
from zoo.errors import BadMaskError, DataError
from zoo.evaluation.audit import check


def hole(height: int = 48, width: int = 64, *, value: tuple[int, ...] = (255,)) -> np.ndarray:
    mask = np.zeros((height, width, len(value)), np.uint8)
    mask[10:20, 30:35] = value
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


def nanotwice(root: Path) -> None:
    for number in range(3):
        write(root / "Normal" / f"{number}.tif", drawn(seed=number))
    write(root / "Anomalous" / "images" / "8.tif", drawn(seed=8))
    write(root / "Anomalous" / "gt" / "8_gt.png", hole())


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
        (nanotwice, "nanotwice", ["anomalous"]),
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


def test_the_table_of_visa_keeps_normal_pictures_for_the_test(tmp_path: Path) -> None:
    visa(tmp_path / "candle")
    table = tmp_path / "split_csv" / "1cls.csv"
    table.parent.mkdir()
    rows = [
        "object,split,label,image,mask",
        "candle,train,normal,candle/Data/Images/Normal/0.JPG,",
        "candle,test,normal,candle/Data/Images/Normal/1.JPG,",
        "pcb1,test,normal,pcb1/Data/Images/Normal/2.JPG,",
        "candle,test,anomaly,candle/Data/Images/Anomaly/8.JPG,candle/Data/Masks/Anomaly/8.png",
    ]
    table.write_text("\n".join(rows))
    texture = find(tmp_path, "candle")
    assert [Path(each.name).name for each in texture.pictures] == ["0.JPG", "2.JPG"]
    tests = [(each.kind, Path(each.name).name) for each in read_test(texture)]
    assert tests == [("anomaly", "8.JPG"), ("good", "1.JPG")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"object,image\ncandle,0.JPG", "has no column split, label"),
        (b"", "has no column object, split, label, image"),
        (b"object,split,label,image\n\xff\xfe", "cannot be read"),
    ],
)
def test_another_table_in_its_place_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    visa(tmp_path / "candle")
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv" / "1cls.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"1cls\.csv.*{said}.*or remove the file"):
        find(tmp_path, "candle")


@pytest.mark.parametrize("make", [btad, visa, nanotwice, flat("good", "bad", "masks/8.png")])
def test_labels_without_masks_are_a_test_of_pictures_only(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path)
    for folder in ("ground_truth", "masks", "Data/Masks", "Anomalous/gt"):
        shutil.rmtree(tmp_path / folder, ignore_errors=True)
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


def test_train_good_alone_is_a_texture_without_a_test(tmp_path: Path) -> None:
    texture = find(write_good(tmp_path, 3), "x")
    assert (texture.layout, len(texture.pictures)) == ("mvtec", 3)
    assert not has_test(texture)


# ----------------------------------------------------------------- names and masks of other makers


def only_defect(root: Path) -> np.ndarray | None:
    (found,) = (each for each in read_test(find(root, "x")) if each.kind != "good")
    assert found.defective
    return found.mask


@pytest.mark.parametrize("place", ["ground_truth", "masks", "mask", "Masks", "masks/bad"])
@pytest.mark.parametrize("name", ["8.png", "8_mask.png", "8_label.png", "8_gt.png", "8_MASK.PNG"])
def test_a_mask_is_found_by_each_of_its_names_in_each_of_its_folders(
    tmp_path: Path, place: str, name: str
) -> None:
    flat("good", "bad", f"{place}/{name}")(tmp_path)
    mask = only_defect(tmp_path)
    assert mask is not None
    assert mask.sum() == 50


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("8.png", (1,)),
        ("8.png", (128,)),
        ("8.png", (0, 0, 200)),
        ("8.png", (0, 1, 0)),
        ("8.bmp", (255,)),
        ("8.jpg", (255,)),
        ("8.JPG", (255, 255, 255)),
    ],
)
def test_a_mask_marks_what_is_not_black_whatever_its_value_or_colour(
    tmp_path: Path, name: str, value: tuple[int, ...]
) -> None:
    flat("good", "bad", "masks/8.png")(tmp_path)
    (tmp_path / "masks" / "8.png").unlink()
    write(tmp_path / "masks" / name, hole(value=value))
    mask = only_defect(tmp_path)
    assert mask is not None
    np.testing.assert_array_equal(mask, hole()[..., 0] > 0)


@pytest.mark.parametrize("make", [btad, visa, kolektor, flat("good", "bad", "mask/8.png")])
def test_upper_and_lower_case_of_folders_and_suffixes_are_the_same(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path)
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        path.rename(path.with_name(path.name.swapcase()))
    assert len(find(tmp_path, "x").pictures) == 3
    mask = only_defect(tmp_path)
    assert mask is not None
    assert mask.sum() == 50


@pytest.mark.parametrize(
    ("picture", "mask"),
    [
        ("Bild (1) \u00e4.PNG", "Bild (1) \u00e4_mask.png"),
        ("a\u0308.jpg", "\u00e4_mask.png"),  # as macOS writes it, and as Windows does
        ("Probe.1.tif", "probe.1_label.bmp"),
    ],
)
def test_names_of_windows_and_of_macos_are_understood(
    tmp_path: Path, picture: str, mask: str
) -> None:
    flat("good", "bad", f"masks/{mask}")(tmp_path)
    (tmp_path / "bad" / "8.png").unlink()
    write(tmp_path / "bad" / picture, drawn(seed=8))
    for name in ("Thumbs.db", "desktop.ini"):
        (tmp_path / "bad" / name).write_bytes(b"nothing to see")
    found = only_defect(tmp_path)
    assert found is not None
    assert found.sum() == 50


def test_masks_may_be_in_several_folders_and_beside_their_pictures(tmp_path: Path) -> None:
    flat("good", "bad", "masks/8.png")(tmp_path)
    for number, place in ((6, "ground_truth/6_mask.png"), (7, "bad/7_mask.png")):
        write(tmp_path / "bad" / f"{number}.png", drawn(seed=number))
        write(tmp_path / place, hole())
    found = list(read_test(find(tmp_path, "x")))
    assert [each.name for each in found] == ["bad/6.png", "bad/7.png", "bad/8.png"]
    assert all(each.mask is not None and each.mask.sum() == 50 for each in found)


@pytest.mark.parametrize("place", ["masks/Cut", "mask/bad/cut"])
def test_kinds_of_defects_may_be_folders_in_that_of_bad_pictures(
    tmp_path: Path, place: str
) -> None:
    flat("good", "bad", "masks/bad/8.png")(tmp_path)
    write(tmp_path / "bad" / "Cut" / "8.png", drawn(seed=9))
    write(tmp_path / place / "8.png", hole())
    found = list(read_test(find(tmp_path, "x")))
    assert [(each.kind, each.name) for each in found] == [
        ("bad", "bad/8.png"),
        ("cut", "bad/Cut/8.png"),
    ]
    assert all(each.mask is not None and each.mask.sum() == 50 for each in found)


def test_black_masks_of_good_pictures_are_no_masks_without_a_picture(tmp_path: Path) -> None:
    btad(tmp_path)
    write(tmp_path / "ground_truth" / "ok" / "7.png", black())
    write(tmp_path / "ground_truth" / "ok" / "0.png", black())
    bad, good = read_test(find(tmp_path, "x"))
    assert (bad.defective, good.defective) == (True, False)
    write(tmp_path / "ground_truth" / "ok" / "7.png", hole())
    with pytest.raises(BadMaskError, match=r"ok.7\.png is among the good .* marks 50 pixels"):
        list(read_test(find(tmp_path, "x")))


def test_a_defective_picture_with_a_black_mask_counts_as_good_and_is_told(tmp_path: Path) -> None:
    btad(tmp_path)
    (mask,) = (tmp_path / "ground_truth" / "ko").iterdir()
    write(mask, black())
    texture = find(tmp_path, "x")
    assert not any(each.defective for each in read_test(texture))
    (line,) = check(texture)
    assert re.match(r"1 test pictures .* black mask, test.ko.8\.bmp for one: they count as", line)


def test_a_good_and_a_defective_picture_of_one_name_share_no_mask(tmp_path: Path) -> None:
    plain_train(tmp_path)
    write(tmp_path / "test" / "good" / "8.png", drawn(seed=9))
    bad, *good = read_test(find(tmp_path, "x"))
    assert bad.defective
    assert [each.defective for each in good] == [False, False]


def test_a_folder_that_holds_nothing_but_the_texture_is_passed_through(tmp_path: Path) -> None:
    btad(tmp_path / "wood" / "wood-v2" / "wood")
    (tmp_path / "wood" / "__MACOSX").mkdir()
    assert find(tmp_path, "wood").root == tmp_path / "wood" / "wood-v2" / "wood"
    assert find(tmp_path / "wood", "wood").root == tmp_path / "wood" / "wood-v2" / "wood"


def test_what_is_not_used_is_known(tmp_path: Path) -> None:
    btad(tmp_path)
    write(tmp_path / "ground_truth" / "ok" / "7.png", black())
    assert unused(arranged(tmp_path, "mvtec"), tmp_path) == []
    more = [write(tmp_path / name, drawn()) for name in ("bad/1.png", "test/2.png", "x.png")]
    write(tmp_path / ".cache" / "3.png", drawn())
    assert unused(arranged(tmp_path, "mvtec"), tmp_path) == more
