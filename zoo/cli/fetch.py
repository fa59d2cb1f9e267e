"""`zoo fetch`: list data sets, and fetch one from its authors' server."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli import _fetch_progress, options
from zoo.cli.output import put, put_json, say, sections
from zoo.errors import ConfigError
from zoo.words import megabytes

if TYPE_CHECKING:
    from zoo.data.fetch import DataSet

HELP = "list the data sets that can be fetched, or fetch one, once its licence is accepted"
EXAMPLE = "zoo fetch mvtec-ad --accept-licence --only grid,wood --data data"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("name", nargs="?", metavar="SET", help="a data set; without it, they are listed")
    add("--accept-licence", action="store_true", help="you have read its licence and accept it")
    add(
        "--only",
        metavar="NAMES",
        help="some of it, as grid,wood; `all`: objects too (default: its textures)",
    )
    add(
        "--data",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="the folder that gets a folder for each texture (default: data)",
    )
    add(
        "--archive",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="unpack an archive that you downloaded yourself; may be repeated",
    )
    add("--url", help="another address of the archive, if the one known is dead")
    add(
        "--sha256",
        type=sha256,
        metavar="HEX",
        help="the SHA-256 that the archive must have, in place of the one known",
    )
    add("--unverified", action="store_true", help="take an archive whose SHA-256 is not known")
    add("--keep-archives", action="store_true", help="keep what was downloaded")
    add(
        "--sets",
        type=Path,
        metavar="FILE",
        help="a list of your own, in the form of zoo/data/fetch/sets.yaml",
    )
    options.add_json(parser, prints="one JSON list: of the data sets, or of the folders made")


def run(args: argparse.Namespace) -> None:
    """List the data sets, or show the licence of one and fetch it."""
    from zoo.data import fetch

    if args.archive and args.url:
        raise ConfigError("Give --archive or --url, not both: one is a file, one an address.")
    sets = fetch.load(args.sets)
    if args.name is None:
        if args.json:
            put_json([_shown(name, each) for name, each in sets.items()])
        else:
            sections((name, _lines(each)) for name, each in sets.items())
        return
    dataset = fetch.named(sets, args.name)
    say(f"{dataset.title}: {dataset.page}")
    say(f"Licence: {dataset.licence}")
    say(f"Terms: {dataset.terms}")
    say(f"Please cite: {dataset.citation}")
    wish = fetch.Wish(
        key=args.name,
        dataset=dataset,
        to=args.data,
        only=tuple(filter(None, map(str.strip, (args.only or "").split(",")))),
        accepted=args.accept_licence,
        archives=tuple(args.archive),
        url=args.url,
        sha256=args.sha256,
        unverified=args.unverified,
        keep=args.keep_archives,
    )
    try:
        with _fetch_progress.shown() as progress:
            made = fetch.Fetcher(say=say, progress=progress).fetch(wish)
    except KeyboardInterrupt:
        say("What was downloaded is kept; the same command goes on with it.")
        raise
    if args.json:
        put_json([str(folder) for folder in made])
        return
    for folder in made:
        put(folder)
    say(f"See `zoo data check {args.data}`; `zoo search --category all --data {args.data}` next.")


def sha256(text: str) -> str:
    """Read a SHA-256."""
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError(f"'{text}' is no SHA-256: it has 64 signs of 0-9 and a-f")
    return text.lower()


def _lines(each: DataSet) -> list[tuple[str, str]]:
    size, all_ = each.size(each.textures), each.size(each.names)
    text = megabytes(size / 1e6) if size else "not known"
    if all_ and all_ != size:
        text += f" ({megabytes(all_ / 1e6)} with {', '.join(each.others)})"
    known = "yes" if all(archive.sha256 for archive in each.archives.values()) else "not of all"
    lines = [("name", each.title), ("textures", ", ".join(each.textures)), ("download", text)]
    lines += [("SHA-256 known", known), ("licence", each.licence), ("terms", each.terms)]
    return [*lines, ("page", each.page), ("citation", each.citation)]


def _shown(name: str, each: DataSet) -> dict[str, object]:
    return {"name": name, "bytes": each.size(each.textures), **each.model_dump()}
