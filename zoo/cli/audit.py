"""`zoo audit`: measure the trials of an ended search on the test images."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from zoo.cli import options
from zoo.cli.output import put_json, say, sections
from zoo.errors import StorageError
from zoo.words import counted

if TYPE_CHECKING:
    from zoo.evaluation.search_audit import SearchAudit

HELP = "measure every trial of an ended search on the test images, to check the search's choice"
EXAMPLE = "zoo audit --category grid --data mvtec"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_data(parser)
    parser.add_argument(
        "--search", metavar="NAME", help="name of the search (default: the newest of the texture)"
    )
    options.add_device(parser)
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Audit the search, and print how good its choice was."""
    from dataclasses import asdict

    from registry.runs.searches import log_files
    from registry.runs.store import open_store
    from zoo.evaluation import search_audit
    from zoo.home import home, tracking_uri

    texture = options.find_texture(args)
    folder = search_audit.find_search(home() / "searches", texture, args.search)
    found = search_audit.audit_search(folder, texture, say=say, device=args.device)
    say(f"{folder / search_audit.TABLE} has a line for each trial; a plot is beside it.")
    if args.json:
        put_json(asdict(found))
    else:
        sections([(f"The choice of {found.search}", _in_words(found))])
    files = [folder / search_audit.TABLE, search_audit.log_of(folder, found.champion)]
    try:
        log_files(open_store(tracking_uri()), folder.name, files, under="audit")
    except StorageError as error:
        say(f"The audit is in {folder}, and not in MLflow: {error}")


def _in_words(found: SearchAudit) -> list[tuple[str, str]]:
    """Say how good the choice of a search was."""

    def likeness(value: float | None) -> str:
        return "not known: all are the same" if value is None else f"{value:.2f}"

    return [
        ("Measured", f"{counted(found.trials, 'trial')} with a detector, on the test images"),
        (
            "Chosen",
            f"{found.champion}: pixel AP {found.champion_test_pixel_ap:.3f} on the test images, "
            f"{found.champion_val_pixel_ap:.3f} on painted defects",
        ),
        ("Best on the test", f"{found.oracle}: pixel AP {found.oracle_test_pixel_ap:.3f}"),
        ("Lost by the choice", f"{found.regret:.3f}"),
        (
            "Order",
            f"{likeness(found.spearman)} is the rank correlation of painted and real defects "
            "(1: the same order, 0: none)",
        ),
        ("Order, other kinds", f"{likeness(found.spearman_held_out)}, by kinds never taught"),
    ]
