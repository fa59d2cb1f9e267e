"""Folders to textures, in any of the layouts of `zoo.data.layouts`.

`find` reads the good training pictures of one texture. Only `zoo.data.testset` opens test pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from zoo.data.images import Mode, Tables, content_key, jpeg_tables, read_image, to_mode
from zoo.data.layouts import (
    LAYOUTS,
    Layout,
    arranged,
    folder_names,
    layout_of,
    textures_in,
    unwrapped,
)
from zoo.errors import BadImageError, DataError, EmptyFolderError, did_you_mean

LICENCE = 2**16  # letters of a licence file that are read; its first line is shown
MVTEC_TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
MVTEC_OBJECTS = ("bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw")
MVTEC_NAMES = {*MVTEC_TEXTURES, *MVTEC_OBJECTS, "toothbrush", "transistor", "zipper"}


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
        pictures: The good training images in order of their names, all converted to `mode`.
        licence: What the pictures may be used for, in one line; "unknown" if none was found.
    """

    name: str
    root: Path
    layout: Layout
    mode: Mode
    pictures: tuple[Picture, ...]
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
    root = data / category if (data / category).is_dir() else data
    root = unwrapped(root) if root.name == category else root
    layout = layout_of(root)
    subfolders = folder_names(root)
    if root == data and (textures := textures_in(data)):
        raise EmptyFolderError(
            f"No texture '{category}' in {data}; it has {', '.join(textures)}."
            f"{did_you_mean(category, textures)} {LAYOUTS}"
        )
    if layout is None:
        found = f"the folders {', '.join(subfolders)}" if subfolders else "no folder"
        raise EmptyFolderError(
            f"No picture of good '{category}' in {root}; it has {found} and no picture. {LAYOUTS}"
        )
    return root, layout


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


def _licence(root: Path, layout: Layout, name: str) -> str:
    """Return the first line of a licence file, or the licence of a well-known name."""
    for folder in (root, root.resolve().parent):
        for path in sorted(folder.iterdir()):
            is_text = path.suffix.lower() in ("", ".txt", ".md") and path.is_file()
            if is_text and path.stem.lower() in ("license", "licence"):
                with path.open(encoding="utf-8", errors="replace") as file:
                    lines = file.read(LICENCE).splitlines()
                for line in filter(None, (line.strip("# \t\ufeff") for line in lines)):
                    return line
    if layout == "mvtec" and not MVTEC_NAMES.isdisjoint((name, root.name)):
        return "MVTec AD, CC BY-NC-SA 4.0 (assumed from the name)"
    return "unknown"


def find(data: Path, category: str, *, licence: str | None = None) -> Texture:
    """Read all good training images of a texture. Test images are not opened.

    Args:
        data: A folder with one folder a texture, or the folder of one texture.
        category: Name of the texture, and of its folder in `data` if there is one.
        licence: What the pictures may be used for. By default, the first line of a licence file
            in the texture's folder or in its parent.

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
    images = _read_all(paths)
    mode: Mode = "RGB" if any(image.shape[2] == 3 for image in images) else "L"
    images = [to_mode(image, mode) for image in images]
    return Texture(
        name=category,
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
            for path, image in zip(paths, images, strict=True)
        ),
        licence=licence or _licence(root, layout, category),
    )
