"""The journal: what people answered about scored pictures, in one folder for each texture.

    ROOT/wood/marks.jsonl      a line for each answer
    ROOT/wood/pictures/        the pictures that were answered about, if they are to be kept

A line is written whole or not at all, by one writer at a time. What a crash left of a line is
passed over when the journal is read. The folder has a bound of bytes: the oldest pictures make room
for new ones and for lines; a line is never removed, and where there is no room for one it is
refused.
"""

from __future__ import annotations

import base64
import hashlib
import io
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Bool
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from registry.names import file_name, texture_of
from zoo.errors import ConfigError, RefusedError, StorageError
from zoo.files import reading, storage_error, write_whole
from zoo.home import home
from zoo.serve.settings import MOST_PIXELS

LINES, PICTURES = "marks.jsonl", "pictures"
LOCK_S = 20.0  # that a writer waits for others; a line takes milliseconds
LONGEST_LINE = 2**20  # bytes; one with a mask of a large picture has some ten thousand
MOST_BOXES = 200

OTHER = ".bin"  # suffix of the file of a picture
SUFFIXES = {  # by what it begins with
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"II+\0": ".tif",
    b"MM\0+": ".tif",
    b"RIFF": ".webp",
    b"BM": ".bmp",
}

Answer = Literal["good", "defect", "withdrawn"]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Place = Annotated[int, Field(ge=0, lt=MOST_PIXELS)]
Side = Annotated[int, Field(ge=1, le=MOST_PIXELS)]


class _Fields(BaseModel):
    """Strict: neither `true` nor `"3"` is a number. Fields of a later version are passed over."""

    model_config = ConfigDict(frozen=True, strict=True)


class Box(_Fields):
    """A rectangle of pixels.

    Attributes:
        top: First row.
        left: First column.
        height: Number of rows.
        width: Number of columns.
    """

    top: Place
    left: Place
    height: Side
    width: Side


class Said(_Fields):
    """What the detector said of the picture.

    Attributes:
        verdict: In words.
        score: Above `threshold` it is defective.
        threshold: The limit that the person saw; the detector's own is 1.
        p_value: As in `Score`.
    """

    verdict: Literal["good", "look again", "defective"]
    score: FiniteFloat
    threshold: FiniteFloat = 1.0
    p_value: FiniteFloat | None = None


class Mark(_Fields):
    """One answer of a person about one picture.

    Attributes:
        picture: SHA-256 of the bytes of its file.
        file: What its file was called where it came from.
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        detector: The name that was asked.
        version: Of the detector on the shelf.
        digest: Of its bundle.
        said: What it said.
        answer: What the person said; "withdrawn" takes an earlier answer back.
        boxes: Where the defect is, as rectangles.
        mask: Where it is, as a PNG of the picture's size in base64: what is not black.
    """

    picture: Digest
    file: Annotated[str, Field(max_length=255)] = ""
    height: Side
    width: Side
    detector: Annotated[str, Field(min_length=1, max_length=400)]
    version: Annotated[int, Field(ge=1)] | None = None
    digest: Digest | None = None
    said: Said
    answer: Answer
    boxes: Annotated[tuple[Box, ...], Field(max_length=MOST_BOXES, strict=False)] = ()
    mask: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> Mark:
        if self.height * self.width > MOST_PIXELS:
            raise ValueError(f"a picture has at most {MOST_PIXELS} pixels")
        return self

    def region(self) -> Bool[np.ndarray, "h w"] | None:
        """Return the pixels that the person marked as defective; None if none was.

        Raises:
            ConfigError: The mask is no PNG of the picture's size, or a box leaves the picture.
        """
        found = np.zeros((self.height, self.width), np.bool_)
        for box in self.boxes:
            if box.top + box.height > self.height or box.left + box.width > self.width:
                raise ConfigError(
                    f"A box ends at row {box.top + box.height}, column {box.left + box.width}, and "
                    f"the picture has {self.height}x{self.width} pixels. Draw it again."
                )
            found[box.top : box.top + box.height, box.left : box.left + box.width] = True
        if self.mask is not None:
            found |= _unpacked(self.mask, self.height, self.width)
        return found if found.any() else None


