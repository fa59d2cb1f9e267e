"""`zoo show`: print a detector's card."""

from __future__ import annotations

import argparse

from zoo.cli import options
from zoo.cli.output import put_json, sections

HELP = "show a detector's card in words: material, data, licence, how sure it is, known limits"
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
    from zoo.detectors import card_words

    sections([(each.title, each.lines) for each in card_words.sections(card)])
