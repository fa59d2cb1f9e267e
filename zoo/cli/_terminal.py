"""What a terminal shows: colours, columns, and texts that are cut or wrapped to fit.

A character of East Asia takes two columns and an accent none, which `wcwidth` knows. Colours repeat
what the words say, for those who see none.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

from zoo.errors import visible
from zoo.home import is_dumb_terminal, wants_no_colours

Style = Literal["plain", "bold", "dim", "good", "bad", "doubtful"]
WIDTH = 80  # columns of a terminal that does not tell
NARROW = 20  # columns that a line takes on a terminal of fewer
_CODES: dict[Style, str] = {"bold": "1", "dim": "2", "good": "32", "bad": "1;31", "doubtful": "33"}
_LONG, _NAME = 20, 12  # columns of a table that are left of a long text, and of a name


@runtime_checkable
class Stream(Protocol):
    """Where text is written to, such as `sys.stdout`."""

    def write(self, text: str, /) -> int:
        """Write a text."""

    def flush(self) -> None:
        """Write what is kept in memory."""

    def isatty(self) -> bool:
        """Return whether it is a terminal."""

    def fileno(self) -> int:
        """Return its number for the system."""


def is_terminal(stream: Stream) -> bool:
    """Return whether a person may be reading."""
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # of a stream that is closed, or none
        return False


def can_move(stream: Stream) -> bool:
    """Return whether lines that were written can be replaced."""
    return is_terminal(stream) and not is_dumb_terminal()


def size_of(stream: Stream) -> tuple[int, int]:
    """Return the columns and rows of a terminal."""
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        columns, rows = 0, 0
    return max(columns or WIDTH, NARROW), rows or 24


def painted(text: str, style: Style, stream: Stream) -> str:
    """Return a text in a colour, if it goes to a terminal that shows colours."""
    if style == "plain" or not text or not is_terminal(stream) or wants_no_colours():
        return text
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def columns(text: str) -> int:
    """Return how many columns a text takes.

    Example:
        >>> columns("wood"), columns("木材")
        (4, 4)
    """
    if text.isascii():
        return len(text)
    import wcwidth  # imported here: `zoo --help` needs none of it

    return wcwidth.width(text, control_codes="ignore")


def filled(text: str, width: int) -> str:
    """Return a text with spaces after it, so that it takes so many columns."""
    return text + " " * (width - columns(text))


def cut(text: str, width: int, *, mark: str = "…") -> str:
    """Return a text that takes at most so many columns; what is left out is in its middle.

    Example:
        >>> cut("brick-20261128-125705", 12), cut("wood", 12), cut("木材木材木材", 9)
        ('brick-…25705', 'wood', '木材…木材')
    """
    taken = columns(text)
    if taken <= width:
        return text
    import wcwidth

    room = max(width - columns(mark), 0)
    after = room // 2
    end = wcwidth.clip(text, taken - after) if after else ""
    return f"{wcwidth.clip(text, 0, room - after)}{mark}{end}"


def wrapped(text: str, width: int) -> list[str]:
    """Return a text as lines of at most so many columns, cut between words where that is possible.

    Example:
        >>> wrapped("mean of the highest pixels", 12), wrapped("", 12)
        (['mean of the', 'highest', 'pixels'], [''])
    """
    if text.isascii() and len(text) <= width:
        return [text]
    import wcwidth

    return wcwidth.wrap(text, width, break_on_hyphens=False, control_codes="ignore") or [""]


def fitted(rows: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """Return the width of each column of a table, so that with two spaces after each all fit.

    Long texts give way first, then the first column, which holds names. None is returned if the
    table would be wider all the same.
    """
    widths = [max(map(columns, cells)) for cells in zip(*rows, strict=True)]
    over = sum(widths) + 2 * len(widths) - width
    for shortest, places in ((_LONG, range(len(widths))), (_NAME, range(len(widths))[:1])):
        for place in places:
            less = max(min(over, widths[place] - shortest), 0)
            widths[place] -= less
            over -= less
    return widths if over <= 0 else None


def mark_for(stream: Stream) -> str:
    """Return what stands for a part that was left out, in the encoding of a stream."""
    try:
        "…".encode(getattr(stream, "encoding", None) or "utf-8")
    except (LookupError, UnicodeEncodeError):
        return "..."
    return "…"


def shown(text: str, stream: Stream) -> str:
    """Return a text of others in one line that the stream can take."""
    coding = getattr(stream, "encoding", None) or "utf-8"
    return visible(text).encode(coding, "backslashreplace").decode(coding)
