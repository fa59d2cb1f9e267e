"""Refuses the packed parts of a TIFF that unpack to more than their picture has.

tifffile unpacks a strip or a tile as a whole, however large it gets. A strip of two megabytes can
unpack to two gigabytes in a picture of 64x64 pixels, so each is unpacked here up to its size first,
in small pieces that are dropped.
"""

from __future__ import annotations

import lzma
import math
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tifffile import TiffPage

PIECE = 2**18  # bytes that are unpacked at a time
LARGEST_SEGMENT = 2**24  # bytes of a tile beyond those of the picture
SLACK = 2**12  # bytes by which a strip may be longer; some writers fill it up
_PACKBITS = 32773
_NO_OP = 128  # of PackBits


def check_unpacked(page: TiffPage, data: bytes) -> None:
    """Refuse a page whose strips or tiles unpack to more bytes than they have pixels for.

    Args:
        page: The page.
        data: The file. Parts of it that are no packed data are for the decoder to refuse.

    Raises:
        ValueError: A part is larger.
    """
    unpacked = _UNPACKERS.get(int(page.compression))
    if unpacked is None:
        return
    item = max(1, int(page.bitspersample) // 8)
    of_picture = item * page.imagelength * page.imagewidth * page.samplesperpixel
    of_segment = item * math.prod(page.chunks)
    most = min(of_segment, of_picture + LARGEST_SEGMENT) + SLACK
    for start, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        total = 0
        for size in unpacked(data[start : start + count]):
            total += size
            if total > most:
                raise ValueError(
                    f"a TIFF whose {count} packed bytes unpack to more than its "
                    f"{page.imagelength}x{page.imagewidth} pixels"
                )


def _deflated(packed: bytes) -> Iterator[int]:
    unpacker = zlib.decompressobj()
    while packed and not unpacker.eof:
        try:
            yield len(unpacker.decompress(packed, PIECE))
        except zlib.error:
            return
        packed = unpacker.unconsumed_tail


def _lzma(packed: bytes) -> Iterator[int]:
    unpacker = lzma.LZMADecompressor(memlimit=2**28)
    try:
        yield len(unpacker.decompress(packed, PIECE))
        while not (unpacker.eof or unpacker.needs_input):
            yield len(unpacker.decompress(b"", PIECE))
    except lzma.LZMAError:
        return


def _packbits(packed: bytes) -> Iterator[int]:
    at = 0
    while at < len(packed):
        sign = packed[at]
        if sign < _NO_OP:
            at += sign + 2
            yield sign + 1
        elif sign > _NO_OP:
            at += 2
            yield 257 - sign
        else:
            at += 1


_UNPACKERS: dict[int, Callable[[bytes], Iterator[int]]] = {
    8: _deflated,
    32946: _deflated,
    50013: _deflated,
    34925: _lzma,
    _PACKBITS: _packbits,
}
