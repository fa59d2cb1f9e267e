"""`zoo names`: list the detectors on the shelf, and the starters behind it."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli import options
from zoo.cli.output import is_terminal, put, put_json, say, table
from zoo.words import date, megabytes

if TYPE_CHECKING:
    from registry.pointer import Pointer

HELP = "list the detectors on the shelf, and the starters that are part of the package"
EXAMPLE = "zoo names 'c*'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "pattern", nargs="?", default="*", help="list only names that match, such as 'c*'"
    )
    options.add_json(
        parser,
        prints="one JSON list; without it a table, or the names alone where the output is no "
        "terminal,",
    )


def run(args: argparse.Namespace) -> None:
    """Print the textures that have a champion."""
    import fnmatch

    from registry.pointer import CHAMPION
    from registry.shelf import shelf_to_read

    shelf = shelf_to_read()
    own = shelf.shelf.pointers()
    pointers = {
        name: pointer
        for name, pointer in sorted((own | shelf.behind(own)).items())
        if CHAMPION in pointer.aliases and fnmatch.fnmatchcase(name, args.pattern)
    }
    if args.json:
        put_json(list(pointers))
    elif pointers and is_terminal(sys.stdout):
        rows = [("NAME", "VERSION", "SINCE", "VAL AP", "SIZE", "FROM", "METHOD")]
        for name, pointer in pointers.items():
            method, size = _of_bundle(shelf.local(pointer.digests()[CHAMPION]))
            since, value = _champion(pointer)
            origin = "shelf" if name in own else "starter"
            rows.append((name, str(pointer.aliases[CHAMPION]), since, value, size, origin, method))
        table(rows)
    else:
        for name in pointers:
            put(name)
    if not pointers:
        say("No detector yet. Make one with `zoo search --category NAME --data DIR`.")


def _champion(pointer: Pointer) -> tuple[str, str]:
    """Return since when the champion of a texture is one, and its figure on *val*."""
    from registry.pointer import CHAMPION

    entries = [each for each in pointer.history if each.version == pointer.aliases[CHAMPION]]
    since = [each for each in entries if each.act in ("promoted", "forced", "rolled_back")]
    values = [value for each in entries if (value := each.figures.get("val_pixel_ap")) is not None]
    return (
        date(since[-1].when) if since else "-",
        f"{values[-1]:.3f}" if values else "-",
    )


def _of_bundle(folder: Path) -> tuple[str, str]:
    """Return the method and the size of a bundle; dashes if it would have to be downloaded."""
    from registry.bundle import CARD, WEIGHTS
    from zoo.files import read_object

    card = read_object(folder / CARD)
    parts = card.get("parts")
    parts = parts if isinstance(parts, list) else []
    names = [part.get("method") for part in parts if isinstance(part, dict)]
    counts = Counter(name for name in names or [card.get("method")] if isinstance(name, str))
    said = [name if number == 1 else f"{number} x {name}" for name, number in counts.items()]
    try:
        size = megabytes((folder / WEIGHTS).stat().st_size / 1e6)
    except OSError:
        size = "-"
    return " + ".join(said) or "-", size
