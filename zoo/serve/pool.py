"""The detectors of a service: loaded once each, and followed to new champions."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from registry import bundle
from registry.bundle import Bundle
from registry.names import named_version, parsed
from registry.pointer import CHAMPION, Pointer
from registry.shelf import shelf_to_read
from zoo.detectors import Detector, available, card
from zoo.errors import (
    BadImageError,
    RefusedError,
    StorageError,
    UnknownDetectorError,
    ZooError,
    did_you_mean,
    one_line,
)
from zoo.serve.settings import Settings
from zoo.words import shortened

log = logging.getLogger("zoo.serve")

LONGEST_NAME = 320  # letters: of a texture, `@sha256:` and a digest
Opened = tuple[Bundle, Detector | None]
SIDES = (64, 256, 1024)  # pixels of the picture that a new detector is tried out on


@dataclass(frozen=True, kw_only=True)
class Served:
    """A detector under the name that was asked for; replaced as a whole by a new champion.

    Attributes:
        name: The name.
        version: The version on the shelf.
        digest: Of the bundle.
        bundle: Figures, limits and weights.
        detector: Built from that bundle; it never changes to another. None where pictures are
            scored elsewhere.
    """

    name: str
    version: int
    digest: str
    bundle: Bundle
    detector: Detector | None


class Pool:
    """The loaded detectors, by digest: a name and its alias share one. It is thread-safe.

    What a name stands for is looked up in a copy of the shelf's pointers, which `refresh` renews.
    So no request waits for the shelf, but the first one of a detector that is not loaded yet.
    """

    def __init__(self, settings: Settings, *, builds: bool = True) -> None:
        """Open the shelf and read its pointers; nothing is loaded yet.

        Args:
            settings: Of the service.
            builds: Whether detectors are built, or their bundles only read, because pictures are
                scored elsewhere.

        Raises:
            UnknownDetectorError: A name of the settings is not on the shelf.
            ConfigError: The shelf or the device does not exist.
            StorageError: The shelf cannot be read.
        """
        self._settings = settings
        self._shelf = shelf_to_read(settings.shelf)
        self._builds = builds
        self._device = str(available(settings.device)) if builds else ""
        self._tables = threading.Lock()  # held for moments
        self._refreshing = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._detectors: OrderedDict[str, Opened] = OrderedDict()  # the last used one last
        self._served: dict[str, Served] = {}
        self._broken: dict[str, str] = {}
        self._told: set[str] = set()
        self._pointers: Mapping[str, Pointer] = {}
        self._pointers = self._read()
        self._named: tuple[str, ...] = ()
        named = tuple(dict.fromkeys(map(canonical, settings.names)))
        for name in named:
            self._shelf_version(name)
        self._named = named

    def names(self) -> list[str]:
        """Return the names that are answered for: those of the settings, or every champion."""
        if self._named:
            return list(self._named)
        return sorted(name for name, each in self._pointers.items() if CHAMPION in each.aliases)

    def served(self, name: str) -> Served:
        """Return what a name stands for now; load it if need be.

        Raises:
            UnknownDetectorError: The shelf has no detector of that name, or the settings do not
                name it.
            RefusedError: It cannot be loaded now.
        """
        name = canonical(name)
        found = self._served.get(name)
        if found is None:
            found = self._load(name, *self._wanted(name))
        with self._tables:
            if found.digest in self._detectors:
                self._detectors.move_to_end(found.digest)
        return found

    def pointer(self, name: str) -> Pointer:
        """Return the pointer of the texture of a name: aliases, versions and history.

        Raises:
            UnknownDetectorError: As in `served`.
        """
        self.version(name)
        found = self._pointers.get(parsed(name)[0])
        if found is None:  # it was removed a moment ago
            raise self._unknown(name)
        return found

    def version(self, name: str) -> tuple[int, str]:
        """Return the version and digest that a name stands for now; nothing is loaded.

        Raises:
            UnknownDetectorError: As in `served`.
        """
        name = canonical(name)
        found = self._served.get(name)
        return (found.version, found.digest) if found else self._wanted(name)

    def loaded(self) -> list[Served]:
        """Return what the names in use stand for."""
        with self._tables:
            return list(self._served.values())

    def broken(self) -> dict[str, str]:
        """Return, for each name whose bundle of now cannot be loaded, why."""
        with self._tables:
            return dict(self._broken)

    def refresh(self) -> None:
        """Read the pointers again, and load what the names in use stand for now.

        The old detector answers until the new one is loaded, and goes on if the new one is broken.
        Nothing is raised: what fails is a line of the log, once.
        """
        with self._refreshing:
            try:
                self._pointers = self._read()
            except ZooError as error:
                self._tell(f"The shelf cannot be read, and its last state is used: {error}")
                return
            for name in dict.fromkeys([*self._served, *self.names()]):
                self._follow(name)

    @property
    def _most(self) -> int:
        return self._settings.most_detectors

    def _follow(self, name: str) -> None:
        """Load what a name stands for now, if that is another detector than before."""
        before = self._served.get(name)
        try:
            version, digest = self._wanted(name)
        except UnknownDetectorError as error:
            self._forget(name)
            self._tell(f"'{name}' is no longer answered for: {error}")
            return
        if before is not None and (before.version, before.digest) == (version, digest):
            with self._tables:
                self._broken.pop(name, None)  # of a bundle that it stood for in between
            return
        if before is None and len(self._detectors) >= self._most:
            return  # it is loaded when it is asked for
        try:
            now = self._load(name, version, digest)
        except RefusedError:
            return  # told
        if before is not None:
            log.info("'%s' is version %s now, digest %s", name, now.version, now.digest[:12])

    def _wanted(self, name: str) -> tuple[int, str]:
        """Return version and digest of a name by the last copy of the pointers."""
        if self._named and name not in self._named:
            raise self._unknown(name)
        return self._shelf_version(name)

    def _shelf_version(self, name: str) -> tuple[int, str]:
        texture, reference = parsed(name)
        pointer = self._pointers.get(texture)
        if pointer is None:
            raise self._unknown(name)
        version = named_version(pointer, reference, where="of this service")
        return version, pointer.versions[version]

    def _unknown(self, name: str) -> UnknownDetectorError:
        known = self.names()
        has = f"there are {', '.join(known)}" if known else "there is none yet"
        return UnknownDetectorError(
            f"No detector '{shortened(name, 100)}' here; {has}.{did_you_mean(name, known)}"
        )

    def _load(self, name: str, version: int, digest: str) -> Served:
        """Load a bundle, unless it is there, and let the name stand for it.

        Raises:
            RefusedError: It cannot be loaded.
        """
        with self._tables:
            turn = self._loading.setdefault(digest, threading.Lock())
        with turn:
            with self._tables:
                opened = self._detectors.get(digest)
            if opened is None:
                opened = self._opened(name, digest)
            read, detector = opened
            found = Served(
                name=name, version=version, digest=digest, bundle=read, detector=detector
            )
            self._keep(found)
        return found

    def _opened(self, name: str, digest: str) -> Opened:
        pinned = f"{parsed(name)[0]}@sha256:{digest}"
        try:
            folder = self._shelf.fetch(pinned)
            if self._builds:
                return opened(folder, self._device)
            read = bundle.load(folder)
            card.of(read)  # refuses what cannot be shown
            return read, None
        except ZooError as error:
            with self._tables:
                self._broken[name] = one_line(error)
            self._tell(f"'{name}' cannot be loaded, digest {digest[:12]}: {error}")
            raise RefusedError(
                f"The detector '{name}' cannot be loaded now. The service's log says why; ask "
                "again later.",
                status=503,
                code="not_loaded",
                retry_after_s=max(1, round(self._settings.refresh_s)),
            ) from error

    def _keep(self, found: Served) -> None:
        with self._tables:
            self._detectors[found.digest] = found.bundle, found.detector
            self._detectors.move_to_end(found.digest)
            self._served[found.name] = found
            self._broken.pop(found.name, None)
            self._loading.pop(found.digest, None)
            self._prune()
            while len(self._detectors) > self._most:
                self._drop(next(iter(self._detectors)))

    def _drop(self, digest: str) -> None:
        del self._detectors[digest]
        for name in [name for name, each in self._served.items() if each.digest == digest]:
            del self._served[name]

    def _forget(self, name: str) -> None:
        with self._tables:
            self._served.pop(name, None)
            self._broken.pop(name, None)
            self._prune()

    def _prune(self) -> None:
        """Let go of the detectors that no name stands for; the tables are held."""
        for digest in self._detectors.keys() - {each.digest for each in self._served.values()}:
            del self._detectors[digest]

    def _read(self) -> dict[str, Pointer]:
        """Return the pointers; a damaged one stays as it was.

        Raises:
            StorageError: The shelf cannot be read, or has lost all that it had.
        """
        before, shelf = self._pointers, self._shelf.shelf
        own: dict[str, Pointer] = {}
        textures = shelf.textures()
        for texture in textures:
            try:
                own[texture] = shelf.pointer(texture)
            except ZooError as error:
                self._tell(f"The pointer of '{texture}' cannot be read: {error}")
                if texture in before:
                    own[texture] = before[texture]
        starters = self._shelf.behind(textures)
        if before.keys() - starters.keys() and not own:
            raise StorageError("it is empty now, as a disk that is not mounted would be")
        return own | starters

    def _tell(self, line: str) -> None:
        """Log a line once."""
        if line not in self._told:
            self._told.add(line)
            log.warning("%s", one_line(line))


def canonical(name: str) -> str:
    """Return a name in the one form that it has in the tables.

    Raises:
        UnknownDetectorError: It is no name of a detector.
    """
    if len(name) > LONGEST_NAME:
        raise UnknownDetectorError(
            f"'{shortened(name, 40)}' is no detector's name: it has {len(name)} letters, and a "
            f"name has at most {LONGEST_NAME}. Ask for /v1/detectors."
        )
    return "".join(parsed(name))


def opened(folder: Path, device: str) -> tuple[Bundle, Detector]:
    """Return a bundle and the detector that is built from it, which has scored a drawn picture.

    Args:
        folder: Of the bundle.
        device: Where to compute.

    Raises:
        ZooError: It cannot be read, or it cannot score.
    """
    read = bundle.load(folder)
    found = Detector(read, device=device)
    _try_out(found)
    return read, found


def _try_out(detector: Detector) -> None:
    """Score a drawn picture: the first score is the slowest, and a broken detector fails here.

    Raises:
        ZooError: It cannot score.
    """
    noise = np.random.default_rng(0)
    for side in SIDES:
        try:
            detector.score(noise.integers(0, 256, (side, side), np.uint8))
            return
        except BadImageError:  # it needs a larger one
            if side == SIDES[-1]:
                raise
