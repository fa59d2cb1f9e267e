"""`zoo names`: list the detectors on the shelf, and the starters behind it."""

from __future__ import annotations

import argparse
import sys

from zoo.cli.output import put, put_json, say, table

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
        rows = [
            (name, str(pointer.aliases[CHAMPION]), "starter" if each["starter"] else "shelf")
            for (name, pointer), each in zip(sorted(pointers.items()), found, strict=True)
        ]
        table([("DETECTOR", "VERSION", "FROM"), *rows])
    else:
        for name in pointers:
            put(name)
    if not found:
        say("No detector yet. Make one with `zoo search --category NAME --data DIR`.")
