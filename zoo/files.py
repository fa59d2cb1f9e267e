"""Whole-file writes, and the message for a write that failed."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from zoo.errors import StorageError

# What to do about an error number of the operating system.
ADVICE = {
    errno.ENOSPC: "the disk is full; free some space, then run the same command again",
    errno.EROFS: "the file system is read-only; set ZOO_HOME to a folder that can be written",
    errno.EACCES: "permission denied; set ZOO_HOME to a folder that can be written",
    errno.EPERM: "permission denied; set ZOO_HOME to a folder that can be written",
    errno.EFBIG: "the file grew beyond the limit set for files; raise it (ulimit -f)",
    errno.ENOTDIR: "a file is in the way of a folder; set ZOO_HOME to another folder",
}


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file in one step: a reader sees the old content or the new one.

    Raises:
        OSError: The file cannot be written; the old one is still there.
    """
    write_all({path: content})


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Replace files, each in one step, in the order given, and none before all are on the disk.

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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())
    except OSError as error:
        raise storage_error(f"Cannot write {path.name}", error) from error
    return path


def storage_error(what: str, error: OSError) -> StorageError:
    """Return an error that says what could not be written, why, and what to do.

    Args:
        what: The beginning of the message, such as `Cannot write the bundle of 'wood'`.
        error: What the operating system reported.
    """
    where = error.filename or "the disk"
    other = f"{error.strerror or error}; correct it, then run the command again"
    return StorageError(f"{what}: {where}: {ADVICE.get(error.errno or 0, other)}.")
