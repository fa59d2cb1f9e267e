"""A shelf in a folder."""

from __future__ import annotations

import errno
import shutil
import time
from pathlib import Path

from registry import bundle, signing
from registry.names import checked_name, file_name, named_version, parsed, unknown
from registry.objects import checked_object, locked, textures_in, write_object
from registry.pointer import Edit, Pointer, needed, pointer_from_json
from zoo.errors import BundleError
from zoo.files import TEXT, check_writable, read_regular, reading, storage_error, write_whole


class FolderShelf:
    """A shelf in a folder, for one machine or a shared disk."""

    def __init__(self, root: Path) -> None:
        """Set the folder; it is made by the first publication."""
        self._root = root

    @reading("the shelf")
    def textures(self) -> list[str]:
        """Return the names of all textures."""
        return textures_in(self._root / "textures")

    @reading("the shelf")
    def pointer(self, texture: str) -> Pointer:
        """Return the pointer of one texture.

        Raises:
            BundleError: The pointer is damaged.
            StorageError: It cannot be read.
        """
        path = self._path(texture)
        try:
            content = read_regular(path, most=TEXT)
        except FileNotFoundError:
            return Pointer(texture=texture)
        except OSError as error:
            if error.errno != errno.EINVAL:  # it is no regular file
                raise
            raise BundleError(
                f"The pointer {path} cannot be read: {error.strerror}. Restore it from a backup."
            ) from error
        return pointer_from_json(content, where=str(path))

    def pointers(self) -> dict[str, Pointer]:
        """Return the pointer of each texture."""
        return {texture: self.pointer(texture) for texture in self.textures()}

    def change(self, texture: str, edit: Edit, *, folder: Path | None = None) -> Pointer:
        """Copy a bundle to its address, if one is given, then replace the pointer of the texture.

        There is one writer at a time: `edit` gets the pointer that the last writer left.

        Raises:
            BundleError: The bundle is damaged.
            PromotionError: `edit` refuses; nothing has changed then.
            StorageError: The disk is full or read-only; the shelf serves what it served before.
        """
        texture = checked_name(texture)
        path = self._path(texture)
        digest = bundle.digest(folder) if folder else ""
        try:
            with locked(self._root):
                pointer = edit(self.pointer(texture))
                if folder:
                    contents = {file: (folder / file).read_bytes() for file in bundle.FILES}
                    write_object(self._root, digest, contents)
                path.parent.mkdir(exist_ok=True)
                write_whole(path, pointer.to_json())
        except OSError as error:
            what = f"Cannot publish '{texture}' on {self._root}"
            raise storage_error(what, error) from error
        return pointer

    def check_writable(self, texture: str) -> None:
        """Refuse a name that cannot be published, and a folder that cannot be written.

        Raises:
            ConfigError: The texture has a name that no shelf takes.
            StorageError: The folder cannot be written, or its disk is nearly full.
        """
        checked_name(texture)
        for part in ("textures", "objects"):
            check_writable(self._root / part, f"'{texture}'")

    def fetch(self, name: str) -> Path:
        """Return the folder of the bundle of this name; errors as in `resolve`."""
        return self.resolve(name)[0]

    @reading("the shelf")
    def resolve(self, name: str) -> tuple[Path, int]:
        """Return the folder of the bundle of this name, every byte checked, and its version.

        Raises:
            UnknownDetectorError: No detector has that name.
            BundleError: It is damaged.
            SignatureError: No trusted key has signed it.
            StorageError: The shelf cannot be read.
        """
        texture, reference = parsed(name)
        if not self._path(texture).is_file():
            raise unknown(texture, self.textures(), where=str(self._root))
        pointer = self.pointer(texture)
        version = named_version(pointer, reference, where=str(self._root))
        digest = pointer.versions[version]
        signing.check(texture, digest, pointer)
        return checked_object(self._root, digest), version

    def local(self, digest: str) -> Path:
        """Return the folder of a bundle on this machine, whether or not it is there; unchecked."""
        return self._root / "objects" / digest

    @reading("the shelf")
    def ages(self) -> dict[str, float]:
        """Return the seconds since each object was last written, by digest."""
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
        checked_object(self._root, digest)

    def discard(self, digest: str) -> bool:
        """Remove an object unless a pointer needs it; the lock keeps publishers out meanwhile."""
        try:
            with locked(self._root):
                if digest in needed(self.pointers().values()):
                    return False
                shutil.rmtree(self._root / "objects" / digest)
        except OSError as error:
            what = f"Cannot remove {digest} from {self._root}"
            raise storage_error(what, error) from error
        return True

    def _path(self, texture: str) -> Path:
        return self._root / "textures" / f"{file_name(texture)}.json"
