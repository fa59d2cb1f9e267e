"""A large file from a web server: resumed after whatever stops it, and checked byte for byte.

The bytes that came are in `NAME.part`, and what names the content they are of in `NAME.json`, so
that a file which has changed meanwhile is not joined to the beginning of another.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Protocol, runtime_checkable

from zoo.errors import DataError, StorageError, UnreachableError
from zoo.files import LEAST_FREE, read_object, storage_error, write_whole
from zoo.https import CHUNK, Answer, Client

TRIES = 5  # without a byte in between
WAITS_S = (1.0, 2.0, 4.0, 8.0)
ROUNDED = 1.05  # a size that is known may be rounded by so much
MOST_BYTES = 2**38  # of a file whose size is not known

Progress = Callable[[str, int, int | None], None]  # what is done, bytes, and bytes in all


class _NoRoomError(StorageError):
    """The disk has no room for the file, wherever it comes from."""


@runtime_checkable
class _Digest(Protocol):
    """What `hashlib` returns."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A file to download.

    Attributes:
        name: What it is called on this disk.
        page: Where a person finds it.
        urls: Addresses of the same file; the first that answers is used.
        sha256: Of its content; None takes whatever comes.
        bytes: Its size, which may be rounded; None if it is not known.
    """

    name: str
    page: str
    urls: tuple[str, ...]
    sha256: str | None
    bytes: int | None = None

    @property
    def most(self) -> int:
        """The bytes that are taken."""
        return round(self.bytes * ROUNDED) + 2**20 if self.bytes else MOST_BYTES


@dataclass(kw_only=True)
class _Part:
    """What came of a file so far."""

    path: Path
    url: str = ""
    tag: str = ""
    total: int | None = None
    received: int = 0
    digest: _Digest = field(default_factory=hashlib.sha256)

    @property
    def state(self) -> Path:
        return self.path.with_suffix(".json")

    def restart(self) -> None:
        self.received, self.digest, self.tag, self.total = 0, hashlib.sha256(), "", None
        self.path.write_bytes(b"")

    def note(self) -> None:
        state = {"url": self.url, "tag": self.tag, "total": self.total}
        write_whole(self.state, json.dumps(state).encode())


@dataclass(frozen=True, kw_only=True)
class Downloader:
    """Downloads files into a folder.

    Attributes:
        folder: Where; it is there.
        web: Asks the servers.
        progress: Receives what is done, the bytes of it, and the bytes in all.
        say: Receives a line where something is worth it.
        pause: Waits for some seconds.
    """

    folder: Path
    web: Client
    progress: Progress
    say: Callable[[str], None]
    pause: Callable[[float], None] = time.sleep

    def download(self, remote: Remote) -> Path:
        """Return the file, complete and checked; what came before an error stays for the next time.

        Raises:
            DataError: It is another file than the one of the SHA-256.
            StorageError: No address answers, or with something else, or the disk is full.
        """
        whole = self.folder / remote.name
        try:
            if whole.is_file():
                if remote.sha256 is None or remote.sha256 == self.digest_of(whole):
                    return whole
                whole.unlink()  # of another SHA-256, which was asked for before
            part = self._found(remote)
            resumed = part.received > 0
            self._fetch(remote, part)
            if resumed and remote.sha256 not in (None, part.digest.hexdigest()):
                self.say(f"{remote.name} does not fit what came of it before; beginning again.")
                part.restart()
                self._fetch(remote, part)
            self._check(remote, part)
            part.path.rename(whole)
            part.state.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(f"Cannot keep {remote.name}", error) from error
        return whole

    def digest_of(self, path: Path) -> str:
        """Return the SHA-256 of a file, with progress."""
        return self._digest(path).hexdigest()

    def left(self, remote: Remote) -> int | None:
        """Return the bytes that are still to be downloaded, about; None if that is not known."""
        if (self.folder / remote.name).is_file():
            return 0
        part = self._path(remote)
        there = part.stat().st_size if part.is_file() else 0
        return None if remote.bytes is None else max(remote.bytes - there, 0)

    def _path(self, remote: Remote) -> Path:
        return self.folder / f"{remote.name}.part"

    def _found(self, remote: Remote) -> _Part:
        """Return what came of a file before."""
        part = _Part(path=self._path(remote))
        known = read_object(part.state)
        url, tag, total = (known.get(name) for name in ("url", "tag", "total"))
        if not part.path.is_file() or not isinstance(url, str) or not isinstance(tag, str):
            part.restart()
            return part
        if not tag and remote.sha256 is None:  # nothing tells whether it is still that file
            part.restart()
            return part
        part.url, part.tag, part.total = url, tag, total if type(total) is int else None
        part.digest, part.received = self._digest(part.path), part.path.stat().st_size
        return part

    def _digest(self, path: Path) -> _Digest:
        found, done, size = hashlib.sha256(), 0, path.stat().st_size
        with path.open("rb") as file:
            while chunk := file.read(16 * CHUNK):
                found.update(chunk)
                done += len(chunk)
                self.progress(f"checking {path.name}", done, size)
        return found

    def _fetch(self, remote: Remote, part: _Part) -> None:
        """Download the rest of a file from the first address that has it."""
        if part.received and part.received == part.total:
            return
        for number, url in enumerate(remote.urls, 1):
            try:
                self._from(url, remote, part)
                return
            except _NoRoomError:
                raise
            except StorageError as error:
                if number == len(remote.urls):
                    raise StorageError(
                        f"{error} The same command goes on with what came. If the address is dead, "
                        f"see {remote.page}, and give another one with --url, or what you have "
                        "downloaded with --archive."
                    ) from error
                self.say(f"{error} Trying the next address.")

    def _from(self, url: str, remote: Remote, part: _Part) -> None:
        if part.url != url and part.received and remote.sha256 is None:
            part.restart()  # another server may have another file
        if part.url != url:
            part.url, part.tag = url, ""
        fruitless = 0
        while True:
            before = part.received
            try:
                self._attempt(remote, part)
                return
            except UnreachableError as error:
                fruitless = 1 if part.received > before else fruitless + 1
                if fruitless >= TRIES:
                    raise
                wait = error.retry_after_s or WAITS_S[min(fruitless, len(WAITS_S)) - 1]
                self.say(f"{error} Going on in {wait:.0f} s, at {part.received / 1e6:.1f} MB.")
                self.pause(wait)

    def _attempt(self, remote: Remote, part: _Part) -> None:
        """Ask once for the rest of a file, and write what comes."""
        headers = {}
        if part.received:
            headers["Range"] = f"bytes={part.received}-"
            if part.tag:
                headers["If-Range"] = part.tag
        with self.web.get(part.url, headers) as answer:
            if self._is_complete(answer, part):
                return
            self._check_answer(answer, part)
            begin = self._begin(answer, part)
            total = None if answer.length is None else begin + answer.length
            self._check_size(remote, answer.url, begin, total)
            chunks = answer.chunks()
            first = next(chunks, b"")
            if begin == 0:
                _check_beginning(first, answer.url)
                if part.received:  # what came is given up only for the beginning of an archive
                    self.say(f"{remote.name} begins again: the server sends all of it.")
                part.restart()
            part.total, part.tag = total, _tag(answer)
            part.note()
            self._write(chain([first], chunks), answer, remote, part)

    def _write(self, chunks: Iterable[bytes], answer: Answer, remote: Remote, part: _Part) -> None:
        with part.path.open("ab") as file:
            for chunk in chunks:
                if part.received + len(chunk) > remote.most:
                    raise _too_large(answer.url, part.received + len(chunk), remote.most)
                file.write(chunk)
                part.digest.update(chunk)
                part.received += len(chunk)
                self.progress(remote.name, part.received, part.total or remote.bytes)

    @staticmethod
    def _is_complete(answer: Answer, part: _Part) -> bool:
        """Return whether the server has no more bytes than came; restart if it has fewer."""
        if answer.status != 416:
            return False
        if answer.headers.get("Content-Range", "").strip() == f"bytes */{part.received}":
            return True
        part.restart()
        raise UnreachableError(
            f"Cannot read {answer.url}: the server has not the rest of what came; it has changed."
        )

    @staticmethod
    def _check_answer(answer: Answer, part: _Part) -> None:
        """Refuse what is no answer with the file.

        Raises:
            StorageError: It is none.
        """
        if answer.status not in (200, 206):
            why = {404: "there is nothing", 410: "there is nothing any more"}
            told = why.get(answer.status, f"the server answers {answer.status}")
            raise StorageError(f"Cannot read {answer.url}: {told}.")
        if answer.is_page:
            raise StorageError(
                f"Cannot read {answer.url}: the server answers with a web page and not with a file."
            )

    @staticmethod
    def _begin(answer: Answer, part: _Part) -> int:
        """Return which byte of the file the answer begins with: 0, or that after what came."""
        if answer.status == 200:
            return 0
        stated = answer.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15}|\*)", stated.strip())
        fits = match and int(match[1]) == part.received
        if match and fits and part.total is not None and match[3] != "*":
            fits = int(match[3]) == part.total
        if not fits:
            part.restart()
            raise UnreachableError(
                f"Cannot read {answer.url}: the server answers with another part ({stated[:80]}) "
                "than the one that was asked for."
            )
        return part.received

    def _check_size(self, remote: Remote, url: str, begin: int, total: int | None) -> None:
        """Refuse a file that is larger than it should be, or than the disk has room for."""
        if total is None:
            return
        if total > remote.most:
            raise _too_large(url, total, remote.most)
        free = shutil.disk_usage(self.folder).free
        if total - begin > free - LEAST_FREE:
            raise _NoRoomError(
                f"{remote.name} has {total / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free where "
                f"{self.folder} is. Free some space, or give --data on another disk."
            )

    def _check(self, remote: Remote, part: _Part) -> None:
        """Refuse a file of another SHA-256, and keep it under another name.

        Raises:
            DataError: It is such a file.
        """
        found = part.digest.hexdigest()
        if remote.sha256 in (None, found):
            return
        refused = self.folder / f"{remote.name}.refused"
        part.path.replace(refused)
        part.state.unlink(missing_ok=True)
        raise DataError(
            f"{part.url} gave another file than the one known: its SHA-256 is {found} and should "
            f"be {remote.sha256}. It is kept as {refused} and not used. If its authors have "
            "replaced it and you trust the new one, state its hash with --sha256."
        )


def _tag(answer: Answer) -> str:
    """Return what names this content of a file to its server, for `If-Range`; "" without such."""
    tag = answer.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")


def _check_beginning(chunk: bytes, url: str) -> None:
    beginning = chunk.lstrip()[:1]
    if beginning in (b"<", b"{"):
        raise StorageError(
            f"Cannot read {url}: what it sends is no archive; it begins with "
            f"{chunk.lstrip()[:40].decode(errors='replace')!r}."
        )


def _too_large(url: str, size: int, most: int) -> StorageError:
    return StorageError(
        f"Cannot read {url}: it has {size / 1e6:.0f} MB or more, and should have {most / 1e6:.0f} "
        "MB at most. It is another file than the one known."
    )
