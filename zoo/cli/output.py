"""What all commands write: answers on stdout, progress on stderr.

Names, cards and histories may come from others. What a terminal would act on is made visible. A
terminal gets colours and lines that fit; a file or another program gets whole lines.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from zoo.cli import _terminal
from zoo.cli._terminal import Style
from zoo.errors import without_secrets
from zoo.files import storage_error
from zoo.words import in_words, visible

__all__ = ["answer", "counted", "put", "put_json", "say", "sections", "table", "visible"]

LABELS = 28  # columns of the labels of a card, at most
WIDEST = 110  # columns of a sentence: longer lines are hard to read
_WRAPPED = 16  # columns of a last cell that is wrapped, at least


def say(line: str) -> None:
    """Write a line of progress to stderr; stdout is for answers.

    A search does not end because its log is full or its terminal is gone.
    """
    with suppress(OSError):
        print(visible(without_secrets(line)), file=sys.stderr, flush=True)


def put(line: object = "", style: Style = "plain") -> None:
    """Write a line of an answer to stdout.

    Args:
        line: The line.
        style: Its colour on a terminal.

    Raises:
        BrokenPipeError: Nobody reads the answer any more.
        StorageError: It cannot be written, because of a full disk for example.
    """
    _print(_terminal.painted(_terminal.shown(str(line), sys.stdout), style, sys.stdout))


def put_json(value: object) -> None:
    """Write a value as one line of JSON to stdout; errors as in `put`."""
    put(json.dumps(value).replace("\x7f", "\\u007f"))  # the one control character that is left


def answer(values: Mapping[str, Any], *, as_json: bool) -> None:
    """Print an answer: one JSON object, or a line in words for each value."""
    if as_json:
        put_json(values)
    else:
        _lines([in_words(name, value) for name, value in values.items()])


def sections(parts: Iterable[tuple[str, Sequence[tuple[str, str]]]]) -> None:
    """Print titles with labels and sentences under them; on a terminal, sentences are wrapped."""
    for number, (title, lines) in enumerate(parts):
        if number:
            put()
        put(title, "bold")
        _lines(lines, indent="  ")


def table(rows: Sequence[Sequence[str]], *, styles: Sequence[Style] = (), column: int = 0) -> None:
    """Print rows with aligned columns; the first row is the header.

    On a terminal, the last cell is wrapped and long cells lose their middle; if that is not enough,
    each cell gets a line of its own.

    Args:
        rows: The cells; their texts are made visible.
        styles: The colour of a cell of each row after the header.
        column: Which cell it is.
    """
    out, mark = sys.stdout, _terminal.mark_for(sys.stdout)
    shown = [[_terminal.shown(cell, out) for cell in row] for row in rows]
    wraps = _terminal.is_terminal(out)
    width = _terminal.size_of(out)[0] if wraps else sys.maxsize
    longest = max(_terminal.columns(row[-1]) for row in shown)
    last = min(longest, _WRAPPED)  # at least
    widths = _terminal.fitted([row[:-1] for row in shown], width - last)
    if widths is None:
        sections((row[0], list(zip(rows[0][1:], row[1:], strict=True))) for row in rows[1:])
        return
    last = max(width - sum(widths) - 2 * len(widths), last)
    for number, row in enumerate(shown):
        cells = zip(row[:-1], widths, strict=True)
        fit = [_terminal.filled(_terminal.cut(cell, wide, mark=mark), wide) for cell, wide in cells]
        lines = _terminal.wrapped(row[-1], last) if wraps else row[-1:]
        if 0 < number <= len(styles) and column < len(fit):
            fit[column] = _terminal.painted(fit[column], styles[number - 1], out)
        text = "".join(f"{cell}  " for cell in [*fit, lines[0]]).rstrip()
        _print(text if number else _terminal.painted(text, "bold", out))
        for line in lines[1:]:
            _print(f"{' ' * (sum(widths) + 2 * len(widths))}{line}".rstrip())


def counted(warnings: Sequence[Sequence[str]]) -> list[str]:
    """Return one line for the warnings of several images that agree up to the first colon.

    Args:
        warnings: Those of each image.
    """
    found: dict[str, list[str]] = {}
    for line in itertools.chain.from_iterable(warnings):
        found.setdefault(line.partition(":")[0], []).append(line)
    return [f"{len(same)} of {len(warnings)} images: {same[0]}" for same in found.values()]


def _lines(lines: Sequence[tuple[str, str]], indent: str = "") -> None:
    out = sys.stdout
    shown = [(_terminal.shown(name, out), _terminal.shown(text, out)) for name, text in lines]
    widest = max((_terminal.columns(name) for name, _ in shown), default=0)
    if not _terminal.is_terminal(out):
        for name, text in shown:
            _print(f"{indent}{_terminal.filled(name, widest)}  {text}".rstrip())
        return
    widest = min(widest, LABELS)
    room = min(_terminal.size_of(out)[0], WIDEST) - len(indent) - widest - 2
    for name, text in shown:
        label = _terminal.cut(name, widest, mark=_terminal.mark_for(out))
        start = indent + _terminal.painted(_terminal.filled(label, widest), "dim", out)
        for line in _terminal.wrapped(text, max(room, _WRAPPED)):
            _print(f"{start}  {line}".rstrip())
            start = indent + " " * widest


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError as error:
        with suppress(OSError):  # what is left in Python's buffer fails again when Python ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise storage_error("Cannot write the answer to standard output", error) from error
