"""`zoo bench`: fit several methods on one texture and compare them on its test images."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli import options
from zoo.cli.output import is_terminal, put, put_json, say, table
from zoo.errors import BundleError, ConfigError, UnknownDetectorError, one_line
from zoo.methods import DEFAULT, METHODS, PRESETS
from zoo.words import in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.bundle import Bundle
    from zoo.evaluation.benchmark import Row

HELP = "fit several methods with several seeds, and compare them on the test images"
EXAMPLE = "zoo bench --category grid --data mvtec --methods all --seeds 3 --scale 0.5"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_data(parser)
    parser.add_argument(
        "--methods",
        default="all",
        metavar="NAMES",
        help=f"methods and presets, separated by commas: {', '.join([*METHODS, *PRESETS])}; "
        f"{DEFAULT} takes the champion's configuration (default: all methods, without presets)",
    )
    parser.add_argument(
        "--seeds",
        type=options.positive,
        default=3,
        metavar="K",
        help="fits of each method (default: 3)",
    )
    parser.add_argument("--seed", type=int, default=1, help="the first of the seeds (default: 1)")
    parser.add_argument(
        "--scale",
        type=float,
        default=0.5,
        help=f"scale of the images for all methods but {DEFAULT} (default: 0.5)",
    )
    parser.add_argument(
        "--bundle",
        type=Path,
        metavar="DIR",
        help=f"take {DEFAULT}'s configuration from this bundle, not from the champion",
    )
    options.add_settings(parser, metavar="METHOD.FIELD=VALUE")
    parser.add_argument(
        "--threads",
        type=options.positive,
        metavar="N",
        help="threads of each fit (default: all cores)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the tables and the plot (default: bench/NAME-TIME in the home)",
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Fit, measure, write the tables and the plot, and print the table.

    Raises:
        ConfigError: No method could be fitted.
    """
    import os
    import time
    from dataclasses import asdict

    from registry.names import folder_name
    from zoo.evaluation import benchmark
    from zoo.home import home

    texture, names = options.find_texture(args), benchmark.names_of(args.methods)
    if args.methods == "all":
        say(f"`all` leaves out `{'`, `'.join(PRESETS)}`, which takes hours; name it to include it.")
    config = benchmark.BenchmarkConfig(
        data=args.data,
        category=args.category,
        systems=benchmark.systems(
            names,
            map(options.setting, args.set),
            scale=args.scale,
            champion=_champion(args) if DEFAULT in names else None,
        ),
        seeds=tuple(range(args.seed, args.seed + args.seeds)),
        threads=args.threads or os.cpu_count() or 1,
    )
    name = f"{folder_name(texture.name)}-{time.strftime('%Y%m%d-%H%M%S')}"
    out = args.out or home() / "bench" / name
    rows = benchmark.run(config, texture, out=out, say=say)
    say(f"The tables and the plot are in {out}.")
    if args.json:
        put_json({"bench": str(out), "rows": [asdict(row) for row in rows]})
    elif is_terminal(sys.stdout):
        _show(rows)
    else:
        for line in (out / benchmark.PAGE).read_text("utf-8").splitlines():
            put(line)
    if not any(row.mean for row in rows):
        raise ConfigError(f"None of {', '.join(names)} could be fitted; the reasons are above.")


def _show(rows: Sequence[Row]) -> None:
    """Print a table for people, the best method first; the page in the folder has all figures."""
    shown = [("METHOD", "PIXEL AP", "IMAGE AUROC", "TO FIT", "A PICTURE", "MEMORY", "NOTE")]
    for row in sorted(rows, key=lambda row: -row.mean.get("test_pixel_ap", -1.0)):
        figures = [
            " ± ".join(f"{each[name]:.3f}" for each in (row.mean, row.spread) if name in each)
            for name in ("test_pixel_ap", "test_image_auroc")
        ]
        figures += [
            in_words(name, row.mean[name])[1] if name in row.mean else ""
            for name in ("fit_seconds", "test_seconds_per_image", "peak_megabytes")
        ]
        ap, auroc, fit, picture, memory = (each or "-" for each in figures)
        shown.append((row.system, ap, auroc, fit, picture, memory, row.note or "-"))
    table(shown)


def _champion(args: argparse.Namespace) -> Bundle | None:
    """Return the bundle that `--bundle` names, or else the champion, if there is one."""
    from registry import bundle
    from registry.shelf import open_shelf

    if args.bundle:
        return bundle.load(args.bundle)
    try:
        return bundle.load(open_shelf().fetch(args.category))
    except UnknownDetectorError:
        return None
    except BundleError as error:  # the other methods need no champion
        say(f"zoo: {one_line(error)}")
        return None
