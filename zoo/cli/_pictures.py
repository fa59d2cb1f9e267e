"""The pictures that a command is given: files, folders and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from zoo.errors import EmptyFolderError


def pictures_of(places: Sequence[str], *, out: Path | None = None) -> list[Path]:
    """Return the files of all places, each once: a folder stands for all pictures under it.

    A file that does not exist stays, so that it is reported as one that cannot be read.

    Args:
        places: Files, folders and patterns.
        out: Where overlays are written; those of a run before are left out.

    Raises:
        EmptyFolderError: A folder has no picture, a pattern matches nothing, or all are overlays.
    """
    from zoo.data.images import SUFFIXES, is_picture
    from zoo.report.overlays import is_ours

    found: list[Path] = []
    for place in places:
        path = Path(place)
        if path.is_dir():
            own = [each for each in _files_under(path) if is_picture(each)]
            own = [each for each in own if not _in_hidden(each.relative_to(path))]
        elif not path.exists() and glob.has_magic(place):
            own = [Path(each) for each in sorted(glob.glob(place, recursive=True))]
            own = [each for each in own if each.is_file()]
        else:
            own = [path]
        if not own:
            raise EmptyFolderError(
                f"No picture in {place}. Give pictures, folders of them, or a pattern; pictures "
                f"end in {', '.join(SUFFIXES)}."
            )
        found += own
    if out is None:
        return list(dict.fromkeys(found))
    kept = [path for path in dict.fromkeys(found) if not (_is_in(path, out) and is_ours(path))]
    if not kept:
        raise EmptyFolderError(
            f"The pictures in {' '.join(places)} are overlays that `zoo score` wrote to {out}. "
            "Give pictures that it has not made."
        )
    return kept


def _files_under(folder: Path) -> list[Path]:
    """Return all files under a folder; `Path.rglob` would leave out what may not be read."""

    def fail(error: OSError) -> NoReturn:
        raise error

    walked = os.walk(folder, onerror=fail)
    return sorted(Path(parent, file) for parent, _, files in walked for file in files)


def _is_in(path: Path, folder: Path) -> bool:
    return folder.absolute() in path.absolute().parents


def _in_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
