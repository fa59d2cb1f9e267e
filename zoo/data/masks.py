"""Masks on disk: which picture one belongs to, by its name, and which pixels it marks."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from zoo.data.images import is_picture, read_image
from zoo.errors import BadImageError, BadMaskError

MASK_FOLDERS = ("ground_truth", "masks", "mask")
ENDINGS = ("", "_mask", "_label", "_gt")  # of the name of a mask, after that of its picture
_LOSSY = (".jpg", ".jpeg")


class Masks:
    """The mask files of a texture; names are compared as on Windows, without upper and lower case.

    Attributes:
        files: All of them, in order of their names.
    """

    def __init__(self, places: Sequence[Path], *, ending: str = "_mask") -> None:
        """Find all pictures under some folders, hidden ones left out.

        Args:
            places: Folders of masks.
            ending: How the name of a mask that is missing would end.
        """
        self.files: list[Path] = []
        self._places, self._ending = places, ending
        self._named: dict[tuple[str, str], list[Path]] = {}
        for place in places:
            for path in sorted(place.rglob("*")):
                inner = path.relative_to(place)
                if is_picture(path) and not any(part.startswith(".") for part in inner.parts):
                    self.add(inner.parent.as_posix().removeprefix("."), [path])

    def __bool__(self) -> bool:
        """Return whether there are masks, or a folder for them."""
        return bool(self.files or self._places)

    def add(self, folder: str, files: Iterable[Path]) -> None:
        """Add masks as if they were in this folder of masks; "" is the place itself."""
        for path in files:
            self.files.append(path)
            self._named.setdefault((folded(folder), folded(path.stem)), []).append(path)

    def all_of(self, picture: Path, folders: Iterable[str]) -> list[Path]:
        """Return the masks that bear the name of a picture, in these folders of masks."""
        stem = folded(picture.stem)
        keys = [(folded(folder), stem + ending) for folder in folders for ending in ENDINGS]
        return [path for key in dict.fromkeys(keys) for path in self._named.get(key, ())]

    def of(self, picture: Path, folders: Iterable[str]) -> Path | None:
        """Return the mask of a picture; None if it has none.

        Raises:
            BadMaskError: It has several.
        """
        found = self.all_of(picture, folders)
        return one_mask(picture, found) if found else None

    def missing(self, picture: Path, folder: str) -> Path:
        """Return where the mask of a picture would be."""
        place = self._places[0] / folder if self._places else picture.parent
        return place / f"{picture.stem}{self._ending}.png"


def folded(name: str) -> str:
    """Return a name as it is compared: composed letters (macOS splits them), no upper case."""
    return unicodedata.normalize("NFC", name).casefold()


def one_mask(picture: Path, found: Sequence[Path]) -> Path:
    """Return the only mask of a picture.

    Raises:
        BadMaskError: There are several.
    """
    if len(found) > 1:
        raise BadMaskError(
            f"{picture} has {len(found)} masks: {', '.join(map(str, found))}. Keep one of them."
        )
    return found[0]


def without_masks(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Divide the pictures of one folder into pictures, and masks of others of them by their names.

    Example:
        >>> pictures, masks = without_masks([Path("a.jpg"), Path("a_mask.png"), Path("b_mask.png")])
        >>> [path.name for path in pictures], [path.name for path in masks]
        (['a.jpg', 'b_mask.png'], ['a_mask.png'])
    """
    stems = {folded(path.stem) for path in paths}
    masks = [
        path
        for path in paths
        if any(
            ending and stem.endswith(ending) and stem.removesuffix(ending) in stems
            for stem in [folded(path.stem)]
            for ending in ENDINGS
        )
    ]
    return [path for path in paths if path not in set(masks)], masks


def read_mask(path: Path) -> Bool[np.ndarray, "h w"]:
    """Read which pixels a mask marks: those that are not black, whatever their value or colour.

    JPEG leaves traces of a defect in the black around it, so there a pixel is marked from the
    middle of the scale on.

    Raises:
        BadMaskError: It cannot be read.
    """
    try:
        pixels = read_image(path)
    except BadImageError as error:
        raise BadMaskError(f"The mask {path} is damaged: {error}") from error
    floor = np.iinfo(pixels.dtype).max // 2 if path.suffix.lower() in _LOSSY else 0
    return np.asarray((pixels > floor).any(axis=2))
