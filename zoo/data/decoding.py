"""The bytes of a picture's file to pixels, or the reason why they are no picture that is read.

docs/pictures.md has the table of formats, depths and channels. Pillow decodes what has 8 bits. It
reduces deeper colour to 8 bits without a word, so OpenCV and tifffile decode that.
"""

from __future__ import annotations

import io
import logging
import struct
import zlib
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped
from PIL import Image, ImageFile, ImageOps

from zoo.data.unpacking import check_unpacked
from zoo.home import most_megapixels

if TYPE_CHECKING:
    from tifffile import TiffPage

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM", "JPEG2000", "GIF")  # as Pillow calls them

# What Pillow and its decoders raise on damaged files.
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
)
_TOLD = (  # what a file begins with, and what it is
    (b"version https://git-lfs", "it is a pointer of Git LFS; run `git lfs pull` for the picture"),
    (b"<!doctype html", "it is a web page; download the picture itself"),
    (b"<html", "it is a web page; download the picture itself"),
    (b"<svg", "it is an SVG drawing; export it as PNG"),
    (b"<?xml", "it is an XML text; export the picture as PNG"),
    (b"%pdf", "it is a PDF; export the picture as PNG"),
    (b"pk\3\4", "it is a ZIP archive; unpack it"),
    (b"\x1f\x8b", "it is packed by gzip; unpack it"),
    (b"8bps", "it is a Photoshop document; export it as PNG or TIFF"),
)
_HEIF = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis"}
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # TIFF tags
_WHITE_IS_0, _BLACK_IS_0, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6  # photometric
_JPEG_IN_TIFF = (6, 7)  # compression
AT_ONCE = 2**20  # pixels that are unpacked from single bits
_PREMULTIPLIED = 1  # kind of an extra sample
_NUMBERS = (
    "imagelength",
    "imagewidth",
    "imagedepth",
    "samplesperpixel",
    "sampleformat",
)  # of a page
_SIZ = b"\xff\x4f\xff\x51"  # the two first markers of JPEG 2000
_SCAN = b"\xff\xda"  # the marker of a scan of a JPEG
MOST_SCANS = 200  # of a JPEG; usual ones have up to fifteen, and each goes over all pixels
MOST_PAGES = 64  # of a TIFF that are looked at for one that is no thumbnail


def decoded(data: bytes) -> Shaped[np.ndarray, "h w c"]:
    """Decode all pixels of a file, upright, without alpha or palette.

    Raises:
        ValueError: It is no picture that is read, with the reason; or another of `UNREADABLE`.
    """
    if _is_tiff(data):
        return _tiff(data)
    image = _opened(data)
    if image.format == "JPEG2000" and (bits := _bits_of_jpeg_2000(data)) > 8:
        return _deep_jpeg_2000(data, image, bits)
    if is_deep_colour(image):
        top = _maxval(image) or 65535
        image.load()  # OpenCV does not tell where a file is cut short
        pixels = _deep_colour(data)
        return (pixels * (65535 / top)).round().clip(0, 65535).astype(np.uint16)
    image.load()
    return plain(ImageOps.exif_transpose(image))


def size_of(data: bytes) -> tuple[int, int]:
    """Return the height and width that the header of a file states, before it is turned upright.

    Raises:
        ValueError: As in `decoded`.
    """
    if not _is_tiff(data):
        image = _opened(data)
        return image.height, image.width
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            _, page = _first_full(file)
            return page.imagelength, page.imagewidth
    except (tifffile.TiffFileError, AttributeError, AssertionError) as error:
        raise ValueError(f"a damaged TIFF: {error}") from error


def is_deep_colour(image: ImageFile.ImageFile) -> bool:
    """Return whether an opened file holds colour of more than 8 bits; call it before `load`."""
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))
    is_deep = max(bits) > 8 or any(";16" in str(tile.args) for tile in image.tile)
    return (is_deep or _maxval(image) > 255) and image.mode in ("RGB", "RGBA", "RGBX", "CMYK")


