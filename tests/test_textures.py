"""What a folder of pictures becomes, and what is said when it is none."""

from __future__ import annotations

import itertools
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import DTypeLike
from PIL import Image

from zoo import textures
from zoo.errors import BadImageError, BadMaskError, DataError, EmptyFolderError
from zoo.textures import (
    find,
    from_pil,
    has_test,
    read_image,
    read_test,
    same_source,
    split,
    to_mode,
    unit,
)

Writer = Callable[[Path, "np.ndarray"], None]


def drawn(height: int = 48, width: int = 64, *, seed: int = 0, channels: int = 1) -> np.ndarray:
    """Draw a woven texture, 8 bits, not square."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((height, width))
    weave = 120 + 60 * np.sin(y / 2) * np.cos(x / 3)
    return (weave[..., None] + rng.uniform(0, 60, (height, width, channels))).astype(np.uint8)


def drawn_deep(height: int = 12, width: int = 20, *, channels: int) -> np.ndarray:
    """Draw 16-bit noise whose low bytes differ from its high bytes."""
    rng = np.random.default_rng(7)
    return rng.integers(0, 65536, (height, width, channels)).astype(np.uint16)


def write(path: Path, pixels: np.ndarray) -> Path:
    """Write pixels with one channel or three, making the folders on the way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[..., ::-1])
    return path


def write_good(root: Path, count: int, height: int = 48, width: int = 64) -> Path:
    """Make the training half of an MVTec folder."""
    for number in range(count):
        write(root / "train" / "good" / f"{number:03}.png", drawn(height, width, seed=number))
    return root


def write_truncated(path: Path) -> Path:
    """Write the first half of a picture."""
    whole = write(path, drawn(seed=99)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def planar_tiff(pixels: np.ndarray) -> bytes:
    """Return a 16-bit colour TIFF whose channels lie one behind another."""
    height, width, _ = pixels.shape
    planes = [pixels[..., c].astype("<u2").tobytes() for c in range(3)]
    tags_at = 8 + 3 * len(planes[0])
    lists_at = tags_at + 2 + 10 * 12 + 4
    starts = [8 + number * len(planes[0]) for number in range(3)]
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, lists_at),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 3, lists_at + 6),
        (277, 3, 1, 3),
        (278, 4, 1, height),
        (279, 4, 3, lists_at + 18),
        (284, 3, 1, 2),
    ]
    tags = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    lists = struct.pack("<3H3I3I", 16, 16, 16, *starts, *[len(planes[0])] * 3)
    header = struct.pack("<2sHI", b"II", 42, tags_at)
    return header + b"".join(planes) + struct.pack("<H", 10) + tags + bytes(4) + lists


# Reading one picture


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("deep", [False, True])
def test_a_lossless_picture_reads_back_as_it_was_written(
    tmp_path: Path, suffix: str, channels: int, deep: bool
) -> None:
    pixels = drawn_deep(channels=channels) if deep else drawn(channels=channels)
    read = read_image(write(tmp_path / f"a{suffix}", pixels))
    assert read.dtype == pixels.dtype
    np.testing.assert_array_equal(read, pixels)


def test_a_big_endian_16_bit_tiff_reads_as_native_numbers(tmp_path: Path) -> None:
    pixels = drawn_deep(channels=1)[..., 0]
    path = tmp_path / "a.tif"
    Image.frombytes("I;16B", pixels.shape[::-1], pixels.astype(">u2").tobytes()).save(path)
    read = read_image(path)
    assert read.dtype == np.dtype(np.uint16)
    np.testing.assert_array_equal(read[..., 0], pixels)


def test_a_32_bit_integer_tiff_within_16_bits_reads_as_uint16(tmp_path: Path) -> None:
    values = np.array([[0, 65535, 3]], np.int32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[..., 0].tolist() == values.tolist()
    Image.fromarray(values + 1).save(tmp_path / "b.tif")
    with pytest.raises(
        BadImageError, match=r"b\.tif.*from 1 to 65536, and 16 bits hold 0 to 65535"
    ):
        read_image(tmp_path / "b.tif")


def test_colour_with_three_equal_channels_counts_as_grey(tmp_path: Path) -> None:
    grey = drawn()
    assert read_image(write(tmp_path / "a.png", np.repeat(grey, 3, axis=2))).shape == grey.shape
    deep = drawn_deep(channels=1)
    path = write(tmp_path / "b.png", np.repeat(deep, 3, axis=2))
    np.testing.assert_array_equal(read_image(path), deep)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_dropped_and_does_not_darken(tmp_path: Path, mode: str) -> None:
    colour = drawn(channels=len(mode) - 1)
    transparent = np.dstack([colour, np.zeros_like(colour[..., 0])])
    Image.fromarray(transparent, mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), colour)


def test_a_palette_is_expanded_to_its_colours(tmp_path: Path) -> None:
    indexed = Image.fromarray(drawn(channels=3)).quantize(16)
    kinds: dict[str, dict[str, Any]] = {
        "plain.png": {},
        "see_through.png": {"transparency": bytes(16)},
    }
    for name, options in kinds.items():
        indexed.save(tmp_path / name, **options)
        with Image.open(tmp_path / name) as image:
            assert image.mode == "P"
        np.testing.assert_array_equal(read_image(tmp_path / name), indexed.convert("RGB"))


