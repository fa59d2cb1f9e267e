"""How the folders of a data set become a layout that `zoo.data.layouts` knows.

Each function gets a folder that was unpacked and belongs to nobody else, and moves its files.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from zoo.data.images import picture_paths
from zoo.errors import DataError

# Of magnetic tiles: pictures are frames of a film, and frames that are near show the same tile.
# Of 200 of them the next frame is up to 212 frames later, or at least 306.
SAME_TILE = 250
HELD_OUT = 5  # of so many tiles, one is for the test
_FRAME = re.compile(r"_num_(\d+)$")


def mvtec_ad_2(folder: Path) -> None:
    """Give MVTec AD 2 the layout of MVTec AD.

    `test_public` becomes the test. `validation/good` joins `train/good`: the zoo divides the good
    pictures itself. Pictures for MVTec's own server, which have no labels, stay where they are.
    """
    public = folder / "test_public"
    _move(public / "ground_truth", folder / "ground_truth")
    for kind in ("good", "bad"):
        _move(public / kind, folder / "test" / kind)
    validation = folder / "validation" / "good"
    for path in picture_paths(validation) if validation.is_dir() else ():
        _move(path, folder / "train" / "good" / f"validation_{path.name}")
    for empty in (validation, validation.parent, public):
        if empty.is_dir() and not any(empty.iterdir()):
            empty.rmdir()


def magnetic_tile(folder: Path) -> None:
    """Give the magnetic tiles the layout of MVTec AD.

    They come as a folder a defect, `MT_Crack/Imgs`, with a mask beside each picture, and `MT_Free`
    without defects. There is no test of good tiles, so every fifth tile of these is held out.

    Raises:
        DataError: There is no folder `MT_Free`.
    """
    free = next(iter(sorted(folder.rglob("MT_Free"))), None)
    if free is None:
        raise DataError(
            f"The archive has no folder MT_Free of good tiles; it has {_listed(folder)}. Take the "
            "archive of its authors."
        )
    root = free.parent
    good = [path for path in picture_paths(free / "Imgs") if path.suffix.lower() != ".png"]
    for number, tile in enumerate(_tiles(good)):
        side = "test" if number % HELD_OUT == HELD_OUT - 1 else "train"
        for path in tile:
            _move(path, folder / side / "good" / path.name)
    for source in sorted(root.glob("MT_*")):
        kind = source.name.removeprefix("MT_").lower()
        for path in picture_paths(source / "Imgs") if source != free else ():
            if path.suffix.lower() == ".png":
                _move(path, folder / "ground_truth" / kind / f"{path.stem}_mask.png")
            else:
                _move(path, folder / "test" / kind / path.name)
        shutil.rmtree(source)
    if root != folder:
        for path in sorted(root.glob("README*")):
            _move(path, folder / path.name)
        shutil.rmtree(folder / root.relative_to(folder).parts[0])


def as_is(folder: Path) -> None:
    """Leave a folder as it is: its layout is known."""


ARRANGEMENTS: Mapping[str, Callable[[Path], None]] = {
    "as-is": as_is,
    "mvtec-ad-2": mvtec_ad_2,
    "magnetic-tile": magnetic_tile,
}


def _tiles(paths: list[Path]) -> Iterator[list[Path]]:
    """Yield the pictures of each tile, by the numbers of their frames; others one by one."""
    matches = [(_FRAME.search(path.stem), path) for path in paths]
    numbered = sorted((int(match[1]), path) for match, path in matches if match)
    tile: list[Path] = []
    last = 0
    for number, path in numbered:
        if tile and number - last > SAME_TILE:
            yield tile
            tile = []
        tile.append(path)
        last = number
    if tile:
        yield tile
    known = {path for _, path in numbered}
    yield from ([path] for path in paths if path not in known)


def _move(source: Path, target: Path) -> None:
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)


def _listed(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