class Line(Mark):
    """A mark as the journal has it.

    Attributes:
        time: When it was written, in UTC.
    """

    time: datetime


def usual_root() -> Path:
    """Return the folder `journal` under the home."""
    return home() / "journal"


@dataclass(frozen=True, kw_only=True)
class Read:
    """The lines of one texture.

    Attributes:
        texture: Its name.
        lines: In the order in which they were written.
        damaged: Lines that cannot be read, such as what a crash left of one.
    """

    texture: str
    lines: tuple[Line, ...]
    damaged: int

    def last(self) -> dict[str, Line]:
        """Return the last answer about each picture, by the picture, without those withdrawn."""
        found = {line.picture: line for line in self.lines}
        return {key: line for key, line in found.items() if line.answer != "withdrawn"}


class Journal:
    """The journal in a folder; threads and processes may share it."""

    def __init__(self, root: Path, *, most_bytes: int = 2**30) -> None:
        """Set the folder; it is made by the first mark.

        Args:
            root: The folder.
            most_bytes: Of all its lines and pictures.
        """
        self._root, self._most = root, most_bytes

    def textures(self) -> list[str]:
        """Return the names of the textures that have marks.

        Raises:
            StorageError: The folder cannot be read.
        """
        with reading(f"the journal {self._root}"):
            if not self._root.is_dir():
                return []
            folders = [each.name for each in self._root.iterdir() if (each / LINES).is_file()]
        return sorted(filter(None, map(texture_of, folders)))

    def read(self, texture: str) -> Read:
        """Return the marks of a texture; none if there is no journal of it.

        Raises:
            StorageError: The file cannot be read.
        """
        path = self._folder(texture) / LINES
        with reading(f"the journal of '{texture}'"):
            content = path.read_bytes() if path.is_file() else b""
        found = [_line(each) for each in content.split(b"\n") if each.strip()]
        lines = tuple(line for line in found if line is not None)
        return Read(texture=texture, lines=lines, damaged=len(found) - len(lines))

    def write(self, texture: str, mark: Mark) -> Line:
        """Append a mark, with the time of now.

        The mask is stored with one bit a pixel. Pictures make room for the line if need be.

        Raises:
            ConfigError: The region does not fit the picture.
            RefusedError: The journal is full of lines; nothing has changed then.
            StorageError: The disk is full or cannot be written; nothing has changed then.
        """
        region = mark.region()
        mask = None if mark.mask is None or region is None else _packed(region)
        fields = dict(mark) | {"mask": mask, "time": datetime.now(UTC)}
        line = Line.model_validate(fields)
        content = line.model_dump_json(exclude_none=True).encode("utf-8", "replace") + b"\n"
        if len(content) > LONGEST_LINE:
            raise ConfigError(
                f"This mark takes {len(content)} bytes, and at most {LONGEST_LINE} are kept of "
                "one. Mark the defect with boxes, or with a wider brush."
            )
        path = self._folder(texture) / LINES
        with self._locked(f"Cannot write to the journal of '{texture}'"):
            path.parent.mkdir(exist_ok=True)
            if self._make_room(len(content) + 1) is None:
                raise RefusedError(
                    f"The journal is full: its lines have all of the {self._most / 1e6:.0f} MB "
                    "that it may have, and none is removed. Export it (`zoo journal export DIR`), "
                    "then move its folder away, or raise the bound.",
                    status=507,
                    code="journal_full",
                )
            _append(path, content)
        return line

    def keep(self, texture: str, picture: bytes) -> int:
        """Keep the file of a picture that has a mark; return how many older ones made room.

        Raises:
            ConfigError: No line is about it, or it is larger than the whole journal may be.
            StorageError: The disk is full or cannot be written.
        """
        digest = hashlib.sha256(picture).hexdigest()
        lines = self._folder(texture) / LINES
        with self._locked(f"Cannot keep a picture in the journal of '{texture}'"):
            if not _mentions(lines, digest):
                raise ConfigError(
                    f"No mark of '{texture}' is about this picture, SHA-256 {digest}. Mark it "
                    "first, then send it."
                )
            known = self._picture(texture, digest)
            if known is not None:
                os.utime(known)  # it counts as new
                return 0
            removed = self._make_room(len(picture))
            if removed is None:
                raise ConfigError(
                    f"The picture has {len(picture) / 1e6:.1f} MB, and there is no room for it "
                    f"beside the lines of a journal of at most {self._most / 1e6:.1f} MB. The mark "
                    "is kept without it. Raise the bound to keep such pictures."
                )
            path = lines.parent / PICTURES / f"{digest}{_suffix(picture)}"
            path.parent.mkdir(exist_ok=True)
            write_whole(path, picture)
        return removed

    def picture(self, texture: str, digest: str) -> Path | None:
        """Return the file of a picture that was kept and has not made room for others since."""
        with reading(f"the journal of '{texture}'"):
            return self._picture(texture, digest)

    def _picture(self, texture: str, digest: str) -> Path | None:
        folder = self._folder(texture) / PICTURES
        known = (folder / f"{digest}{end}" for end in (*SUFFIXES.values(), OTHER))
        return next(filter(Path.is_file, known), None)

    def _folder(self, texture: str) -> Path:
        return self._root / file_name(texture)

    def _pictures(self) -> list[Path]:
        """Return the pictures of all textures, the oldest first."""
        found = [path for path in self._root.glob(f"*/{PICTURES}/[!.]*") if path.is_file()]
        return sorted(found, key=lambda path: path.stat().st_mtime)

    def _make_room(self, size: int) -> int | None:
        """Remove the oldest pictures until so many bytes fit, and return how many.

        None if they do not fit without any picture; nothing is removed then.
        """
        pictures = [(path, path.stat().st_size) for path in self._pictures()]
        lines = sum(path.stat().st_size for path in self._root.glob(f"*/{LINES}"))
        if lines + size > self._most:
            return None
        left = lines + size + sum(each for _, each in pictures)
        removed = 0
        for path, each in pictures:
            if left <= self._most:
                break
            path.unlink()
            left -= each
            removed += 1
        return removed

    @contextmanager
    def _locked(self, what: str) -> Iterator[None]:
        """Be the only writer of the journal; errors of the disk begin with `what`."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with FileLock(self._root / ".lock", timeout=LOCK_S):
                yield
        except Timeout as error:
            raise StorageError(
                f"{what}: another process has held {self._root / '.lock'} for {LOCK_S:.0f} "
                "seconds. Try again, and end that process if it hangs."
            ) from error
        except OSError as error:
            raise storage_error(what, error) from error


def _append(path: Path, content: bytes) -> None:
    """Append whole lines; after what a crash left of one, on a line of their own.

    Raises:
        OSError: It cannot be written; the file is as it was.
    """
    with path.open("ab+", buffering=0) as file:  # a buffer would be written again on closing
        end = file.seek(0, os.SEEK_END)
        if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
            content = b"\n" + content
        try:
            while content:
                content = content[file.write(content) :]
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, end)
            raise


def _mentions(path: Path, digest: str) -> bool:
    """Return whether a line is about a picture; a file that has one is not empty."""
    if not path.is_file():
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(digest.encode()) >= 0


def _suffix(picture: bytes) -> str:
    return next((end for start, end in SUFFIXES.items() if picture.startswith(start)), OTHER)


def _line(content: bytes) -> Line | None:
    try:
        return Line.model_validate_json(content)
    except ValidationError:
        return None


def _packed(region: Bool[np.ndarray, "h w"]) -> str:
    disk = io.BytesIO()
    Image.fromarray(region).save(disk, "png", optimize=True)
    return base64.b64encode(disk.getvalue()).decode()


def _unpacked(mask: str, height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """Return what a PNG in base64 marks; its size is read before it is decoded."""
    try:
        content = base64.b64decode(mask, validate=True)
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            size = image.size[::-1]
            if size == (height, width):
                return np.asarray(image.convert("L")) > 0
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ConfigError(f"The mask is no PNG in base64: {error}. Draw it again.") from error
    raise ConfigError(
        f"The mask has {size[0]}x{size[1]} pixels, and the picture {height}x{width}. Draw it again."
    )