def is_white_0(image: ImageFile.ImageFile) -> bool:
    """Return whether 0 is white in an opened TIFF of more than 8 bits, which Pillow passes over."""
    tags = getattr(image, "tag_v2", {})
    return tags.get(_PHOTOMETRIC) == _WHITE_IS_0 and image.mode not in ("1", "L")


def plain(image: Image.Image) -> Shaped[np.ndarray, "h w c"]:
    """Return an upright image of Pillow as grey or RGB, without alpha or palette.

    Raises:
        ValueError: Its values do not fit into 16 bits, or its colours are CIELab.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        return as_16_bits(np.asarray(image))[..., None]
    if image.mode == "LAB":
        raise ValueError("colours of CIELab; save it as RGB")
    if image.mode in ("1", "L", "LA", "La"):
        return np.array(image.convert("L"))[..., None]
    if image.mode in ("P", "PA"):  # converted straight to RGB, transparent palettes give warnings
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def as_16_bits(values: Shaped[np.ndarray, "*s"]) -> Shaped[np.ndarray, "*s"]:
    """Return floats from 0 to 1, or whole numbers from 0 to 65535, as uint16.

    Raises:
        ValueError: Some values lie outside.
    """
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if not 0 <= low <= high <= 1:
            raise ValueError(f"float values from {low} to {high}, and floats go from 0 to 1")
        return from_unit(values)
    if not 0 <= low <= high <= 65535:
        raise ValueError(f"grey values from {low} to {high}, and 16 bits hold 0 to 65535")
    return values.astype(np.uint16)


def from_unit(values: Shaped[np.ndarray, "*s"]) -> Shaped[np.ndarray, "*s"]:
    """Return floats from 0 to 1 as uint16."""
    return (values.astype(np.float32) * 65535).round().astype(np.uint16)


def check_size(height: int, width: int) -> None:
    """Refuse a picture before it is decoded if its header claims too many pixels.

    Raises:
        ValueError: It has more than `ZOO_MAX_MEGAPIXELS`, or none.
    """
    if min(height, width) < 1:
        raise ValueError(f"it has {height}x{width} pixels, which is none")
    most = most_megapixels()
    if height * width > most * 1e6:
        raise ValueError(
            f"it has {height}x{width} pixels, and at most {most:g} megapixels are read; cut it "
            "into pieces, or set ZOO_MAX_MEGAPIXELS"
        )


def _opened(data: bytes) -> ImageFile.ImageFile:
    """Open a file as `Image.open` does, in the formats that are read and with our limit of pixels.

    Pillow's own limit is a global variable, and some of its formats run other programs.
    """
    Image.init()
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is None or accept(data[:16]) is True:
            try:
                image = factory(io.BytesIO(data), "")
            except (SyntaxError, LookupError, TypeError, struct.error):
                continue
            check_size(image.height, image.width)
            if name == "JPEG" and (scans := data.count(_SCAN)) > MOST_SCANS:
                raise ValueError(f"a JPEG of {scans} scans, and at most {MOST_SCANS} are read")
            return image
    raise ValueError(_told(data))


def _told(data: bytes) -> str:
    """Return what a file is that is no picture that is read."""
    if not data:
        return "it is empty"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF:
        return "it is HEIC or AVIF; export it as PNG or JPEG"
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    known = (what for begin, what in _TOLD if start.startswith(begin))
    return next(known, "no picture of 8 or 16 bits, or damaged at its start")


def _maxval(image: ImageFile.ImageFile) -> int:
    """Return the largest value that a file of PPM states, if it is not 255; else 0."""
    args = image.tile[0].args if image.format == "PPM" and image.tile else None
    return int(args[-1]) if isinstance(args, tuple) else 0


def _deep_colour(data: bytes) -> Shaped[np.ndarray, "h w 3"]:
    """Decode 16-bit colour by OpenCV.

    Raises:
        ValueError: OpenCV cannot read it.
    """
    import cv2

    flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ValueError(f"16-bit colour that OpenCV cannot decode: {error}") from error
    if pixels is None or pixels.dtype != np.uint16:
        raise ValueError("16-bit colour that OpenCV cannot decode; save it as a plain PNG")
    return np.ascontiguousarray(pixels[..., ::-1])


def _bits_of_jpeg_2000(data: bytes) -> int:
    at = data.find(_SIZ)
    return (data[at + 42] & 0x7F) + 1 if 0 <= at < len(data) - 42 else 8


def _deep_jpeg_2000(data: bytes, image: Image.Image, bits: int) -> Shaped[np.ndarray, "h w c"]:
    if bits != 16 or image.mode not in ("RGB", "I;16"):
        raise ValueError(
            f"JPEG 2000 of {bits} bits and mode {image.mode}; save it as a 16-bit PNG or TIFF"
        )
    return _deep_colour(data) if image.mode == "RGB" else plain(image)


# ------------------------------------------------------------------------------------------- TIFF


def _is_tiff(data: bytes) -> bool:
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _tiff(data: bytes) -> Shaped[np.ndarray, "h w c"]:
    """Decode the first page of a TIFF that is no thumbnail.

    Raises:
        ValueError: It is damaged, or of a kind that is not read.
    """
    import tifffile

    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # errors are told by ours
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            number, page = _first_full(file)
            bits = _checked_bits(page)
            if 8 < bits < 16:
                return _stretched(page, data)
            deep = bits > 15
            values = _values(page, data) if deep or _is_plain(page) else None
    except (tifffile.TiffFileError, AttributeError, AssertionError) as error:
        raise ValueError(f"a damaged TIFF: {error}") from error
    if values is not None:
        return values
    image = _opened(data)
    image.seek(number)
    if deep:
        return _deep_by_others(data, image, page)
    image.load()
    return plain(ImageOps.exif_transpose(image))


def _first_full(file: Any) -> tuple[int, TiffPage]:
    """Return the first page that is neither a thumbnail nor a mask, and its number."""
    for number, page in enumerate(islice(file.pages, MOST_PAGES)):
        if not page.is_reduced and not page.is_mask:
            return number, page
    raise ValueError("all of its pages are thumbnails or masks")


def _checked_bits(page: TiffPage) -> int:
    """Return the bits of a sample, of a page whose kind is read.

    Raises:
        ValueError: With the reason, if it is not.
    """
    _check_numbers(page)
    check_size(page.imagelength, page.imagewidth)
    bits, colours = page.bitspersample, int(page.photometric)
    name = getattr(page.photometric, "name", str(colours))
    if not isinstance(bits, int):
        raise ValueError(f"channels of {bits} bits; save it with 8 or 16 bits a channel")
    if (page.sampleformat not in (1, 3) and bits <= 8) or page.sampleformat > 3:
        raise ValueError("numbers that are no plain intensities; save it with 8 or 16 bits")
    known = (_WHITE_IS_0, _BLACK_IS_0, _RGB, _PALETTE, _CMYK)
    if colours not in known and not (colours == _YCBCR and page.compression in _JPEG_IN_TIFF):
        raise ValueError(f"colours of kind {name}; save it as grey or RGB")
    if bits > 8 and colours in (_PALETTE, _CMYK):
        raise ValueError(f"{bits}-bit colours of kind {name}; save it as RGB")
    if 8 < bits < 16 and colours != _BLACK_IS_0:
        raise ValueError(f"{bits}-bit pixels of kind {name}; save it with 16 bits")
    if page.imagedepth > 1:
        raise ValueError(f"a volume of {page.imagedepth} planes; save one picture a file")
    own = {_RGB: 3, _YCBCR: 3, _CMYK: 4}.get(colours, 1)
    if not own <= page.samplesperpixel <= own + 1:
        raise ValueError(
            f"{page.samplesperpixel} channels, and {name} has {own} and perhaps one of alpha; save "
            "it as grey or RGB"
        )
    if bits > 8 and _PREMULTIPLIED in map(int, page.extrasamples):
        raise ValueError(f"{bits}-bit colour multiplied by its alpha; save it without alpha")
    return bits


def _check_numbers(page: TiffPage) -> None:
    for name in _NUMBERS:
        if not isinstance(getattr(page, name), int):
            raise ValueError(f"a damaged TIFF: its {name} is {getattr(page, name)!r:.40}")


def _is_plain(page: TiffPage) -> bool:
    """Return whether a page of 8 bits has neither a palette nor colour multiplied by alpha."""
    return (
        page.bitspersample == 8
        and int(page.photometric) in (_WHITE_IS_0, _BLACK_IS_0, _RGB)
        and _PREMULTIPLIED not in map(int, page.extrasamples)
    )


def _values(page: TiffPage, data: bytes) -> Shaped[np.ndarray, "h w c"] | None:
    """Return the pixels of a page of 8 or 16 bits or more; None if tifffile cannot unpack it.

    Args:
        page: The page; its file is open.
        data: The file.
    """
    ends = map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))
    # tifffile would take 0 for what is gone
    if not all(page.databytecounts) or max(ends) > len(data):
        raise ValueError("a TIFF that is cut short, or truncated")
    check_unpacked(page, data)
    try:
        values = page.asarray(maxworkers=1)
    except (ValueError, KeyError) as error:
        if "imagecodecs" not in str(error):
            raise
        return None
    if values.ndim == 3 and int(page.planarconfig) == 2:
        values = np.moveaxis(values, 0, 2)
    values = values if values.ndim == 3 else values[..., None]
    pixels = values[..., : 3 if int(page.photometric) == _RGB else 1]
    pixels = pixels if pixels.dtype == np.uint8 else as_16_bits(pixels)
    if int(page.photometric) == _WHITE_IS_0:
        pixels = ~pixels
    tag = page.tags.get(274)
    return _upright(pixels, int(tag.value) if tag else 1)


def _stretched(page: TiffPage, data: bytes) -> Shaped[np.ndarray, "h w 1"]:
    """Return grey pixels of 9 to 15 bits, which no decoder unpacks, stretched to 16 bits.

    Source: TIFF 6.0, page 29: the highest bit of a pixel first, in either order of bytes, and each
    row begins with a new byte.

    Raises:
        ValueError: They are compressed or in another order, or the file is cut short.
    """
    bits, height, width = page.bitspersample, page.imagelength, page.imagewidth
    plain_order = page.compression == 1 and not page.is_tiled and page.fillorder == 1
    if not plain_order or page.samplesperpixel > 1 or page.sampleformat != 1:
        raise ValueError(
            f"{bits}-bit pixels that are packed, in tiles, signed or with alpha; save it with 16 "
            "bits"
        )
    row = -(-width * bits // 8)
    packed = bytearray()
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        packed += data[offset : offset + min(count, height * row - len(packed))]
    if len(packed) < height * row:
        raise ValueError("a TIFF that is cut short, or truncated")
    lines = np.frombuffer(packed, np.uint8).reshape(height, row)
    pixels = np.empty((height, width), np.uint16)
    ones = 1 << np.arange(bits - 1, -1, -1, dtype=np.uint16)
    at_once = max(1, AT_ONCE // width)
    for top in range(0, height, at_once):
        digits = np.unpackbits(lines[top : top + at_once], axis=1, count=width * bits)
        values = digits.reshape(-1, width, bits) @ ones
        pixels[top : top + at_once] = (values * (65535 / ones.sum())).round()
    tag = page.tags.get(274)
    return _upright(pixels[..., None], int(tag.value) if tag else 1)


def _upright(pixels: Shaped[np.ndarray, "_ _ c"], orientation: int) -> Shaped[np.ndarray, "h w c"]:
    """Turn and mirror a picture as the tag of its orientation says. Source: TIFF 6.0, page 36."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _deep_by_others(
    data: bytes, image: ImageFile.ImageFile, page: TiffPage
) -> Shaped[np.ndarray, "h w c"]:
    """Decode deep pixels in a compression that tifffile does not have, where that is right.

    Raises:
        ValueError: Neither Pillow nor OpenCV reads them as they are.
    """
    packing = getattr(page.compression, "name", page.compression)
    colours, alone = int(page.photometric), image.tell() == 0 and page.samplesperpixel in (1, 3)
    if not alone or colours == _WHITE_IS_0 or int(page.planarconfig) == 2:
        raise ValueError(f"pixels packed by {packing} in an unusual order; save it unpacked")
    image.load()
    return _deep_colour(data) if colours == _RGB else plain(ImageOps.exif_transpose(image))
