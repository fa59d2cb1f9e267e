"""A shelf on a web server, read-only, with a local cache.

The server needs no program: `registry.publish` writes the files that it hands out. Its address may
be plain HTTP on this machine only.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from registry.http_source import INDEX, HttpSource
from registry.names import checked_name
from registry.pointer import Edit, Pointer
from registry.shelf_cache import ShelfCache
from zoo.errors import ConfigError, StorageError
from zoo.https import TIMEOUT_S, check_address


class HttpShelf:
    """A read-only shelf on a web server, with a local cache.

    A bundle is downloaded once. While there is no usable answer, the last pointer that was read is
    used, with a warning. `grid@sha256:<digest>` sends no request once it is in the cache.
    """

    def __init__(self, url: str, cache: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        """Take the address of the folder with `index.json`, and a folder for the cache.

        Args:
            url: `https://HOST/PATH`, or `http://` on this machine.
            cache: A folder that several shelves may share.
            timeout_s: Seconds to wait for a byte.

        Raises:
            ConfigError: The address is no such thing.
        """
        if {"?", "#"} & set(url):
            raise ConfigError(
                f"'{url}' is no shelf: it has a part after ? or #. Write https://HOST/PATH."
            )
        check_address(url)
        self._url = url.rstrip("/").removesuffix(f"/{INDEX}")
        host = urlsplit(url).hostname or ""
        own = f"{host}-{hashlib.sha256(self._url.encode()).hexdigest()[:16]}"
        self._source = HttpSource(self._url, timeout_s=timeout_s)
        self._cache = ShelfCache(self._source, cache, cache / "textures" / own)

    def textures(self) -> list[str]:
        """Return the names of all textures; the cache is not used.

        Raises:
            StorageError: There is no usable answer.
        """
        return self._source.textures()

    def pointer(self, texture: str) -> Pointer:
        """Return the pointer of one texture.

        Raises:
            StorageError: There is no usable answer, and the cache has no pointer.
        """
        return self._cache.pointer(texture) or Pointer(texture=texture)

    def pointers(self) -> dict[str, Pointer]:
        """Return the pointer of each texture.

        Raises:
            StorageError: There is no usable answer, and the cache has no pointer.
        """
        return self._cache.pointers()

    def change(self, texture: str, edit: Edit, *, folder: Path | None = None) -> Pointer:
        """Refuse: the shelf is read-only.

        Raises:
            StorageError: Always.
        """
        self._refuse()

    def check_writable(self, texture: str) -> None:
        """Refuse: the shelf is read-only.

        Raises:
            ConfigError: The texture has a name that no shelf takes.
            StorageError: Always, else.
        """
        checked_name(texture)
        self._refuse()

    def fetch(self, name: str) -> Path:
        """Return a cached folder with the bundle of this name; errors as in `resolve`."""
        return self.resolve(name)[0]

    def resolve(self, name: str) -> tuple[Path, int]:
        """Return a cached folder with the bundle of this name, and its version.

        Every byte of the bundle is checked.

        Raises:
            UnknownDetectorError: No detector has that name.
            BundleError: It is damaged on the server.
            SignatureError: No trusted key has signed it.
            StorageError: There is no usable answer and the cache does not hold it, or a disk is
                full.
        """
        return self._cache.resolve(name)

    def local(self, digest: str) -> Path:
        """Return the folder of a bundle on this machine, whether or not it is there; unchecked."""
        return self._cache.local(digest)

    def ages(self) -> dict[str, float]:
        """Refuse: a web server does not list what it has.

        Raises:
            StorageError: Always.
        """
        self._refuse()

    def check(self, digest: str) -> None:
        """Download an object again and compare every byte of it with its name.

        Raises:
            BundleError: It is damaged or missing.
            StorageError: There is no usable answer.
        """
        self._cache.check(digest)

    def discard(self, digest: str) -> bool:
        """Refuse: the shelf is read-only.

        Raises:
            StorageError: Always.
        """
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise StorageError(
            f"The shelf {self._url} is read-only. Set ZOO_SHELF to a folder or to "
            "s3://BUCKET/PREFIX; `zoo shelf publish --to DIR` then writes what a web server hands "
            "out."
        )
