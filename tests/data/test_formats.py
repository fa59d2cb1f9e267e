"""The table of docs/pictures.md: each kind of file is read right, or refused with its reason.

The files are written by tifffile, OpenCV and imageio, or by hand, and the truth is what was given
to them, not what our readers make of it.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import imageio.v3
import numpy as np
import pytest
import tifffile
from PIL import Image

from zoo.data.images import as_pixels
from zoo.errors import BadImageError

HEIGHT, WIDTH = 24, 40
W = np.uint8(255)
RNG = np.random.default_rng(0)
Made = tuple[bytes, np.ndarray | str]  # a file, and its pixels or the reason why it is refused
TABLE: dict[str, Made] = {}


def values(dtype: str, channels: int = 1, *, top: int | None = None) -> np.ndarray:
    """Draw noise whose low bytes differ from its high bytes."""
    if np.dtype(dtype).kind == "f":
        drawn = RNG.random((HEIGHT, WIDTH, channels)).astype(dtype)
    else:
        most = int(np.iinfo(dtype).max) if top is None else top
        drawn = RNG.integers(0, most + 1, (HEIGHT, WIDTH, channels)).astype(dtype)
    return drawn[..., 0] if channels == 1 else drawn


def tiff(array: np.ndarray, **options: Any) -> bytes:
    """Write a TIFF by tifffile."""
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def by_opencv(suffix: str, array: np.ndarray, *options: int) -> bytes:
    """Write a file by OpenCV."""
    order = array[..., [2, 1, 0, 3][: array.shape[2]]] if array.ndim == 3 else array
    done, content = cv2.imencode(suffix, order, options)
    assert done
    return bytes(content)


def png(array: np.ndarray, *, bits: int, kind: int) -> bytes:
    """Write a PNG by hand. `kind` is its colour type."""
    height, width = array.shape[:2]
    samples = array.reshape(height, -1)
    if bits < 8:
        each = np.unpackbits(samples.astype(np.uint8)[..., None], axis=2)[..., 8 - bits :]
        rows = np.packbits(each.reshape(height, -1), axis=1)
    else:
        rows = samples.astype(f">u{bits // 8}").view(np.uint8)
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def upright(array: np.ndarray, tag: int) -> np.ndarray:
    """Turn as the tag says. Source: EXIF 2.3, table 4.6.4: where row 0 and column 0 are."""
    turned: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda x: x,
        2: np.fliplr,
        3: lambda x: np.rot90(x, 2),
        4: np.flipud,
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, -1),
        7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
        8: lambda x: np.rot90(x, 1),
    }
    return np.asarray(turned[tag](array))


def add(name: str, content: bytes, truth: np.ndarray | str) -> None:
    assert name not in TABLE
    TABLE[name] = content, truth


def tiffs_of(order: str) -> None:
    """Add the TIFFs of one order of bytes."""

    def one(
        name: str,
        array: np.ndarray,
        truth: Callable[[np.ndarray], np.ndarray] | str,
        **options: Any,
    ) -> None:
        add(
            f"TIFF {'little' if order == '<' else 'big'}-endian {name}",
            tiff(array, byteorder=order, **options),
            truth if isinstance(truth, str) else truth(array),
        )

    def same(x: np.ndarray) -> np.ndarray:
        return x

    def real(x: np.ndarray) -> np.ndarray:
        return np.asarray(np.rint(x.astype(np.float32) * np.float32(65535)), np.uint16)

    for kind in ("uint8", "uint16"):
        bits = 8 * np.dtype(kind).itemsize
        one(f"grey {bits}", values(kind), same, photometric="minisblack")
        one(f"grey {bits} deflated", values(kind), same, compression="zlib", predictor=2)
        one(f"grey {bits} white is 0", values(kind), lambda x: ~x, photometric="miniswhite")
        one(f"grey {bits} tiled", values(kind), same, tile=(16, 16))
        one(f"grey {bits} BigTIFF", values(kind), same, bigtiff=True)
        one(
            f"grey {bits} with alpha", values(kind, 2), lambda x: x[..., 0],
            photometric="minisblack", extrasamples=["unassalpha"],
        )  # fmt: skip
        one(f"RGB {bits}", values(kind, 3), same, photometric="rgb")
        one(f"RGB {bits} deflated", values(kind, 3), same, photometric="rgb", compression="zlib")
        one(
            f"RGB {bits} in planes", np.moveaxis(values(kind, 3), 2, 0).copy(),
            lambda x: np.moveaxis(x, 0, 2), photometric="rgb", planarconfig="separate",
        )  # fmt: skip
        one(
            f"RGB {bits} with alpha", values(kind, 4), lambda x: x[..., :3],
            photometric="rgb", extrasamples=["unassalpha"],
        )  # fmt: skip
        one(
            f"RGB {bits} with 3 more", values(kind, 6), "6 channels, and RGB has 3",
            photometric="rgb", extrasamples=["unspecified"] * 3,
        )  # fmt: skip
        one(f"CIELab {bits}", values(kind, 3), "colours of kind CIELAB", photometric="cielab")
        one(f"YCbCr {bits} unpacked", values(kind, 3), "colours of kind YCBCR", photometric="ycbcr")
        for tag in range(1, 9):
            for channels in (1, 3):
                one(
                    f"{bits}-bit of {channels} orientation {tag}", values(kind, channels),
                    lambda x, tag=tag: upright(x, tag),  # type: ignore[misc]
                    photometric="rgb" if channels == 3 else "minisblack",
                    extratags=[(274, "H", 1, tag, True)],
                )  # fmt: skip
    one(
        "RGB 16 times its alpha", values("uint16", 4), "16-bit colour multiplied by its alpha",
        photometric="rgb", extrasamples=["assocalpha"],
    )  # fmt: skip
    one("CMYK 16", values("uint16", 4), "16-bit colours of kind SEPARATED", photometric="separated")
    one(
        "CMYK 8", values("uint8", 4),
        lambda x: ((255 - x[..., :3].astype(int)) * (255 - x[..., 3:].astype(int)) / 255),
        photometric="separated",
    )  # fmt: skip
    table = RNG.integers(0, 256, (3, 256)).astype(np.uint16) * 257
    one(
        "palette 8", values("uint8"), lambda x: (table[:, x] >> 8).transpose(1, 2, 0).astype("u1"),
        photometric="palette", colormap=table,
    )  # fmt: skip
    black = RNG.random((HEIGHT, WIDTH)) > 0.5
    one("1 bit", black, lambda x: x.astype(np.uint8) * 255, photometric="minisblack")
    one("1 bit white is 0", black, lambda x: (~x).astype(np.uint8) * 255, photometric="miniswhite")
    for kind in ("float16", "float32", "float64"):
        one(f"{kind} in [0, 1]", values(kind), real)
        one(f"RGB {kind} in [0, 1]", values(kind, 3), real, photometric="rgb")
    one("float32 to 255", values("float32") * 255, "floats go from 0 to 1")
    one("float32 NaN", np.full((HEIGHT, WIDTH), np.nan, np.float32), "from nan to nan")
    one("complex", values("float32") + 1j, "no plain intensities")
    one("int8", values("int8"), "no plain intensities")
    for kind in ("int16", "uint32", "int32", "uint64"):
        one(f"{kind} within 16 bits", values(kind, top=32767), lambda x: x.astype(np.uint16))
        one(f"{kind} beyond", np.array([[1, -9]]).astype(kind), "and 16 bits hold 0 to 65535")


def of_few_bits(
    order: str,
    bits: int,
    pixels: np.ndarray,
    *,
    cut: int = 0,
    tags: Mapping[int, tuple[int, int]] | None = None,
) -> bytes:
    """Write a grey TIFF of 9 to 15 bits by hand, in two strips. `tags` are kind and value."""
    height, width = pixels.shape
    digits = (pixels[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    rows = [np.packbits(row.ravel()).tobytes() for row in digits]
    body = b"".join(rows)[: -cut or None]
    offsets = struct.pack(order + "II", 8, 8 + 16 * len(rows[0]))
    counts = struct.pack(order + "II", 16 * len(rows[0]), (height - 16) * len(rows[0]))
    at = 8 + len(body)
    known = {
        256: (4, width), 257: (4, height), 258: (3, bits), 259: (3, 1), 262: (3, 1), 273: (4, at),
        277: (3, 1), 278: (4, 16), 279: (4, at + 8),
    } | dict(tags or {})  # fmt: skip
    entries = b"".join(
        struct.pack(order + "HHI", tag, kind, 2 if tag in (273, 279) else 1)
        + struct.pack(order + ("HH" if kind == 3 else "I"), *([value, 0] if kind == 3 else [value]))
        for tag, (kind, value) in sorted(known.items())
    )
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, at + 16)
    table = struct.pack(order + "H", len(known)) + entries + bytes(4)
    return head + body + offsets + counts + table


def tiffs_of_few_bits(order: str) -> None:
    """Add the TIFFs of 9 to 15 bits of one order of bytes."""
    name = f"TIFF {'little' if order == '<' else 'big'}-endian grey"
    for bits in (10, 12, 14):
        drawn = values("uint16", top=2**bits - 1)[:, :39]  # a row ends within a byte
        truth = np.rint(drawn * (65535 / (2**bits - 1))).astype(np.uint16)
        add(f"{name} {bits}", of_few_bits(order, bits, drawn), truth)
    add(f"{name} 12 turned", of_few_bits(order, 12, drawn >> 2, tags={274: (3, 6)}),
        upright(np.rint((drawn >> 2) * (65535 / 4095)).astype(np.uint16), 6))  # fmt: skip
    small = drawn >> 2
    add(f"{name} 12 cut", of_few_bits(order, 12, small, cut=400), "cut short")
    refused = "12-bit pixels that are packed, in tiles, signed or with alpha"
    add(f"{name} 12 signed", of_few_bits(order, 12, small, tags={339: (3, 2)}), refused)
    add(f"{name} 12 packed", of_few_bits(order, 12, small, tags={259: (3, 8)}), refused)
    add(f"{name} 12 white is 0", of_few_bits(order, 12, small, tags={262: (3, 0)}),
        "12-bit pixels of kind MINISWHITE")  # fmt: skip


for each_order in "<>":
    tiffs_of(each_order)
    tiffs_of_few_bits(each_order)
add(
    "TIFF of a volume", tiff(values("uint8", 16)[..., :16], volumetric=True, tile=(8, 16, 16)),
    "a volume of 24 planes; save one picture a file",
)  # fmt: skip


def in_two_pages(first: dict[str, Any]) -> bytes:
    """Return a TIFF of a small page and the full one."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as pages:
        pages.write(np.zeros((6, 10), np.uint8), **first)
        pages.write(FULL)
    return file.getvalue()


