"""Published detectors, in a folder or in S3: what `zoo.load` reads.

A shelf holds two kinds of things. Objects, `objects/<digest>/`, are bundles under the name of
their content and never change. Pointers, `textures/<texture>.json`, one a texture, say which
digest each version and alias stands for and are replaced whole; so a reader sees the old champion
or the new one, and never half of either. The names a reader may ask for are `grid` (the champion),
`grid@challenger`, `grid:3` and `grid@sha256:<digest>`.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from registry.pointer import CHAMPION, Edit, Pointer, pointer_from_json
from zoo import bundle
from zoo.errors import (
    BundleError,
    ConfigError,
    StorageError,
    UnknownDetectorError,
    did_you_mean,
)

FILES = (bundle.WEIGHTS, bundle.CARD)  # the card comes last: an object with a card is complete
TEXTURE_NAME = re.compile(r"[^\W_][\w. -]*")
# A failed conditional put means that somebody else's succeeded, so twenty losses in a row need
# twenty-one publishers of one texture at the same moment: by then something else is wrong.
ATTEMPTS = 20
READS = 4  # of an object whose answer breaks off


@runtime_checkable
class Shelf(Protocol):
    """A place for published detectors."""

    def textures(self) -> list[str]:
        """Return the names of all textures, as they are there now."""

    def pointer(self, texture: str) -> Pointer:
        """Return what the names of one texture stand for; an empty one for one that is not there.

        Raises:
            BundleError: The pointer is damaged.
        """

    def pointers(self) -> dict[str, Pointer]:
        """Return the pointer of each texture."""

    def change(self, texture: str, edit: Edit, *, folder: Path | None = None) -> Pointer:
        """Replace a texture's pointer by what `edit` makes of it, and return the new one.

        `folder` is a bundle that the new pointer needs; it is on the shelf before the pointer is.
        """

    def fetch(self, name: str) -> Path:
        """Return a local folder that holds the bundle of this name, every byte of it checked."""


@runtime_checkable
class Objects(Protocol):
    """The bundles that a shelf holds, whether a pointer needs them or not."""

    def ages(self) -> dict[str, float]:
        """Return how many seconds ago each object was last written, by digest."""

    def check(self, digest: str) -> None:
        """Read an object where it lies, past any cache, and compare every byte with its name."""

    def discard(self, digest: str) -> bool:
        """Remove an object unless a pointer needs it now, and return whether it went."""


def names_on(shelf: Shelf) -> dict[str, dict[str, str]]:
    """Return, for each texture, the digest that each alias and version stands for."""
    return {texture: pointer.digests() for texture, pointer in shelf.pointers().items()}


def pointer_of(shelf: Shelf, texture: str) -> Pointer:
    """Return what one texture's names stand for, and its history.

    Raises:
        UnknownDetectorError: The shelf has nothing of that texture; near names are offered.
    """
    found = shelf.pointer(texture)
    if not found.history and not found.versions:
        raise _unknown(texture, shelf.textures(), where="in use")
    return found


def needed(pointers: Iterable[Pointer]) -> set[str]:
    """Return the digests of all versions that these pointers have."""
    return {digest for pointer in pointers for digest in pointer.versions.values()}


def lineage(shelf: Shelf, texture: str, *, digest: str) -> dict[str, Any]:
    """Return where a bundle of a texture stands on a shelf, and how it came there."""
    pointer = pointer_of(shelf, texture)
    version = pointer.version_of(digest)
    came = next((asdict(each) for each in pointer.history if each.version == version), {})
    aliases = sorted(alias for alias, at in pointer.aliases.items() if at == version)
    return {"digest": digest, "lineage": {"version": version, "aliases": aliases} | came}


def checked_name(texture: str) -> str:
    """Return the name of a texture if it can be a file's and leaves `@` and `:` to the shelf.

    Raises:
        ConfigError: It cannot.
    """
    if not TEXTURE_NAME.fullmatch(texture):
        raise ConfigError(
            f"'{texture}' cannot name a texture on a shelf: a name starts with a letter or a digit "
            "and has only letters, digits, blanks, '.', '_' and '-'. Rename the folder."
        )
    return texture


class FolderShelf:
    """A shelf in a folder, for one machine or a shared disk."""

    def __init__(self, root: Path) -> None:
        """Name the folder; nothing is made before something is published."""
        self._root = root

    def pointers(self) -> dict[str, Pointer]:
        """Return the pointer of each texture."""
        return {texture: self.pointer(texture) for texture in self.textures()}

    def pointer(self, texture: str) -> Pointer:
        """Return the pointer of one texture."""
        path = self._path(texture)
        if not path.is_file():
            return Pointer(texture=texture)
        return pointer_from_json(path.read_bytes(), where=str(path))

    def textures(self) -> list[str]:
        """Return the names of all textures."""
        return _stems(self._root / "textures")

    def change(self, texture: str, edit: Edit, *, folder: Path | None = None) -> Pointer:
        """Copy a bundle to its address, if one is given, then replace the texture's pointer.

        One writer at a time: `edit` sees what the writer before left.

        Raises:
            BundleError: The bundle is damaged.
            PromotionError: `edit` refuses; nothing has changed then.
            StorageError: The disk is full or read-only; the shelf serves what it served before.
        """
        path = self._path(checked_name(texture))
        digest = bundle.digest(folder) if folder else ""
        try:
            with _locked(self._root):
                pointer = edit(self.pointer(texture))
                if folder:
                    parts = {file: (folder / file).read_bytes() for file in FILES}
                    _keep(self._root, digest, parts)
                path.parent.mkdir(exist_ok=True)
                bundle.write_whole(path, pointer.to_json())
        except OSError as error:
            what = f"Cannot publish '{texture}' on {self._root}"
            raise bundle.storage_error(what, error) from error
        return pointer

    def fetch(self, name: str) -> Path:
        """Return the folder of the bundle of this name, every byte of it checked.

        Raises:
            UnknownDetectorError: No detector has that name.
            BundleError: It is damaged.
        """
        texture, reference = _parsed(name)
        if not self._path(texture).is_file():
            raise _unknown(texture, self.textures(), where=str(self._root))
        digest = _digest(self.pointer(texture), name, reference, where=str(self._root))
        return _checked(self._root / "objects" / digest, digest)

    def ages(self) -> dict[str, float]:
        """Return how many seconds ago each object was last written, by digest."""
        folders = [each for each in (self._root / "objects").glob("[!.]*") if each.is_dir()]
        return {
            folder.name: time.time()
            - max(each.stat().st_mtime for each in (folder, *folder.iterdir()))
            for folder in folders
        }

    def check(self, digest: str) -> None:
        """Read an object and compare every byte of it with its name.

        Raises:
            BundleError: It is damaged or missing.
        """
        _checked(self._root / "objects" / digest, digest)

    def discard(self, digest: str) -> bool:
        """Remove an object unless a pointer needs it; no publisher is at work meanwhile."""
        try:
            with _locked(self._root):
                if digest in needed(self.pointers().values()):
                    return False
                shutil.rmtree(self._root / "objects" / digest)
        except OSError as error:
            what = f"Cannot remove {digest} from {self._root}"
            raise bundle.storage_error(what, error) from error
        return True

    def _path(self, texture: str) -> Path:
        return self._root / "textures" / f"{texture}.json"


class S3Shelf:
    """A shelf in S3, or in anything that speaks S3, with a local cache.

    A bundle is downloaded once. When the endpoint cannot be reached, the last pointer seen is
    used, with a warning; `grid@sha256:<digest>` asks S3 nothing once it is in the cache.
    """

    def __init__(self, url: str, cache: Path, client: Any = None) -> None:
        """Take `s3://bucket/prefix`, a folder for the cache, and a boto3 client or none.

        Raises:
            ConfigError: The URL names no bucket.
        """
        self._bucket, _, prefix = url.removeprefix("s3://").strip("/").partition("/")
        if not url.startswith("s3://") or not self._bucket:
            raise ConfigError(
                f"'{url}' is no shelf in S3: write s3://BUCKET or s3://BUCKET/PREFIX."
            )
        self._prefix = f"{prefix}/" if prefix else ""
        self._cache = cache
        self._pointers = cache / "textures" / self._bucket / prefix
        self._client = client if client is not None else _s3_client()

    def pointers(self) -> dict[str, Pointer]:
        """Return the pointer of each texture."""
        try:
            found = {texture: self._pointer(texture) for texture in self.textures()}
        except _UnreachableError as error:
            if not self._pointers.is_dir():
                raise
            warnings.warn(f"{error} Listing what the cache holds.", stacklevel=3)
            found = {texture: self._cached(texture) for texture in _stems(self._pointers)}
        return {texture: pointer for texture, pointer in found.items() if pointer}

    def pointer(self, texture: str) -> Pointer:
        """Return the pointer of one texture."""
        return self._pointer(texture) or Pointer(texture=texture)

    def textures(self) -> list[str]:
        """Return the names of all textures, past any cache."""
        folder = f"{self._prefix}textures/"
        keys = [entry["Key"] for entry in self._listed(folder)]
        names = [key.removeprefix(folder) for key in keys if key.endswith(".json")]
        return sorted(name.removesuffix(".json") for name in names if "/" not in name)

    def change(self, texture: str, edit: Edit, *, folder: Path | None = None) -> Pointer:
        """Upload a bundle, if one is given, then replace the texture's pointer, and return it.

        The pointer is replaced only if it still is the one that was read; otherwise it is read
        again, so that no writer loses what another wrote.

        Raises:
            BundleError: The bundle is damaged.
            PromotionError: `edit` refuses; the pointer has not changed then.
            StorageError: S3 refuses or cannot be reached; the shelf serves what it served before.
        """
        key = self._key(checked_name(texture))
        digest = bundle.digest(folder) if folder else ""
        if folder:
            self._upload(folder, digest)
        new = Pointer(texture=texture)
        for attempt in range(ATTEMPTS):
            found, tag = self._pointer_there(texture)
            old = found or Pointer(texture=texture)
            if new.history and new.history[-1] in old.history:
                return old  # it was written, and only the answer was lost
            new = edit(old)
            if self._put(key, new.to_json(), {"IfMatch": tag} if tag else {"IfNoneMatch": "*"}):
                if folder and not self._has(digest):  # a collector thought that nobody needs it
                    self._upload(folder, digest)
                return new
            time.sleep(random.uniform(0, 0.02 * 2 ** min(attempt, 6)))
        raise StorageError(
            f"Cannot publish '{texture}': {self._url(key)} was replaced by others {ATTEMPTS} times "
            "while we tried. Run the same command again."
        )

    def fetch(self, name: str) -> Path:
        """Return a cached folder with the bundle of this name, every byte of it checked.

        Raises:
            UnknownDetectorError: No detector has that name.
            BundleError: It is damaged in S3.
            StorageError: S3 cannot be reached and the cache does not hold it, or a disk is full.
        """
        texture, reference = _parsed(name)
        try:
            with _locked(self._cache):
                known = self._cached(texture)
                if known and reference.removeprefix("@sha256:") in known.versions.values():
                    return self._object(reference.removeprefix("@sha256:"))
                pointer = self._pointer(texture)
                if pointer is None:
                    raise _unknown(texture, self.textures(), where=self._url(""))
                return self._object(_digest(pointer, name, reference, where=self._url("")))
        except OSError as error:
            raise bundle.storage_error(f"Cannot keep '{name}' in {self._cache}", error) from error

    def ages(self) -> dict[str, float]:
        """Return how many seconds ago each object was last written, by digest."""
        found: dict[str, float] = {}
        for entry in self._listed(f"{self._prefix}objects/"):
            digest = entry["Key"].removeprefix(f"{self._prefix}objects/").split("/")[0]
            age = time.time() - entry["LastModified"].timestamp()
            found[digest] = min(age, found.get(digest, age))
        return found

    def check(self, digest: str) -> None:
        """Download an object anew and compare every byte of it with its name.

        Raises:
            BundleError: It is damaged or missing.
        """
        with tempfile.TemporaryDirectory() as folder:
            _keep(Path(folder), digest, self._parts(digest))
            try:
                _checked(Path(folder) / "objects" / digest, digest)
            except BundleError as error:
                raise BundleError(
                    f"{self._url(f'{self._prefix}objects/{digest}')} is damaged: its SHA-256 is "
                    "not its name. Promote the detector again."
                ) from error

    def discard(self, digest: str) -> bool:
        """Remove an object unless a pointer needs it, its card first: without it, it is none.

        A publisher of the same bundle at this very moment finds it gone and puts it back.
        """
        there = (self._pointer_there(texture)[0] for texture in self.textures())
        if digest in needed(pointer for pointer in there if pointer):
            return False
        for file in reversed(FILES):
            key = f"{self._prefix}objects/{digest}/{file}"
            with _told("remove", self._url(key)):
                self._client.delete_object(Bucket=self._bucket, Key=key)
        return True

    def _has(self, digest: str) -> bool:
        keys = {entry["Key"] for entry in self._listed(f"{self._prefix}objects/{digest}/")}
        return all(f"{self._prefix}objects/{digest}/{file}" in keys for file in FILES)

    def _upload(self, folder: Path, digest: str) -> None:
        for file in FILES:
            self._put(f"{self._prefix}objects/{digest}/{file}", (folder / file).read_bytes(), {})

    def _key(self, texture: str) -> str:
        return f"{self._prefix}textures/{texture}.json"

    def _url(self, key: str) -> str:
        return f"s3://{self._bucket}/{key or self._prefix}".rstrip("/")

    def _listed(self, prefix: str) -> list[dict[str, Any]]:
        with _told("list", self._url(prefix)):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix
            )
            return [entry for page in pages for entry in page.get("Contents", [])]

    def _pointer_there(self, texture: str) -> tuple[Pointer | None, str]:
        """Return a pointer as S3 has it now, and its tag."""
        key = self._key(texture)
        content, tag = self._get(key)
        if content is None:
            return None, tag
        return pointer_from_json(content, where=self._url(key)), tag

    def _pointer(self, texture: str) -> Pointer | None:
        """Return a pointer and remember it; where S3 is away, return the one remembered."""
        try:
            pointer, _ = self._pointer_there(texture)
        except _UnreachableError as error:
            cached = self._cached(texture)
            if cached is None:
                raise
            seen = time.time() - (self._pointers / f"{texture}.json").stat().st_mtime
            warnings.warn(
                f"{error} Using the last pointer seen, {_told_age(seen)} ago.", stacklevel=3
            )
            return cached
        if pointer is not None:
            self._pointers.mkdir(parents=True, exist_ok=True)
            bundle.write_whole(self._pointers / f"{texture}.json", pointer.to_json())
        return pointer

    def _cached(self, texture: str) -> Pointer | None:
        path = self._pointers / f"{texture}.json"
        try:
            return pointer_from_json(path.read_bytes(), where=str(path))
        except (FileNotFoundError, BundleError):  # a damaged cache is as good as none
            return None

    def _object(self, digest: str) -> Path:
        folder = self._cache / "objects" / digest
        try:
            return _checked(folder, digest)
        except BundleError:
            shutil.rmtree(folder, ignore_errors=True)  # not there yet, or damaged on this disk
        _keep(self._cache, digest, self._parts(digest))
        try:
            return _checked(folder, digest)
        except BundleError:
            shutil.rmtree(folder)
            raise

    def _parts(self, digest: str) -> dict[str, bytes]:
        keys = {file: f"{self._prefix}objects/{digest}/{file}" for file in FILES}
        parts = {file: self._get(key)[0] for file, key in keys.items()}
        missing = [self._url(keys[file]) for file, content in parts.items() if content is None]
        if missing:
            raise BundleError(f"{missing[0]} is missing. Promote the detector again.")
        return {file: content or b"" for file, content in parts.items()}

    def _get(self, key: str) -> tuple[bytes | None, str]:
        from botocore.exceptions import (
            ClientError,
            IncompleteReadError,
            ReadTimeoutError,
            ResponseStreamingError,
        )
        from urllib3.exceptions import HTTPError

        broken = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError, HTTPError)
        with _told("read", self._url(key)):
            for attempt in range(READS):
                try:
                    answer = self._client.get_object(Bucket=self._bucket, Key=key)
                    return answer["Body"].read(), answer["ETag"]
                except ClientError as error:
                    if _code(error) == "NoSuchKey":
                        return None, ""
                    raise
                except broken:  # half-way, where boto3 does not try again
                    if attempt == READS - 1:
                        raise
        raise AssertionError("every attempt ends")

    def _put(self, key: str, content: bytes, condition: Mapping[str, str]) -> bool:
        """Write one object and return whether its condition held."""
        from botocore.exceptions import ClientError

        with _told("write", self._url(key)):
            try:
                self._client.put_object(Bucket=self._bucket, Key=key, Body=content, **condition)
                return True
            except ClientError as error:
                # NoSuchKey: the pointer that was read has been removed meanwhile.
                lost = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"}
                if condition and _code(error) in lost:
                    return False
                raise


def home() -> Path:
    """Return the folder that everything is kept under: `ZOO_HOME`, else `./zoo-home`."""
    return Path(os.environ.get("ZOO_HOME") or "zoo-home")


def open_shelf(url: str | None = None) -> Shelf:
    """Return the shelf of this URL, else of `ZOO_SHELF`, else the folder `shelf` under the home.

    Args:
        url: A folder, or `s3://BUCKET/PREFIX`.

    Raises:
        ConfigError: It is neither.
    """
    url = url or os.environ.get("ZOO_SHELF") or str(home() / "shelf")
    if url.startswith("s3://"):
        return S3Shelf(url, cache=home() / "cache")
    if "://" in url:
        raise ConfigError(f"'{url}' is no shelf: set ZOO_SHELF to a folder or s3://BUCKET/PREFIX.")
    return FolderShelf(Path(url))


class _UnreachableError(StorageError):
    """No answer came from the endpoint, so a cache may step in."""


def _s3_client() -> Any:
    import boto3
    from botocore.config import Config

    # boto3 would wait a minute for each of five attempts.
    retries = {"mode": "standard", "max_attempts": 4}
    return boto3.client("s3", config=Config(connect_timeout=5, read_timeout=20, retries=retries))


def _told_age(seconds: float) -> str:
    """Say how long ago something was, in the largest unit that fits.

    Example:
        >>> _told_age(5.0), _told_age(7300.0), _told_age(200_000.0)
        ('5 seconds', '2 hours', '2 days')
    """
    units = ((86400, "days"), (3600, "hours"), (60, "minutes"))
    size, unit = next((each for each in units if seconds >= 2 * each[0]), (1, "seconds"))
    return f"{seconds / size:.0f} {unit}"


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


@contextmanager
def _told(verb: str, url: str) -> Iterator[None]:
    """Say what S3 refused, where, and what to do."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionError,
        HTTPClientError,
        NoCredentialsError,
    )
    from urllib3.exceptions import HTTPError  # boto3 lets it pass where an answer breaks off

    try:
        yield
    except ClientError as error:
        advice = {
            "NoSuchBucket": "there is no such bucket; make it, or set ZOO_SHELF to another",
            "AccessDenied": "access denied; the credentials in use need s3:GetObject, s3:PutObject "
            "and s3:ListBucket there",
        }.get(_code(error), f"{error}; see to it, then run the same command again")
        raise StorageError(f"Cannot {verb} {url}: {advice}.") from error
    except NoCredentialsError as error:
        raise StorageError(
            f"Cannot {verb} {url}: there are no AWS credentials; run `aws configure` or set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        ) from error
    except (ConnectionError, HTTPClientError, HTTPError) as error:
        raise _UnreachableError(
            f"Cannot {verb} {url}: {error}. Check the network and AWS_ENDPOINT_URL."
        ) from error
    except BotoCoreError as error:
        raise StorageError(f"Cannot {verb} {url}: {error}. Check the AWS configuration.") from error


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Let one writer at a time into a folder, be it another thread, process or, on NFS, machine."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _stems(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("[!.]*.json")) if folder.is_dir() else []


def _keep(root: Path, digest: str, parts: Mapping[str, bytes]) -> None:
    folder = root / "objects" / digest
    folder.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        bundle.write_whole(folder / file, parts[file])


def _checked(folder: Path, digest: str) -> Path:
    found = bundle.digest(folder)
    if found != digest:
        raise BundleError(
            f"{folder} is damaged: its digest should be {digest} and is {found}. "
            "Promote the detector again."
        )
    return folder


def _parsed(name: str) -> tuple[str, str]:
    """Split a name into the texture and `@alias`, `:version`, `@sha256:digest` or nothing.

    Example:
        >>> _parsed("grid@challenger"), _parsed("grid:3"), _parsed("grid")
        (('grid', '@challenger'), ('grid', ':3'), ('grid', ''))
    """
    texture = re.split("[@:]", name, maxsplit=1)[0]
    if not TEXTURE_NAME.fullmatch(texture):
        raise UnknownDetectorError(
            f"'{name}' is no detector's name: write TEXTURE, TEXTURE@ALIAS, TEXTURE:VERSION or "
            "TEXTURE@sha256:DIGEST."
        )
    return texture, name[len(texture) :]


def _digest(pointer: Pointer, name: str, reference: str, *, where: str) -> str:
    known = {f"@{alias}": pointer.versions[at] for alias, at in sorted(pointer.aliases.items())}
    known |= {f":{at}": pointer.versions[at] for at in sorted(pointer.versions)}
    pinned = {f"@sha256:{digest}": digest for digest in pointer.versions.values()}
    found = (known | pinned).get(reference or f"@{CHAMPION}")
    if found is None:
        names = [pointer.texture + reference for reference in known]
        raise UnknownDetectorError(
            f"No detector '{name}' on the shelf {where}; of '{pointer.texture}' it has "
            f"{', '.join(names)}.{did_you_mean(name, names)}"
        )
    return found


def _unknown(texture: str, known: Sequence[str], *, where: str) -> UnknownDetectorError:
    if not known:
        return UnknownDetectorError(
            f"No detector '{texture}' on the shelf {where}; it is empty. "
            f"Make one: `zoo search --category {texture} --data DIR`."
        )
    return UnknownDetectorError(
        f"No detector '{texture}' on the shelf {where}; it has {', '.join(known)}."
        f"{did_you_mean(texture, known)}"
    )
