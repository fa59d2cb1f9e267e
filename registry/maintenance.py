"""Maintenance of a shelf: check every byte of it, and remove the objects that no version needs."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from registry import signing
from registry.pointer import Pointer, needed
from registry.shelf import Objects, Shelf
from zoo.errors import BundleError, SignatureError

# Longer than a reader takes from a name to its bundle, or a publisher from a bundle to its pointer.
GRACE_S = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The result for one version of a texture, or for a pointer that is damaged.

    Attributes:
        texture: Its name.
        version: Its number; None for a pointer.
        digest: Of its bundle; empty for a pointer.
        problem: What is wrong with it; empty if nothing is.
    """

    texture: str
    version: int | None
    digest: str
    problem: str = ""


def verify(shelf: Shelf) -> Iterator[Checked]:
    """Read every byte that a version needs again, without a cache, one version after the other.

    Raises:
        StorageError: The shelf cannot be reached.
    """
    assert isinstance(shelf, Objects)
    for texture in shelf.textures():
        try:
            pointer = shelf.pointer(texture)
        except BundleError as error:
            yield Checked(texture=texture, version=None, digest="", problem=str(error))
            continue
        for version, digest in sorted(pointer.versions.items()):
            problem = ""
            try:
                shelf.check(digest)
                signing.check(texture, digest, pointer)
            except (BundleError, SignatureError) as error:
                problem = str(error)
            yield Checked(texture=texture, version=version, digest=digest, problem=problem)


def collect(shelf: Shelf, *, grace_s: float = GRACE_S, dry: bool = False) -> list[str]:
    """Remove the objects that no version needs, and return their digests.

    An object is kept if it was written, or its version was removed, less than `grace_s` ago: a
    publisher or a reader may be about to use it.

    Args:
        shelf: Where.
        grace_s: Seconds.
        dry: Only return what would be removed.

    Raises:
        BundleError: A pointer is damaged, so it is not known what it needs; nothing is removed.
        StorageError: The shelf cannot be reached or written.
    """
    assert isinstance(shelf, Objects)
    pointers = shelf.pointers().values()
    kept = needed(pointers) | _removed_lately(pointers, grace_s)
    idle = [digest for digest, age in shelf.ages().items() if digest not in kept and age >= grace_s]
    return [digest for digest in sorted(idle) if dry or shelf.discard(digest)]


def _removed_lately(pointers: Collection[Pointer], grace_s: float) -> set[str]:
    since = time.time() - grace_s
    entries = [entry for pointer in pointers for entry in pointer.history]
    return {entry.digest for entry in entries if entry.act == "removed" and entry.when > since}
