"""Bundles in a folder under the name of their content, and the lock of that folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from registry import bundle
from registry.names import texture_of
from zoo.errors import BundleError
from zoo.files import write_whole


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Wait until no other thread, process or, on NFS, machine holds the lock of a folder."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # A process that was forked meanwhile has the file open too, so closing is not enough.
            fcntl.flock(file, fcntl.LOCK_UN)


def textures_in(folder: Path) -> list[str]:
    """Return the names of the textures that have a pointer in a folder."""
    try:
        files = [
            name.removesuffix(".json") for name in os.listdir(folder) if name.endswith(".json")
        ]
    except FileNotFoundError:
        return []
    return sorted(filter(None, map(texture_of, files)))


def write_object(root: Path, digest: str, contents: Mapping[str, bytes]) -> None:
    """Write the files of a bundle under its digest, the card last."""
    folder = root / "objects" / digest
    folder.mkdir(parents=True, exist_ok=True)
    for file in bundle.FILES:
        write_whole(folder / file, contents[file])


def checked_object(root: Path, digest: str) -> Path:
    """Return the folder of a bundle whose digest is its name.

    Raises:
        BundleError: It is damaged or missing.
    """
    folder = root / "objects" / digest
    found = bundle.digest(folder)
    if found != digest:
        raise BundleError(
            f"{folder} is damaged: its digest should be {digest} and is {found}. "
            "Promote the detector again."
        )
    return folder
