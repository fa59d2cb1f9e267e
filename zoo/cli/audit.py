"""`zoo audit`: measure the trials of an ended search on the test images."""

from __future__ import annotations

import argparse

from zoo.cli import options
from zoo.cli.output import answer, say
from zoo.errors import StorageError

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
    answer(asdict(found), as_json=args.json)
    files = [folder / search_audit.TABLE, search_audit.log_of(folder, found.champion)]
    try:
        log_files(open_store(tracking_uri()), folder.name, files, under="audit")
    except StorageError as error:
        say(f"The audit is in {folder}, and not in MLflow: {error}")
