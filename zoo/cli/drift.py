"""`zoo drift`: are scored pictures still like those that a detector was calibrated on?"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from zoo.cli import options
from zoo.cli.output import Style, put, put_json, say, table
from zoo.words import date

if TYPE_CHECKING:
    from zoo.evaluation.drift import Alarms, Drift, Quantity

HELP = "say whether scored pictures are still like the calibration, and if not, since when"
EXAMPLE = "zoo drift wood --scores wood.jsonl"
DRIFTED = 1  # exit code
DAYS = 14  # in the table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_detector(parser)
    parser.add_argument(
        "--scores",
        nargs="+",
        required=True,
        metavar="FILE",
        help="what `zoo score --json` printed, oldest file first; - is standard input. Lines of "
        "other versions of the detector are left out. The exit code is "
        f"{DRIFTED} if there is drift",
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Print what was found.

    Raises:
        SystemExit: There is drift.
    """
    from dataclasses import asdict

    import zoo
    from zoo.evaluation import drift

    found = drift.of(zoo.load(args.name), args.scores)
    advice = drift.advice(found)
    if args.json:
        drifted = [each.name for each in found.changed]
        put_json({"drifted": drifted, "advice": advice} | asdict(found))
    else:
        _show(found)
        for line in ("", *advice):
            put(line)
        for note in found.notes:
            say(note)
    if found.changed:
        raise SystemExit(DRIFTED)


def _show(found: Drift) -> None:
    quantities = map(_quantity, found.quantities)
    changed: list[Style] = ["bad" if each.change else "plain" for each in found.quantities]
    head = ("QUANTITY", "CALIBRATION", "BEFORE", "NOW", "P", "SINCE")
    table([head, *quantities], styles=changed)
    put()
    days = found.days[-DAYS:] if len(found.days) > 1 else ()
    rows = map(_alarms, (*days, found.total))
    table([("DAY (UTC)", "PICTURES", "ALARMS", "RATE", "IF ALL ARE GOOD"), *rows])
    if len(found.days) > DAYS:
        say(f"The last {DAYS} of {len(found.days)} days; --json has all.")


def _quantity(each: Quantity) -> tuple[str, ...]:
    since = f"picture {each.change.picture}" if each.change else "-"
    if each.change and each.change.time:
        since += f", {_local(each.change.time)}"
    return (
        each.name,
        str(each.calibration),
        "-" if each.before is None else f"{each.before:.4g}",
        f"{each.now:.4g}",
        f"{each.p_value:.2g}",
        since,
    )


def _local(time: str) -> str:
    """Return a time of a record as a local date."""
    try:
        found = datetime.fromisoformat(time)
        return date((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
    except (OverflowError, ValueError):
        return time


def _alarms(each: Alarms) -> tuple[str, ...]:
    return (
        each.day or "all",
        str(each.pictures),
        str(each.alarms),
        f"{each.alarms / each.pictures:.1%}",
        f"{each.least} to {each.most}" + (", so too many" if each.alarms > each.most else ""),
    )
