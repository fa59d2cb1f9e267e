"""What was read of a shelf behind a network, kept on this disk for when there is no answer."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from registry import bundle, signing
from registry.names import file_name, named_version, parsed, unknown
from registry.objects import checked_object, locked, textures_in
from registry.pointer import DIGEST, Pointer, pointer_from_json
from zoo.errors import BundleError, SignatureError, UnreachableError
from zoo.files import TEXT, read_object, read_regular, storage_error, write_all, write_whole


@dataclass(frozen=True, kw_only=True)
class Known:
    """A pointer as it was read.

    Attributes:
        pointer: The pointer.
        tag: What names this content of it to its server; empty if there is no such thing.
    """

    pointer: Pointer
    tag: str = ""


@runtime_checkable
class Source(Protocol):
    """A shelf behind a network, without a cache."""

    @property
    def url(self) -> str:
        """Its address, for messages."""

    def textures(self) -> list[str]:
        """Return the names of all textures.

        Raises:
            UnreachableError: There is no usable answer.
        """

    def pointer(self, texture: str, before: Known | None) -> Known | None:
        """Return the pointer of a texture; `before` itself if it is still that, None without one.

        Raises:
            UnreachableError: There is no usable answer.
        """

    def download(self, digest: str, folder: Path) -> None:
        """Write the files of a bundle into a folder that is there and empty, unchecked.

        Raises:
            BundleError: One of them is missing.
            UnreachableError: There is no usable answer.
        """


class ShelfCache:
    """Reads a shelf behind a network: each bundle once, and the last pointer while it is away."""

    def __init__(self, source: Source, folder: Path, pointers: Path) -> None:
        """Take the shelf, a folder that several shelves share, and one for its own pointers."""
        self._source, self._folder, self._pointers = source, folder, pointers

    def pointer(self, texture: str) -> Pointer | None:
        """Return a pointer and keep it; while there is no answer, return the one that was kept.

        Raises:
            BundleError: The pointer is damaged.
            UnreachableError: There is no answer, and none was kept.
            StorageError: The shelf refuses.
        """
        before = self._known(texture)
        try:
            found = self._source.pointer(texture, before)
        except UnreachableError as error:
            if before is None:
                raise
            age = time.time() - self._path(texture).stat().st_mtime
            warnings.warn(
                f"{error} Using the last pointer seen, {_in_words(age)} ago.", stacklevel=4
            )
            return before.pointer
        with suppress(OSError):  # the cache only helps when the shelf is away
            self._keep(texture, found, before)
        return found.pointer if found else None

    def pointers(self) -> dict[str, Pointer]:
        """Return the pointer of each texture; errors as in `pointer`."""
        try:
            textures = self._source.textures()
        except UnreachableError as error:
            if not self._pointers.is_dir():
                raise
            warnings.warn(f"{error} Listing what the cache holds.", stacklevel=3)
            cached = {each: self._known(each) for each in textures_in(self._pointers)}
            return {each: known.pointer for each, known in cached.items() if known}
        found = {texture: self.pointer(texture) for texture in textures}
        return {texture: pointer for texture, pointer in found.items() if pointer}

    def resolve(self, name: str) -> tuple[Path, int]:
        """Return a cached folder with the bundle of this name, every byte checked, and its version.

        If the bundle of an alias cannot be had, the one that the alias last stood for is returned
        with a warning, if it is in the cache.

        Raises:
            UnknownDetectorError: No detector has that name.
            BundleError: It is damaged on the shelf.
            SignatureError: No trusted key has signed it.
            StorageError: There is no answer and the cache does not hold it, or a disk is full.
        """
        texture, reference = parsed(name)
        try:
            with locked(self._folder):
                pointer = self._pinned(texture, reference) or self.pointer(texture)
                if pointer is None:
                    raise unknown(texture, self._source.textures(), where=self._source.url)
                version = named_version(pointer, reference, where=self._source.url)
                digest = pointer.versions[version]
                signing.check(texture, digest, pointer)
                try:
                    folder = self._object(digest)
                except (BundleError, UnreachableError) as error:
                    return self._served(texture, reference, pointer, error)
                self._note_served(texture, reference, digest, version)
                return folder, version
        except OSError as error:
            raise storage_error(f"Cannot keep '{name}' in {self._folder}", error) from error

    def _path(self, texture: str, suffix: str = ".json") -> Path:
        return self._pointers / f"{file_name(texture)}{suffix}"

    def _known(self, texture: str) -> Known | None:
        """Return the pointer that was kept, and its tag if that is of the same content."""
        path = self._path(texture)
        try:
            content = read_regular(path, most=TEXT)
            pointer = pointer_from_json(content, where=str(path))
        except (OSError, BundleError):  # a damaged cache counts as none
            return None
        stated = read_object(self._path(texture, ".tag"))
        tag = str(stated.get("tag", ""))
        same = stated.get("sha256") == hashlib.sha256(content).hexdigest()
        fit = tag.isascii() and tag.isprintable()  # it becomes a header of a request
        return Known(pointer=pointer, tag=tag if same and fit else "")

    def _keep(self, texture: str, found: Known | None, before: Known | None) -> None:
        path = self._path(texture)
        if found is None:
            return
        if found is before:
            os.utime(path)  # it was seen now
            return
        self._pointers.mkdir(parents=True, exist_ok=True)
        content = found.pointer.to_json()
        tag = {"tag": found.tag, "sha256": hashlib.sha256(content).hexdigest()}
        # A tag beside the content of another moment is found by the hash, and not used.
        write_all({path: content, self._path(texture, ".tag"): json.dumps(tag).encode()})

    def _pinned(self, texture: str, reference: str) -> Pointer | None:
        """Return the pointer that was kept if it knows the digest that is asked for, and trusts it.

        What is pinned by its digest needs no request.
        """
        digest = reference.removeprefix("@sha256:")
        known = self._known(texture) if digest != reference else None
        if known is None or digest not in known.pointer.versions.values():
            return None
        return known.pointer if signing.is_trusted(texture, digest, known.pointer) else None

    def local(self, digest: str) -> Path:
        """Return the folder of a bundle on this machine, whether or not it is there; unchecked."""
        return self._folder / "objects" / digest

    def check(self, digest: str) -> None:
        """Download an object again and compare every byte of it with its name.

        Raises:
            BundleError: It is damaged or missing.
            StorageError: There is no answer.
        """
        with tempfile.TemporaryDirectory() as folder:
            self._download(digest, Path(folder))

    def _download(self, digest: str, folder: Path) -> None:
        self._source.download(digest, folder)
        _check_download(folder, digest, where=f"{self._source.url}/objects/{digest}")

    def _object(self, digest: str) -> Path:
        try:
            return checked_object(self._folder, digest)
        except BundleError:  # not cached yet, or damaged on this disk
            shutil.rmtree(folder := self.local(digest), ignore_errors=True)
        aside = folder.with_name(f".{digest}.part")  # one process at a time comes here
        shutil.rmtree(aside, ignore_errors=True)  # of one that was killed
        aside.mkdir(parents=True)
        try:
            self._download(digest, aside)
            aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return folder

    def _note_served(self, texture: str, reference: str, digest: str, version: int) -> None:
        """Keep what an alias stood for when its bundle was last had."""
        path = self._path(texture, ".served")
        if reference.startswith((":", "@sha256:")):
            return
        noted = read_object(path)
        if noted.get(reference) != (now := {"digest": digest, "version": version}):
            with suppress(OSError):
                write_whole(path, json.dumps({**noted, reference: now}).encode())

    def _served(
        self, texture: str, reference: str, pointer: Pointer, error: BundleError | UnreachableError
    ) -> tuple[Path, int]:
        """Return what an alias stood for when its bundle was last had, or raise the error."""
        noted = read_object(self._path(texture, ".served")).get(reference)
        digest, version = "", 0
        if isinstance(noted, dict):
            digest, version = str(noted.get("digest")), noted.get("version", 0)
        if not DIGEST.fullmatch(digest) or type(version) is not int:
            raise error
        try:
            signing.check(texture, digest, pointer)
            folder = checked_object(self._folder, digest)
        except (BundleError, SignatureError):
            raise error from None
        warnings.warn(
            f"{error} Using version {version} of '{texture}', which was loaded before.",
            stacklevel=4,
        )
        return folder, version


def _check_download(folder: Path, digest: str, *, where: str) -> None:
    """Refuse a bundle that was just downloaded, if its digest is not the one it was asked by.

    Args:
        folder: Where it was written.
        digest: What it was asked by.
        where: Where it came from, for the error.

    Raises:
        BundleError: It is damaged, or of a newer format.
    """
    try:
        found = bundle.digest(folder)
    except BundleError as error:
        newer = read_object(folder / bundle.CARD).get("format")
        if type(newer) is int and newer > bundle.FORMAT:
            raise BundleError(
                f"{where} has format {newer}; this version reads 1 to {bundle.FORMAT}. Update "
                "texture-zoo."
            ) from error
        raise damaged(where) from error
    if found != digest:
        raise damaged(where)


def damaged(where: str) -> BundleError:
    """Return the error for a bundle whose digest is not its name."""
    return BundleError(
        f"{where} is damaged: its SHA-256 is not its name. Promote the detector again, or ask who "
        "publishes it to do so."
    )


def _in_words(seconds: float) -> str:
    """Return a time in the largest unit that fits.

    Example:
        >>> _in_words(5.0), _in_words(7300.0), _in_words(200_000.0)
        ('5 seconds', '2 hours', '2 days')
    """
    units = ((86400, "days"), (3600, "hours"), (60, "minutes"))
    size, unit = next((each for each in units if seconds >= 2 * each[0]), (1, "seconds"))
    return f"{seconds / size:.0f} {unit}"
