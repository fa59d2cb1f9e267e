"""`zoo data`: say what a folder of pictures was understood as."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli import options
from zoo.cli.output import put_json, sections

if TYPE_CHECKING:
    from zoo.data.layouts import Arrangement
    from zoo.data.textures import Texture

HELP = "say what a folder was understood as: layout, good and test pictures, masks, warnings"
EXAMPLE = "zoo data check DIR"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("action", choices=("check",), help="what to do")
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="a texture's folder, or a folder of such folders"
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Check one texture, or all in a folder.

    Raises:
        DataError: A folder is arranged in two ways, or is no texture's.
        BadImageError: A picture cannot be read.
        BadMaskError: Masks and test pictures do not belong together.
    """
    from zoo.data import textures
    from zoo.data.layouts import arranged, textures_in
    from zoo.promotion import check_test

    folder: Path = args.folder.absolute()
    own = textures_in(folder) if folder.is_dir() else []
    for name in own or [folder.name]:
        texture = textures.find(folder, name)
        doubtful = check_test(texture)
        found = said_of(texture, arranged(texture.root, texture.layout))
        found["warnings"] += doubtful
        if args.json:
            put_json(found)
        else:
            sections([(texture.name, in_words_of(found))])


def in_words_of(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what is said of a texture, as labels and sentences for people."""
    colours = {"L": "grey", "RGB": "in colour"}.get(found["mode"], found["mode"])
    good = f"{found['good']}, {colours}, of {found['sizes']} pixels (height x width)"
    lines = [
        ("Folder", found["folder"]),
        ("Arranged as", f"{found['layout']} layout"),
        ("Licence", found["licence"]),
        ("Good pictures", good),
        ("Divided", found["split"]),
        ("Test pictures", found["test"]),
        ("Masks", str(found["masks"])),
        ("Not used", found["unused"]),
        ("Camera", found["camera"]),
    ]
    return lines + [("Warning", each) for each in found["warnings"]]


def said_of(texture: Texture, arrangement: Arrangement) -> dict[str, Any]:
    """Return what is said of a texture, by name."""
    from zoo.data.layouts import unused
    from zoo.data.splits import split
    from zoo.training import studied

    splits = split(texture)
    optics, notes = studied(texture, splits)
    sides = sorted({"x".join(map(str, each.pixels.shape[:2])) for each in texture.pictures})
    kinds = Counter(each.kind for each in arrangement.test)
    masked = sum(each.mask is not None and each.kind != "good" for each in arrangement.test)
    ignored = Counter(
        each.parent.relative_to(texture.root).as_posix()
        for each in unused(arrangement, texture.root)
    )
    return {
        "texture": texture.name,
        "folder": str(texture.root),
        "layout": texture.layout,
        "licence": texture.licence,
        "good": len(texture.pictures),
        "mode": texture.mode,
        "sizes": sides[0] if len(sides) == 1 else f"{len(sides)}, from {sides[0]} to {sides[-1]}",
        "split": splits.note,
        "test": ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "none",
        "masks": masked or ("none: a test of pictures only" if arrangement.test else "none"),
        "unused": ", ".join(f"{n} in {folder}/" for folder, n in ignored.items()) or "none",
        "camera": str(optics),
        "warnings": list(notes),
    }
