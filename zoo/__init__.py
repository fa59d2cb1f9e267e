"""A zoo of anomaly detectors for textures: `zoo.load("carpet").score(img)`.

The import is fast. Loading a detector imports torch, but not Ray, Optuna or MLflow.
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
    """Load a detector from the shelf, and verify its bytes.

    Args:
        name: A texture (`grid`), one of its aliases (`grid@previous`) or versions (`grid:3`).
        shelf: A folder or `s3://bucket/prefix`; by default `ZOO_SHELF`, or the shelf of the home.
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
    from registry.shelf import open_shelf
    from zoo.detectors import Detector, Source

    folder, version = open_shelf(shelf).resolve(name)
    source = Source(
        folder=folder, now=partial(_folder_of, name, shelf), max_age_s=max_age_s, version=version
    )
    return Detector(bundle.load(folder), device=device, source=source)


def names(pattern: str = "*", *, shelf: str | None = None) -> list[str]:
    """Return the textures that have a champion on the shelf and match a wildcard.

    Example:
        >>> names("c*", shelf="no-such-folder")
        []
    """
    from registry.shelf import names_on, open_shelf

    known = names_on(open_shelf(shelf))
    with_champion = [name for name, references in known.items() if "champion" in references]
    return sorted(fnmatch.filter(with_champion, pattern))


def show(name: str, *, shelf: str | None = None) -> dict[str, Any]:
    """Return the card of a detector: configuration, metrics, data and provenance.

    Args:
        name: As for `load`.
        shelf: As for `load`.

    Returns:
        The result of `zoo.detectors.card.of`, with `digest` and `lineage`: version, aliases, and
        the line of the history that published it.

    Raises:
        UnknownDetectorError: The shelf has no detector of that name; similar names are suggested.
        BundleError: The detector is damaged, or of a newer format.
        SignatureError: `ZOO_TRUSTED_KEYS` is set, and none of its keys has signed the detector.
        StorageError: The shelf cannot be reached.
    """
    from registry import bundle
    from registry.shelf import lineage, open_shelf
    from zoo.detectors import card

    opened = open_shelf(shelf)
    folder = opened.fetch(name)
    found = bundle.load(folder)
    return card.of(found) | lineage(opened, found.texture, digest=folder.name)


def _folder_of(name: str, shelf: str | None) -> Path:
    """Return the folder of the bundle that a name refers to now."""
    from registry.shelf import open_shelf

    return open_shelf(shelf).fetch(name)


def __getattr__(name: str) -> Any:
    """Import `Detector` and `Score`, and torch, at their first use."""
    if name in ("Detector", "Score"):
        from zoo import detectors

        return getattr(detectors, name)
    raise AttributeError(f"module 'zoo' has no attribute '{name}'")