FULL = values("uint8")
COLOUR = values("uint8", 3)
add("TIFF whose first page is a thumbnail", in_two_pages({"subfiletype": 1}), FULL)
add("TIFF of two pages", in_two_pages({}), np.zeros((6, 10), np.uint8))
for channels, suffix, with_alpha in ((1, ".pgm", 4), (3, ".ppm", 6)):
    for bits in (8, 16):
        name, kind = f"{'RGB' if channels == 3 else 'grey'} {bits}", f"uint{bits}"
        array = values(kind, channels)
        for packing, number in (("LZW", 5), ("PackBits", 32773)):
            packed = by_opencv(".tif", array, cv2.IMWRITE_TIFF_COMPRESSION, number)
            add(f"TIFF {name} by {packing}", packed, array)
        add(f"PNG {name}", by_opencv(".png", array), array)
        four = values(kind, channels + 1)
        opaque = four[..., :channels].squeeze()
        add(f"PNG {name} with alpha", png(four, bits=bits, kind=with_alpha), opaque)
        add(f"PPM {name}", by_opencv(suffix, array), array)
        large = np.tile(array, (4, 3, 1)[: array.ndim])
        exact = (cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000)
        add(f"JPEG 2000 {name}", by_opencv(".jp2", large, *exact), large)
    array = values("uint16", channels, top=4095)
    head = f"P{channels // 2 + 5}\n{WIDTH} {HEIGHT}\n4095\n".encode()
    stretched = np.rint(array * (65535 / 4095)).astype(np.uint16)
    add(f"PPM of {channels} channels of 12 bits", head + array.astype(">u2").tobytes(), stretched)
    array = values("uint8", channels)
    add(f"BMP of {channels} channels", by_opencv(".bmp", array), array)
