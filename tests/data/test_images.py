"""Files, arrays and Pillow images to pixels; their types and modes."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike
from PIL import Image

from tests.data.pictures_written import drawn, drawn_deep, write, write_truncated
from zoo.data.images import as_pixels, content_key, read_image, to_mode, unit
from zoo.errors import BadImageError

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


def test_a_float_picture_is_read_from_0_to_1_and_refused_beyond(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 0.5, 1]], np.float32)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[..., 0].tolist() == [[0, 32768, 65535]]
    Image.fromarray(np.array([[0, 255]], np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(BadImageError, match=r"b\.tif.*float values from 0.0 to 255.0, and floats"):
        read_image(tmp_path / "b.tif")


def test_a_missing_file_and_a_text_called_picture_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match=r"gone\.png cannot be opened: No such file"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(BadImageError, match="cannot be opened: embedded null byte. Correct the"):
        as_pixels("a\0b.png")
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
        np.testing.assert_array_equal(as_pixels(image), read_image(tmp_path / name))


def test_a_pillow_image_that_lost_bits_or_is_no_picture_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", drawn_deep(channels=3))
    with Image.open(path) as image, pytest.raises(BadImageError, match="8 of its 16 bits"):
        as_pixels(image)
    with pytest.raises(BadImageError, match="float values from 7.0 to 7.0"):
        as_pixels(Image.new("F", (3, 2), 7.0))
    path = write_truncated(tmp_path / "b.png")
    with Image.open(path) as image, pytest.raises(BadImageError, match="truncated"):
        as_pixels(image)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_bytes_that_are_no_picture_are_refused_with_their_number(content: bytes) -> None:
    with pytest.raises(BadImageError, match=f"These {len(content)} bytes cannot be read as a pict"):
        as_pixels(content)


def test_an_address_is_refused_and_not_downloaded() -> None:
    with pytest.raises(BadImageError, match="'http://host/a.png' is an address"):
        as_pixels("http://host/a.png")


@pytest.mark.parametrize("image", [None, 3, {"a": 1}])
def test_what_is_no_image_is_refused_by_its_type(image: Any) -> None:
    with pytest.raises(BadImageError, match=f"not {type(image).__name__}"):
        as_pixels(image)


def test_true_and_false_are_white_and_black() -> None:
    assert as_pixels(np.array([[True, False]])).tolist() == [[[255], [0]]]


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


def test_keys_differ_between_types_and_shapes() -> None:
    zeros = [np.zeros((2, 6, 1), np.uint8), np.zeros((6, 2, 1), np.uint8)]
    zeros += [np.zeros((2, 3, 1), np.uint16)]
    assert len({content_key(pixels) for pixels in zeros}) == 3
