"""Files that are replaced in one step, and the message for a write that failed."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoo.errors import StorageError

_ELSEWHERE = "set ZOO_HOME to a folder that can be written, or name another place"
_FORBIDDEN = f"permission denied; let this user read and write it, or {_ELSEWHERE}"
# What to do about an error number of the operating system.
ADVICE = {
    errno.ENOENT: "it is not there; look at its name, and whether it was moved meanwhile",
    errno.ENOSPC: "the disk is full; free some space, then run the same command again",
    errno.EROFS: f"the file system is read-only; {_ELSEWHERE}",
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EFBIG: "the file grew beyond the limit set for files; raise it (ulimit -f)",
    errno.ENOTDIR: f"a file is in the way of a folder; {_ELSEWHERE}",
    errno.EISDIR: "it is a folder and should be a file; give a file, or move the folder away",
    errno.ENAMETOOLONG: "the name is longer than the disk allows; give a shorter one",
    errno.ELOOP: "its symbolic links lead in a circle; mend or remove them",
    errno.EDQUOT: "the quota of this user is used up; free some space",
    errno.EIO: "the disk fails or its connection is lost; check it, then run the command again",
    errno.ESTALE: "the network disk has lost the file; run the same command again",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
}

LEAST_FREE = 2**28  # bytes; a bundle takes a hundredth of it, a search of some hours a few tenths

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
TEXT = 2**24  # bytes of a text, such as a search space; ours have a few thousand


def check_regular(path: Path, *, most: int) -> int:
    """Return the size of a regular file. A pipe or a device may never end, or wait for ever.

    Args:
        path: The file; links are followed.
        most: Bytes that it may have.

    Raises:
        OSError: There is no such file, it is no regular file, or it is larger.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for is_it, name in _KINDS if is_it(status.st_mode)), "a special file")
        raise OSError(errno.EINVAL, f"it is {kind} and not a regular file", str(path))
    if status.st_size > most:
        sizes = f"{status.st_size / 1e6:.0f} MB, and at most {most / 1e6:.0f} MB are read"
        raise OSError(errno.EINVAL, f"it has {sizes}", str(path))
    return status.st_size


def read_regular(path: Path, *, most: int) -> bytes:
    """Read a regular file of at most `most` bytes.

    Raises:
        OSError: As in `check_regular`; or it has more bytes than it states.
    """
    size = check_regular(path, most=most)
    with path.open("rb") as file:
        content = file.read(size + 1)
    if len(content) > size:
        raise OSError(errno.EINVAL, "it grows while it is read", str(path))
    return content


def read_object(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds; nothing if it cannot be read or holds none."""
    try:
        found = json.loads(read_regular(path, most=TEXT))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read_objects(path: Path, *, most: int) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines; what is none is left out.

    Args:
        path: The file; one that cannot be read has none.
        most: Bytes that are read at most; a larger file cannot be read.
    """
    try:
        content = read_regular(path, most=most)
    except OSError:
        return
    for text in content.splitlines():
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            yield found


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file in one step: a reader sees the old content or the new one.

    Raises:
        OSError: The file cannot be written; the old one is still there.
    """
    write_all({path: content})


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Replace files in the order given, each in one step, after all contents are on the disk.

    Raises:
        OSError: A file cannot be written; no file has been replaced, unless a rename fails.
    """
    parts = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in contents}
    try:
        for path, content in contents.items():
            with parts[path].open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, part in parts.items():
            part.replace(path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def write_text(text: str, path: Path) -> Path:
    """Replace a text file in one step and return its path; its folder is made if need be.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    with writing(path, path.name):
        write_whole(path, text.encode(errors="backslashreplace"))  # file names of other codings
    return path


def write_csv(rows: Sequence[Mapping[str, object]], path: Path) -> Path:
    """Write rows with the same columns as a CSV file, as `write_text` does; None is empty.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return write_text(text.getvalue(), path)


@contextmanager
def writing(path: Path, name: str) -> Iterator[None]:
    """Make the folder of a file, and turn an operating system error of the block into ours.

    Args:
        path: The file that the block writes.
        name: What the file is called in the message.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise storage_error(f"Cannot write {name}", error) from error


def check_writable(folder: Path, what: str) -> None:
    """Refuse a folder that cannot be written; it may not exist yet, and nothing is left there.

    Args:
        folder: The folder.
        what: What is to be kept in it, for the message.

    Raises:
        StorageError: It cannot be written or made, or less than `LEAST_FREE` is free on its disk.
    """
    try:
        there = next(each for each in (folder, *folder.parents) if each.exists())
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free
    except OSError as error:
        raise storage_error(f"Cannot write {what} to {folder}", error) from error
    if free < LEAST_FREE:
        raise StorageError(
            f"Cannot write {what} to {folder}: {free / 1e6:.0f} MB are free there, and it should "
            f"be {LEAST_FREE / 1e6:.0f}. Free some space, or name another place."
        )


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn an operating system error of the block into ours.

    Args:
        what: What the block reads, for the message.

    Raises:
        StorageError: It cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise storage_error(f"Cannot read {what}", error) from error


def storage_error(what: str, error: OSError) -> StorageError:
    """Return an error with what could not be done, why, and what to do.

    Args:
        what: The beginning of the message, such as `Cannot write the bundle of 'wood'`.
        error: What the operating system reported.
    """
    where = f"{error.filename}: " if error.filename else ""
    other = f"{error.strerror or error}; correct it, then run the command again"
    return StorageError(f"{what}: {where}{ADVICE.get(error.errno or 0, other)}.")
