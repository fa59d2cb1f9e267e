"""One picture: files, arrays and tensors to pixels `h w c` of type uint8 or uint16.

It does not import torch, which is slow to start, so folders of pictures are read without it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image, ImageFile, ImageOps

from zoo.data.decoding import (
    UNREADABLE,
    decoded,
    from_unit,
    is_deep_colour,
    is_white_0,
    plain,
    size_of,
)
from zoo.errors import BadImageError, one_line
from zoo.files import check_regular, read_regular
from zoo.home import most_megapixels

if TYPE_CHECKING:
    from torch import Tensor

    Bytes = bytes | bytearray | memoryview | IO[bytes]
    ImageLike = str | os.PathLike[str] | Bytes | Image.Image | np.ndarray | Tensor

Mode = Literal["L", "RGB"]
Tables = tuple[tuple[int, ...], ...]  # of quantisation of a JPEG file: brightness, then colour

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")

LUMA = (19595, 38470, 7471)  # weights of red, green and blue in grey, in units of 1/65536


def is_picture(path: Path) -> bool:
    """Return whether a path is a file that a picture is read from, and not hidden."""
    suffixed = path.suffix.lower() in SUFFIXES
    return suffixed and not path.name.startswith(".") and path.is_file()


def picture_paths(folder: Path) -> list[Path]:
    """List the pictures in a folder, sorted, without hidden files."""
    return sorted(filter(is_picture, folder.iterdir()))


def has_colour(pixels: Shaped[np.ndarray, "h w c"]) -> bool:
    """Return whether the channels of any pixel differ."""
    return pixels.shape[2] > 1 and bool((pixels != pixels[..., :1]).any())


def _without_equal_channels(pixels: Shaped[np.ndarray, "h w c"]) -> Shaped[np.ndarray, "h w k"]:
    """Keep one channel where all three are equal."""
    return pixels if has_colour(pixels) else np.ascontiguousarray(pixels[..., :1])


def content_of(path: Path) -> bytes:
    """Return the bytes of the file of a picture.

    Raises:
        BadImageError: It is missing, is no regular file, or is larger than a picture may be.
    """
    try:
        return read_regular(path, most=most_bytes())
    except (OSError, ValueError) as error:  # a ValueError if the path has a null character
        reason = getattr(error, "strerror", None) or error
        raise BadImageError(
            f"{path} cannot be opened: {reason}. Correct the path, or the file."
        ) from error


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
    data = content_of(path)
    try:
        return _without_equal_channels(decoded(data))
    except UNREADABLE as error:
        raise BadImageError(
            f"{path} cannot be read as a picture: {_reason(error)}. Remove it or replace it."
        ) from error


def most_bytes() -> int:
    """Return how large the file of a picture may be: four bytes for each pixel that it may have."""
    return round(4e6 * most_megapixels())


def _reason(error: BaseException) -> str:
    return "there is not enough memory for it" if isinstance(error, MemoryError) else str(error)


def jpeg_tables(path: Path) -> Tables | None:
    """Return the quantisation tables of a JPEG file, without decoding it; None for other files."""
    try:
        check_regular(path, most=most_bytes())
        with Image.open(path) as image:
            tables = getattr(image, "quantization", None) if image.format == "JPEG" else None
    except (*UNREADABLE, Image.DecompressionBombError):
        return None
    return tuple(tuple(table) for _, table in sorted(tables.items())) if tables else None


def stated_size(content: bytes) -> tuple[int, int]:
    """Return the height and width that the header of a picture's file states; nothing is decoded.

    Raises:
        BadImageError: The content does not begin as a picture that is read.
    """
    try:
        return size_of(content)
    except UNREADABLE as error:
        raise _no_picture(content, error) from error


def _from_bytes(content: bytes) -> Shaped[np.ndarray, "h w c"]:
    try:
        return _without_equal_channels(decoded(content))
    except UNREADABLE as error:
        raise _no_picture(content, error) from error


def _no_picture(content: bytes, error: BaseException) -> BadImageError:
    return BadImageError(
        f"These {len(content)} bytes cannot be read as a picture: {_reason(error)}. "
        "Pass a whole file."
    )


def _from_pil(image: Image.Image) -> Shaped[np.ndarray, "h w c"]:
    try:
        if isinstance(image, ImageFile.ImageFile) and is_deep_colour(image):
            raise ValueError("Pillow keeps 8 of its 16 bits of colour; give the path instead")
        if isinstance(image, ImageFile.ImageFile) and is_white_0(image):
            raise ValueError("in its file 0 is white, and Pillow does not say so; give the path")
        return _without_equal_channels(plain(ImageOps.exif_transpose(image)))
    except UNREADABLE as error:
        raise BadImageError(f"The Pillow image cannot be used: {error}.") from error


def _from_file(file: Any) -> Shaped[np.ndarray, "h w c"]:
    most = most_bytes()
    try:
        content = file.read(most + 1) if file.readable() else b""
    except (OSError, ValueError) as error:
        raise BadImageError(
            f"The file object cannot be read: {error}. Pass one that is open."
        ) from error
    if not isinstance(content, bytes) or len(content) > most:
        raise BadImageError(
            "A file object must be open for reading bytes ('rb'), and give at most "
            f"{most / 1e6:.0f} MB. Open it so, or pass its path."
        )
    return _from_bytes(content)


def _from_tensor(tensor: Any) -> np.ndarray:
    try:
        # NumPy has no bfloat16, and 16-bit floats would overflow below.
        wide = tensor.float() if tensor.is_floating_point() else tensor
        array: np.ndarray = wide.detach().cpu().resolve_conj().resolve_neg().numpy()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise BadImageError(
            f"The tensor ({tensor.layout}, on {tensor.device}) has no pixels to take: "
            f"{one_line(error)[:80]}. Pass a dense tensor with data."
        ) from error
    return np.moveaxis(array, 0, 2) if array.ndim == 3 else array


def _without_mask(array: np.ma.MaskedArray) -> np.ndarray:
    if np.ma.is_masked(array):
        raise BadImageError(
            f"A masked array whose mask hides {int(np.sum(array.mask))} values is no picture; a "
            "map has a value for each pixel. Fill them (`array.filled(...)`), or cut them off."
        )
    return np.asarray(array.data)


def _integers(array: Shaped[np.ndarray, "h w c"]) -> Shaped[np.ndarray, "h w c"]:
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind != "f":
        raise BadImageError(
            f"Pixels are uint8, uint16 or floats in [0, 1], not {array.dtype}. Convert them."
        )
    low, high = float(array.min()), float(array.max())
    if not 0 <= low <= high <= 1:
        raise BadImageError(
            f"Float pixels must lie in [0, 1]; these lie in [{low:g}, {high:g}]. Rescale them (by "
            "1/255 if they are of 8 bits), or pass uint8."
        )
    return from_unit(array)


def as_pixels(image: ImageLike) -> Shaped[np.ndarray, "h w c"]:
    """Convert one image of any supported kind to `h w c` pixels, uint8 or uint16.

    Files, bytes and Pillow images follow the rules of `read_image`; a file object is read from
    where it stands. Arrays are `h w` or `h w c`, tensors `h w` or `c h w`, in any order of bytes
    and in memory. Floats in [0, 1] become uint16, booleans 0 and 255.

    Raises:
        BadImageError: The shape, type or range is wrong, or the file cannot be read.
    """
    if isinstance(image, str) and "://" in image:
        raise BadImageError(
            f"'{image}' is an address, and nothing is downloaded here. Pass a path, or the bytes "
            "of the file."
        )
    if isinstance(image, str | os.PathLike):
        return read_image(Path(os.fsdecode(image)))
    if isinstance(image, bytes | bytearray | memoryview):
        return _from_bytes(bytes(image))
    if isinstance(image, Image.Image):
        return _from_pil(image)
    if isinstance(image, np.ma.MaskedArray):
        array = _without_mask(image)
    elif isinstance(image, np.ndarray):
        array = np.asarray(image)
    elif hasattr(image, "read") and hasattr(image, "readable"):
        return _from_file(image)
    elif hasattr(image, "detach"):
        array = _from_tensor(image)
    else:
        raise BadImageError(
            "An image is a path, the bytes of a file, a file object, a PIL image, an array or a "
            f"tensor, not {type(image).__name__}. Convert it, such as by numpy.asarray."
        )
    shape = tuple(getattr(image, "shape", ()))  # of a tensor with the channels first
    return _integers(_channels_last(array, shape))


def _channels_last(
    array: Shaped[np.ndarray, "..."], shape: tuple[int, ...]
) -> Shaped[np.ndarray, "h w c"]:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3) or 0 in array.shape:
        raise BadImageError(
            f"An image is grey (h w) or has 1 or 3 channels (arrays h w c, tensors c h w); this "
            f"one has shape {shape} and type {array.dtype}. Reorder its axes or drop what is not "
            "colour."
        )
    return array


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
