"""What all commands write: answers on stdout, progress on stderr.

Names, cards and histories may come from others. What a terminal would act on is made visible.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from zoo.errors import without_secrets
from zoo.files import storage_error


def visible(text: str) -> str:
    r"""Return a text in one line whose control characters are escaped, as Python writes them.

    Example:
        >>> print(visible("wood\x1b[2J\nPromoted"))
        wood\x1b[2J\nPromoted
    """
    return "".join(
        each if each.isprintable() or unicodedata.category(each) == "Zs" else ascii(each)[1:-1]
        for each in text
    )


def say(line: str) -> None:
    """Write a line of progress to stderr; stdout is for answers.

    A search does not end because its log is full or its terminal is gone.
    """
    with suppress(OSError):
        print(visible(without_secrets(line)), file=sys.stderr, flush=True)


def put(line: object = "") -> None:
    """Write a line of an answer to stdout.

    Raises:
        BrokenPipeError: Nobody reads the answer any more.
        StorageError: It cannot be written, because of a full disk for example.
    """
    text = visible(str(line))
    coding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        print(text.encode(coding, "backslashreplace").decode(coding), flush=True)
    except OSError as error:
        with suppress(OSError):  # what is left in Python's buffer fails again when Python ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise storage_error("Cannot write the answer to standard output", error) from error


def put_json(value: object) -> None:
    """Write a value as one line of JSON to stdout; errors as in `put`."""
    put(json.dumps(value).replace("\x7f", "\\u007f"))  # the one control character that is left


def answer(values: Mapping[str, Any], *, as_json: bool) -> None:
    """Print an answer: one JSON object, or a line for each value."""
    if as_json:
        put_json(values)
        return
    width = max(map(len, values))
    for name, value in values.items():
        shown = value
        if isinstance(value, float):
            shown = f"{value:.4f}" if abs(value) >= 1e-3 or not value else f"{value:.1e}"
        put(f"{name:<{width}}  {shown}")


def table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows with aligned columns; the first row is the header."""
    shown = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        put("  ".join(cells).rstrip())


def counted(warnings: Sequence[Sequence[str]]) -> list[str]:
    """Return one line for the warnings of several images that agree up to the first colon.

    Args:
        warnings: Those of each image.
    """
    found: dict[str, list[str]] = {}
    for line in itertools.chain.from_iterable(warnings):
        found.setdefault(line.partition(":")[0], []).append(line)
    return [f"{len(same)} of {len(warnings)} images: {same[0]}" for same in found.values()]
