"""Small pictures in a page, as JPEG within the page, of a bounded size together."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from markupsafe import Markup
from PIL import Image

from zoo.files import read_regular, writing
from zoo.report.overlays import GAP

SIDE = 320  # pixels; longest side of a picture in a page
QUALITY = 82  # of JPEG; text and outlines stay sharp
MOST_BYTES = 5_000_000  # of all pictures of a page, as they are in it
MOST_FILE = 2**21  # bytes of a stored picture; ours have some thirty thousand
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, kw_only=True)
class Shot:
    """A picture with what is said of it.

    Attributes:
        content: The bytes of a JPEG or PNG file.
        title: What it shows, in a few words.
        says: What the detector says of it.
        tone: Whether that is right: `good`, `bad`, or empty.
    """

    content: bytes
    title: str
    says: str
    tone: str = ""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A picture as it is placed in a page.

    Attributes:
        shot: The picture.
        address: Its content as an address.
        width: Pixels.
        height: Pixels.
    """

    shot: Shot
    address: Markup
    width: int
    height: int


class Pictures:
    """The pictures of one page; those that do not fit into its budget are left out and counted."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        """Begin a page whose pictures may have so many bytes."""
        self.left = most
        self.left_out = 0

    def place(self, shots: Sequence[Shot]) -> list[Placed]:
        """Return the pictures that fit, in their order; what is no picture is left out too."""
        return [placed for shot in shots if (placed := self._placed(shot))]

    def _placed(self, shot: Shot) -> Placed | None:
        kind = "jpeg" if shot.content.startswith(_JPEG) else "png"
        address = f"data:image/{kind};base64,{base64.b64encode(shot.content).decode()}"
        try:
            if len(address) > self.left or not shot.content.startswith((_JPEG, _PNG)):
                raise ValueError("too large, or no picture")
            with Image.open(io.BytesIO(shot.content), formats=("JPEG", "PNG")) as picture:
                width, height = picture.size
        except (ValueError, OSError, SyntaxError, Image.DecompressionBombError):
            self.left_out += 1
            return None
        self.left -= len(address)
        return Placed(shot=shot, address=Markup(address), width=width, height=height)


def small(picture: UInt8[np.ndarray, "h w 3"], side: int = SIDE) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Return a picture whose longest side has at most so many pixels."""
    scale = side / max(picture.shape[:2])
    if scale >= 1:
        return picture
    height, width = (max(1, round(each * scale)) for each in picture.shape[:2])
    shrunk = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, np.uint8)


def jpeg(picture: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Return the bytes of a JPEG file; the same picture gives the same bytes."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "jpeg", quality=QUALITY, optimize=True)
    return content.getvalue()


def store(pair: UInt8[np.ndarray, "h w 3"], path: Path) -> None:
    """Write a picture beside its map, as small as a page shows them.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    with writing(path, f"the picture {path.name}"):
        path.write_bytes(jpeg(small(pair, 2 * SIDE + GAP)))


def stored(path: Path) -> bytes | None:
    """Return the bytes of a stored picture; None if it is gone, or is too large."""
    try:
        return read_regular(path, most=MOST_FILE)
    except OSError:
        return None
