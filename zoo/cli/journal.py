"""`zoo journal`: list what people answered on the page, or make a data folder of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli import options
from zoo.cli.output import put_json, say, table
from zoo.errors import ConfigError
from zoo.words import date

if TYPE_CHECKING:
    from zoo.serve.journal import Journal, Line, Read

HELP = "list what people answered on the page of `zoo serve`, or export it as a data folder"
EXAMPLE = "zoo journal export answered --texture wood"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "action",
        nargs="?",
        choices=("list", "export"),
        default="list",
        help="list: each answer, the oldest first; export: the pictures that were kept, by the "
        "last answer about each: DIR/TEXTURE/train/good, and DIR/TEXTURE/defective with masks "
        "(default: list)",
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, metavar="DIR", help="export: a folder that does not exist"
    )
    parser.add_argument(
        "--texture", action="append", default=[], help="only this texture; may be repeated"
    )
    parser.add_argument(
        "--journal", type=Path, metavar="DIR", help="the journal (default: that of the home)"
    )
    options.add_json(parser, prints="one JSON object a line")


def run(args: argparse.Namespace) -> None:
    """List or export.

    Raises:
        ConfigError: The folder of an export is missing, or holds something.
        DataError: There is nothing to export.
        StorageError: The journal cannot be read, or the folder not written.
    """
    from zoo.serve.journal import Journal, usual_root

    journal = Journal(args.journal or usual_root())
    if args.action == "export":
        _export(journal, args)
        return
    if args.folder:
        raise ConfigError(
            f"To export, say `zoo journal export {args.folder}`; a list has no folder."
        )
    _list(journal, args)


def _list(journal: Journal, args: argparse.Namespace) -> None:
    found = [journal.read(name) for name in args.texture or journal.textures()]
    if args.json:
        for read in found:
            for line in read.lines:
                put_json({"texture": read.texture} | line.model_dump(mode="json"))
    elif any(read.lines for read in found):
        head = ("when", "texture", "file", "version", "said", "score", "answer", "where", "picture")
        table([head, *(_row(journal, read, line) for read in found for line in read.lines)])
    else:
        say("No answer yet. Start `zoo serve --journal`, open its page, and mark pictures.")
    for read in found:
        if read.damaged:
            say(f"{read.damaged} damaged lines of '{read.texture}' are passed over.")


def _row(journal: Journal, read: Read, line: Line) -> tuple[str, ...]:
    boxes = f"{len(line.boxes)} boxes" if len(line.boxes) != 1 else "1 box"
    where = [boxes] * bool(line.boxes) + ["brush"] * bool(line.mask)
    return (
        date(line.time.timestamp()),
        read.texture,
        line.file or line.picture[:12],
        "-" if line.version is None else str(line.version),
        line.said.verdict,
        f"{line.said.score:.3f}",
        line.answer,
        " and ".join(where) or "-",
        "kept" if journal.picture(read.texture, line.picture) else "-",
    )


def _export(journal: Journal, args: argparse.Namespace) -> None:
    from dataclasses import asdict

    from zoo.serve.journal_export import export

    if args.folder is None:
        raise ConfigError("Say where to: `zoo journal export DIR`.")
    found = export(journal, args.folder, textures=args.texture)
    if args.json:
        for each in found:
            put_json(asdict(each) | {"folder": str(each.folder)})
        return
    head = ("texture", "good", "defective", "masks", "not kept", "unreadable", "folder")
    counts = (
        (each.good, each.defects, each.masks, each.missing, each.unreadable) for each in found
    )
    rows = [
        (each.texture, *map(str, count), str(each.folder))
        for each, count in zip(found, counts, strict=True)
    ]
    table([head, *rows])
    if any(each.good for each in found):
        say(f"`zoo data check {args.folder}` says what is understood of it.")
    else:
        say("No picture was called good, so there is nothing to train on yet.")
