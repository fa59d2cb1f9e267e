"""`zoo recalibrate`: set the limits of a champion, by rates or on pictures of a new line."""

from __future__ import annotations

import argparse
from pathlib import Path

from zoo.cli import _rates, options
from zoo.cli.output import put, put_json, say
from zoo.cli.promote import open_registry

HELP = "set the limits of a champion, without training: other rates, or pictures of a new line"
EXAMPLE = "zoo recalibrate wood --good new-line/ --false-alarms 0.01 --look-again 0.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", help="a texture")
    parser.add_argument(
        "--good",
        type=Path,
        metavar="DIR",
        help="good pictures of a new line, camera or batch, five or more (default: the limits are "
        "set by the scores of good pictures that the detector carries)",
    )
    _rates.add_rates(parser, default=None)
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Recalibrate, and print the version that is the champion now."""
    from zoo.data import textures
    from zoo.promotion import recalibrate

    done = recalibrate(
        args.name,
        registry=open_registry(),
        good=textures.find(args.good, args.name) if args.good else None,
        false_alarms=args.false_alarms,
        look_again=args.look_again,
        say=say,
    )
    reason = done.decision.reason
    if args.json:
        put_json({"texture": args.name, "champion": done.version, "reason": reason})
    else:
        put(f"Version {done.version} is the champion of '{args.name}' now. {reason}")
