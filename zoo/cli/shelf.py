"""`zoo shelf`: verify or publish the shelf, remove a version, remove unused bundles."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli import options
from zoo.cli.output import Style, is_terminal, put, say, table
from zoo.errors import BundleError, ConfigError
from zoo.words import counted, megabytes

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
    named = [
        (each.texture if each.version is None else f"{each.texture}:{each.version}", each)
        for each in checked
    ]
    if is_terminal(sys.stdout) and checked:
        rows = [("DETECTOR", "STATE", "BUNDLE")]
        for name, each in named:
            what = f"{each.digest[:12] or 'its pointer'}. {each.problem}".rstrip(". ")
            rows.append((name, "damaged" if each.problem else "ok", what))
        styles: list[Style] = ["bad" if each.problem else "good" for each in checked]
        table(rows, styles=styles, column=1)
    else:
        for name, each in named:
            put(f"{name} {each.digest or 'pointer'} {each.problem or 'ok'}")
    if damaged := sum(bool(each.problem) for each in checked):
        raise BundleError(
            f"{damaged} of {len(checked)} versions or pointers are damaged, as listed. Promote "
            "them again, or remove versions with `zoo shelf remove`."
        )


def _collect(shelf: Shelf, args: argparse.Namespace) -> None:
    from registry import maintenance
    from registry.shelf import Objects

    idle = maintenance.collect(shelf, grace_s=args.older_than, dry=True)
    sizes = {digest: _bytes_of(shelf.local(digest)) for digest in idle}
    assert isinstance(shelf, Objects)  # else it could not have been asked for what is idle
    removed = [each for each in idle if args.dry_run or shelf.discard(each)]
    for digest in removed:
        put(digest)
    freed = sum(sizes.get(digest, 0) for digest in removed)
    size = f" ({megabytes(freed / 1e6)})" if freed else ""  # unknown if they are in S3 only
    verb = "would be" if args.dry_run else "was" if len(removed) == 1 else "were"
    say(f"{counted(len(removed), 'bundle')}{size} {verb} removed.")


def _bytes_of(folder: Path) -> int:
    try:
        return sum(each.stat().st_size for each in folder.iterdir())
    except OSError:
        return 0


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