def test_one_bit_becomes_0_and_255(tmp_path: Path) -> None:
    bits = np.array([[True, False, True]])
    Image.fromarray(bits).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[..., 0].tolist() == [[255, 0, 255]]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_a_picture_is_turned_upright_as_its_exif_says(tmp_path: Path, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held a quarter turn to the left
    pixels = drawn(height=16, width=24)
    Image.fromarray(pixels[..., 0]).save(tmp_path / name, exif=exif)
    upright = np.rot90(pixels, -1)
    read = read_image(tmp_path / name)
    assert read.shape == (24, 16, 1)
    assert np.abs(read.astype(int) - upright).max() <= (40 if name == "a.jpg" else 0)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_16_bit_picture_is_turned_upright_too(tmp_path: Path, channels: int) -> None:
    pixels = drawn_deep(channels=channels)
    data = write(tmp_path / "a.png", pixels).read_bytes()
    tag = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
    chunk = (
        struct.pack(">I", len(tag)) + b"eXIf" + tag + struct.pack(">I", zlib.crc32(b"eXIf" + tag))
    )
    start = data.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(data[:start] + chunk + data[start:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(pixels, -1))


def test_a_16_bit_grey_tiff_is_turned_upright_too(tmp_path: Path) -> None:
    pixels = drawn_deep(channels=1)
    image = Image.frombytes("I;16", pixels.shape[1::-1], pixels.tobytes())
    image.save(tmp_path / "a.tif", tiffinfo={0x0112: 6})
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), np.rot90(pixels, -1))


# A TIFF's directory comes last, and Pillow warns about its absence before it gives up.
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_truncated_picture_is_refused_with_its_path(
    tmp_path: Path, name: str, channels: int
) -> None:
    path = write(tmp_path / name, drawn(channels=channels))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(BadImageError, match=re.escape(f"{path} cannot be read")):
        read_image(path)


def test_a_truncated_picture_of_16_bit_colour_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", drawn_deep(channels=3))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(BadImageError, match=r"a\.png.*truncated"):
        read_image(path)


def test_a_float_picture_is_refused_with_what_to_save_instead(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 6), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(BadImageError, match=r"a\.tif.*32-bit float.*save it with 8 or 16 bits"):
        read_image(tmp_path / "a.tif")


def test_planar_16_bit_colour_is_refused_rather_than_read_wrongly(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(planar_tiff(drawn_deep(channels=3)))
    with pytest.raises(BadImageError, match=r"a\.tif.*separate planes"):
        read_image(tmp_path / "a.tif")


def test_a_missing_file_and_a_text_called_picture_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match=r"gone\.png.*No such file"):
        read_image(tmp_path / "gone.png")
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(BadImageError, match=r"text\.png.*no picture of 8 or 16 bits"):
        read_image(tmp_path / "text.png")


