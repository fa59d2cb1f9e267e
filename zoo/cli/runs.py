"""`zoo runs`: list the searches that MLflow has on record."""

from __future__ import annotations

import argparse

from zoo.cli import options
from zoo.cli.output import put_json, say, table

HELP = "list all searches: trials by outcome, the best value so far, device hours"
EXAMPLE = "zoo runs --category wood"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--category", metavar="NAME", help="only searches of this texture")
    options.add_json(parser, prints="one JSON list")


def run(args: argparse.Namespace) -> None:
    """Print a line for each search, the newest first."""
    import time
    from dataclasses import asdict

    from registry.runs.searches import searches
    from registry.runs.store import STATUS, open_store
    from zoo.home import tracking_uri

    found = searches(open_store(tracking_uri()), args.category)
    if args.json:
        put_json([asdict(each) for each in found])
        return
    rows = [("SEARCH", "BEGAN", "STATE", *map(str.upper, STATUS), "RUNNING", "BEST", "HOURS")]
    for each in found:
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.began))
        counts = [f"{each.totals[f'trials_{name}']:.0f}" for name in STATUS]
        best = "-" if each.best is None else f"{each.best:.3f}"
        hours = [f"{each.totals[f'{kind}_seconds'] / 3600:.2f} {kind}" for kind in ("cpu", "gpu")]
        spent = ", ".join(hours if each.totals["gpu_seconds"] else hours[:1])
        rows.append((each.name, began, each.state, *counts, str(each.running), best, spent))
    if found:
        table(rows)
    else:
        say("No search yet. Begin one with `zoo search --category NAME --data DIR`.")
