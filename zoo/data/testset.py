"""The test pictures of a texture with their masks. Only `zoo.evaluation.audit` reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped

from zoo.data.images import read_image, to_mode
from zoo.data.textures import Texture, folder_names, picture_paths
from zoo.errors import BadImageError, BadMaskError, EmptyFolderError


@dataclass(frozen=True, kw_only=True)
class TestPicture:
    """One test image and its mask.

    Attributes:
        name: Path relative to the texture's folder.
        kind: "good", or the type of the defect.
        pixels: Of type uint8 or uint16, in the texture's mode.
        mask: True where the image is anomalous; all False for a good image.
    """

    __test__ = False  # pytest would take it for a class of tests, because of its name

    name: str
    kind: str
    pixels: Shaped[np.ndarray, "h w c"]
    mask: Bool[np.ndarray, "h w"]


def has_test(texture: Texture) -> bool:
    """Return whether there are folders of test images. The folders are not opened."""
    if texture.layout == "mvtec":
        return bool(folder_names(texture.root / "test"))
    return texture.layout == "nanotwice" and (texture.root / "Anomalous" / "images").is_dir()


def _test_paths(texture: Texture) -> Iterator[tuple[str, Path, Path]]:
    """Yield kind, picture path and mask path of every test image; a good one has no mask."""
    root = texture.root
    if texture.layout == "mvtec":
        for kind in folder_names(root / "test"):
            for path in picture_paths(root / "test" / kind):
                yield kind, path, root / "ground_truth" / kind / f"{path.stem}_mask.png"
    elif has_test(texture):
        for path in picture_paths(root / "Anomalous" / "images"):
            yield "anomalous", path, root / "Anomalous" / "gt" / f"{path.stem}_gt.png"


def _read_mask(path: Path, picture: Path, height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """Read the mask of a picture of this size; a pixel that is not black is anomalous.

    Raises:
        BadMaskError: The mask is missing, cannot be read, or has another size.
    """
    if not path.is_file():
        raise BadMaskError(f"{picture} has no mask {path}. Add it, or remove the picture.")
    try:
        mask = np.asarray(read_image(path).any(axis=2))
    except BadImageError as error:
        raise BadMaskError(f"The mask of {picture} is damaged: {error}") from error
    if mask.shape != (height, width):
        raise BadMaskError(
            f"{picture} is {height}x{width} pixels (height x width), but its mask {path} is "
            f"{mask.shape[0]}x{mask.shape[1]}. Replace one of them."
        )
    return mask


def read_test(texture: Texture) -> Iterator[TestPicture]:
    """Yield the test images with their masks; each is read when it is yielded.

    Only the audit calls this. In the NanoTWICE layout all test images are of kind "anomalous".

    Raises:
        EmptyFolderError: There is no test image.
        BadImageError: A picture cannot be read.
        BadMaskError: A defective picture has no readable mask, or one of another size.
    """
    empty = True
    for kind, path, mask_path in _test_paths(texture):
        empty = False
        pixels = to_mode(read_image(path), texture.mode)
        height, width = pixels.shape[:2]
        if kind == "good":
            mask = np.zeros((height, width), np.bool_)
        else:
            mask = _read_mask(mask_path, path, height, width)
        name = path.relative_to(texture.root).as_posix()
        yield TestPicture(name=name, kind=kind, pixels=pixels, mask=mask)
    if empty:
        raise EmptyFolderError(
            f"No test image of '{texture.name}' in {texture.root}; test/<kind> or Anomalous/images "
            "should hold some. Training needs no test images, but an audit does."
        )
