"""One image with examples of all defect families, for visual inspection."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from zoo.data.defects.families import FAMILIES
from zoo.data.defects.validation import SIZES, Defective, cut_window, defective
from zoo.data.images import to_rgb8
from zoo.data.textures import Picture
from zoo.errors import EmptyFolderError


def draw_sheet(pictures: Sequence[Picture], *, seed: int) -> Image.Image:
    """Return one row a family: windows of growing size and contrast, without and with the mask.

    Args:
        pictures: Good images to paint on.
        seed: Seed of places, shapes and tones.

    Raises:
        EmptyFolderError: There is no picture.
        BadImageError: A picture is too small for a defect.
    """
    if not pictures:
        raise EmptyFolderError("There is no good picture to paint a sheet of defects on.")
    columns, cell, label = 5, 192, 120
    page = Image.new("RGB", (label + columns * 2 * cell, len(FAMILIES) * cell), "white")
    draw = ImageDraw.Draw(page)
    rng = np.random.default_rng(seed)
    for row, (name, family) in enumerate(FAMILIES.items()):
        draw.text((4, row * cell + 4), name, fill="black")
        if family.held_out:
            draw.text((4, row * cell + 20), "held out", fill="red")
        for column in range(columns):
            share = (column + 0.5) / columns
            good, donor = (
                cut_window(pictures[i], 320, rng) for i in rng.integers(len(pictures), size=2)
            )
            size = SIZES[0] * (SIZES[1] / SIZES[0]) ** share
            shown = defective(good, donor, name, rng=rng, size=size, contrast=share)
            for place, tile in enumerate(_tiles(shown, cell)):
                page.paste(tile, (label + (2 * column + place) * cell, row * cell))
    return page


def _tiles(shown: Defective, cell: int) -> tuple[Image.Image, Image.Image]:
    """Return the window, and the window with its mask outlined in red."""
    scale = (cell - 4) / max(shown.mask.shape)
    height, width = (max(1, round(side * scale)) for side in shown.mask.shape)
    plain = cv2.resize(to_rgb8(shown.image), (width, height), interpolation=cv2.INTER_AREA)
    mask = cv2.resize(shown.mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    outline = cv2.dilate(mask, np.ones((3, 3), np.uint8)) > mask
    outlined = plain.copy()
    outlined[outline] = (255, 0, 0)
    return Image.fromarray(plain), Image.fromarray(outlined)
