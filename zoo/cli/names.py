"""`zoo names`: list the detectors on the shelf, and the starters behind it."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli.output import put, put_json, say, table
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
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON list of objects; without it a table, or the names alone where the "
        "output is no terminal",
    )


def run(args: argparse.Namespace) -> None:
    """Print the textures that have a champion."""
    import fnmatch

    from registry.pointer import CHAMPION
    from registry.shelf import shelf_to_read

    shelf = shelf_to_read()
    pointers = {
        name: pointer
        for name, pointer in shelf.pointers().items()
        if CHAMPION in pointer.aliases and fnmatch.fnmatchcase(name, args.pattern)
    }
    found = [
        {
            "name": name,
            "version": pointer.aliases[CHAMPION],
            "digest": pointer.digests()[CHAMPION],
            "starter": shelf.is_starter(name),
        }
        for name, pointer in sorted(pointers.items())
    ]
    if args.json:
        put_json(found)
    elif sys.stdout.isatty() and found:
        rows = [("NAME", "VERSION", "SINCE", "VAL AP", "SIZE", "FROM", "METHOD")]
        for each in found:
            name, digest = str(each["name"]), str(each["digest"])
            method, size = _of_bundle(shelf.local(digest))
            since, value = _champion(pointers[name])
            origin = "starter" if each["starter"] else "shelf"
            rows.append((name, str(each["version"]), since, value, size, origin, method))
        table(rows)
    else:
        for name in pointers:
            put(name)
    if not found:
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
    names = [part.get("method") for part in parts if isinstance(part, dict)] if parts else []
    counts = Counter(name for name in names or [card.get("method")] if isinstance(name, str))
    said = [name if number == 1 else f"{number} x {name}" for name, number in counts.items()]
    try:
        size = megabytes((folder / WEIGHTS).stat().st_size / 1e6)
    except OSError:
        size = "-"
    return " + ".join(said) or "-", size
