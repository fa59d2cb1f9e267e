"""A zoo of anomaly detectors for textures: `zoo.load("carpet").score(img)`.

Importing this imports nothing heavy; loading a detector imports torch, and never Ray, Optuna or
MLflow.
"""

from __future__ import annotations

import fnmatch
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.detectors import Detector, Score

__all__ = ["Detector", "Score", "load", "names", "show"]


def load(
    name: str, *, shelf: str | None = None, device: str = "cpu", max_age_s: float = math.inf
) -> Detector:
    """Load a detector from the shelf, every byte of it checked.

    Args:
        name: A texture (`grid`), one of its aliases (`grid@previous`) or versions (`grid:3`).
        shelf: A folder or `s3://bucket/prefix`; `ZOO_SHELF`, or the home's shelf, by default.
        device: Where to compute: `cpu`, `cuda`, `cuda:1`.
        max_age_s: Look for a new champion while scoring, when so many seconds have gone by since
            the last look (never); `refresh()` looks at once.

    Raises:
        UnknownDetectorError: The shelf has none of that name; near names are offered.
        BundleError: It is damaged, or of a newer format.
        StorageError: The shelf cannot be reached.
    """
    from registry import bundle
    from registry.shelf import open_shelf
    from zoo.detectors import Detector, Source

    folder, version = open_shelf(shelf).resolve(name)
    source = Source(
        folder=folder, now=partial(_folder_of, name, shelf), max_age_s=max_age_s, version=version
    )
    return Detector(bundle.load(folder), device=device, source=source)


def names(pattern: str = "*", *, shelf: str | None = None) -> list[str]:
    """List the textures that have a champion on the shelf, by wildcard.

    Example:
        >>> names("c*", shelf="no-such-folder")
        []
    """
    from registry.shelf import names_on, open_shelf

    known = names_on(open_shelf(shelf))
    with_champion = [name for name, references in known.items() if "champion" in references]
    return sorted(fnmatch.filter(with_champion, pattern))


def show(name: str, *, shelf: str | None = None) -> dict[str, Any]:
    """Return a detector's card: what it is, how good, on which data, where it came from.

    Args:
        name: As for `load`.
        shelf: As for `load`.

    Returns:
        What `zoo.detectors.card.of` returns, with `digest` and `lineage`: version, aliases, and
        the line of the history that put it on the shelf.

    Raises:
        UnknownDetectorError: The shelf has none of that name; near names are offered.
        BundleError: It is damaged, or of a newer format.
        StorageError: The shelf cannot be reached.
    """
    from registry import bundle
    from registry.shelf import lineage, open_shelf
    from zoo.detectors import card

    place = open_shelf(shelf)
    folder = place.fetch(name)
    found = bundle.load(folder)
    return card.of(found) | lineage(place, found.texture, digest=folder.name)


def _folder_of(name: str, shelf: str | None) -> Path:
    """Return the folder of the bundle that a name stands for now."""
    from registry.shelf import open_shelf

    return open_shelf(shelf).fetch(name)


def __getattr__(name: str) -> Any:
    """Import `Detector` and `Score`, and torch with them, when they are first used."""
    if name in ("Detector", "Score"):
        from zoo import detectors

        return getattr(detectors, name)
    raise AttributeError(f"module 'zoo' has no attribute '{name}'")
