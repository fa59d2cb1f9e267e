"""One image with good windows, placebos and all defect families, for visual inspection."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from zoo.data.defects.families import FAMILIES, held_out
from zoo.data.defects.optics import Optics
from zoo.data.defects.validation import GOOD, PLACEBO, Window, WindowPainter
from zoo.data.images import to_rgb8
from zoo.data.textures import Picture
from zoo.errors import EmptyFolderError

COLUMNS, CELL, LABEL = 5, 192, 120  # windows in a row; side of a tile and of the names, in pixels
WINDOW = 320  # pixels; side of a window


def draw_sheet(
    pictures: Sequence[Picture], *, seed: int, optics: Optics | None = None
) -> Image.Image:
    """Return a row of good windows, one of placebos, and one of each family, growing and clearer.

    Each window is shown without and with its mask.

    Args:
        pictures: Good images to paint on.
        seed: Seed of places, shapes and tones; a training of this seed does not see some families.
        optics: The camera of the pictures.

    Raises:
        EmptyFolderError: There is no picture.
        BadImageError: A picture is too small for a defect.
    """
    if not pictures:
        raise EmptyFolderError("There is no good picture to paint a sheet of defects on.")
    names = (GOOD, PLACEBO, *FAMILIES)
    page = Image.new("RGB", (LABEL + COLUMNS * 2 * CELL, len(names) * CELL), "white")
    draw, rng = ImageDraw.Draw(page), np.random.default_rng(seed)
    painter = WindowPainter.of(pictures, seed=seed, optics=optics, window=WINDOW)
    for row, name in enumerate(names):
        draw.text((4, row * CELL + 4), name, fill="black")
        if name in held_out(seed):
            draw.text((4, row * CELL + 20), "held out", fill="red")
        for column in range(COLUMNS):
            share = (column + 0.5) / COLUMNS
            if name in FAMILIES:
                shown: Window | None = painter.defective(column, name, share, share, rng)
            else:
                shown = painter.unchanged(column, name, rng)
            if shown is None:
                draw.text((LABEL, row * CELL + 4), "no material fits another place", fill="black")
                break
            for place, tile in enumerate(_tiles(shown)):
                page.paste(tile, (LABEL + (2 * column + place) * CELL, row * CELL))
    return page


def _tiles(shown: Window) -> tuple[Image.Image, Image.Image]:
    """Return the window, and the window with its mask outlined in red."""
    scale = (CELL - 4) / max(shown.mask.shape)
    height, width = (max(1, round(side * scale)) for side in shown.mask.shape)
    plain = cv2.resize(to_rgb8(shown.image), (width, height), interpolation=cv2.INTER_AREA)
    mask = cv2.resize(shown.mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    outline = cv2.dilate(mask, np.ones((3, 3), np.uint8)) > mask
    outlined = plain.copy()
    outlined[outline] = (255, 0, 0)
    return Image.fromarray(plain), Image.fromarray(outlined)
