"""Files and arrays that may be pictures or not: damaged ones, and those whose headers lie."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import tifffile
from hypothesis import strategies as st
from PIL import Image

RNG = np.random.default_rng(0)
SIZES = (0, 1, 7, 9, 255, 4096, 30_000, 65_535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def damaged(content: bytes, changes: list[tuple[int, int]], cut: int) -> bytes:
    """Return a file with some bytes changed, and cut if it is longer."""
    made = bytearray(content)
    for at, value in changes:
        made[at % len(made)] = value
    return bytes(made[:cut] if cut < len(made) else made)


def _by_pillow(kind: str, *, mode: str = "RGB") -> bytes:
    disk = io.BytesIO()
    image = Image.fromarray(RNG.integers(0, 255, (9, 7, 3), np.uint8)).convert(mode)
    image.save(disk, kind)
    return disk.getvalue()


def _by_opencv(suffix: str, channels: int) -> bytes:
    done, content = cv2.imencode(suffix, RNG.integers(0, 65535, (40, 33, channels), np.uint16))
    assert done
    return bytes(content)


def _by_tifffile(array: np.ndarray, **options: Any) -> bytes:
    disk = io.BytesIO()
    tifffile.imwrite(disk, array, **options)
    return disk.getvalue()


SOUND = [
    *(_by_pillow(kind) for kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM")),
    _by_pillow("PNG", mode="P"),
    _by_pillow("JPEG", mode="CMYK"),
    _by_opencv(".png", 3),
    _by_opencv(".jp2", 1),
    _by_opencv(".pgm", 1),
    _by_tifffile(RNG.integers(0, 65535, (9, 7, 3), np.uint16), photometric="rgb", byteorder=">"),
    _by_tifffile(RNG.random((9, 7)).astype(np.float32), compression="zlib"),
    _by_tifffile(RNG.integers(0, 255, (32, 16), np.uint8), tile=(16, 16), bigtiff=True),
]
DAMAGED = st.builds(
    damaged,
    st.sampled_from(SOUND),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=6),
    st.integers(0, 4000),
)


def png(width: int, height: int, bits: int, kind: int, body: bytes) -> bytes:
    """Return a PNG whose checksums are right, whatever its header says."""
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(body)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(each)) + name + each + struct.pack(">I", zlib.crc32(name + each))
        for name, each in chunks
    )


def tiff(tags: dict[int, tuple[int, int, int]], body: bytes) -> bytes:
    """Return a TIFF with these tags: the kind, the count and the value of each, by number."""
    entries = b"".join(
        struct.pack("<HHII", tag, kind, count, value)
        for tag, (kind, count, value) in sorted(tags.items())
    )
    return struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + struct.pack(
        "<H", len(tags)
    ) + entries + bytes(4)  # fmt: skip


# Kind of the page, width, height, bits, compression, photometric, strip offsets, orientation,
# samples, rows of a strip, bytes of a strip, planes, predictor, tiles, more samples, sample format.
TAGS = (
    254,
    256,
    257,
    258,
    259,
    262,
    273,
    274,
    277,
    278,
    279,
    284,
    317,
    322,
    323,
    324,
    325,
    338,
    339,
)
SMALL = st.sampled_from((0, 1, 2, 3, 4, 5, 8, 12, 16, 32, 64)) | st.sampled_from(SIZES)
HONEST = {
    256: (4, 1, 7), 257: (4, 1, 9), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 8),
    277: (3, 1, 1), 278: (4, 1, 9), 279: (4, 1, 63),
}  # fmt: skip
LYING = st.builds(
    lambda changes, body: tiff(HONEST | changes, body),
    st.dictionaries(
        st.sampled_from(TAGS),
        st.tuples(st.sampled_from((1, 2, 3, 4, 5, 12, 16)), st.integers(0, 3), SMALL),
        max_size=4,
    ),
    st.just(bytes(range(64))) | st.binary(max_size=64),
)
FILES = (
    DAMAGED
    | st.builds(
        png,
        st.sampled_from(SIZES),
        st.sampled_from(SIZES),
        st.sampled_from((0, 1, 2, 4, 8, 16, 32)),
        st.integers(0, 7),
        st.binary(max_size=80) | st.just(bytes(2**16)),
    )
    | LYING
    | st.binary(max_size=80)
)


def _array(shape: list[int], dtype: str, low: float) -> np.ndarray:
    with np.errstate(all="ignore"):
        array = np.zeros(shape, dtype)
        if array.size and array.dtype.kind == "f":
            array.flat[0] = low
    return array


ARRAYS = st.builds(
    _array,
    st.lists(st.integers(0, 5), max_size=4),
    st.sampled_from(
        ["bool", "u1", "u2", "u4", "i1", "i8", "f2", "f4", "f8", "c8", "U3", "O", "M8[s]", ">u2"]
    ),
    st.floats(-2, 2) | st.sampled_from([float("nan"), float("inf")]),
)
