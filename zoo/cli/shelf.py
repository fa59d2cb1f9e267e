"""`zoo shelf`: verify or publish the shelf, remove a version, remove unused bundles."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli import options
from zoo.cli.output import put, say
from zoo.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from registry.shelf import Shelf

HELP = (
    "check every file of the shelf (verify), remove a version, delete unused bundles (gc), or "
    "write what a web server hands out as a read-only shelf (publish)"
)
EXAMPLE = "zoo shelf verify\n  zoo shelf publish --to public --only brick,grass"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("action", choices=("verify", "gc", "remove", "publish"), help="what to do")
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
        "--dry-run", action="store_true", help="gc, publish: print what would be done, do nothing"
    )
    parser.add_argument("--to", type=Path, metavar="DIR", help="publish: the folder to write")
    parser.add_argument(
        "--only",
        metavar="NAMES",
        help="publish: some textures, as brick,grass (default: all)",
    )
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        choices=("non-commercial", "unknown"),
        help="publish: detectors of data with such a licence too; may be repeated",
    )


def run(args: argparse.Namespace) -> None:
    """Do one of the four."""
    from registry.shelf import open_shelf

    shelf = open_shelf()
    if args.action == "verify":
        _verify(shelf)
    elif args.action == "gc":
        _collect(shelf, args)
    elif args.action == "publish":
        _publish(shelf, args)
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


def _publish(shelf: Shelf, args: argparse.Namespace) -> None:
    from registry.publish import publish

    if args.to is None:
        raise ConfigError("Say where to write, as `zoo shelf publish --to DIR`.")
    only = [name.strip() for name in (args.only or "").split(",") if name.strip()]
    done = publish(shelf, args.to, only=only, allow=args.allow, dry=args.dry_run)
    for name, licences in done.textures.items():
        put(f"{name}  {'; '.join(licences)}")
    for name in done.written if args.dry_run else ():
        say(f"write {name}")
    for name in done.removed if args.dry_run else ():
        say(f"remove {name}")
    would = "would be " if args.dry_run else ""
    say(
        f"In {args.to}, {len(done.written)} files {would}written, {len(done.removed)} {would}"
        f"removed, {done.same} as they were."
    )
    if not args.dry_run:
        say("Hand it out over HTTPS; others set ZOO_SHELF=https://HOST/PATH.")
