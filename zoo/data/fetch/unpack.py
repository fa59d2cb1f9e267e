"""Archives from strangers to files: TAR, compressed or not, and ZIP, into one folder only.

Names, kinds, number and sizes are checked before and while something is written. What is written is
counted, because an archive may state any size.
"""

from __future__ import annotations

import fnmatch
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, runtime_checkable

from zoo.data.fetch.download import Progress
from zoo.errors import ConfigError, DataError, one_line
from zoo.files import storage_error
from zoo.https import CHUNK

_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)
_JUNK = ("__MACOSX", "._*", ".DS_Store", "Thumbs.db", "desktop.ini")
_DEEPEST, _LONGEST = 32, 200  # folders in a path, and bytes of one name
_PADDING = 2**24  # bytes of zeros behind the end of a TAR, at most; usual are some ten thousand

Place = Callable[[PurePosixPath], PurePosixPath | None]  # where a file goes; None leaves it out


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much an archive may hold.

    Attributes:
        files: Files and folders.
        ratio: Times its own size; pictures are compressed already, black masks are small.
        floor: Bytes that any archive may unpack to.
    """

    files: int = 200_000
    ratio: int = 20
    floor: int = 2**28

    def most(self, size: int) -> int:
        """Return the bytes that an archive of this size may unpack to."""
        return max(self.floor, self.ratio * size)


@runtime_checkable
class _Content(Protocol):
    """An open file of an archive."""

    def read(self, size: int = -1, /) -> bytes: ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class _Member:
    """One file of an archive.

    Attributes:
        name: As the archive has it.
        size: As the archive states it.
        kind: "file", "folder", or what else it is.
        open: Opens its content.
    """

    name: str
    size: int
    kind: str
    open: Callable[[], _Content | None]


@dataclass(frozen=True, kw_only=True)
class Unpacker:
    """Unpacks archives.

    Attributes:
        progress: Receives what is done, the bytes of it, and the bytes in all.
        limits: How much an archive may hold.
    """

    progress: Progress
    limits: Limits = Limits()

    def unpack(self, archive: Path, to: Path, place: Place, *, skip: Sequence[str] = ()) -> int:
        """Write the files of an archive into a folder, and return their number.

        Args:
            archive: A TAR, which may be compressed by gzip, bzip2 or xz, or a ZIP.
            to: A folder that belongs to nobody else.
            place: Where a file goes in it.
            skip: Patterns of paths that are left out.

        Raises:
            DataError: It is no archive, it is damaged, or it holds what no data set holds.
            StorageError: The disk is full.
        """
        size, counted = archive.stat().st_size, _Counted(limits=self.limits, archive=archive)
        with _damaged(archive), archive.open("rb") as file:
            watched = _Watched(file, archive.name, size, self.progress)
            for member in _members(watched, archive, to):
                counted.member(member)
                path = _checked(member, archive)
                if member.kind == "folder" or _left_out(path, skip):
                    continue
                target = place(path)
                if target is None:
                    continue
                counted.name(target)
                with _opened(member) as content:
                    _write(content, to / target, counted)
        return counted.written

    def needed(self, archive: Path) -> int:
        """Return the bytes that an archive unpacks to, about; a TAR states them only at its end."""
        size = archive.stat().st_size
        if not zipfile.is_zipfile(archive):
            return round(1.1 * size)
        with _damaged(archive), zipfile.ZipFile(archive) as opened:
            return sum(each.file_size for each in opened.infolist())


class _Counted:
    """What was found and written of an archive, against its limits."""

    def __init__(self, *, limits: Limits, archive: Path) -> None:
        self.limits, self.archive = limits, archive
        self.most = limits.most(archive.stat().st_size)
        self.members = self.written = self.bytes = 0
        self.names: set[str] = set()

    def member(self, member: _Member) -> None:
        self.members += 1
        if self.members > self.limits.files:
            raise DataError(
                f"{self.archive} has more than {self.limits.files} files, so it is no data set of "
                "pictures. Nothing of it is kept."
            )
        if member.size > self.most - self.bytes:
            raise self.too_large()

    def name(self, target: PurePosixPath) -> None:
        self.written += 1
        folded = str(target).casefold()
        if folded in self.names:
            raise DataError(
                f"{self.archive} has the file {target} twice, perhaps in upper and lower case. "
                "Nothing of it is kept. Take another copy of the archive."
            )
        self.names.add(folded)

    def chunk(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self.most:
            raise self.too_large()

    def too_large(self) -> DataError:
        return DataError(
            f"{self.archive} unpacks to more than {self.most / 1e6:.0f} MB, which a data set of "
            "pictures of its size does not. Nothing of it is kept."
        )


class _Watched:
    """A file that says how much of it was read."""

    def __init__(self, file: IO[bytes], name: str, size: int, progress: Progress) -> None:
        self._file, self._what, self._size = file, f"unpacking {name}", size
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self._progress(self._what, self._file.tell(), self._size)
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


def _members(file: _Watched, archive: Path, to: Path) -> Iterator[_Member]:
    """Yield the members of an archive; each is opened before the next is asked for."""
    beginning = file.read(262)
    file.seek(0)
    if beginning.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        yield from _zipped(file, archive)
        return
    tar = beginning[257:262] == b"ustar"
    if not tar and not beginning.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")):
        raise DataError(
            f"{archive} is no TAR and no ZIP; it begins with {beginning[:16]!r}. Unpack it with "
            "another program, or take another copy of it."
        )
    with tarfile.open(fileobj=file, mode="r:*") as opened:  # type: ignore[call-overload]
        for info in opened:
            kind = "file" if info.isreg() else "folder" if info.isdir() else "a link or a device"
            open_ = partial(_extracted, opened, info, to)
            yield _Member(name=info.name, size=info.size, kind=kind, open=open_)
        rest = opened.fileobj
        assert rest is not None
        # Compression has its checksum at the end, behind zeros that tarfile does not read.
        for _ in range(_PADDING // CHUNK):
            if not rest.read(CHUNK):
                return
        raise DataError(
            f"{archive} goes on behind its end. Nothing of it is kept. Take another copy of the "
            "archive."
        )


def _extracted(opened: tarfile.TarFile, info: tarfile.TarInfo, to: Path) -> _Content | None:
    tarfile.data_filter(info, str(to))  # Python's own check of names and kinds, beside ours
    return opened.extractfile(info)


def _zipped(file: _Watched, archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(file) as opened:
        for info in opened.infolist():
            if info.flag_bits & 1:
                raise DataError(
                    f"{archive} is encrypted. Unpack it with its password, and give the folder to "
                    "`zoo data check`."
                )
            mode = stat.S_IFMT(info.external_attr >> 16)
            kind = "folder" if info.is_dir() else "file"
            if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
                kind = "a link or a device"
            open_ = partial(opened.open, info)
            yield _Member(name=info.filename, size=info.file_size, kind=kind, open=open_)


def _checked(member: _Member, archive: Path) -> PurePosixPath:
    """Return the path of a member.

    Raises:
        DataError: It leads out of a folder, or is none that pictures have; or it is no file.
    """
    name = member.name
    parts = [part for part in name.split("/") if part not in ("", ".")]
    wrong = (
        name.startswith("/")
        or ".." in parts
        or (not parts and member.kind == "file")
        or len(parts) > _DEEPEST
        or any(len(part.encode(errors="replace")) > _LONGEST for part in parts)
        or not name.isprintable()
        or "\\" in name
        or name[1:2] == ":"
    )
    if wrong:
        raise DataError(
            f"{archive} has a file of the name {name[:200]!r}, which could be written elsewhere or "
            "is none of pictures. Nothing of it is kept. Take another copy of the archive."
        )
    if member.kind not in ("file", "folder"):
        raise DataError(
            f"{archive} has {member.kind} '{name[:200]}', which a data set of pictures does not "
            "need. Nothing of it is kept. Take another copy of the archive."
        )
    return PurePosixPath(*parts)


def _left_out(path: PurePosixPath, skip: Sequence[str]) -> bool:
    junk = any(fnmatch.fnmatchcase(part, each) for part in path.parts for each in _JUNK)
    return junk or any(fnmatch.fnmatchcase(str(path), f"*{each}") for each in skip)


@contextmanager
def _opened(member: _Member) -> Iterator[_Content]:
    content = member.open()
    assert content is not None  # it is a file
    with closing(content):
        yield content


def _write(content: _Content, path: Path, counted: _Counted) -> None:
    """Write a file that is not there yet; errors of the disk are told from those of the archive."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("xb")
    except OSError as error:
        raise storage_error(f"Cannot unpack {path.name}", error) from error
    with file:
        while chunk := content.read(CHUNK):
            counted.chunk(len(chunk))
            try:
                file.write(chunk)
            except OSError as error:
                raise storage_error(f"Cannot unpack {path.name}", error) from error


@contextmanager
def _damaged(archive: Path) -> Iterator[None]:
    """Turn an error of an archive into ours."""
    if not hasattr(tarfile, "data_filter"):  # it came with 3.11.4
        raise ConfigError("Python 3.11.4 or newer is needed to unpack archives. Update Python.")
    try:
        yield
    except _DAMAGED as error:
        raise DataError(
            f"{archive} is damaged or not what it says: {one_line(error)[:200]}. Nothing of it is "
            "kept. Take another copy of it."
        ) from error
