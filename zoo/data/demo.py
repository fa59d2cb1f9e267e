"""Real CC0 texture photographs, made into a small MVTec-layout data set.

The photographs are part of scikit-image, so nothing is downloaded. Training tiles do not overlap,
and test tiles come from a strip of the photograph that contains no training tile, so no test pixel
is used in training. The defects are painted here and not by `zoo.data.defects`: a detector must not
be tested on the defects on which it was chosen.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw

from zoo.errors import ConfigError, DataError, StorageError

Photograph = Literal["brick", "grass", "gravel"]
TEXTURES: tuple[Photograph, ...] = get_args(Photograph)
SOURCES = {
    "brick": "Bricks25, https://cc0textures.com/view.php?tex=Bricks25",
    "grass": "Grass 01 by linolafett, https://www.deviantart.com/linolafett/art/Grass-01-434853879",
    "gravel": "Gravel04, https://cc0textures.com/view.php?tex=Gravel04",
}
MADE_BY = "Made by the demo of texture-zoo; making it again replaces train, test and ground_truth."

PARTS = ("train", "test", "ground_truth")
WROTE = re.compile("Its files: sha256:([0-9a-f]{64})")

# Test tiles come from the middle rows. In the photograph of bricks the scale changes from top to
# bottom; with training tiles above and below, the test shows no scale that training lacks.
STRIP = (192, 320)
MIN_SIZE, MAX_SIZE = 48, 96  # with larger tiles there are too few to split into whole tiles
GOOD_TILES, DEFECTS_A_KIND = 8, 6
MIN_OPACITY = 0.15  # fainter paint is left out, so that the mask contains all painted pixels


def _crack(
    tile: UInt8[np.ndarray, "h w"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Return opacity and paint of a thin, dark, irregular line."""
    height, width = tile.shape
    finer = 4  # drawn at this scale and averaged, for smooth edges
    angle = rng.uniform(0, 2 * np.pi)
    y, x = rng.uniform(0.25, 0.75, 2) * (height, width)
    y, x = y - 0.3 * height * np.sin(angle), x - 0.3 * width * np.cos(angle)
    points = [(x * finer, y * finer)]
    for _ in range(int(rng.integers(7, 11))):
        angle += rng.normal(0, 0.6)
        length = rng.uniform(0.06, 0.12) * min(height, width)
        y, x = y + length * np.sin(angle), x + length * np.cos(angle)
        points.append((x * finer, y * finer))
    line_width = round(finer * rng.uniform(1.6, 2.8))
    canvas = Image.new("L", (width * finer, height * finer))
    ImageDraw.Draw(canvas).line(points, fill=255, width=line_width, joint="curve")
    opacity = np.asarray(canvas.reduce(finer)) / 255 * rng.uniform(0.75, 0.95)
    return opacity, np.full(tile.shape, 0.5 * np.quantile(tile, 0.05))


def _blob(
    height: int, width: int, rng: np.random.Generator, radius: float, edge: float
) -> Float[np.ndarray, "{height} {width}"]:
    """Return the opacity of a round, irregular spot; radius and soft edge are in pixels."""
    centre_y, centre_x = rng.uniform(0.25, 0.75, 2) * (height, width)
    y = np.arange(height)[:, None] - centre_y
    x = (np.arange(width) - centre_x) * rng.uniform(0.6, 1.0)
    theta = np.arctan2(y, x)
    outline = np.ones((height, width))
    for wave in range(2, 7):
        outline += rng.normal(0, 0.25 / wave) * np.cos(wave * theta + rng.uniform(0, 2 * np.pi))
    depth = np.clip((radius * outline - np.hypot(y, x)) / edge + 0.5, 0, 1)
    return np.asarray(depth * depth * (3 - 2 * depth))


