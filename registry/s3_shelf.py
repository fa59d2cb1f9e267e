"""A shelf in S3, with a local cache."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from registry import bundle, signing
from registry.names import checked_name, file_name, named_version, parsed, texture_of, unknown
from registry.objects import checked_object, locked, textures_in, write_object
from registry.pointer import Edit, Entry, Pointer, needed, pointer_from_json
from registry.s3_bucket import Bucket, UnreachableError
from zoo.errors import BundleError, ConfigError, StorageError
from zoo.files import storage_error, write_whole

# A conditional write fails only if another one has succeeded, so 20 failures in a row take 21
# publishers of one texture at the same moment: then something else is wrong.
ATTEMPTS = 20


class S3Shelf:
    """A shelf in S3, or in a server with the same protocol, with a local cache.

    A bundle is downloaded once. While the endpoint cannot be reached, the last pointer that was
    read is used, with a warning. `grid@sha256:<digest>` sends no request once it is in the cache.
    """

    def __init__(self, url: str, cache: Path, client: Any = None) -> None:
        """Take `s3://bucket/prefix`, a folder for the cache, and a boto3 client or None.

        Raises:
            ConfigError: The URL has no bucket.
        """
        bucket, _, prefix = url.removeprefix("s3://").strip("/").partition("/")
        if not url.startswith("s3://") or not bucket or "@" in bucket:
            raise ConfigError(
                f"'{url}' is no shelf in S3: write s3://BUCKET or s3://BUCKET/PREFIX. Credentials "
                "are read from ~/.aws, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            )
        self._bucket = Bucket(bucket, client)
        self._prefix = f"{prefix}/" if prefix else ""
        self._url = self._bucket.url(self._prefix)
        self._cache = cache
        self._pointers = cache / "textures" / bucket / prefix

    def textures(self) -> list[str]:
        """Return the names of all textures; the cache is not used.

        Raises:
            StorageError: S3 refuses or cannot be reached.
        """
        folder = f"{self._prefix}textures/"
        keys = [entry["Key"] for entry in self._bucket.entries(folder)]
        files = [key.removeprefix(folder) for key in keys if key.endswith(".json")]
        names = (file.removesuffix(".json") for file in files)
        return sorted(filter(None, map(texture_of, names)))

    def pointer(self, texture: str) -> Pointer:
        """Return the pointer of one texture.

        Raises:
            BundleError: The pointer is damaged.
            StorageError: S3 refuses, or cannot be reached and the cache has no pointer.
        """
        return self._pointer(texture) or Pointer(texture=texture)

    def pointers(self) -> dict[str, Pointer]:
        """Return the pointer of each texture.

        Raises:
            BundleError: A pointer is damaged.
            StorageError: S3 refuses, or cannot be reached and the cache has no pointer.
        """
        try:
            found = {texture: self._pointer(texture) for texture in self.textures()}
        except UnreachableError as error:
            if not self._pointers.is_dir():
                raise
            warnings.warn(f"{error} Listing what the cache holds.", stacklevel=3)
            found = {texture: self._cached(texture) for texture in textures_in(self._pointers)}
        return {texture: pointer for texture, pointer in found.items() if pointer}

    def change(self, texture: str, edit: Edit, *, folder: Path | None = None) -> Pointer:
        """Upload a bundle, if one is given, then replace the pointer of the texture and return it.

        The pointer is replaced only if it is still the one that was read. Otherwise it is read
        again, so that no writer removes what another one wrote.

        Raises:
            BundleError: The bundle is damaged.
            PromotionError: `edit` refuses; the pointer has not changed then.
            StorageError: S3 refuses or cannot be reached; the shelf serves what it served before.
        """
        texture = checked_name(texture)
        key = self._key(texture)
        digest = bundle.digest(folder) if folder else ""
        if folder:
            self._upload(folder, digest)
        added: tuple[Entry, ...] = ()  # to the history, by the last attempt
        for attempt in range(ATTEMPTS):
            found, tag = self._pointer_in_s3(texture)
            old = found or Pointer(texture=texture)
            if added and added[-1] in old.history:
                return old  # the last write was done, and only its answer was lost
            new = edit(old)
            added = new.history[len(old.history) :]
            condition = {"IfMatch": tag} if tag else {"IfNoneMatch": "*"}
            if self._bucket.put(key, new.to_json(), condition):
                if folder and not self._has(digest):  # removed before a pointer needed it
                    self._upload(folder, digest)
                return new
            time.sleep(random.uniform(0, 0.02 * 2 ** min(attempt, 6)))
        raise StorageError(
            f"Cannot publish '{texture}': {self._bucket.url(key)} was replaced by others "
            f"{ATTEMPTS} times while we tried. Run the same command again."
        )

    def check_writable(self, texture: str) -> None:
        """Refuse a name that cannot be published, and a bucket that refuses to be written.

        The write that is tried has a condition that never holds, so nothing is written.

        Raises:
            ConfigError: The texture has a name that no shelf takes.
            StorageError: S3 refuses or cannot be reached.
        """
        key = self._key(checked_name(texture))
        self._bucket.put(key, b"", {"IfMatch": '"no content has this tag"'})

    def fetch(self, name: str) -> Path:
        """Return a cached folder with the bundle of this name; errors as in `resolve`."""
        return self.resolve(name)[0]

    def resolve(self, name: str) -> tuple[Path, int]:
        """Return a cached folder with the bundle of this name, and its version.

        Every byte of the bundle is checked.

        Raises:
            UnknownDetectorError: No detector has that name.
            BundleError: It is damaged in S3.
            SignatureError: No trusted key has signed it.
            StorageError: S3 cannot be reached and the cache does not hold it, or a disk is full.
        """
        texture, reference = parsed(name)
        try:
            with locked(self._cache):
                pointer = self._cached(texture)
                pinned = reference.removeprefix("@sha256:")
                if (
                    pointer is None
                    or pinned not in pointer.versions.values()
                    or not signing.is_trusted(texture, pinned, pointer)
                ):
                    pointer = self._pointer(texture)
                if pointer is None:
                    raise unknown(texture, self.textures(), where=self._url)
                version = named_version(pointer, reference, where=self._url)
                digest = pointer.versions[version]
                signing.check(texture, digest, pointer)
                return self._object(digest), version
        except OSError as error:
            raise storage_error(f"Cannot keep '{name}' in {self._cache}", error) from error

    def ages(self) -> dict[str, float]:
        """Return the seconds since each object was last written, by digest."""
        found: dict[str, float] = {}
        for entry in self._bucket.entries(f"{self._prefix}objects/"):
            digest = entry["Key"].removeprefix(f"{self._prefix}objects/").split("/")[0]
            age = time.time() - entry["LastModified"].timestamp()
            found[digest] = min(age, found.get(digest, age))
        return found

    def check(self, digest: str) -> None:
        """Download an object again and compare every byte of it with its name.

        Raises:
            BundleError: It is damaged or missing.
        """
        with tempfile.TemporaryDirectory() as folder:
            write_object(Path(folder), digest, self._contents(digest))
            try:
                checked_object(Path(folder), digest)
            except BundleError as error:
                raise BundleError(
                    f"{self._bucket.url(self._object_key(digest, ''))} is damaged: its "
                    "SHA-256 is not its name. Promote the detector again."
                ) from error

    def discard(self, digest: str) -> bool:
        """Remove an object unless a pointer needs it.

        The card is removed first: without a card there is no bundle. Whoever publishes the same
        bundle at this moment finds it missing afterwards and uploads it again.
        """
        present = (self._pointer_in_s3(texture)[0] for texture in self.textures())
        if digest in needed(pointer for pointer in present if pointer):
            return False
        for file in reversed(bundle.FILES):
            self._bucket.delete(self._object_key(digest, file))
        return True

    def _path(self, texture: str) -> Path:
        return self._pointers / f"{file_name(texture)}.json"

    def _key(self, texture: str) -> str:
        return f"{self._prefix}textures/{file_name(texture)}.json"

    def _object_key(self, digest: str, file: str) -> str:
        return f"{self._prefix}objects/{digest}/{file}"

    def _has(self, digest: str) -> bool:
        keys = {entry["Key"] for entry in self._bucket.entries(self._object_key(digest, ""))}
        return all(self._object_key(digest, file) in keys for file in bundle.FILES)

    def _upload(self, folder: Path, digest: str) -> None:
        for file in bundle.FILES:
            self._bucket.put(self._object_key(digest, file), (folder / file).read_bytes())

    def _pointer_in_s3(self, texture: str) -> tuple[Pointer | None, str]:
        """Return a pointer as it is in S3 now, and its tag."""
        key = self._key(texture)
        content, tag = self._bucket.get(key)
        if content is None:
            return None, tag
        return pointer_from_json(content, where=self._bucket.url(key)), tag

    def _pointer(self, texture: str) -> Pointer | None:
        """Return a pointer and cache it; if S3 cannot be reached, return the cached one."""
        try:
            pointer, _ = self._pointer_in_s3(texture)
        except UnreachableError as error:
            cached = self._cached(texture)
            if cached is None:
                raise
            age = time.time() - self._path(texture).stat().st_mtime
            warnings.warn(
                f"{error} Using the last pointer seen, {_in_words(age)} ago.", stacklevel=3
            )
            return cached
        if pointer is not None:
            with suppress(OSError):  # the cache only helps when S3 is away
                self._pointers.mkdir(parents=True, exist_ok=True)
                write_whole(self._path(texture), pointer.to_json())
        return pointer

    def _cached(self, texture: str) -> Pointer | None:
        path = self._path(texture)
        try:
            return pointer_from_json(path.read_bytes(), where=str(path))
        except (FileNotFoundError, BundleError):  # a damaged cache counts as none
            return None

    def _object(self, digest: str) -> Path:
        folder = self._cache / "objects" / digest
        try:
            return checked_object(self._cache, digest)
        except BundleError:
            shutil.rmtree(folder, ignore_errors=True)  # not cached yet, or damaged on this disk
        write_object(self._cache, digest, self._contents(digest))
        try:
            return checked_object(self._cache, digest)
        except BundleError:
            shutil.rmtree(folder)
            raise

    def _contents(self, digest: str) -> dict[str, bytes]:
        """Download the files of a bundle."""
        found = {}
        for file in bundle.FILES:
            key = self._object_key(digest, file)
            content, _ = self._bucket.get(key)
            if content is None:
                raise BundleError(
                    f"{self._bucket.url(key)} is missing. Promote the detector again."
                )
            found[file] = content
        return found


def _in_words(seconds: float) -> str:
    """Return a time in the largest unit that fits.

    Example:
        >>> _in_words(5.0), _in_words(7300.0), _in_words(200_000.0)
        ('5 seconds', '2 hours', '2 days')
    """
    units = ((86400, "days"), (3600, "hours"), (60, "minutes"))
    size, unit = next((each for each in units if seconds >= 2 * each[0]), (1, "seconds"))
    return f"{seconds / size:.0f} {unit}"
