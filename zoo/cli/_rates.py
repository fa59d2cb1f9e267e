"""The options of the operating point: how often good pictures may be called something else."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.scoring.thresholds import Rates


def add_rates(parser: argparse.ArgumentParser, *, default: float | None) -> None:
    """Add `--false-alarms` and `--look-again`, the operating point; None leaves it as it is."""
    parser.add_argument(
        "--false-alarms",
        "--false-alarm-rate",
        type=float,
        default=default,
        metavar="RATE",
        help="share of good images that may be called defective "
        f"(default: {'as it is' if default is None else default})",
    )
    parser.add_argument(
        "--look-again",
        type=float,
        metavar="RATE",
        help="share of good images that may be defective or worth a second look, a third answer "
        f"(default: {'as it is' if default is None else 'two answers'})",
    )


def rates(args: argparse.Namespace) -> Rates:
    """Return the operating point that `add_rates` asked for.

    Raises:
        ConfigError: A rate is none, or the second is not above the first.
    """
    from zoo.scoring.thresholds import Rates

    return Rates(false_alarms=args.false_alarms, look_again=args.look_again)
