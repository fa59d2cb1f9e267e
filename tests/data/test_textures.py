"""Folders that are a texture, and the messages for folders that are not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.data.pictures_written import drawn, drawn_deep, write, write_good, write_truncated
from zoo.data import textures
from zoo.data.splits import split
from zoo.data.testset import has_test, read_test
from zoo.data.textures import find
from zoo.errors import BadImageError, DataError, EmptyFolderError
from zoo.training import studied


def test_an_mvtec_folder_gives_its_good_training_images_in_order(tmp_path: Path) -> None:
    write_good(tmp_path / "cloth", 3)
    texture = find(tmp_path, "cloth")
    assert (texture.name, texture.root) == ("cloth", tmp_path / "cloth")
    assert (texture.layout, texture.mode) == ("mvtec", "L")
    names = ["train/good/000.png", "train/good/001.png", "train/good/002.png"]
    assert [picture.name for picture in texture.pictures] == names
    np.testing.assert_array_equal(texture.pictures[2].pixels, drawn(seed=2))


def test_finding_a_texture_never_opens_the_test_images(tmp_path: Path) -> None:
    write_good(tmp_path, 2)
    write_truncated(tmp_path / "test" / "good" / "000.png")
    assert len(find(tmp_path, "cloth").pictures) == 2


def test_a_nanotwice_folder_is_understood(tmp_path: Path) -> None:
    write(tmp_path / "Normal" / "n1.tif", drawn())
    write(tmp_path / "Anomalous" / "images" / "a1.tif", drawn(seed=1))
    mask = np.zeros((48, 64, 1), np.uint8)
    mask[3:5, 7:9] = 255
    write(tmp_path / "Anomalous" / "gt" / "a1_gt.png", mask)
    texture = find(tmp_path, "fibres")
    assert texture.layout == "nanotwice"
    assert [picture.name for picture in texture.pictures] == ["Normal/n1.tif"]
    assert has_test(texture)
    (picture,) = read_test(texture)
    assert (picture.name, picture.kind) == ("Anomalous/images/a1.tif", "anomalous")
    np.testing.assert_array_equal(picture.mask, mask[..., 0] > 0)


def test_a_bare_folder_is_understood_and_has_no_test_images(tmp_path: Path) -> None:
    write(tmp_path / "b.png", drawn(seed=1))
    write(tmp_path / "a.JPG", drawn())
    texture = find(tmp_path, "fabric")
    assert texture.layout == "bare"
    assert [picture.name for picture in texture.pictures] == ["a.JPG", "b.png"]
    assert not has_test(texture)
    with pytest.raises(EmptyFolderError, match=f"'fabric' in {re.escape(str(tmp_path))}"):
        list(read_test(texture))


def test_hidden_files_and_files_that_are_no_pictures_are_ignored(tmp_path: Path) -> None:
    write(tmp_path / "a.png", drawn())
    write(tmp_path / ".hidden.png", drawn(seed=1))
    for name in ("Thumbs.db", ".DS_Store", "notes.txt", "._a.png"):
        (tmp_path / name).write_text("nothing to see")
    (tmp_path / "folder.png").mkdir()
    assert [picture.name for picture in find(tmp_path, "x").pictures] == ["a.png"]


def test_one_picture_in_colour_makes_the_texture_rgb_and_sizes_and_depths_may_differ(
    tmp_path: Path,
) -> None:
    write(tmp_path / "a.png", drawn(40, 60))
    write(tmp_path / "b.png", drawn(30, 20, channels=3))
    write(tmp_path / "c.png", drawn_deep(channels=1))
    texture = find(tmp_path, "x")
    assert texture.mode == "RGB"
    shapes = [picture.pixels.shape for picture in texture.pictures]
    assert shapes == [(40, 60, 3), (30, 20, 3), (12, 20, 3)]
    assert [picture.pixels.dtype.name for picture in texture.pictures] == [
        "uint8",
        "uint8",
        "uint16",
    ]


def test_grey_saved_as_colour_makes_a_grey_texture(tmp_path: Path) -> None:
    write(tmp_path / "a.png", np.repeat(drawn(), 3, axis=2))
    assert find(tmp_path, "x").mode == "L"


def test_keys_and_the_fingerprint_hang_on_content_and_not_on_names(tmp_path: Path) -> None:
    for number, name in enumerate(["a.png", "b.png"]):
        write(tmp_path / "one" / name, drawn(seed=number))
    for number, name in enumerate(["z.tif", "y.png"]):
        write(tmp_path / "two" / name, drawn(seed=number))
    one, two = find(tmp_path, "one"), find(tmp_path, "two")
    assert {p.key for p in one.pictures} == {p.key for p in two.pictures}
    assert one.fingerprint == two.fingerprint
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", one.fingerprint)
    write(tmp_path / "two" / "x.png", drawn(seed=2))
    assert find(tmp_path, "two").fingerprint != one.fingerprint


def test_damaged_pictures_are_counted_and_named_in_one_error(tmp_path: Path) -> None:
    write_good(tmp_path, 6)
    damaged = [write_truncated(tmp_path / "train" / "good" / f"bad{n}.png") for n in range(4)]
    with pytest.raises(BadImageError) as caught:
        find(tmp_path, "x")
    message = str(caught.value)
    assert message.startswith(f"4 of 10 good pictures cannot be read: {damaged[0]} (")
    assert "truncated" in message
    assert all(str(path) in message for path in damaged[:3])
    assert str(damaged[3]) not in message
    assert message.endswith("and others. Remove or replace them, then run again.")


def test_a_missing_folder_is_refused_with_a_near_name(tmp_path: Path) -> None:
    write_good(tmp_path / "mvtec" / "wood", 1)
    with pytest.raises(EmptyFolderError, match=r"mvtc to look for .*'wood'.* Did you mean 'mvtec'"):
        find(tmp_path / "mvtc", "wood")


def test_an_unknown_category_is_refused_with_those_there_are_and_a_near_one(tmp_path: Path) -> None:
    for name in ("carpet", "wood"):
        write_good(tmp_path / name, 1)
    write(tmp_path / "preview.png", drawn())
    with pytest.raises(EmptyFolderError, match=r"'carpt' in .*it has carpet, wood. Did .*'carpet'"):
        find(tmp_path, "carpt")


def test_an_empty_folder_is_refused_with_what_it_has_and_the_three_layouts(tmp_path: Path) -> None:
    (tmp_path / "raw" / "old").mkdir(parents=True)
    with pytest.raises(EmptyFolderError) as caught:
        find(tmp_path, "silk")
    message = str(caught.value)
    assert f"No picture of good 'silk' in {tmp_path}; it has the folders raw" in message
    assert "train/good" in message
    assert "Normal" in message
    assert "nothing else" in message
    assert ".png" in message


def test_an_empty_train_good_is_refused_with_what_lies_there(tmp_path: Path) -> None:
    good = tmp_path / "train" / "good"
    good.mkdir(parents=True)
    with pytest.raises(EmptyFolderError, match=f"{re.escape(str(good))}; it has nothing"):
        find(tmp_path, "silk")
    (good / "a.gif").write_text("")
    with pytest.raises(EmptyFolderError, match=r"it has a\.gif"):
        find(tmp_path, "silk")


@pytest.mark.parametrize("category", ["", "..", "a/b", "/etc"])
def test_a_category_that_is_no_folder_name_is_refused(tmp_path: Path, category: str) -> None:
    with pytest.raises(DataError, match=f"not '{re.escape(category)}'"):
        find(tmp_path, category)


# Licences


def test_the_licence_is_the_argument_then_that_of_the_texture_a_known_name_or_the_data_set(
    tmp_path: Path,
) -> None:
    root = write_good(tmp_path / "grid", 1)
    assert find(tmp_path, "grid").licence == "MVTec AD, CC BY-NC-SA 4.0 (assumed from the name)"
    (tmp_path / "LICENSE").write_text("\n  Of the data set\n")
    assert find(tmp_path, "grid").licence == "MVTec AD, CC BY-NC-SA 4.0 (assumed from the name)"
    write_good(tmp_path / "silk", 1)
    assert find(tmp_path, "silk").licence == "Of the data set"
    (root / "license.txt").write_text("\n# CC BY 4.0\nby somebody\n")
    assert find(tmp_path, "grid").licence == "CC BY 4.0"
    assert find(tmp_path, "grid", licence="mine").licence == "mine"


def test_a_licence_above_the_data_set_is_that_of_something_else(tmp_path: Path) -> None:
    write_good(tmp_path / "project" / "silk", 1)
    (tmp_path / "LICENSE").write_text("MIT License")
    (tmp_path / "project" / "LICENSE").write_text("MIT License")
    assert find(tmp_path / "project" / "silk", "silk").licence == "unknown"
    (tmp_path / "project" / "LICENSE").unlink()
    assert find(tmp_path / "project", "silk").licence == "unknown"


def test_a_licence_that_names_mvtec_is_mvtecs_whatever_its_first_line_says(tmp_path: Path) -> None:
    root = write_good(tmp_path / "silk", 1)
    (root / "license.txt").write_text("Readme first\n\nThe MVTec Anomaly Detection Dataset is ...")
    assert find(tmp_path, "silk").licence == "MVTec AD, CC BY-NC-SA 4.0"


def test_a_licence_of_megabytes_is_read_to_a_limit_and_its_line_is_cut(tmp_path: Path) -> None:
    root = write_good(tmp_path / "silk", 1)
    (root / "LICENSE").write_text("long " * 10**6 + "\nMVTec")
    assert find(tmp_path, "silk").licence == ("long " * 40)


def test_a_folder_with_an_accent_written_apart_is_found_by_either_name(tmp_path: Path) -> None:
    write_good(tmp_path / "cafe\u0301", 1)
    for name in ("caf\u00e9", "cafe\u0301"):
        texture = find(tmp_path, name)
        assert (texture.name, texture.root) == ("caf\u00e9", tmp_path / "cafe\u0301")


def test_the_licence_of_other_folders_is_unknown(tmp_path: Path) -> None:
    write_good(tmp_path / "silk", 1)
    write(tmp_path / "wood" / "a.png", drawn())
    assert find(tmp_path, "silk").licence == "unknown"
    assert find(tmp_path, "wood").licence == "unknown"


@pytest.mark.parametrize(("most", "bytes_", "used"), [(4, 2**31, 4), (1000, 5 * 40 * 170, 5)])
def test_of_very_many_pictures_some_are_used_evenly_over_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, bytes_: int, used: int
) -> None:
    for number in range(13):
        write(tmp_path / f"{number:02}.png", drawn(40, 170, seed=number))
    monkeypatch.setattr(textures, "FEW", 3)
    assert len(find(tmp_path, "x").pictures) == 13
    monkeypatch.setattr(textures, "MOST_PICTURES", most)
    monkeypatch.setattr(textures, "MOST_BYTES", bytes_)
    found = find(tmp_path, "x")
    names = [int(picture.name[:2]) for picture in found.pictures]
    assert (len(names), names[0], names[-1]) == (used, 0, 12)
    assert max(np.diff(names)) - min(np.diff(names)) <= 1
    assert found.fingerprint == find(tmp_path, "x").fingerprint
    _, notes = studied(found, split(found))
    assert f"has 13 good pictures; {used} of them are used" in " ".join(notes)


def test_of_few_large_pictures_all_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        write(tmp_path / f"{number}.png", drawn(40, 60, seed=number))
    monkeypatch.setattr(textures, "MOST_BYTES", 1)
    assert len(find(tmp_path, "x").pictures) == 4
