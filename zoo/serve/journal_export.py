"""A data folder from the journal: for the training of the next champion.

    OUT/wood/train/good/         what was called good
    OUT/wood/defective/          what was called a defect, with a mask beside it where one was drawn

Defects are not among the test pictures of that folder: what a person corrected a detector with must
not judge the next one.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from registry.names import file_name
from zoo.data.images import SUFFIXES, read_image
from zoo.errors import BadImageError, ConfigError, DataError
from zoo.files import writing
from zoo.serve.journal import Journal, Line

GOOD, DEFECTS = Path("train", "good"), Path("defective")
STEM = 16  # characters of the picture's digest in the name of a file


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written of one texture.

    Attributes:
        texture: Its name.
        folder: Where it is.
        good: Good pictures.
        defects: Defective pictures.
        masks: Masks among them.
        missing: Answers about pictures that were not kept, or made room for others.
        unreadable: Pictures that cannot be read, or do not have the size of their mark.
    """

    texture: str
    folder: Path
    good: int
    defects: int
    masks: int
    missing: int
    unreadable: int


def export(journal: Journal, out: Path, *, textures: Sequence[str] = ()) -> list[Exported]:
    """Write the pictures of a journal, with the last answer about each, as a data folder.

    It is made beside `out` and renamed as a whole, so there is all of it or nothing.

    Args:
        journal: The journal.
        out: A folder that does not exist, or is empty.
        textures: Which; by default all that have marks.

    Raises:
        ConfigError: There is something in `out`.
        DataError: The journal has no mark, or none of a texture, or no picture was kept.
        StorageError: The disk is full or cannot be written.
    """
    known = journal.textures()
    chosen = list(textures) or known
    if unknown := [name for name in chosen if name not in known]:
        has = f"marks of {', '.join(known)}" if known else "no marks"
        raise DataError(f"The journal has no marks of '{unknown[0]}'; it has {has}.")
    if not chosen:
        raise DataError(
            "The journal has no marks. Start `zoo serve --journal --keep-pictures`, open its page, "
            "and say of pictures whether they are good."
        )
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{out} is there already, and nothing of it is replaced. Name another.")
    with writing(out, f"the pictures of the journal to {out}"):
        aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.absolute().parent))
        part = aside / "data"
        try:
            part.mkdir()
            found = [_export_one(journal, texture, part, out) for texture in chosen]
            if not any(each.good + each.defects for each in found):
                raise DataError(
                    f"The journal has {sum(each.missing for each in found)} answers, and no "
                    "picture of them was kept. Start `zoo serve --journal --keep-pictures` to keep "
                    "those that are answered about."
                )
            part.rename(out)  # over an empty folder too
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return found


def _export_one(journal: Journal, texture: str, part: Path, out: Path) -> Exported:
    # The name itself, so that `--category` finds it; a hidden folder is not looked into.
    name = file_name(texture) if texture.startswith(".") else texture
    # Without it the folder of defects would look like one of good pictures.
    (part / name / GOOD).mkdir(parents=True)
    count: Counter[str] = Counter()
    for digest, line in sorted(journal.read(texture).last().items()):
        picture = journal.picture(texture, digest)
        count[_write(line, picture, part / name) if picture else "missing"] += 1
        count["masks"] += _mask_path(line, part / name).is_file()
    return Exported(
        texture=texture,
        folder=out / name,
        good=count["good"],
        defects=count["defect"],
        masks=count["masks"],
        missing=count["missing"],
        unreadable=count["unreadable"],
    )


def _write(line: Line, picture: Path, root: Path) -> str:
    """Write a picture and its mask; return what was counted."""
    try:
        pixels = read_image(picture)
    except BadImageError:
        return "unreadable"
    if pixels.shape[:2] != (line.height, line.width):
        return "unreadable"
    folder = root / (GOOD if line.answer == "good" else DEFECTS)
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / line.picture[:STEM]
    if picture.suffix in SUFFIXES:
        shutil.copyfile(picture, stem.with_suffix(picture.suffix))
    else:  # of a format that no suffix of a data folder stands for
        _save_png(pixels, stem.with_suffix(".png"))
    region = line.region() if line.answer == "defect" else None
    if region is not None:
        Image.fromarray(region.astype(np.uint8) * 255).save(_mask_path(line, root))
    return line.answer


def _mask_path(line: Line, root: Path) -> Path:
    return root / DEFECTS / f"{line.picture[:STEM]}_mask.png"


def _save_png(pixels: Shaped[np.ndarray, "h w c"], path: Path) -> None:
    """Write 8 or 16 bits as they are."""
    import cv2

    ordered = pixels[:, :, ::-1] if pixels.shape[2] == 3 else pixels
    path.write_bytes(cv2.imencode(".png", np.ascontiguousarray(ordered))[1].tobytes())