for bits in (1, 2, 4):
    array = values("uint8", top=2**bits - 1)
    add(f"PNG grey {bits}", png(array, bits=bits, kind=0), array * np.uint8(255 // (2**bits - 1)))
add("WebP", imageio.v3.imwrite("<bytes>", COLOUR, extension=".webp", lossless=True), COLOUR)
add("GIF", imageio.v3.imwrite("<bytes>", FULL, extension=".gif"), FULL)


def by_pillow(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Write a file by Pillow."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


BLACK = RNG.random((HEIGHT, WIDTH)) > 0.5
CLEAR = Image.fromarray(np.dstack([COLOUR, values("uint8")]), "RGBA")
add("TIFF by CCITT", by_pillow(Image.fromarray(BLACK), "TIFF", compression="group4"), BLACK * W)
add("PBM", f"P4 {WIDTH} {HEIGHT}\n".encode() + np.packbits(~BLACK, axis=1).tobytes(), BLACK * W)
add("WebP with alpha", by_pillow(CLEAR, "WEBP", lossless=True, exact=True), COLOUR)
add("JPEG 2000 with alpha", by_pillow(CLEAR, "JPEG2000", irreversible=False), COLOUR)
add(
    "GIF of two pictures",
    by_pillow(Image.fromarray(FULL), "GIF", save_all=True, append_images=[Image.new("L", (9, 9))]),
    FULL,
)
add(
    "TIFF RGB 8 times its alpha",
    tiff(
        np.dstack([COLOUR // 2, np.full((HEIGHT, WIDTH), 128, np.uint8)]),
        photometric="rgb", extrasamples=["assocalpha"],
    ),
    np.clip(COLOUR // 2 * (255 / 128), 0, 255),
)  # fmt: skip
add("TIFF raw of a camera", tiff(values("uint16"), photometric="cfa"), "colours of kind CFA")
add(
    "TIFF palette 16",
    tiff(
        values("uint16"), photometric="palette",
        colormap=RNG.integers(0, 2**16, (3, 2**16)).astype(np.uint16),
    ),
    "16-bit colours of kind PALETTE",
)  # fmt: skip
for name, content, reason in (
    ("AVIF", b"\0\0\0\x18ftypavif" + bytes(99), "it is HEIC or AVIF; export it"),
    ("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is an SVG drawing"),
    ("gzip", b"\x1f\x8b\x08" + bytes(20), "it is packed by gzip"),
    ("Photoshop", b"8BPS\0\1" + bytes(30), "it is a Photoshop document"),
    ("nothing", b"", "it is empty"),
    ("a pointer of Git LFS", b"version https://git-lfs.github.com/spec/v1\noid sha256", "git lfs"),
    ("a web page", b"\n<!DOCTYPE html><html></html>", "it is a web page"),
    ("HEIC", b"\0\0\0\x18ftypheic" + bytes(99), "it is HEIC or AVIF; export it"),
    ("PDF", b"%PDF-1.7", "it is a PDF"),
    ("ZIP", b"PK\3\4" + bytes(50), "it is a ZIP"),
    ("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture of 8 or 16"),
):
    add(name, content, reason)


@pytest.mark.parametrize("name", TABLE)
def test_every_kind_of_file_is_read_as_it_was_written_or_refused_with_its_reason(name: str) -> None:
    content, truth = TABLE[name]
    if isinstance(truth, str):
        with pytest.raises(BadImageError, match=re.escape(truth)):
            as_pixels(content)
        return
    found = as_pixels(content)
    assert found.dtype == (np.uint8 if truth.dtype == np.float64 else truth.dtype)
    expected = truth if truth.ndim == 3 else truth[..., None]
    assert found.shape == expected.shape
    within = 1 if truth.dtype == np.float64 else 0  # a formula, not rounded
    assert np.abs(found.astype(np.float64) - expected).max() <= within


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("CMYK", "JPEG", {"quality": 100, "subsampling": 0}),
        ("YCbCr", "TIFF", {"compression": "jpeg", "quality": 100}),
        ("RGB", "JPEG", {"quality": 100, "subsampling": 0}),
    ],
)
def test_colour_that_a_jpeg_holds_is_that_of_its_picture(
    mode: str, kind: str, options: dict[str, Any]
) -> None:
    rows, columns = np.mgrid[0:48, 0:64] / 64
    ramp = np.uint8(255 * np.dstack([rows, columns, 1 - rows])).copy()
    image = Image.fromarray(ramp)
    if mode == "CMYK":
        ink = np.dstack([255 - ramp, np.zeros(ramp.shape[:2], np.uint8)])
        image = Image.frombytes("CMYK", image.size, ink.tobytes())
    found = as_pixels(by_pillow(image.convert(mode), kind, **options))
    assert np.abs(found.astype(int) - ramp).max() <= 6


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
@pytest.mark.parametrize("options", [{}, {"rowsperstrip": 5}, {"compression": "zlib"}], ids=str)
def test_a_tiff_that_is_cut_short_is_refused(kind: str, options: dict[str, Any]) -> None:
    content = tiff(values(kind, 3), photometric="rgb", **options)
    assert as_pixels(content).shape == (HEIGHT, WIDTH, 3)
    for share in (0.3, 0.8, 0.99):
        with pytest.raises(BadImageError, match="trunc"):
            as_pixels(content[: int(len(content) * share)])


def test_a_photograph_by_a_camera_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None], 48, axis=0)
    Image.fromarray(ramp).save(tmp_path / "a.jpg", exif=exif, quality=100)
    found = as_pixels(tmp_path / "a.jpg")[..., 0].astype(int)
    assert np.abs(found - np.rot90(ramp)).max() <= 3


def test_docs_list_every_format_that_is_read() -> None:
    from zoo.data.decoding import FORMATS

    page = (Path(__file__).parents[2] / "docs" / "pictures.md").read_text()
    assert [name for name in FORMATS if name.replace("JPEG2000", "JPEG 2000") not in page] == []
