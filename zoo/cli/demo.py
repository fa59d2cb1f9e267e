"""`zoo demo`: make a small data set."""

from __future__ import annotations

import argparse
from pathlib import Path

from zoo.cli.output import put

HELP = "make a small data set from CC0 photographs of brick, grass and gravel"
EXAMPLE = "zoo demo --out demo-data --texture brick"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("demo-data"),
        metavar="DIR",
        help="folder of the data set (default: demo-data)",
    )
    parser.add_argument(
        "--texture",
        choices=("brick", "grass", "gravel", "all"),
        default="all",
        help="which photograph to use (default: all)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed of the drawn defects (default: 0)"
    )


def run(args: argparse.Namespace) -> None:
    """Make the data set and print its folders."""
    from zoo.data import demo

    names = demo.TEXTURES if args.texture == "all" else (args.texture,)
    for name in names:
        put(demo.make(args.out, texture=name, seed=args.seed))
