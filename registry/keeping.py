"""The care of a shelf: is every byte what it was, and what does nobody need any more?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.shelf import Objects, Shelf, needed
from zoo.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Collection

    from registry.pointer import Pointer

# A reader that asked for a name, and a publisher before its pointer, are done long before this.
GRACE_S = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One version of one texture, or its pointer, read again.

    Attributes:
        texture: Its name.
        version: Its number; None of the pointer, which is told of only where it is damaged.
        digest: Of its bundle.
        problem: What is wrong with it; nothing if all is well.
    """

    texture: str
    version: int | None
    digest: str
    problem: str = ""


def verify(shelf: Shelf) -> Iterator[Checked]:
    """Hash every byte that a version needs again, past any cache, one version after the other.

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
            except BundleError as error:
                problem = str(error)
            yield Checked(texture=texture, version=version, digest=digest, problem=problem)


def collect(shelf: Shelf, *, grace_s: float = GRACE_S, dry: bool = False) -> list[str]:
    """Remove the objects that no version needs, and return their digests.

    One that was written, or whose version was removed, less than `grace_s` ago stays: somebody may
    be about to publish it, or to read it.

    Args:
        shelf: Where.
        grace_s: Seconds.
        dry: Only say what would go.

    Raises:
        BundleError: A pointer is damaged, so that nobody knows what it needs; nothing goes then.
        StorageError: The shelf cannot be reached or written.
    """
    assert isinstance(shelf, Objects)
    pointers = shelf.pointers().values()
    kept = needed(pointers) | _removed_lately(pointers, grace_s)
    idle = [digest for digest, age in shelf.ages().items() if digest not in kept and age >= grace_s]
    return [digest for digest in sorted(idle) if dry or shelf.discard(digest)]


def _removed_lately(pointers: Collection[Pointer], grace_s: float) -> set[str]:
    since = time.time() - grace_s
    lines = [entry for pointer in pointers for entry in pointer.history]
    return {line.digest for line in lines if line.act == "removed" and line.when > since}
