"""The files of a shelf on a web server, read one by one with limits on their size.

    index.json                  the names of the textures, because a web server lists nothing
    textures/NAME.json          one pointer a texture, replaced as a whole
    objects/DIGEST/bundle.json  a bundle, whose content never changes

Whatever no shelf would answer counts as no answer, so that the cache serves.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from registry import bundle
from registry.names import checked_name, file_name, normal
from registry.pointer import pointer_from_json
from registry.shelf_cache import Known, damaged
from zoo.errors import BundleError, ConfigError, StorageError, UnreachableError, one_line
from zoo.files import TEXT
from zoo.https import Answer, Client

INDEX = "index.json"
INDEX_FORMAT = 1
READS = 3  # attempts to read a file
QUICK_S = 2.0  # what takes longer to fail is not tried again, because somebody waits
PAUSE_S = 0.1
_ABSENT = (404, 410)
_AGAIN = "Try again later, or ask who publishes the shelf to run `zoo shelf publish` again."
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A file as it was read; without content, it is missing, or still the one of the tag."""

    content: bytes | None = None
    tag: str = ""
    same: bool = False


class HttpSource:
    """A shelf on a web server as it is now, without a cache.

    Attributes:
        url: Its address, without a slash at its end.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        """Take the address, and the seconds to wait for a byte."""
        self.url = url
        self._client = Client(timeout_s=timeout_s)

    def textures(self) -> list[str]:
        """Return the names of all textures.

        Raises:
            UnreachableError: There is no usable answer, or none of a shelf.
        """
        where = f"{self.url}/{INDEX}"
        content = self._read(where).content
        if content is None:
            raise UnreachableError(
                f"There is no shelf at {self.url}: {INDEX} is missing. Check the address; who "
                "publishes it runs `zoo shelf publish`."
            )
        try:
            return index_names(content)
        except ValueError as error:
            raise UnreachableError(
                f"There is no shelf at {self.url}: its {INDEX} {error}. Check the address."
            ) from error

    def pointer(self, texture: str, before: Known | None) -> Known | None:
        """Return the pointer of a texture; `before` itself if it is still that, None without one.

        Raises:
            UnreachableError: There is no usable answer, or none of a shelf.
        """
        where = f"{self.url}/textures/{quote(file_name(texture))}.json"
        read = self._read(where, tag=before.tag if before else "")
        if read.same:
            return before
        if read.content is None:
            if texture in self.textures():  # which fails where there is no shelf at all
                raise UnreachableError(f"{where} is missing, though {INDEX} names it. {_AGAIN}")
            return None
        try:
            found = pointer_from_json(read.content, where=where)
        except BundleError as error:
            raise UnreachableError(
                f"{where} is no pointer: {one_line(error.__cause__)[:200]}. {_AGAIN}"
            ) from error
        if normal(found.texture) != texture:
            raise UnreachableError(
                f"{where} is the pointer of '{found.texture}' and not of '{texture}'. {_AGAIN}"
            )
        return Known(pointer=found, tag=read.tag)

    def download(self, digest: str, folder: Path) -> None:
        """Write the files of a bundle into a folder; the card first, which names the weights.

        Raises:
            BundleError: One of them is missing, or the card is not that of the digest.
            UnreachableError: There is no usable answer.
        """
        for file in reversed(bundle.FILES):
            url, path = f"{self.url}/objects/{digest}/{file}", folder / file
            # Weights go to the disk as they come, so that a large file needs no memory.
            if not self._repeated(partial(self._save, url, path)):
                raise BundleError(f"{url} is missing. {_AGAIN}")
            if file == bundle.CARD and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                raise damaged(url)

    def _save(self, url: str, path: Path) -> bool:
        """Write a file, and return whether there is one."""
        with self._asked(url, {}) as answer:
            if answer.status in _ABSENT:
                return False
            with path.open("wb") as file:
                for chunk in _bounded(answer, bundle.MOST_BYTES[path.name]):
                    file.write(chunk)
        return True

    def _read(self, url: str, *, tag: str = "") -> _Read:
        """Return a small file.

        Raises:
            UnreachableError: There is no usable answer.
        """
        headers = {"Cache-Control": "no-cache"} | ({"If-None-Match": tag} if tag else {})

        def read() -> _Read:
            with self._asked(url, headers) as answer:
                if answer.status == 304:
                    return _Read(same=bool(tag))
                if answer.status in _ABSENT:
                    return _Read()
                content = b"".join(_bounded(answer, TEXT))
                return _Read(content=content, tag=answer.headers.get("ETag", ""))

        return self._repeated(read)

    def _repeated(self, read: Callable[[], T]) -> T:
        """Return what a function reads; what fails at once is tried again.

        Raises:
            UnreachableError: There is no usable answer.
        """
        try:
            for attempt in range(READS):
                began = time.monotonic()
                try:
                    return read()
                except UnreachableError:
                    if attempt == READS - 1 or time.monotonic() - began > QUICK_S:
                        raise
                time.sleep(PAUSE_S)
        except (StorageError, ConfigError) as error:  # what no shelf answers is no usable answer
            if isinstance(error, UnreachableError):
                raise
            raise UnreachableError(str(error)) from error
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def _asked(self, url: str, headers: dict[str, str]) -> Iterator[Answer]:
        """Ask for a file.

        Raises:
            StorageError: The answer is none of a shelf.
            UnreachableError: There is no answer.
        """
        with self._client.get(url, headers) as answer:
            if answer.status not in (200, 304, *_ABSENT):
                raise StorageError(
                    f"Cannot read {url}: the server answers {answer.status}. Check the address, "
                    "and that everyone may read it."
                )
            if answer.status == 200 and answer.is_page:
                raise StorageError(
                    f"Cannot read {url}: the server answers with a web page, such as that of a "
                    "login. Check the address, and that everyone may read it."
                )
            yield answer


def index_names(content: bytes) -> list[str]:
    """Return the names of the textures in an `index.json`.

    Raises:
        ValueError: It is none; the message goes after its name.
    """
    try:
        index = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON ({error})") from error
    if not isinstance(index, dict) or not isinstance(index.get("textures"), dict):
        raise ValueError("does not name textures")
    if (found := index.get("format")) != INDEX_FORMAT:
        raise ValueError(f"has format {found!r:.20}, and this version reads {INDEX_FORMAT}")
    names = []
    for name in index["textures"]:
        try:
            names.append(checked_name(name))
        except ConfigError as error:
            raise ValueError(f"has a name that no texture has: {name!r:.80}") from error
    return sorted(names)


def _bounded(answer: Answer, most: int) -> Iterator[bytes]:
    """Yield the body of an answer.

    Raises:
        StorageError: It is larger than such a file may be.
    """
    received = 0
    if (answer.length or 0) <= most:
        for chunk in answer.chunks():
            received += len(chunk)
            if received > most:
                break
            yield chunk
        else:
            return
    raise StorageError(
        f"Cannot read {answer.url}: it has more than the {most / 1e6:.0f} MB that such a file may "
        "have. Check the address."
    )
