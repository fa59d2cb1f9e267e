"""Folders to textures, in any of the layouts of `zoo.data.layouts`.

`find` reads the good training pictures of one texture. Only `zoo.data.testset` opens test pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from registry.names import normal
from zoo.data.images import Mode, Tables, content_key, jpeg_tables, read_image, to_mode
from zoo.data.layouts import (
    LAYOUTS,
    Layout,
    arranged,
    beside_good,
    folder_names,
    layout_of,
    textures_in,
    unwrapped,
)
from zoo.errors import BadImageError, DataError, EmptyFolderError, did_you_mean

MVTEC_TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
MVTEC_OBJECTS = ("bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw")
MVTEC_NAMES = {*MVTEC_TEXTURES, *MVTEC_OBJECTS, "toothbrush", "transistor", "zipper"}
MVTEC_LICENCE = "MVTec AD, CC BY-NC-SA 4.0"
# Good pictures, and bytes of their pixels, that are used: more change a detector little, and all
# pairs are compared. Of large ones, a few dozen are used in any case.
MOST_PICTURES, MOST_BYTES, FEW = 1000, 2**31, 30
LICENCE_LENGTH, LINE_LENGTH = 2**16, 200  # characters of a licence that are read, and kept


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One good image, or a region of one.

    Attributes:
        name: Path relative to the texture's folder; a region of rows 0 to 700 and columns
            0 to 614 is called "a.png[0:700,0:614]".
        pixels: Of type uint8 or uint16, with one or three channels; a region is a view.
        key: SHA-256 of type, shape and pixels of the image; equal images have equal keys. the
            key of a region ends in "@top,left,height,width".
        tables: Quantisation tables of a JPEG file; None for other files.
    """

    name: str
    pixels: Shaped[np.ndarray, "h w c"]
    key: str
    tables: Tables | None = None


@dataclass(frozen=True, kw_only=True)
class Texture:
    """The good training images of one texture.

    Attributes:
        name: Name given by the user.
        root: Its folder.
        layout: How the folder is arranged.
        mode: RGB if any training image has colour, else L.
        pictures: The good training images in order of their names, all converted to `mode`. Of very
            many, `MOST_PICTURES` or `MOST_BYTES`, evenly over their names.
        found: Number of good training images in the folder.
        licence: What the pictures may be used for, in one line; "unknown" if none was found.
    """

    name: str
    root: Path
    layout: Layout
    mode: Mode
    pictures: tuple[Picture, ...]
    found: int
    licence: str

    @property
    def fingerprint(self) -> str:
        """Hash of all pictures; it does not depend on file names or their order."""
        keys = "\n".join(sorted(picture.key for picture in self.pictures))
        return f"sha256:{hashlib.sha256(keys.encode()).hexdigest()}"


def _root(data: Path, category: str) -> tuple[Path, Layout]:
    """Choose the texture's folder: `data/category` if it exists, else `data`.

    Raises:
        DataError: The category is not the name of a folder.
        EmptyFolderError: Neither `data` nor `data/category` is a texture's folder.
    """
    if category in ("", "..") or Path(category).name != category:
        raise DataError(f"A category is the name of one folder, not '{category}'. Give a name.")
    if not data.is_dir():
        near = did_you_mean(data.name, folder_names(data.parent))
        raise EmptyFolderError(f"No folder {data} to look for texture '{category}' in.{near}")
    alike = (name for name in folder_names(data) if normal(name) == normal(category))
    root = data / category
    root = root if root.is_dir() else data / next(alike, "")
    root = unwrapped(root) if normal(root.name) == normal(category) else root
    layout = layout_of(root)
    subfolders = folder_names(root)
    if root == data and (textures := textures_in(data)):
        raise EmptyFolderError(
            f"No texture '{category}' in {data}; it has {', '.join(textures)}."
            f"{did_you_mean(category, textures)}{beside_good(root)} {LAYOUTS}"
        )
    if layout is None:
        found = f"the folders {', '.join(subfolders)}" if subfolders else "no folder"
        raise EmptyFolderError(
            f"No picture of good '{category}' in {root}; it has {found} and no picture."
            f"{beside_good(root)} {LAYOUTS}"
        )
    return root, layout


