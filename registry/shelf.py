"""A shelf of published detectors: what `zoo.load` reads."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from registry.folder_shelf import FolderShelf
from registry.names import unknown
from registry.pointer import Edit, Pointer
from registry.starters import ReadableShelf, ShelfWithStarters
from zoo.errors import ConfigError
from zoo.home import home, shelf_address, starters


@runtime_checkable
class Shelf(ReadableShelf, Protocol):
    """A place for published detectors, where more of them can be published."""

    def change(self, texture: str, edit: Edit, *, folder: Path | None = None) -> Pointer:
        """Replace the pointer of a texture by what `edit` returns for it, and return the new one.

        `folder` is a bundle that the new pointer needs; it is on the shelf before the pointer is.
        """

    def check_writable(self, texture: str) -> None:
        """Refuse, hours before `change` would, a shelf that this texture cannot be published on.

        Nothing is changed.

        Raises:
            ConfigError: The texture has a name that no shelf takes.
            StorageError: The shelf cannot be written.
        """


@runtime_checkable
class Objects(Protocol):
    """The bundles that a shelf holds, whether or not a pointer needs them."""

    def ages(self) -> dict[str, float]:
        """Return the seconds since each object was last written, by digest."""

    def check(self, digest: str) -> None:
        """Read an object from the shelf, not a cache, and compare every byte with its name."""

    def discard(self, digest: str) -> bool:
        """Remove an object unless a pointer needs it now, and return whether it was removed."""


def names_on(shelf: ReadableShelf) -> dict[str, dict[str, str]]:
    """Return, for each texture, the digest that each alias and version stands for."""
    return {texture: pointer.digests() for texture, pointer in shelf.pointers().items()}


def pointer_of(shelf: ReadableShelf, texture: str) -> Pointer:
    """Return the pointer of a texture that the shelf has, or had.

    Raises:
        UnknownDetectorError: The shelf never had that texture; near names are offered.
    """
    found = shelf.pointer(texture)
    if not found.history and not found.versions:
        raise unknown(texture, shelf.textures(), where="in use")
    return found


def lineage(pointer: Pointer, *, digest: str) -> dict[str, Any]:
    """Return the version and aliases of a bundle of a texture, and the entry that published it.

    `signed` says whether there is a signature, not whether the key is trusted.
    """
    version = pointer.version_of(digest)
    entry = next((asdict(each) for each in pointer.history if each.version == version), {})
    known = {
        "version": version,
        "aliases": sorted(alias for alias, at in pointer.aliases.items() if at == version),
        "signed": bool(pointer.signatures.get(digest)),
    }
    return {"digest": digest, "lineage": known | entry}


def open_shelf(url: str | None = None) -> Shelf:
    """Return the shelf at an address, by default that of `zoo.home.shelf_address`.

    Args:
        url: A folder, `s3://BUCKET/PREFIX`, or `https://HOST/PATH`, which is read-only.

    Raises:
        ConfigError: It is none of these.
    """
    url = url or shelf_address()
    if url.startswith("s3://"):
        from registry.s3_shelf import S3Shelf

        return S3Shelf(url, cache=home() / "cache")
    if url.startswith(("https://", "http://")):
        from registry.http_shelf import HttpShelf

        return HttpShelf(url, cache=home() / "cache")
    if "://" in url:
        raise ConfigError(
            f"'{url}' is no shelf: set ZOO_SHELF to a folder, s3://BUCKET/PREFIX or "
            "https://HOST/PATH."
        )
    return FolderShelf(Path(url))


def shelf_to_read(url: str | None = None) -> ShelfWithStarters:
    """Return what `zoo.load` reads: a shelf, and behind it the starters.

    Args:
        url: As for `open_shelf`. A shelf that is named has no starters behind it.

    Raises:
        ConfigError: It is no shelf, or `ZOO_STARTERS` is not what it may be.
    """
    return ShelfWithStarters(open_shelf(url), None if url else starters())
