"""A text stream that passes on whole lines, in place of stderr while a block is on the terminal."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

from zoo.cli._terminal import Stream


class WholeLines(io.TextIOBase):
    """Passes on each line when its end is written, of each thread for itself.

    A last line without an end is not passed on: it would be in the middle of the block.
    """

    def __init__(self, stream: Stream, show: Callable[[str], None]) -> None:
        """Take the terminal that it stands for, and what receives whole lines."""
        self._stream, self._show = stream, show
        self._own = threading.local()  # `print` writes a line and its end one after the other

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the terminal."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Take a text, and pass on the lines that have ended."""
        begun = getattr(self._own, "rest", "")
        whole, end, self._own.rest = (begun + text).rpartition("\n")
        if end:
            self._show(whole + end)
        return len(text)

    def writable(self) -> bool:
        """It can be written to."""
        return True

    def isatty(self) -> bool:
        """Whether the lines go to a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The number of the terminal."""
        return self._stream.fileno()

    def close(self) -> None:
        """Leave the terminal open."""
