"""`zoo recalibrate`: set the limits of a champion on good pictures of a new line or camera."""

from __future__ import annotations

import argparse
from pathlib import Path

from zoo.cli import options
from zoo.cli.output import answer, say
from zoo.cli.promote import open_registry

HELP = "set the limits of a champion on good pictures of a new line or camera, without training"
EXAMPLE = "zoo recalibrate wood --good new-line/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", help="a texture")
    parser.add_argument(
        "--good", type=Path, required=True, metavar="DIR", help="good pictures, five or more"
    )
    parser.add_argument(
        "--false-alarm-rate",
        type=float,
        metavar="RATE",
        help="share of good pictures that may be called anomalous (default: as it is)",
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Recalibrate, and print the version that is the champion now."""
    from zoo.data import textures
    from zoo.promotion import recalibrate

    texture = textures.find(args.good, args.name)
    done = recalibrate(
        texture, registry=open_registry(), false_alarm_rate=args.false_alarm_rate, say=say
    )
    answer(
        {"texture": args.name, "champion": done.version, "reason": done.decision.reason},
        as_json=args.json,
    )
