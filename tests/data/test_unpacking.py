"""TIFF files whose strips unpack to far more than their picture: refused before they do."""

from __future__ import annotations

import io
import lzma
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import tifffile
from PIL import Image

from zoo.data.images import as_pixels, stated_size
from zoo.errors import BadImageError


def tiff(compression: int, packed: bytes, *, strips: int = 1) -> bytes:
    """Return a grey TIFF of 64x64 pixels; all strips are the same packed bytes."""
    at, rows = 8 + 2 + 12 * 9 + 4, 64 // strips
    lists = (
        struct.pack(f"<{strips}I", *[at] * strips),
        struct.pack(f"<{strips}I", *[len(packed)] * strips),
    )
    offsets, counts = at + len(packed), at + len(packed) + len(lists[0])
    if strips == 1:
        offsets, counts = at, len(packed)
    entries = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, compression)]
    entries += [(262, 3, 1, 1), (273, 4, strips, offsets), (277, 3, 1, 1), (278, 4, 1, rows)]
    entries += [(279, 4, strips, counts)]
    table = b"".join(struct.pack("<HHII", *each) for each in entries)
    return b"II*\0" + struct.pack("<IH", 8, 9) + table + bytes(4) + packed + b"".join(lists)


PACKED: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "deflate": (8, zlib.compress),
    "old deflate": (32946, zlib.compress),
    "LZMA": (34925, lzma.compress),
    "PackBits": (32773, lambda content: b"\x81\0" * (-(-len(content) // 128))),
}


@pytest.mark.parametrize("name", PACKED)
def test_a_strip_that_unpacks_to_more_than_the_picture_is_refused(name: str) -> None:
    code, pack = PACKED[name]
    with pytest.raises(BadImageError, match="packed bytes unpack to more than its 64x64 pixels"):
        as_pixels(tiff(code, pack(bytes(2**20))))


@pytest.mark.parametrize("name", PACKED)
def test_a_strip_of_the_right_size_is_read(name: str) -> None:
    code, pack = PACKED[name]
    assert as_pixels(tiff(code, pack(bytes(64 * 64)))).shape == (64, 64, 1)


def test_strips_that_share_one_bomb_are_refused_at_the_first() -> None:
    bomb = tiff(8, zlib.compress(bytes(64 * 64 * 8)), strips=64)
    with pytest.raises(BadImageError, match="unpack to more than its 64x64 pixels"):
        as_pixels(bomb)
    assert as_pixels(tiff(8, zlib.compress(bytes(64)), strips=64)).shape == (64, 64, 1)


@pytest.mark.parametrize("tile", [(16, 16), (256, 256)])
def test_tiles_may_reach_beyond_the_picture(tile: tuple[int, int]) -> None:
    pixels = np.random.default_rng(3).integers(0, 65536, (70, 90, 3), np.uint16)
    disk = io.BytesIO()
    tifffile.imwrite(disk, pixels, tile=tile, compression="zlib", photometric="rgb")
    assert (as_pixels(disk.getvalue()) == pixels).all()
    assert stated_size(disk.getvalue()) == (70, 90)


def test_a_jpeg_of_a_thousand_scans_is_refused() -> None:
    disk = io.BytesIO()
    Image.new("L", (64, 64)).save(disk, "jpeg", progressive=True)
    content = disk.getvalue()
    assert as_pixels(content).shape == (64, 64, 1)
    start = content.rindex(b"\xff\xda")
    scan = content[start:-2]
    with pytest.raises(BadImageError, match="a JPEG of 10.. scans, and at most 200 are read"):
        as_pixels(content[:start] + scan * 1000 + content[-2:])


def test_a_tiff_of_thumbnails_without_an_end_is_given_up() -> None:
    disk = io.BytesIO()
    with tifffile.TiffWriter(disk) as writer:
        for _ in range(70):
            writer.write(np.zeros((8, 8), np.uint8), subfiletype=1, contiguous=False)
        writer.write(np.zeros((64, 64), np.uint8), contiguous=False)
    with pytest.raises(BadImageError, match="all of its pages are thumbnails"):
        as_pixels(disk.getvalue())
