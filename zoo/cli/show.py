"""`zoo show`: print a detector's card."""

from __future__ import annotations

import argparse

from zoo.cli import options
from zoo.cli.output import answer, put_json

HELP = "show a detector's card: figures, threshold, data, licence, versions"
EXAMPLE = "zoo show wood@challenger"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_detector(parser)
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Print the card."""
    import zoo

    card = zoo.show(args.name)
    if args.json:
        put_json(card)
        return
    metrics = {
        f"{split} metrics": ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
        for split, figures in card.pop("metrics").items()
    }
    parts = {
        name: ", ".join(f"{key} {each}" for key, each in value.items())
        if isinstance(value, dict)
        else value
        for name, value in card.items()
    }
    answer(metrics | parts, as_json=False)