@pytest.mark.parametrize("name", ["grey.png", "colour.jpg", "deep.tif", "palette.png"])
def test_a_pillow_image_gives_the_pixels_that_its_file_gives(tmp_path: Path, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    images = {
        "grey.png": Image.fromarray(np.repeat(drawn(), 3, axis=2)),
        "colour.jpg": Image.fromarray(drawn(channels=3)),
        "deep.tif": Image.fromarray(drawn_deep(channels=1)[..., 0]),
        "palette.png": Image.fromarray(drawn(channels=3)).quantize(16),
    }
    options: dict[str, Any] = {"exif": exif} if name == "colour.jpg" else {}
    images[name].save(tmp_path / name, **options)
    with Image.open(tmp_path / name) as image:
        np.testing.assert_array_equal(from_pil(image), read_image(tmp_path / name))


def test_a_pillow_image_that_lost_bits_or_is_no_picture_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", drawn_deep(channels=3))
    with Image.open(path) as image, pytest.raises(BadImageError, match="8 of its 16 bits"):
        from_pil(image)
    with pytest.raises(BadImageError, match="32-bit float"):
        from_pil(Image.new("F", (3, 2)))
    path = write_truncated(tmp_path / "b.png")
    with Image.open(path) as image, pytest.raises(BadImageError, match="truncated"):
        from_pil(image)


# Numbers and modes


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_unit_maps_the_whole_range_of_a_type_onto_0_to_1(dtype: DTypeLike) -> None:
    ends = np.array([[[0], [np.iinfo(np.dtype(dtype)).max]]], dtype)
    assert unit(ends).dtype == np.float32
    assert unit(ends).ravel().tolist() == [0, 1]


def test_unit_refuses_other_types_by_name() -> None:
    with pytest.raises(BadImageError, match="not float64"):
        unit(np.zeros((2, 3, 1)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_to_colour_and_back_is_the_same_grey(dtype: DTypeLike) -> None:
    top = np.iinfo(np.dtype(dtype)).max
    grey = np.linspace(0, top, 256).astype(dtype).reshape(8, 32, 1)
    colour = to_mode(grey, "RGB")
    assert colour.shape == (8, 32, 3)
    np.testing.assert_array_equal(to_mode(colour, "L"), grey)


def test_colour_turns_grey_by_the_luma_that_pillow_uses() -> None:
    colour = drawn(channels=3)
    np.testing.assert_array_equal(
        to_mode(colour, "L")[..., 0], np.asarray(Image.fromarray(colour).convert("L"))
    )
    np.testing.assert_array_equal(to_mode(colour, "RGB"), colour)


def test_four_channels_are_refused_with_their_number() -> None:
    with pytest.raises(BadImageError, match="1 or 3 channels, not 4"):
        to_mode(np.zeros((2, 3, 4), np.uint8), "L")


# Finding a texture


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


def test_the_key_tells_types_and_shapes_apart() -> None:
    zeros = [np.zeros((2, 6, 1), np.uint8), np.zeros((6, 2, 1), np.uint8)]
    zeros += [np.zeros((2, 3, 1), np.uint16)]
    assert len({textures.content_key(pixels) for pixels in zeros}) == 3


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


def test_the_licence_is_the_argument_then_the_nearest_file_then_a_known_name(
    tmp_path: Path,
) -> None:
    root = write_good(tmp_path / "grid", 1)
    assert find(tmp_path, "grid").licence == "MVTec AD, CC BY-NC-SA 4.0 (assumed from the name)"
    (tmp_path / "LICENSE").write_text("\n  Of the parent\n")
    assert find(tmp_path, "grid").licence == "Of the parent"
    (root / "license.txt").write_text("\n# CC BY 4.0\nby somebody\n")
    assert find(tmp_path, "grid").licence == "CC BY 4.0"
    assert find(tmp_path, "grid", licence="mine").licence == "mine"


def test_the_licence_of_other_folders_is_unknown(tmp_path: Path) -> None:
    write_good(tmp_path / "silk", 1)
    write(tmp_path / "wood" / "a.png", drawn())
    assert find(tmp_path, "silk").licence == "unknown"
    assert find(tmp_path, "wood").licence == "unknown"


# Splits


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

    def keys(texture: textures.Texture, seed: int) -> list[list[str]]:
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


# Test images


@pytest.fixture
def audited(tmp_path: Path) -> Path:
    """Make an MVTec folder with one good and one defective test image."""
    write_good(tmp_path, 2)
    write(tmp_path / "test" / "good" / "000.png", drawn(seed=5))
    write(tmp_path / "test" / "hole" / "000.png", drawn(seed=6, channels=3))
    mask = np.zeros((48, 64, 1), np.uint8)
    mask[10:20, 30:35] = 1
    write(tmp_path / "ground_truth" / "hole" / "000_mask.png", mask)
    return tmp_path


def test_test_images_come_with_kind_and_mask_in_the_mode_of_the_texture(audited: Path) -> None:
    texture = find(audited, "x")
    assert has_test(texture)
    good, hole = read_test(texture)
    assert (good.name, good.kind) == ("test/good/000.png", "good")
    assert not good.mask.any()
    assert (hole.name, hole.kind) == ("test/hole/000.png", "hole")
    assert hole.pixels.shape == (48, 64, 1)
    assert hole.mask.sum() == 50
    assert hole.mask[10:20, 30:35].all()


def test_test_images_are_read_one_at_a_time(audited: Path) -> None:
    write_truncated(audited / "test" / "hole" / "000.png")
    pictures = read_test(find(audited, "x"))
    assert next(pictures).kind == "good"
    with pytest.raises(BadImageError, match=r"hole.000\.png"):
        next(pictures)


def test_has_test_looks_at_folder_names_only(tmp_path: Path) -> None:
    texture = find(write_good(tmp_path, 1), "x")
    assert not has_test(texture)
    (tmp_path / "test" / ".cache").mkdir(parents=True)
    assert not has_test(texture)
    (tmp_path / "test" / "hole").mkdir()
    assert has_test(texture)


def test_a_missing_mask_is_refused_with_both_paths(audited: Path) -> None:
    mask = audited / "ground_truth" / "hole" / "000_mask.png"
    mask.unlink()
    picture = audited / "test" / "hole" / "000.png"
    expected = re.escape(f"{picture} has no mask {mask}")
    with pytest.raises(BadMaskError, match=expected):
        list(read_test(find(audited, "x")))


def test_a_mask_of_another_size_is_refused_with_both_sizes_and_paths(audited: Path) -> None:
    mask = write(audited / "ground_truth" / "hole" / "000_mask.png", drawn(64, 48))
    with pytest.raises(BadMaskError) as caught:
        list(read_test(find(audited, "x")))
    message = str(caught.value)
    assert f"{audited / 'test' / 'hole' / '000.png'} is 48x64 pixels" in message
    assert f"{mask} is 64x48" in message


def test_a_damaged_mask_is_refused_with_its_path(audited: Path) -> None:
    mask = write_truncated(audited / "ground_truth" / "hole" / "000_mask.png")
    with pytest.raises(BadMaskError, match=re.escape(str(mask))):
        list(read_test(find(audited, "x")))


# Real pictures


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
    assert all(picture.mask.any() for picture in tests)
