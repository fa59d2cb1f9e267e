"""The pictures that a command is given: files, folders and patterns."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from zoo.errors import EmptyFolderError


def pictures_of(places: Sequence[str], *, out: Path | None = None) -> list[Path]:
    """Return the files of all places, each once: a folder stands for all pictures under it.

    A file that does not exist stays, so that it is reported as one that cannot be read.

    Args:
        places: Files, folders and patterns.
        out: Where overlays are written; those of a run before are no pictures of a folder.

    Raises:
        EmptyFolderError: A folder has no picture, or a pattern matches nothing.
    """
    from zoo.data.images import SUFFIXES, is_picture
    from zoo.report.overlays import is_ours

    found: list[Path] = []
    for place in places:
        path = Path(place)
        if path.is_dir():
            own = [each for each in sorted(path.rglob("*")) if is_picture(each)]
            own = [each for each in own if not _in_hidden(each.relative_to(path))]
        elif not path.exists() and glob.has_magic(place):
            own = [Path(each) for each in sorted(glob.glob(place, recursive=True))]
            own = [each for each in own if each.is_file()]
        else:
            found.append(path)
            continue
        if out:
            own = [each for each in own if not (_is_in(each, out) and is_ours(each))]
        if not own:
            raise EmptyFolderError(
                f"No picture in {place}. Give pictures, folders of them, or a pattern; pictures "
                f"end in {', '.join(SUFFIXES)}."
            )
        found += own
    return list(dict.fromkeys(found))


def _is_in(path: Path, folder: Path) -> bool:
    return folder.absolute() in path.absolute().parents


def _in_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
