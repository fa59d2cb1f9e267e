"""The test pictures of a texture with their masks. Only `zoo.evaluation.audit` reads them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Shaped

from zoo.data.images import read_image, to_mode
from zoo.data.layouts import TestFile, arranged, check_test
from zoo.data.masks import read_mask
from zoo.data.textures import Texture
from zoo.errors import BadMaskError, EmptyFolderError


@dataclass(frozen=True, kw_only=True)
class TestPicture:
    """One test image and its mask.

    Attributes:
        name: Path relative to the texture's folder.
        kind: "good", or the type of the defect.
        pixels: Of type uint8 or uint16, in the texture's mode.
        mask: True where the image is anomalous; all False for a good image, and for one whose
            mask is black among the defective ones, such as a crop of a defective picture. None for
            a defective image of a texture that has labels and no masks.
    """

    __test__ = False  # pytest would take it for a class of tests, because of its name

    name: str
    kind: str
    pixels: Shaped[np.ndarray, "h w c"]
    mask: Bool[np.ndarray, "h w"] | None

    @property
    def defective(self) -> bool:
        """Whether it shows a defect."""
        return self.mask is None or bool(self.mask.any())


def has_test(texture: Texture) -> bool:
    """Return whether there are test images. They are not opened."""
    return bool(arranged(texture.root, texture.layout).test)


def _mask_of(file: TestFile, height: int, width: int) -> Bool[np.ndarray, "h w"] | None:
    """Return the mask of a picture of this size; None if it has a label only.

    Raises:
        BadMaskError: The mask is missing, cannot be read, has another size, or contradicts the
            kind of the picture.
    """
    picture, path = file.path, file.mask
    if path is None:
        return np.zeros((height, width), np.bool_) if file.kind == "good" else None
    if not path.is_file():
        raise BadMaskError(f"{picture} has no mask {path}. Add it, or remove the picture.")
    mask = read_mask(path)
    if mask.shape != (height, width):
        raise BadMaskError(
            f"{picture} is {height}x{width} pixels (height x width), but its mask {path} is "
            f"{mask.shape[0]}x{mask.shape[1]}. Replace one of them."
        )
    if file.kind == "good" and mask.any():
        raise BadMaskError(
            f"{picture} is among the good test pictures, but its mask {path} marks {mask.sum()} "
            "pixels. Correct one of them."
        )
    return mask


def read_test(texture: Texture, only: Collection[str] | None = None) -> Iterator[TestPicture]:
    """Yield the test images with their masks; each is read when it is yielded.

    Only the audit calls this. In the NanoTWICE layout all test images are of kind "anomalous".

    Args:
        texture: The texture.
        only: Names of the pictures to read; None reads all.

    Raises:
        EmptyFolderError: There is no test image.
        BadImageError: A picture cannot be read.
        BadMaskError: A defective picture has no readable mask, or one of another size, or several,
            or a mask has no picture, or two.
    """
    arrangement = arranged(texture.root, texture.layout)
    check_test(arrangement)
    for file in arrangement.test:
        name = file.path.relative_to(texture.root).as_posix()
        if only is not None and name not in only:
            continue
        pixels = to_mode(read_image(file.path), texture.mode)
        mask = _mask_of(file, *pixels.shape[:2])
        yield TestPicture(name=name, kind=file.kind, pixels=pixels, mask=mask)
    if not arrangement.test:
        raise EmptyFolderError(
            f"No test image of '{texture.name}' in {texture.root}; test/<kind>, Anomalous/images, "
            "or a folder of bad pictures should hold some. Training needs no test images, but an "
            "audit does."
        )
