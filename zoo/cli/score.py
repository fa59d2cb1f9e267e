"""`zoo score`: score images with a detector of the shelf."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zoo.cli import options
from zoo.cli._pictures import pictures_of
from zoo.cli._score_table import ScoreTable
from zoo.cli._scoring import here, there
from zoo.cli.output import agreeing, is_terminal, put_json, say
from zoo.errors import BadImageError, one_line

HELP = "score images: verdict, score and regions of each, as a table or JSON, and heat maps"
EXAMPLE = "zoo score wood planks/ --out maps --csv planks.csv --fail-on-defect"
DEFECTIVE = 1  # exit code
PROGRESS_S = 10.0  # between two lines of progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_detector(parser)
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="image files, folders of them, or patterns"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write each image and its map here, side by side, in the folders of the images",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object a line; so it does wherever its output is no terminal",
    )
    parser.add_argument(
        "--csv", type=options.no_picture, metavar="FILE", help="write a table to this file too"
    )
    parser.add_argument(
        "--fail-on-defect",
        action="store_true",
        help=f"exit with code {DEFECTIVE} if an image is anomalous",
    )
    parser.add_argument(
        "--server",
        metavar="URL",
        help="let the service there score them (`zoo serve`), such as http://127.0.0.1:8080",
    )
    parser.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="the key of the service (default: ZOO_SERVER_KEY)",
    )
    options.add_device(parser)


def run(args: argparse.Namespace) -> None:
    """Score images, those after an unreadable one included.

    Raises:
        BadImageError: Some images could not be scored; the others were.
        EmptyFolderError: A folder has no picture, or a pattern matches none.
        ConfigError: An overlay would overwrite another, or a file of the user's.
        RefusedError: The service of `--server` refuses.
        StorageError: It cannot be reached.
        SystemExit: An image is anomalous, and that is to be a failure.
    """
    from zoo.files import write_csv
    from zoo.report import overlays

    paths = pictures_of(args.images, out=args.out)
    targets = overlays.paths_of(paths, args.out) if args.out else {}
    failed, rows, warned = 0, [], []
    show = ScoreTable(paths) if is_terminal(sys.stdout) and not args.json else put_json
    said = time.monotonic()
    scored = (there if args.server else here)(args, paths)
    try:
        for number, each in enumerate(scored):
            if time.monotonic() - said > PROGRESS_S:
                said = time.monotonic()
                say(f"{number} of {len(paths)} images")
            if each.line is None:
                failed += 1
                say(f"zoo: {one_line(each.error)}")
                continue
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            line = {"image": str(each.path), "time": now} | each.line
            if each.overlay is not None:
                line["overlay"] = str(overlays.save(each.overlay, targets[each.path]))
            rows.append(_flat(line))
            warned.append(line["warnings"])
            show(line)
    finally:  # after Ctrl-C too
        scored.close()
        if args.csv and rows:
            write_csv(rows, args.csv)
    for warning in agreeing(warned):
        say(warning)
    if failed:
        raise BadImageError(
            f"{failed} of {len(paths)} images could not be scored; the others were. "
            "Replace them, then score them again."
        )
    if args.fail_on_defect and any(each["is_anomalous"] for each in rows):
        raise SystemExit(DEFECTIVE)


def _flat(line: dict[str, Any]) -> dict[str, Any]:
    """Return a line of a CSV; contours are long, so regions are counted."""
    kept = {name: each for name, each in line.items() if name != "statistics"}
    own = {"regions": len(line["regions"]), "warnings": " ".join(line["warnings"])}
    return {**kept, **line["statistics"], **own}
