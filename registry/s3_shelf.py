"""A shelf in S3, with a local cache."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

from registry import bundle
from registry.names import checked_name, file_name, texture_of
from registry.pointer import Edit, Entry, Pointer, needed, pointer_from_json
from registry.s3_bucket import Bucket
from registry.shelf_cache import Known, ShelfCache
from zoo.errors import BundleError, ConfigError, StorageError

# A conditional write fails only if another one has succeeded, so 20 failures in a row take 21
# publishers of one texture at the same moment: then something else is wrong.
ATTEMPTS = 20


class S3Source:
    """A shelf in S3 as it is now, without a cache.

    Attributes:
        url: Its address, for messages.
    """

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        """Take a bucket, and a prefix of keys that is empty or ends in a slash."""
        self.bucket, self.prefix = bucket, prefix
        self.url = bucket.url(prefix)

    def textures(self) -> list[str]:
        """Return the names of all textures.

        Raises:
            StorageError: S3 refuses or cannot be reached.
        """
        folder = f"{self.prefix}textures/"
        keys = [entry["Key"] for entry in self.bucket.entries(folder)]
        files = [key.removeprefix(folder) for key in keys if key.endswith(".json")]
        names = (file.removesuffix(".json") for file in files)
        return sorted(filter(None, map(texture_of, names)))

    def pointer(self, texture: str, before: Known | None = None) -> Known | None:
        """Return a pointer as it is in S3 now, and its tag; None if there is none.

        Raises:
            BundleError: It is damaged.
            StorageError: S3 refuses or cannot be reached.
        """
        key = self.key(texture)
        content, tag = self.bucket.get(key)
        if content is None:
            return None
        if before and tag and tag == before.tag:
            return before
        return Known(pointer=pointer_from_json(content, where=self.bucket.url(key)), tag=tag)

    def download(self, digest: str, folder: Path) -> None:
        """Write the files of a bundle into a folder.

        Raises:
            BundleError: One of them is missing.
            StorageError: S3 refuses or cannot be reached.
        """
        for file in bundle.FILES:
            key = self.object_key(digest, file)
            content, _ = self.bucket.get(key)
            if content is None:
                raise BundleError(f"{self.bucket.url(key)} is missing. Promote the detector again.")
            (folder / file).write_bytes(content)

    def key(self, texture: str) -> str:
        """Return the key of the pointer of a texture."""
        return f"{self.prefix}textures/{file_name(texture)}.json"

    def object_key(self, digest: str, file: str) -> str:
        """Return the key of a file of a bundle."""
        return f"{self.prefix}objects/{digest}/{file}"


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
        self._source = S3Source(self._bucket, f"{prefix}/" if prefix else "")
        self._cache = ShelfCache(self._source, cache, cache / "textures" / bucket / prefix)

    def textures(self) -> list[str]:
        """Return the names of all textures; the cache is not used.

        Raises:
            StorageError: S3 refuses or cannot be reached.
        """
        return self._source.textures()

    def pointer(self, texture: str) -> Pointer:
        """Return the pointer of one texture.

        Raises:
            BundleError: The pointer is damaged.
            StorageError: S3 refuses, or cannot be reached and the cache has no pointer.
        """
        return self._cache.pointer(texture) or Pointer(texture=texture)

    def pointers(self) -> dict[str, Pointer]:
        """Return the pointer of each texture.

        Raises:
            BundleError: A pointer is damaged.
            StorageError: S3 refuses, or cannot be reached and the cache has no pointer.
        """
        return self._cache.pointers()

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
        key = self._source.key(texture)
        digest = bundle.digest(folder) if folder else ""
        if folder:
            self._upload(folder, digest)
        added: tuple[Entry, ...] = ()  # to the history, by the last attempt
        for attempt in range(ATTEMPTS):
            found = self._source.pointer(texture)
            old = found.pointer if found else Pointer(texture=texture)
            if added and added[-1] in old.history:
                return old  # the last write was done, and only its answer was lost
            new = edit(old)
            added = new.history[len(old.history) :]
            condition = {"IfMatch": found.tag} if found else {"IfNoneMatch": "*"}
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
        key = self._source.key(checked_name(texture))
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
        return self._cache.resolve(name)

    def local(self, digest: str) -> Path:
        """Return the folder of a bundle on this machine, whether or not it is there; unchecked."""
        return self._cache.local(digest)

    def ages(self) -> dict[str, float]:
        """Return the seconds since each object was last written, by digest."""
        found: dict[str, float] = {}
        objects = f"{self._source.prefix}objects/"
        for entry in self._bucket.entries(objects):
            digest = entry["Key"].removeprefix(objects).split("/")[0]
            age = time.time() - entry["LastModified"].timestamp()
            found[digest] = min(age, found.get(digest, age))
        return found

    def check(self, digest: str) -> None:
        """Download an object again and compare every byte of it with its name.

        Raises:
            BundleError: It is damaged or missing.
        """
        self._cache.check(digest)

    def discard(self, digest: str) -> bool:
        """Remove an object unless a pointer needs it.

        The card is removed first: without a card there is no bundle. Whoever publishes the same
        bundle at this moment finds it missing afterwards and uploads it again.
        """
        present = (self._source.pointer(texture) for texture in self.textures())
        if digest in needed(known.pointer for known in present if known):
            return False
        for file in reversed(bundle.FILES):
            self._bucket.delete(self._source.object_key(digest, file))
        return True

    def _has(self, digest: str) -> bool:
        keys = {entry["Key"] for entry in self._bucket.entries(self._source.object_key(digest, ""))}
        return all(self._source.object_key(digest, file) in keys for file in bundle.FILES)

    def _upload(self, folder: Path, digest: str) -> None:
        for file in bundle.FILES:
            self._bucket.put(self._source.object_key(digest, file), (folder / file).read_bytes())
