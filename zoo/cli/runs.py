"""`zoo runs`: list the searches that MLflow has on record."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from zoo.cli import options
from zoo.cli.output import Style, put_json, say, table
from zoo.words import date, duration, outcomes

if TYPE_CHECKING:
    from registry.runs.searches import Search

HELP = "list all searches: state, the best value so far, device time, trials by outcome"
EXAMPLE = "zoo runs --category wood"
_STYLES: dict[str, Style] = {"running": "good", "failed": "bad", "interrupted": "doubtful"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--category", metavar="NAME", help="only searches of this texture")
    options.add_json(parser, prints="one JSON list")


def run(args: argparse.Namespace) -> None:
    """Print a line for each search, the newest first."""
    from dataclasses import asdict

    from registry.runs.searches import searches
    from registry.runs.store import open_store
    from zoo.home import tracking_uri

    found = searches(open_store(tracking_uri()), args.category)
    if args.json:
        put_json([asdict(each) for each in found])
        return
    rows = [("SEARCH", "BEGAN", "STATE", "BEST", "DEVICE TIME", "TRIALS")]
    for each in found:
        used = {kind: each.totals[f"{kind.lower()}_seconds"] for kind in ("CPU", "GPU")}
        spent = [f"{duration(seconds)} {kind}" for kind, seconds in used.items() if seconds]
        rows.append(
            (
                each.name,
                date(each.began),
                each.state.replace("_", " "),
                "-" if each.best is None else f"{each.best:.3f}",
                ", ".join(spent) or "-",
                _trials(each),
            )
        )
    if found:
        table(rows, styles=[_STYLES.get(each.state, "plain") for each in found], column=2)
        say("BEST is the val_pixel_ap of the best trial. `zoo report SEARCH` shows one of them.")
    else:
        say("No search yet. Begin one with `zoo search --category NAME --data DIR`.")


def _trials(search: Search) -> str:
    ended = {
        name.removeprefix("trials_"): number
        for name, number in search.totals.items()
        if name.startswith("trials_")
    }
    return outcomes([("running", search.running), *ended.items()]) or "none yet"
