"""`zoo rollback`: make the previous champion the champion again."""

from __future__ import annotations

import argparse

from zoo.cli import options
from zoo.cli.output import put, put_json, say
from zoo.cli.promote import open_registry

HELP = "make the previous champion the champion again, at once; a second rollback undoes the first"
EXAMPLE = 'zoo rollback wood --because "too many false alarms on the night shift"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", help="a texture")
    options.add_reason(parser)
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Roll back, and print the version that is the champion now."""
    from registry.pointer import CHAMPION
    from zoo.promotion import roll_back

    pointer = roll_back(args.name, registry=open_registry(), because=args.because or "", say=say)
    champion = pointer.aliases[CHAMPION]
    if args.json:
        put_json({"texture": args.name, "champion": champion})
    else:
        put(f"Version {champion} is the champion of '{args.name}' again.")
