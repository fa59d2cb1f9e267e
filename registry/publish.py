"""The files that a web server hands out as a read-only shelf, written from any shelf.

Nothing of it says who made a detector or on which machine. Each file is replaced in one step, and
in this order: bundles, pointers, the index; then what is no longer published is removed. So a
reader finds all that a pointer names, whenever it comes. A second run writes only what changed.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from registry import bundle
from registry.bundle import Bundle
from registry.http_source import INDEX, INDEX_FORMAT, index_names
from registry.names import file_name, texture_of, unknown
from registry.objects import checked_object, write_object
from registry.pointer import DIGEST, Entry, Pointer, needed
from registry.starters import ReadableShelf
from zoo.errors import BundleError, ConfigError
from zoo.files import TEXT, read_regular, storage_error, write_whole

Doubt = Literal["non-commercial", "unknown"]
DOUBTS: tuple[Doubt, ...] = get_args(Doubt)
_NON_COMMERCIAL = re.compile(
    r"\bNC\b|non-?\s?commercial|research (only|use|purposes)|academic|evaluation only",
    re.IGNORECASE,
)
_NO_DERIVATIVES = re.compile(r"\bND\b|no-?\s?derivatives", re.IGNORECASE)  # a detector may be one
_FREE = re.compile(
    r"\bCC ?-?0\b|\bCC ?-?BY\b|public domain|\bPDDL\b|\bODbL\b|\bCDLA\b|\bMIT\b|\bApache\b|\bBSD\b"
    r"|creative ?commons\.org/(publicdomain|licenses/by(-sa)?/)",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Published:
    """What a publication did, or would do.

    Attributes:
        textures: For each texture that is published, the licences of its data.
        written: Files that were written, as paths in the folder.
        removed: Files and folders that were removed.
        same: Number of files that were as they should be.
    """

    textures: Mapping[str, tuple[str, ...]]
    written: tuple[str, ...]
    removed: tuple[str, ...]
    same: int


def publish(
    shelf: ReadableShelf,
    to: Path,
    *,
    only: Sequence[str] = (),
    allow: Collection[Doubt] = (),
    dry: bool = False,
) -> Published:
    """Write the textures of a shelf as files for a web server, and remove what is not among them.

    Args:
        shelf: Where they are.
        to: The folder; made if it is not there. Other files in it are left alone.
        only: Names of textures; by default all.
        allow: Licences that may be published although others may not use them freely.
        dry: Only return what would be done.

    Raises:
        UnknownDetectorError: The shelf has no such texture.
        ConfigError: The licence of a detector does not allow it, or the folder holds other things
            under the names of ours.
        BundleError: A bundle or a pointer on the shelf is damaged; nothing is written.
        SignatureError: `ZOO_TRUSTED_KEYS` is set, and none of its keys has signed a version.
        StorageError: The shelf cannot be read, or the folder cannot be written.
    """
    pointers = {each: _public(shelf.pointer(each)) for each in _chosen(shelf, only)}
    pointers = {each: pointer for each, pointer in pointers.items() if pointer.versions}
    if not pointers:  # a wrong address of the shelf must not remove what was published
        raise ConfigError(
            "Not published: the shelf has no detector. Check ZOO_SHELF, or promote a detector."
        )
    bundles, licences = _gathered(shelf, pointers)
    _check_licences(licences, allow)
    try:
        _check_folder(to)
        with _alone(to, dry=dry):
            return _write(to, pointers, bundles, licences, dry=dry)
    except OSError as error:
        raise storage_error(f"Cannot publish to {to}", error) from error


def doubt_about(licence: str) -> Doubt | None:
    """Return why a detector of data with this licence may not be for everyone; None if it may.

    Example:
        >>> doubt_about("CC0 1.0"), doubt_about("MVTec AD, CC BY-NC-SA 4.0")
        (None, 'non-commercial')
        >>> doubt_about("ACME, all rights reserved")
        'unknown'
    """
    if _NON_COMMERCIAL.search(licence):
        return "non-commercial"
    if _NO_DERIVATIVES.search(licence):
        return "unknown"
    return None if _FREE.search(licence) else "unknown"


def _chosen(shelf: ReadableShelf, only: Sequence[str]) -> list[str]:
    known = shelf.textures()
    for name in only:
        if name not in known:
            raise unknown(name, known, where="to be published")
    return sorted(set(only)) if only else known


def _public(pointer: Pointer) -> Pointer:
    """Return a pointer without users, machines and runs, and without signatures that it lost."""
    people = {entry.who for entry in pointer.history if entry.who}

    def public(entry: Entry) -> Entry:
        reason = entry.reason
        for each in people:
            reason = reason.replace(each, "the publisher")
        return replace(entry, who="", run=None, reason=reason)

    versions = set(pointer.versions.values())
    return replace(
        pointer,
        history=tuple(map(public, pointer.history)),
        signatures={at: each for at, each in pointer.signatures.items() if at in versions},
    )


def _gathered(
    shelf: ReadableShelf, pointers: Mapping[str, Pointer]
) -> tuple[dict[str, Path], dict[str, tuple[str, ...]]]:
    """Return the folder of each bundle by its digest, and the licences of each texture."""
    folders: dict[str, Path] = {}
    licences: dict[str, tuple[str, ...]] = {}
    for texture, pointer in pointers.items():
        found: list[str] = []
        for digest in pointer.versions.values():
            folders[digest] = shelf.fetch(f"{texture}@sha256:{digest}")
            found += _licences(bundle.load(folders[digest]))
        licences[texture] = tuple(sorted(set(found)))
    return folders, licences


def _licences(made: Bundle) -> list[str]:
    own = [str(each.data.get("licence") or "unknown") for each in (made, *made.parts) if each.data]
    return own or ["unknown"]


def _check_licences(licences: Mapping[str, tuple[str, ...]], allow: Collection[Doubt]) -> None:
    """Refuse a publication that a licence may not allow.

    Raises:
        ConfigError: It names the textures, their licences, and what allows them.
    """
    doubts: dict[Doubt, list[str]] = {}
    for texture, several in licences.items():
        for licence in several:
            doubt = doubt_about(licence)
            if doubt and doubt not in allow:
                doubts.setdefault(doubt, []).append(f"'{texture}' (licence: {licence})")
    if not doubts:
        return
    why = {
        "non-commercial": "made of data that may not be used commercially, which many readers of a "
        "public shelf do",
        "unknown": "made of data whose licence is not known to allow that others use it",
    }
    told = "; ".join(f"{', '.join(names)}: {why[doubt]}" for doubt, names in doubts.items())
    flags = " ".join(f"--allow {doubt}" for doubt in doubts)
    raise ConfigError(
        f"Not published, and nothing was written: {told}. If you may share it, add {flags}; or "
        "choose others with --only."
    )


def _check_folder(to: Path) -> None:
    """Refuse a folder that has files under our names which are not ours.

    Raises:
        ConfigError: It has.
    """
    index = to / INDEX
    if not index.exists():
        taken = [name for name in (INDEX, "textures", "objects") if os.path.lexists(to / name)]
        if taken and any((to / name).is_file() or any((to / name).iterdir()) for name in taken):
            raise ConfigError(
                f"{to} has {' and '.join(taken)} but no {INDEX} of a publication, so it may be a "
                "shelf in use. Give --to another folder, or an empty one."
            )
        return
    try:
        index_names(read_regular(index, most=TEXT))
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"{index} is there and not of a publication: {error}. Give --to another folder."
        ) from error


@contextmanager
def _alone(to: Path, *, dry: bool) -> Iterator[None]:
    """Wait until no other process publishes to a folder; the lock leaves no file in it."""
    if dry:
        yield
        return
    to.mkdir(parents=True, exist_ok=True)
    folder = os.open(to, os.O_RDONLY)
    try:
        with suppress(OSError):  # a network disk may not lock folders
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(
    to: Path,
    pointers: Mapping[str, Pointer],
    bundles: Mapping[str, Path],
    licences: Mapping[str, tuple[str, ...]],
    *,
    dry: bool,
) -> Published:
    written, same = [], 0
    for digest, folder in sorted(bundles.items()):
        if _has(to, digest):
            same += len(bundle.FILES)
            continue
        written += [f"objects/{digest}/{file}" for file in bundle.FILES]
        if not dry:
            write_object(to, digest, {file: (folder / file).read_bytes() for file in bundle.FILES})
    index = {
        "format": INDEX_FORMAT,
        "textures": {texture: {"licences": licences[texture]} for texture in sorted(pointers)},
    }
    files = {
        f"textures/{file_name(texture)}.json": pointer.to_json()
        for texture, pointer in sorted(pointers.items())
    }
    for name, content in (files | {INDEX: json.dumps(index, indent=1).encode()}).items():
        path = to / name
        if path.is_file() and path.read_bytes() == content:
            same += 1
            continue
        written.append(name)
        if not dry:
            path.parent.mkdir(exist_ok=True)
            write_whole(path, content)
    removed = _superfluous(to, set(files), needed(pointers.values()))
    if not dry:
        for name in removed:
            _remove(to / name)
    return Published(
        textures=dict(licences), written=tuple(written), removed=tuple(removed), same=same
    )


def _has(to: Path, digest: str) -> bool:
    try:
        checked_object(to, digest)
    except BundleError:
        return False
    return True


def _superfluous(to: Path, files: Collection[str], digests: Collection[str]) -> list[str]:
    """Return what a publication before left, and the halves of files of one that was killed."""
    found = []
    for path in sorted((to / "textures").glob("*.json")):
        if texture_of(path.stem) and f"textures/{path.name}" not in files:
            found.append(path)
    for path in sorted((to / "objects").glob("*")):
        if DIGEST.fullmatch(path.name) and path.name not in digests:
            found.append(path)
    for place in (to, to / "textures", *(to / "objects" / digest for digest in digests)):
        found += sorted(place.glob(".*.json.*.part")) + sorted(place.glob(".*.safetensors.*.part"))
    return [path.relative_to(to).as_posix() for path in found]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
