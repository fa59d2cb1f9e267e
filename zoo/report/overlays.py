"""Pictures with their anomaly maps, for visual inspection."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from zoo.data.images import most_bytes, to_rgb8
from zoo.errors import ConfigError
from zoo.files import check_regular, write_whole, writing

if TYPE_CHECKING:
    from zoo.detectors import Score

MAX_OPACITY = 0.55  # of the colour of the highest values over the picture
GAP = 4  # pixels between a picture and its map
MIN_SIDE = 256  # pixels; smaller images are enlarged
MARK = "Software", "texture-zoo"  # in the PNG file
RED, GREEN = (255, 40, 40), (60, 255, 60)


def overlay(pixels: Shaped[np.ndarray, "h w c"], score: Score) -> UInt8[np.ndarray, "h w 3"]:
    """Draw the map over its image, with a red outline around what is above the threshold.

    The colour scale is the same for all images of a detector, with the threshold in its middle. A
    good image therefore stays nearly unchanged.
    """
    heat = _heat(score)
    # OpenCV orders channels as BGR.
    colour = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    alpha = MAX_OPACITY * np.clip(heat * 2 - 0.4, 0, 1)[:, :, None]
    mixed = (to_rgb8(pixels) * (1 - alpha) + colour * alpha).astype(np.uint8)
    return outlined(mixed, score.mask, RED)


def grey(score: Score) -> UInt8[np.ndarray, "h w"]:
    """Return the map in grey: the threshold and what is just above it is 128, what is below less.

    The scale is that of `overlay`.
    """
    found: np.ndarray = np.minimum(_heat(score) * 256, 255).astype(np.uint8)
    return found


def _heat(score: Score) -> Float[np.ndarray, "h w"]:
    """Return the map from 0 to 1, with the threshold half way."""
    reach = max(abs(score.threshold), 1e-9)
    heat: np.ndarray = np.clip((score.map - score.threshold) / (2 * reach) + 0.5, 0, 1)
    return heat


def outlined(
    picture: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    colour: tuple[int, int, int],
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw the outline of a mask on a picture."""
    lines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    width = max(1, round(min(mask.shape) / 256))
    drawn = cv2.drawContours(np.ascontiguousarray(picture), lines, -1, colour, width)
    return np.asarray(drawn, dtype=np.uint8)


def picture_and_map(
    pixels: Shaped[np.ndarray, "h w c"], score: Score, truth: Bool[np.ndarray, "h w"] | None = None
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Return the image and its overlay next to each other; the true mask gets a green outline.

    Images with a side under 256 pixels are enlarged.
    """
    picture = to_rgb8(pixels)
    left = picture if truth is None else outlined(picture, truth, GREEN)
    gap = np.full((picture.shape[0], GAP, 3), 255, np.uint8)
    pair = np.concatenate([left, gap, overlay(pixels, score)], axis=1)
    times = max(1, MIN_SIDE // min(picture.shape[:2]))
    return pair.repeat(times, axis=0).repeat(times, axis=1)


def save(picture: UInt8[np.ndarray, "h w 3"], path: Path) -> Path:
    """Write a picture in one step, marked as one of ours; its folder is made if need be.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    content, mark = io.BytesIO(), PngInfo()
    mark.add_text(*MARK)
    Image.fromarray(picture).save(content, "png", pnginfo=mark)
    with writing(path, f"the picture {path.name}"):
        write_whole(path, content.getvalue())
    return path


def is_ours(path: Path) -> bool:
    """Return whether a file is a picture that `save` wrote."""
    try:
        check_regular(path, most=most_bytes())
        with Image.open(path) as picture:
            return picture.info.get(MARK[0]) == MARK[1]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def paths_of(images: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Return where the overlay of each image goes: below `folder` as below their common folder.

    Raises:
        ConfigError: Two images would have one overlay, or there is a file that `save` did not
            write.
    """
    where = {image: Path(os.path.abspath(image)) for image in images}
    common = os.path.commonpath([path.parent for path in where.values()])
    found: dict[Path, Path] = {}
    owners: dict[Path, Path] = {}
    for image, path in where.items():
        target = folder / path.relative_to(common).with_suffix(".png")
        other = owners.setdefault(target, image)
        if other != image:
            raise ConfigError(
                f"The overlays of {other} and {image} would both be {target}. Rename one of them, "
                "or write their overlays into two folders."
            )
        if os.path.lexists(target) and not is_ours(target):
            raise ConfigError(
                f"The overlay of {image} would overwrite {target}, which is not marked as an "
                "overlay of `zoo score`. Name another folder with --out, or remove the file."
            )
        found[image] = target
    return found


def stacked(pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> UInt8[np.ndarray, "h w 3"]:
    """Stack pictures vertically; narrower ones are padded with white."""
    width = max(picture.shape[1] for picture in pictures)
    rows = [
        np.pad(picture, ((0, 4), (0, width - picture.shape[1]), (0, 0)), constant_values=255)
        for picture in pictures
    ]
    return np.concatenate(rows)