def _stain(
    tile: UInt8[np.ndarray, "h w"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Return opacity and paint of a pale spot with a soft edge; the texture stays visible."""
    height, width = tile.shape
    side = min(height, width)
    opacity = _blob(height, width, rng, radius=rng.uniform(0.09, 0.17) * side, edge=0.06 * side)
    return opacity * rng.uniform(0.5, 0.7), np.full(tile.shape, rng.uniform(205, 240))


def _smear(
    tile: UInt8[np.ndarray, "h w"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Return opacity and paint of a spot where the texture is blurred along a line and darkened."""
    height, width = tile.shape
    side = min(height, width)
    reach = round(0.12 * side)
    angle = rng.uniform(0, np.pi)
    padded = np.pad(tile.astype(np.float64), reach, mode="reflect")
    blurred = np.zeros(tile.shape)
    for step in range(-reach, reach + 1):
        top, left = reach + round(step * np.sin(angle)), reach + round(step * np.cos(angle))
        blurred += padded[top : top + height, left : left + width] / (2 * reach + 1)
    opacity = _blob(height, width, rng, radius=rng.uniform(0.14, 0.22) * side, edge=0.05 * side)
    return opacity, blurred * rng.uniform(0.75, 0.88)


PAINTERS = {"crack": _crack, "smear": _smear, "stain": _stain}


def paint(
    tile: UInt8[np.ndarray, "h w"], kind: str, *, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Return the tile with one painted defect, and its mask; other pixels are unchanged.

    Args:
        tile: A grey tile.
        kind: One of `PAINTERS`.
        rng: Source of random numbers for place, size, shape and strength.
    """
    opacity, layer = PAINTERS[kind](tile, rng)
    mask = opacity >= MIN_OPACITY
    painted = np.rint(tile * (1 - opacity) + layer * opacity).clip(0, 255).astype(np.uint8)
    return np.where(mask, painted, tile), mask


def _training_tiles(
    photograph: UInt8[np.ndarray, "h w"], size: int
) -> Iterator[UInt8[np.ndarray, "{size} {size}"]]:
    for band in (photograph[: STRIP[0]], photograph[STRIP[1] :]):
        for top in range(0, band.shape[0] - size + 1, size):
            for left in range(0, band.shape[1] - size + 1, size):
                yield band[top : top + size, left : left + size]


def _test_tiles(
    photograph: UInt8[np.ndarray, "h w"], size: int, count: int, rng: np.random.Generator
) -> Iterator[UInt8[np.ndarray, "{size} {size}"]]:
    """Yield tiles along the strip; they overlap each other, but no training tile."""
    strip = photograph[STRIP[0] : STRIP[1]]
    for left in np.linspace(0, strip.shape[1] - size, count).astype(int):
        top = rng.integers(0, strip.shape[0] - size + 1)
        yield strip[top : top + size, left : left + size]


def _save(pixels: UInt8[np.ndarray, "h w"], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _clear(root: Path, texture: Photograph) -> None:
    """Make a folder that holds only a licence; an older demo in it is removed.

    Raises:
        DataError: The folder holds something that the demo did not make, or that was changed.
    """
    licence = root / "license.txt"
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        said = licence.read_text("utf-8", errors="replace") if licence.is_file() else ""
        if MADE_BY not in said:
            raise DataError(f"{root} is not empty and not a demo of the zoo. Give another folder.")
        if (wrote := WROTE.search(said)) and wrote[1] != _digest(root):
            raise DataError(
                f"{root} is a demo of the zoo whose files were changed since, and making it again "
                "would lose them. Give another folder, or move your files away."
            )
        for part in PARTS:
            shutil.rmtree(root / part, ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    licence.write_text(
        "CC0 1.0 Universal (public domain)\n\n"
        f"Photograph: {SOURCES[texture]},\nas cut and published by scikit-image "
        f"(skimage.data.{texture}).\nDefects: painted.\n\n{MADE_BY}\n",
        encoding="utf-8",
    )


def _digest(root: Path) -> str:
    """Return the digest of the names and contents of all files of a demo but the licence."""
    found = hashlib.sha256()
    files = [path for part in PARTS for path in (root / part).rglob("*") if path.is_file()]
    for path in sorted(files):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        found.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return found.hexdigest()


def make(
    folder: Path, *, texture: Photograph = "brick", seed: int = 0, size: int = MAX_SIZE
) -> Path:
    """Make `folder/<texture>` in MVTec layout, and return that path.

    With the largest size there are 20 training tiles, with smaller sizes more. There are 8 good
    test tiles, 6 with a crack, 6 with a smear and 6 with a stain. The same arguments make the same
    pictures. An older demo in `folder/<texture>` is replaced.

    Args:
        folder: Folder with one folder a texture.
        texture: Name of the photograph.
        seed: Seed of the test tiles and their defects.
        size: Side of a tile, 48 to 96 pixels.

    Raises:
        ConfigError: The size is out of its range.
        DataError: The folder holds something that the demo did not make, or that was changed.
        StorageError: The disk is full or the folder is read-only.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        limits = f"{MIN_SIZE} to {MAX_SIZE}"
        raise ConfigError(f"size is {size}; a demo tile has {limits} pixels a side.")
    from skimage import data

    photograph = getattr(data, texture)()
    root = folder / texture
    rng = np.random.default_rng([seed, TEXTURES.index(texture)])
    try:
        _clear(root, texture)
        for number, tile in enumerate(_training_tiles(photograph, size)):
            _save(tile, root / "train" / "good" / f"{number:03}.png")
        for number, tile in enumerate(_test_tiles(photograph, size, GOOD_TILES, rng)):
            _save(tile, root / "test" / "good" / f"{number:03}.png")
        for kind in PAINTERS:
            for number, tile in enumerate(_test_tiles(photograph, size, DEFECTS_A_KIND, rng)):
                painted, mask = paint(tile, kind, rng=rng)
                _save(painted, root / "test" / kind / f"{number:03}.png")
                mask_path = root / "ground_truth" / kind / f"{number:03}_mask.png"
                _save(mask.astype(np.uint8) * 255, mask_path)
        with (root / "license.txt").open("a", encoding="utf-8") as licence:
            licence.write(f"Its files: sha256:{_digest(root)}\n")
    except OSError as error:
        raise StorageError(f"The demo cannot be written to {root}: {error}.") from error
    return root
