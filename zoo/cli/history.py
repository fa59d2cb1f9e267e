"""`zoo history`: show every change of a texture's pointer on the shelf."""

from __future__ import annotations

import argparse

from zoo.cli import options
from zoo.cli.output import Style, put_json, table
from zoo.words import date

HELP = "show what was promoted, refused, rolled back and removed: when, by whom and why"
EXAMPLE = "zoo history wood"
_STYLES: dict[str, Style] = {"promoted": "good", "forced": "doubtful", "refused": "bad"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", help="a texture")
    options.add_json(parser, prints="one JSON list")


def run(args: argparse.Namespace) -> None:
    """Print a line for each change, the oldest first."""
    from dataclasses import asdict

    from registry.shelf import pointer_of, shelf_to_read

    pointer = pointer_of(shelf_to_read(), args.name)
    if args.json:
        put_json([asdict(entry) for entry in pointer.history])
        return
    rows = [("WHEN", "WHAT", "VERSION", "WHO", "VAL AP", "REASON")]
    for entry in pointer.history:
        value = entry.figures.get("val_pixel_ap")
        rows.append(
            (
                date(entry.when),
                entry.act.replace("_", " "),
                str(entry.version),
                entry.who,
                "-" if value is None else f"{value:.3f}",
                entry.reason,
            )
        )
    table(rows, styles=[_STYLES.get(entry.act, "plain") for entry in pointer.history], column=1)
