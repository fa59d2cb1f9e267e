"""The starters: detectors that are part of the package, behind the shelf of the user.

They are read only. A texture that the shelf has, or had, hides the starter of its name with all of
its aliases and versions: what is asked of the user's own texture never gets a starter instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

from registry.folder_shelf import FolderShelf
from registry.names import named_version, normal, parsed
from registry.objects import checked_object
from registry.pointer import Pointer
from zoo.errors import BundleError, UnknownDetectorError, did_you_mean
from zoo.home import starters

WHERE = "of the starters"  # in errors, for the address of a shelf


def starter_names() -> list[str]:
    """Return the textures of the starters, none if they are off.

    Raises:
        ConfigError: `ZOO_STARTERS` is not what it may be.
    """
    root = starters()
    return FolderShelf(root).textures() if root else []


@runtime_checkable
class ReadableShelf(Protocol):
    """A place for published detectors, as those see it who only load them."""

    def textures(self) -> list[str]:
        """Return the names of all textures, as they are there now."""

    def pointer(self, texture: str) -> Pointer:
        """Return the pointer of one texture; an empty one if the shelf has no such texture.

        Raises:
            BundleError: The pointer is damaged.
        """

    def pointers(self) -> dict[str, Pointer]:
        """Return the pointer of each texture."""

    def fetch(self, name: str) -> Path:
        """Return a local folder with the bundle of this name, every byte of it checked."""

    def resolve(self, name: str) -> tuple[Path, int]:
        """Return what `fetch` returns, and the version that the name stands for."""

    def local(self, digest: str) -> Path:
        """Return the folder of a bundle on this machine, whether or not it is there; unchecked."""


class ShelfWithStarters:
    """A shelf, and behind it the starters. Nothing can be published here.

    A texture that the shelf had once while this object lives does not become a starter later: a
    disk that is gone must not change what a service answers with.

    Attributes:
        shelf: The shelf of the user.
    """

    def __init__(self, shelf: ReadableShelf, starters: Path | None) -> None:
        """Take the shelf of the user, and the folder of the starters; None is without them."""
        self.shelf = shelf
        self._root = starters
        self._starters = FolderShelf(starters) if starters else None
        self._had: set[str] = set()

    def starters(self) -> list[str]:
        """Return the starters that the shelf does not hide."""
        return self._behind(self.shelf.textures())

    def is_starter(self, texture: str) -> bool:
        """Return whether the name of a texture stands for a starter."""
        return normal(texture) in self._known() and not self._hides(texture)

    def textures(self) -> list[str]:
        """Return the names of all textures."""
        own = self.shelf.textures()
        return sorted({*own, *self._behind(own)})

    def pointer(self, texture: str) -> Pointer:
        """Return the pointer of one texture; errors as those of the shelf."""
        if self._starters is not None and self.is_starter(texture):
            return self._starters.pointer(texture)
        return self.shelf.pointer(texture)

    def pointers(self) -> dict[str, Pointer]:
        """Return the pointer of each texture; errors as those of the shelf."""
        found = self.shelf.pointers()
        return dict(sorted((found | self.behind(found)).items()))

    def behind(self, own: Iterable[str]) -> dict[str, Pointer]:
        """Return the pointers of the starters that these textures of the shelf do not hide."""
        if self._starters is None:
            return {}
        return {each: self._starters.pointer(each) for each in self._behind(own)}

    def fetch(self, name: str) -> Path:
        """Return the folder of the bundle of this name; errors as in `resolve`."""
        return self.resolve(name)[0]

    def resolve(self, name: str) -> tuple[Path, int]:
        """Return the folder of the bundle of this name, every byte checked, and its version.

        Starters are part of the package, and trusted as its code is: they need no signature.

        Raises:
            UnknownDetectorError: Neither the shelf nor the starters have a detector of that name.
            BundleError: It is damaged.
            SignatureError: It is on the shelf, and no trusted key has signed it.
            StorageError: The shelf cannot be read.
        """
        try:
            found = self.shelf.resolve(name)
        except UnknownDetectorError as error:
            texture, reference = parsed(name)
            if self._root is None or self._starters is None or self._hides(texture):
                raise
            if texture not in self._known():
                known = self.starters()
                if not known:
                    raise
                raise UnknownDetectorError(
                    f"{error} Starters: {', '.join(known)}.{did_you_mean(texture, known)}"
                ) from error
            pointer = self._starters.pointer(texture)
            version = named_version(pointer, reference, where=WHERE)
            return checked_object(self._root, pointer.versions[version]), version
        self._had.add(parsed(name)[0])
        return found

    def local(self, digest: str) -> Path:
        """Return the folder of a bundle on this machine, whether or not it is there; unchecked."""
        if self._starters is not None and (own := self._starters.local(digest)).is_dir():
            return own
        return self.shelf.local(digest)

    def _known(self) -> list[str]:
        return self._starters.textures() if self._starters else []

    def _behind(self, own: Iterable[str]) -> list[str]:
        """Return the starters that textures of the shelf do not hide."""
        self._had.update(own)
        return [texture for texture in self._known() if texture not in self._had]

    def _hides(self, texture: str) -> bool:
        """Return whether the shelf has or had a texture, by its pointer."""
        texture = normal(texture)
        if texture not in self._had:
            try:
                found = self.shelf.pointer(texture)
            except BundleError:  # it is damaged, so it is there
                return True
            if found.versions or found.history:
                self._had.add(texture)
        return texture in self._had
