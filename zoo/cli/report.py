"""`zoo report`: write the report of a search or of a detector as one HTML file."""

from __future__ import annotations

import argparse
from pathlib import Path

from zoo.cli import options
from zoo.cli.output import answer, say
from zoo.errors import SearchError, UnknownDetectorError, did_you_mean

HELP = "write the report of a search or of a detector: one HTML file that can be mailed"
EXAMPLE = "zoo report wood --out wood.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("name", help="a search, as `zoo runs` lists it, or a detector, as `zoo names` does")
    add(
        "--out",
        type=options.no_picture,
        metavar="FILE",
        help="where to write it (default: in the folder of the search, or in `reports` of the "
        "home); another report is replaced, and no other file is",
    )
    add(
        "--data",
        type=Path,
        metavar="DIR",
        help="for a detector: measure it now on the test pictures of this folder; without it, what "
        "was kept of the audit of its promotion is shown",
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Write the report, and print where it is."""
    from zoo.cli import _search_report
    from zoo.home import home
    from zoo.report import page

    if args.out:
        page.check_target(args.out)
    known = _search_report.searches(home() / "searches")
    if args.name in known:
        path = _search(args, home() / "searches" / args.name)
    else:
        try:
            path = _detector(args)
        except UnknownDetectorError as error:
            path = _other(args, error, known)
    found = {"report": str(path), "kilobytes": round(path.stat().st_size / 1e3)}
    answer(found, as_json=args.json)


def _search(args: argparse.Namespace, folder: Path | None) -> Path:
    from registry.names import file_name
    from zoo.cli import _search_report
    from zoo.home import home

    own = folder / _search_report.FILE if folder else None
    target = args.out or own or home() / "reports" / f"{file_name(args.name)}.html"
    return _search_report.write(args.name, folder, target)


def _detector(args: argparse.Namespace) -> Path:
    from registry import bundle
    from registry.names import file_name
    from registry.shelf import shelf_to_read
    from zoo.data import textures
    from zoo.evaluation import detector_report
    from zoo.home import home
    from zoo.report import detector_page, page

    shelf = shelf_to_read()
    texture = None
    if args.data:
        texture = textures.find(args.data, bundle.load(shelf.fetch(args.name)).texture)
    named = detector_report.Named(shelf=shelf, name=args.name, home=home())
    report = detector_report.gathered(named, texture=texture, say=say)
    name = f"{file_name(report.texture)}-{report.version}.html"
    return page.write(detector_page.render(report), args.out or home() / "reports" / name)


def _other(args: argparse.Namespace, error: UnknownDetectorError, known: list[str]) -> Path:
    """Write the report of a search that only MLflow has.

    Raises:
        UnknownDetectorError: MLflow has no such search either.
    """
    try:
        return _search(args, None)
    except SearchError:
        newest = f"the newest are {', '.join(known[-3:][::-1])}" if known else "there is none"
        raise UnknownDetectorError(
            f"{error} Nor is there a search of that name; {newest}.{did_you_mean(args.name, known)}"
        ) from error
