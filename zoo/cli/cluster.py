"""`zoo cluster`: check a cluster file before `ray up`."""

from __future__ import annotations

import argparse
from pathlib import Path

from zoo.cli.output import put
from zoo.errors import ConfigError

HELP = "check offline that a cluster file is ready for `ray up`: placeholders, schema and versions"
EXAMPLE = "zoo cluster check ray_cluster.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("action", choices=("check",), help="what to do")
    parser.add_argument("file", type=Path, metavar="FILE", help="the cluster file")


def run(args: argparse.Namespace) -> None:
    """Print each problem with its lines, or that the file is ready.

    Raises:
        ConfigError: There are problems.
    """
    from zoo.search import cluster_file

    problems = cluster_file.check(args.file)
    for problem in problems:
        where = ", ".join(map(str, problem.lines))
        put(f"{args.file}{f':{where}' if where else ''}: {problem.text}")
    if problems:
        raise ConfigError(f"Not ready for `ray up`: correct in {args.file} what is listed above.")
    put(f"{args.file} is ready: ray up {args.file}")