def _used(paths: Sequence[Path]) -> Sequence[Path]:
    """Return the paths of the pictures that are read, evenly over all."""
    if len(paths) <= FEW:
        return paths
    most, middle = MOST_PICTURES, paths[len(paths) // 2]
    with suppress(BadImageError):  # it is reported when all are read
        most = min(most, max(FEW, MOST_BYTES // read_image(middle).nbytes))
    if len(paths) <= most:
        return paths
    return [paths[place] for place in np.linspace(0, len(paths) - 1, most).round().astype(int)]


def _read_all(paths: Sequence[Path]) -> list[Shaped[np.ndarray, "_ _ _"]]:
    """Read all pictures, and report all damaged ones in one error."""
    images, damaged = [], []
    for path in paths:
        try:
            images.append(read_image(path))
        except BadImageError as error:
            damaged.append(f"{path} ({error.__cause__})")
    if damaged:
        first = "; ".join(damaged[:3]) + (" and others" if len(damaged) > 3 else "")
        raise BadImageError(
            f"{len(damaged)} of {len(paths)} good pictures cannot be read: {first}. "
            "Remove or replace them, then run again."
        )
    return images


def _licence(data: Path, root: Path, layout: Layout, name: str) -> str:
    """Return the licence in the texture's folder, that of a well-known name, or of the data set.

    No other folder is looked at: a licence above the data set is that of something else.
    """
    if found := _licence_in(root):
        return found
    if layout == "mvtec" and not MVTEC_NAMES.isdisjoint((name, root.name)):
        return f"{MVTEC_LICENCE} (assumed from the name)"
    return (_licence_in(data) if data in root.parents else None) or "unknown"


def _licence_in(folder: Path) -> str | None:
    """Return the first line of a licence file; None if there is no such file."""
    for path in sorted(folder.iterdir()):
        is_text = path.suffix.lower() in ("", ".txt", ".md") and path.is_file()
        if is_text and path.stem.lower() in ("license", "licence"):
            with path.open(encoding="utf-8", errors="replace") as file:
                text = file.read(LICENCE_LENGTH)
            lines = (line.strip("# \t\ufeff") for line in text.splitlines())
            first = next(filter(None, lines), "")
            if "mvtec" in text.lower() and "CC BY" not in first:
                return MVTEC_LICENCE  # its first line may not say what it is
            if first:
                return first[:LINE_LENGTH]
    return None


def find(data: Path, category: str, *, licence: str | None = None) -> Texture:
    """Read all good training images of a texture. Test images are not opened.

    Args:
        data: A folder with one folder a texture, or the folder of one texture.
        category: Name of the texture, and of its folder in `data` if there is one.
        licence: What the pictures may be used for. By default, the first line of a licence file
            in the texture's folder or in `data`.

    Raises:
        DataError: The category is not the name of a folder.
        EmptyFolderError: There are no good pictures; the message lists what was found.
        BadImageError: Some pictures are damaged; the message counts them and names the first.
    """
    root, layout = _root(data, category)
    arrangement = arranged(root, layout)
    paths, good = arrangement.good, arrangement.good_folder
    if not paths:
        found = ", ".join(sorted(entry.name for entry in good.iterdir())[:5]) or "nothing"
        raise EmptyFolderError(
            f"No picture of good '{category}' in {good}; it has {found}. {LAYOUTS}"
        )
    used = _used(paths)
    images = _read_all(used)
    mode: Mode = "RGB" if any(image.shape[2] == 3 for image in images) else "L"
    images = [to_mode(image, mode) for image in images]
    return Texture(
        name=normal(category),
        root=root,
        layout=layout,
        mode=mode,
        pictures=tuple(
            Picture(
                name=path.relative_to(root).as_posix(),
                pixels=image,
                key=content_key(image),
                tables=jpeg_tables(path),
            )
            for path, image in zip(used, images, strict=True)
        ),
        found=len(paths),
        licence=licence or _licence(data, root, layout, category),
    )
