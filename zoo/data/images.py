"""One picture: files, arrays and tensors to pixels `h w c` of type uint8 or uint16.

It does not import torch, which is slow to start, so folders of pictures are read without it.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from zoo.errors import BadImageError

if TYPE_CHECKING:
    from torch import Tensor

    ImageLike = str | Path | bytes | bytearray | memoryview | Image.Image | np.ndarray | Tensor

Mode = Literal["L", "RGB"]
Tables = tuple[tuple[int, ...], ...]  # of quantisation of a JPEG file: brightness, then colour

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")

LUMA = (19595, 38470, 7471)  # weights of red, green and blue in grey, in units of 1/65536

# What Pillow and its decoders raise on damaged files.
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_BITS_PER_SAMPLE, _PLANAR_CONFIGURATION = 258, 284  # TIFF tags


def is_picture(path: Path) -> bool:
    """Return whether a path is a file that a picture is read from, and not hidden."""
    suffixed = path.suffix.lower() in SUFFIXES
    return suffixed and not path.name.startswith(".") and path.is_file()


def picture_paths(folder: Path) -> list[Path]:
    """List the pictures in a folder, sorted, without hidden files."""
    return sorted(filter(is_picture, folder.iterdir()))


def _is_deep_colour(image: ImageFile.ImageFile) -> bool:
    """Return whether an opened file holds colour of more than 8 bits; call it before `load`."""
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))
    is_deep = max(bits) > 8 or any(";16" in str(tile.args) for tile in image.tile)
    return is_deep and image.mode.startswith("RGB")


def _deep_colour(data: bytes, planar: bool) -> Shaped[np.ndarray, "h w 3"]:
    """Decode 16-bit colour, which Pillow 13 reduces to 8 bits.

    Raises:
        ValueError: OpenCV cannot read it, or is known to read it wrongly.
    """
    import cv2

    if planar:  # OpenCV 5 mixes up the channels of such files
        raise ValueError("16-bit colour in separate planes; save it with interleaved channels")
    flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ValueError(f"16-bit colour that OpenCV cannot decode: {error}") from error
    if pixels is None or pixels.dtype != np.uint16:
        raise ValueError("16-bit colour that OpenCV cannot decode; save it as a plain PNG")
    return np.ascontiguousarray(pixels[..., ::-1])


def _plain(image: Image.Image) -> Shaped[np.ndarray, "h w c"]:
    """Return an upright image as grey or RGB, without alpha or palette.

    Raises:
        ValueError: Its values do not fit into 16 bits.
    """
    if image.mode == "F":
        raise ValueError("32-bit float values; save it with 8 or 16 bits a channel")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise ValueError(f"grey values from {low} to {high}, and 16 bits hold 0 to 65535")
        return values.astype(np.uint16)[..., None]
    if image.mode in ("1", "L", "LA"):
        return np.array(image.convert("L"))[..., None]
    if image.mode in ("P", "PA"):  # converted straight to RGB, transparent palettes give warnings
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def has_colour(pixels: Shaped[np.ndarray, "h w c"]) -> bool:
    """Return whether the channels of any pixel differ."""
    return pixels.shape[2] > 1 and bool((pixels != pixels[..., :1]).any())


def _without_equal_channels(pixels: Shaped[np.ndarray, "h w c"]) -> Shaped[np.ndarray, "h w k"]:
    """Keep one channel where all three are equal."""
    return pixels if has_colour(pixels) else np.ascontiguousarray(pixels[..., :1])


def _decoded(data: bytes) -> Shaped[np.ndarray, "h w c"]:
    """Decode all pixels of a file; three equal channels become one."""
    try:
        # From memory, because Pillow 13 garbles rotated grey TIFFs that it maps from disk.
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise ValueError("no picture of 8 or 16 bits, or damaged at its start") from error
    deep = _is_deep_colour(image)
    planar = getattr(image, "tag_v2", {}).get(_PLANAR_CONFIGURATION) == 2
    image.load()
    pixels = _deep_colour(data, planar) if deep else _plain(ImageOps.exif_transpose(image))
    return _without_equal_channels(pixels)


def read_image(path: Path) -> Shaped[np.ndarray, "h w c"]:
    """Read one picture upright, as uint8 or uint16 with one channel or three.

    A colour picture whose channels are all equal is returned with one channel. Alpha is dropped,
    a palette is expanded, 1 bit becomes 0 or 255, and of several pages the first is read.

    Args:
        path: A file in one of the formats of `SUFFIXES`.

    Raises:
        BadImageError: The file is missing, damaged or cut short, or its values do not fit into
            16 bits. Its `__cause__` is the decoder's error.
    """
    try:
        return _decoded(path.read_bytes())
    except _UNREADABLE as error:
        raise BadImageError(
            f"{path} cannot be read as a picture: {error}. Remove it or replace it."
        ) from error


def jpeg_tables(path: Path) -> Tables | None:
    """Return the quantisation tables of a JPEG file, without decoding it; None for other files."""
    try:
        with Image.open(path) as image:
            tables = getattr(image, "quantization", None) if image.format == "JPEG" else None
    except _UNREADABLE:
        return None
    return tuple(tuple(table) for _, table in sorted(tables.items())) if tables else None


def _from_bytes(content: bytes) -> Shaped[np.ndarray, "h w c"]:
    try:
        return _decoded(content)
    except _UNREADABLE as error:
        raise BadImageError(
            f"These {len(content)} bytes cannot be read as a picture: {error}. Pass a whole file."
        ) from error


def _from_pil(image: Image.Image) -> Shaped[np.ndarray, "h w c"]:
    try:
        if isinstance(image, ImageFile.ImageFile) and _is_deep_colour(image):
            raise ValueError("Pillow keeps 8 of its 16 bits of colour; give the path instead")
        return _without_equal_channels(_plain(ImageOps.exif_transpose(image)))
    except _UNREADABLE as error:
        raise BadImageError(f"The Pillow image cannot be used: {error}.") from error


def _integers(array: Shaped[np.ndarray, "h w c"]) -> Shaped[np.ndarray, "h w c"]:
    if array.dtype in (np.uint8, np.uint16):
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    if not np.issubdtype(array.dtype, np.floating):
        raise BadImageError(
            f"Pixels are uint8, uint16 or floats in [0, 1], not {array.dtype}. Convert them."
        )
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):
        raise BadImageError(
            f"Float pixels must lie in [0, 1]; these lie in [{low:g}, {high:g}]. Rescale them, or "
            "pass bytes."
        )
    return (array.astype(np.float32) * 65535).round().astype(np.uint16)


def as_pixels(image: ImageLike) -> Shaped[np.ndarray, "h w c"]:
    """Convert one image of any supported kind to `h w c` pixels, uint8 or uint16.

    Files, bytes and Pillow images follow the rules of `read_image`. Arrays are `h w` or `h w c`,
    tensors `h w` or `c h w`. Floats in [0, 1] become uint16, booleans 0 and 255.

    Raises:
        BadImageError: The shape, type or range is wrong, or the file cannot be read.
    """
    if isinstance(image, str) and "://" in image:
        raise BadImageError(
            f"'{image}' is an address, and nothing is downloaded here. Pass a path, or the bytes "
            "of the file."
        )
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return _from_bytes(bytes(image))
    if isinstance(image, Image.Image):
        return _from_pil(image)
    if isinstance(image, np.ndarray):
        array = image
    elif hasattr(image, "detach"):  # a tensor
        # NumPy has no bfloat16, and 16-bit floats would overflow below.
        wide = image.float() if image.is_floating_point() else image
        array = wide.detach().cpu().numpy()
        array = np.moveaxis(array, 0, 2) if array.ndim == 3 else array
    else:
        raise BadImageError(
            "An image is a path, the bytes of a file, a PIL image, an array or a tensor, not "
            f"{type(image).__name__}."
        )
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3) or 0 in array.shape:
        raise BadImageError(
            f"An image is grey (h w) or has 1 or 3 channels (arrays h w c, tensors c h w); this "
            f"one has shape {tuple(image.shape)}. Reorder its axes or drop what is not colour."
        )
    return _integers(array)


def unit(pixels: Shaped[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w c"]:
    """Scale uint8 or uint16 to float32 from 0 to 1.

    Raises:
        BadImageError: The pixels are of another type.

    Example:
        >>> unit(np.array([[[0], [65535]]], np.uint16)).ravel().tolist()
        [0.0, 1.0]
    """
    if pixels.dtype not in (np.uint8, np.uint16):
        raise BadImageError(f"Pixels are uint8 or uint16, not {pixels.dtype}. Convert them first.")
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def to_mode(pixels: Shaped[np.ndarray, "h w c"], mode: Mode) -> Shaped[np.ndarray, "h w k"]:
    """Convert pixels to grey or RGB, keeping their type; equal channels give that same grey.

    Source: ITU-R BT.601, luma 0.299 R + 0.587 G + 0.114 B, in 16-bit fixed point as in Pillow.

    Raises:
        BadImageError: The number of channels is not 1 or 3.

    Example:
        >>> to_mode(np.array([[[255, 0, 0]]], np.uint8), "L").tolist()
        [[[76]]]
    """
    channels = pixels.shape[2]
    if channels not in (1, 3):
        raise BadImageError(f"A picture has 1 or 3 channels, not {channels}. Drop the others.")
    if mode == "RGB":
        return pixels if channels == 3 else np.repeat(pixels, 3, axis=2)
    if channels == 1:
        return pixels
    weighted = pixels.astype(np.uint32) @ np.array(LUMA, np.uint32)
    return ((weighted + 0x8000) >> 16).astype(pixels.dtype)[..., None]


def to_rgb8(pixels: Shaped[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w 3"]:
    """Convert pixels to RGB of 8 bits, for display."""
    return (unit(to_mode(pixels, "RGB")) * 255).round().astype(np.uint8)


def content_key(pixels: Shaped[np.ndarray, "h w c"]) -> str:
    """Return the SHA-256 of an image's type, shape and pixels, in hexadecimal."""
    digest = hashlib.sha256(f"{pixels.dtype} {pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()
