"""`zoo names`: list the detectors on the shelf."""

from __future__ import annotations

import argparse

from zoo.cli import options
from zoo.cli.output import put, put_json, say

HELP = "list the detectors on the shelf"
EXAMPLE = "zoo names 'c*'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "pattern", nargs="?", default="*", help="list only names that match, such as 'c*'"
    )
    options.add_json(parser, prints="one JSON list")


def run(args: argparse.Namespace) -> None:
    """Print the names of the textures that have a champion."""
    import zoo

    found = zoo.names(args.pattern)
    if args.json:
        put_json(found)
        return
    for name in found:
        put(name)
    if not found:
        say("No detector yet. Make one with `zoo search --category NAME --data DIR`.")
