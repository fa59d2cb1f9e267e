"""`zoo shelf`: verify the shelf, remove a version, remove unused bundles."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from zoo.cli import options
from zoo.cli.output import put, say
from zoo.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from registry.shelf import Shelf

HELP = "check every file of the shelf (verify), remove a version, or delete unused bundles (gc)"
EXAMPLE = "zoo shelf verify"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("action", choices=("verify", "gc", "remove"), help="what to do")
    parser.add_argument("name", nargs="?", metavar="NAME:VERSION", help="remove: which version")
    options.add_reason(parser)
    parser.add_argument(
        "--older-than",
        type=options.seconds,
        default=24 * 3600.0,
        metavar="TIME",
        help="gc: keep what was written or removed less than this time ago (default: 24h)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="gc: print what would be removed, remove nothing"
    )


def run(args: argparse.Namespace) -> None:
    """Do one of the three."""
    from registry.shelf import open_shelf

    shelf = open_shelf()
    if args.action == "verify":
        _verify(shelf)
    elif args.action == "gc":
        _collect(shelf, args)
    else:
        _remove(shelf, args)


def _verify(shelf: Shelf) -> None:
    from registry import maintenance

    checked = list(maintenance.verify(shelf))
    for each in checked:
        name = each.texture if each.version is None else f"{each.texture}:{each.version}"
        put(f"{name} {each.digest or 'pointer'} {each.problem or 'ok'}")
    if damaged := sum(bool(each.problem) for each in checked):
        raise BundleError(
            f"{damaged} of {len(checked)} versions or pointers are damaged, as listed. Promote "
            "them again, or remove versions with `zoo shelf remove`."
        )


def _collect(shelf: Shelf, args: argparse.Namespace) -> None:
    from registry import maintenance

    removed = maintenance.collect(shelf, grace_s=args.older_than, dry=args.dry_run)
    for digest in removed:
        put(digest)
    say(f"{len(removed)} bundles {'would be' if args.dry_run else 'were'} removed.")


def _remove(shelf: Shelf, args: argparse.Namespace) -> None:
    texture, _, version = (args.name or "").partition(":")
    if not re.fullmatch("[0-9]{1,9}", version):
        raise ConfigError(
            f"Say which version to remove, as `zoo shelf remove grid:3`, not '{args.name}'."
        )
    because = args.because or "no reason was given"
    shelf.change(texture, lambda old: old.without(int(version), because))
    say(f"{args.name} is removed. `zoo shelf gc` deletes its bundle after a day.")
