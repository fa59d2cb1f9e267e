"""What earlier searches of this home have chosen, for a new search to begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from registry import bundle
from registry.trials import CHAMPION
from zoo import methods
from zoo.errors import ZooError

MOST = 2  # earlier configurations that a search begins with


def earlier_settings(storage: Path, texture: str) -> list[dict[str, Any]]:
    """Return the settings of up to `MOST` earlier searches, those of this texture first.

    Args:
        storage: Folder of all searches. What cannot be read in it is skipped.
        texture: Name of the texture.

    Returns:
        The fields of each trained part, with its scale, the newest first; no two alike.
    """
    own: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for folder in _newest(storage):
        for name, settings in _trained(folder):
            kind = own if name == texture else others
            if settings not in kind:
                kind.append(settings)
        if len(own) >= MOST:
            break  # a home may have many searches
    return [*own, *(each for each in others if each not in own)][:MOST]


def _newest(storage: Path) -> list[Path]:
    folders = [path for path in storage.glob(f"*/{CHAMPION}") if path.is_dir()]
    return sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)


def _trained(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        made = bundle.load(folder)
    except (ZooError, OSError):
        return
    for part in made.parts or (made,):
        asked = part.made_by.get("settings")
        known = part.method in methods.METHODS  # a home may be older or newer than this version
        if asked is not None and known and not methods.named(part.method).untrained:
            yield made.texture, {**asked, "scale": part.preprocessing["scale"]}
