"""A zoo of anomaly detectors for textures: `zoo.load("carpet").score(img)`.

The import is fast. Loading a detector imports torch, but not Ray, Optuna or MLflow.
"""

from __future__ import annotations

import fnmatch
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.detectors import Detector, Score

__all__ = ["Detector", "Score", "load", "names", "show"]


def load(
    name: str, *, shelf: str | None = None, device: str = "cpu", max_age_s: float = math.inf
) -> Detector:
    """Load a detector from the shelf, and verify its bytes.

    Args:
        name: A texture (`grid`), one of its aliases (`grid@previous`) or versions (`grid:3`).
        shelf: A folder, `s3://bucket/prefix` or `https://host/path`. By default it is `ZOO_SHELF`,
            or the shelf of the home, and behind it is the starter `brick`, which is part of the
            package. A texture on the shelf hides the starter of its name with all of its versions.
        device: Where to compute: `cpu`, `cuda`, `cuda:1`.
        max_age_s: While scoring, check for a new champion this many seconds after the last check;
            by default never. `refresh()` checks at once.

    Raises:
        UnknownDetectorError: The shelf has no detector of that name; similar names are suggested.
        BundleError: The detector is damaged, or of a newer format.
        SignatureError: `ZOO_TRUSTED_KEYS` is set, and none of its keys has signed the detector.
        StorageError: The shelf cannot be reached.
    """
    from registry import bundle
    from registry.names import parsed
    from registry.shelf import shelf_to_read
    from zoo.detectors import Detector, Source

    opened = shelf_to_read(shelf)
    folder, version = opened.resolve(name)
    now = _Now(name=name, shelf=shelf, starter=opened.is_starter(parsed(name)[0]))
    source = Source(folder=folder, now=now, max_age_s=max_age_s, version=version)
    return Detector(bundle.load(folder), device=device, source=source)


def names(pattern: str = "*", *, shelf: str | None = None) -> list[str]:
    """Return the textures that have a champion and match a wildcard.

    Args:
        pattern: A name, or a pattern such as `c*`.
        shelf: As for `load`.

    Example:
        >>> names("c*", shelf="no-such-folder")
        []
    """
    from registry.shelf import names_on, shelf_to_read

    known = names_on(shelf_to_read(shelf))
    with_champion = [name for name, references in known.items() if "champion" in references]
    return sorted(fnmatch.filter(with_champion, pattern))


def show(name: str, *, shelf: str | None = None) -> dict[str, Any]:
    """Return the card of a detector: configuration, metrics, data and provenance.

    Args:
        name: As for `load`.
        shelf: As for `load`.

    Returns:
        The result of `zoo.detectors.card.of`, with `digest`, `starter` (whether it is one), and
        `lineage`: version, aliases, and the line of the history that published it.

    Raises:
        UnknownDetectorError: The shelf has no detector of that name; similar names are suggested.
        BundleError: The detector is damaged, or of a newer format.
        SignatureError: `ZOO_TRUSTED_KEYS` is set, and none of its keys has signed the detector.
        StorageError: The shelf cannot be reached.
    """
    from registry import bundle
    from registry.names import parsed
    from registry.shelf import lineage, pointer_of, shelf_to_read
    from zoo.detectors import card

    opened = shelf_to_read(shelf)
    folder = opened.fetch(name)
    found = bundle.load(folder)
    origin = lineage(pointer_of(opened, found.texture), digest=folder.name)
    return card.of(found) | origin | {"starter": opened.is_starter(parsed(name)[0])}


@dataclass
class _Now:
    """Finds the folder of the bundle that a name refers to now.

    A starter gives way to a detector of the shelf. The other way round it does not, whatever
    becomes of the shelf.
    """

    name: str
    shelf: str | None
    starter: bool

    def __call__(self) -> Path:
        from registry.names import parsed
        from registry.shelf import open_shelf, shelf_to_read

        if not self.starter:
            return open_shelf(self.shelf).fetch(self.name)
        opened = shelf_to_read(self.shelf)
        folder = opened.fetch(self.name)
        self.starter = opened.is_starter(parsed(self.name)[0])
        return folder


def __getattr__(name: str) -> Any:
    """Import `Detector` and `Score`, and torch, at their first use; find the version."""
    if name == "__version__":
        from importlib import metadata

        return metadata.version("texture-zoo")
    if name in ("Detector", "Score"):
        from zoo import detectors

        return getattr(detectors, name)
    raise AttributeError(f"module 'zoo' has no attribute '{name}'")
