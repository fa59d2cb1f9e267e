"""Tables, and sections of labelled sentences: on a terminal they fit, in a file lines are whole."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from zoo.cli import _terminal
from zoo.cli._stdout import put_line
from zoo.cli._terminal import Style

LABELS = 28  # columns of the labels of a card, at most
WIDEST = 110  # columns of a sentence: longer lines are hard to read
_WRAPPED = 16  # columns of a last cell that is wrapped, at least


def table(rows: Sequence[Sequence[str]], *, styles: Sequence[Style] = (), column: int = 0) -> None:
    """Print rows with aligned columns; the first row is the header.

    On a terminal, the last cell is wrapped and long cells lose their middle; if that is not enough,
    each cell gets a line of its own.

    Args:
        rows: The cells; their texts are made visible.
        styles: The colour of a cell of each row after the header.
        column: Which cell it is.
    """
    out = sys.stdout
    shown = [[_terminal.shown(cell, out) for cell in row] for row in rows]
    wraps = _terminal.is_terminal(out)
    width = _terminal.size_of(out)[0] if wraps else sys.maxsize
    longest = max(_terminal.columns(row[-1]) for row in shown)
    last = min(longest, _WRAPPED)  # at least
    widths = _terminal.fitted([row[:-1] for row in shown], width - last)
    if widths is None:
        sections((row[0], list(zip(rows[0][1:], row[1:], strict=True))) for row in rows[1:])
        return
    before = sum(widths) + 2 * len(widths)
    last = max(width - before, last)
    for number, row in enumerate(shown):
        style = styles[number - 1] if 0 < number <= len(styles) else "plain"
        lines = _terminal.wrapped(row[-1], last) if wraps else row[-1:]
        text = row_of([*row[:-1], lines[0]], widths, style=style, column=column)
        put_line(text if number else _terminal.painted(text, "bold", out))
        for line in lines[1:]:
            put_line(f"{' ' * before}{line}".rstrip())


def row_of(
    cells: Sequence[str], widths: Sequence[int], *, style: Style = "plain", column: int = 0
) -> str:
    """Return a line of cells, each cut and filled to its width but the last, one in a colour.

    Args:
        cells: Their texts are made visible.
        widths: Columns of each cell but the last.
        style: The colour.
        column: Which cell has it.
    """
    out, mark = sys.stdout, _terminal.mark_for(sys.stdout)
    shown = [_terminal.shown(cell, out) for cell in cells]
    fit = [
        _terminal.filled(_terminal.cut(cell, wide, mark=mark), wide)
        for cell, wide in zip(shown[:-1], widths, strict=True)
    ]
    fit.append(shown[-1])
    fit[column] = _terminal.painted(fit[column], style, out)
    return "  ".join(fit).rstrip()


def sections(parts: Iterable[tuple[str, Sequence[tuple[str, str]]]]) -> None:
    """Print titles with labels and sentences under them; on a terminal, sentences are wrapped."""
    for number, (title, labelled) in enumerate(parts):
        if number:
            put_line("")
        shown = _terminal.shown(title, sys.stdout)
        put_line(_terminal.painted(shown, "bold", sys.stdout))
        lines(labelled, indent="  ")


def lines(labelled: Sequence[tuple[str, str]], indent: str = "") -> None:
    """Print labels with sentences; on a terminal, sentences are wrapped."""
    out = sys.stdout
    shown = [(_terminal.shown(name, out), _terminal.shown(text, out)) for name, text in labelled]
    widest = max((_terminal.columns(name) for name, _ in shown), default=0)
    if not _terminal.is_terminal(out):
        for name, text in shown:
            put_line(f"{indent}{_terminal.filled(name, widest)}  {text}".rstrip())
        return
    widest = min(widest, LABELS)
    room = min(_terminal.size_of(out)[0], WIDEST) - len(indent) - widest - 2
    for name, text in shown:
        label = _terminal.cut(name, widest, mark=_terminal.mark_for(out))
        start = indent + _terminal.painted(_terminal.filled(label, widest), "dim", out)
        for line in _terminal.wrapped(text, max(room, _WRAPPED)):
            put_line(f"{start}  {line}".rstrip())
            start = indent + " " * widest
