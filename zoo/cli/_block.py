"""A block of lines on a terminal that is written again and again in its place.

It hides no cursor and changes no mode, so nothing is to be repaired if the process is killed. What
others write to stderr meanwhile goes above it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

from zoo.cli import _terminal
from zoo.cli._terminal import Stream, Style
from zoo.cli._whole_lines import WholeLines

Piece = tuple[str, Style]  # a part of a line, and its colour
Lines = Callable[[int, int], Sequence[Sequence[Piece]]]  # of so many columns and rows
EVERY_S = 1.0  # for the clock in it; a write of some hundred bytes
SOONEST_S = 0.1  # between two drawings


class Block:
    """Draws lines in their place while a `with` block lasts, and then removes them.

    A process in the background draws nothing, and one that goes on after Ctrl-Z begins anew.
    """

    def __init__(self, stream: Stream, lines: Lines) -> None:
        """Take a terminal that can move its cursor, and what makes the lines."""
        self._stream, self._lines = stream, lines
        self._lock = threading.RLock()
        self._drawn: list[int] = []  # columns of each line that is on the terminal
        self._drawn_at = 0.0
        self._ended = threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True)
        self._stderr: Any = None
        self._continued: Any = None

    def __enter__(self) -> Block:
        """Draw it."""
        self._stderr, sys.stderr = sys.stderr, WholeLines(self._stream, self.above)
        if threading.current_thread() is threading.main_thread():
            self._continued = signal.signal(signal.SIGCONT, self._begin_anew)
        self.draw()
        self._clock.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove it; the cursor is where it began."""
        self._ended.set()
        sys.stderr = self._stderr
        if self._continued is not None:
            signal.signal(signal.SIGCONT, self._continued)
        with self._lock:
            self._write(self._erased())
        self._clock.join(timeout=EVERY_S)

    def draw(self, *, soon: bool = False) -> None:
        """Write it again; `soon` leaves that to the clock if it was written just now."""
        with self._lock:
            if self._ended.is_set() or (soon and time.monotonic() - self._drawn_at < SOONEST_S):
                return
            self._drawn_at = time.monotonic()
            self._write(self._picture())

    def above(self, text: str) -> None:
        """Write whole lines above it."""
        with self._lock:
            erased = self._erased()
            self._write(f"{erased}{text}{'' if self._ended.is_set() else self._picture()}")

    def _picture(self) -> str:
        if not self._is_in_front():
            return ""
        width, height = _terminal.size_of(self._stream)
        back = self._to_its_start()
        made = [self._line(line, width - 1) for line in self._lines(width - 1, height - 1)]
        self._drawn = [taken for _, taken in made]
        return back + "".join(f"{text}\x1b[K\n" for text, _ in made) + "\x1b[J"

    def _line(self, line: Sequence[Piece], width: int) -> tuple[str, int]:
        """Return a line with its colours, and how many columns it takes."""
        text, taken, mark = "", 0, _terminal.mark_for(self._stream)
        for piece, style in line:
            shown = _terminal.cut(_terminal.shown(piece, self._stream), width - taken, mark=mark)
            taken += _terminal.columns(shown)
            text += _terminal.painted(shown, style, self._stream)
        return text, taken

    def _erased(self) -> str:
        back = self._to_its_start()
        self._drawn = []
        return f"{back}\x1b[J" if back else ""

    def _to_its_start(self) -> str:
        """Return what moves the cursor to the start of the block."""
        width, _ = _terminal.size_of(self._stream)  # a terminal that is narrower now has more rows
        rows = sum(max(1, -(-taken // width)) for taken in self._drawn)
        return f"\r\x1b[{rows}A" if rows else ""

    def _is_in_front(self) -> bool:
        try:
            return os.tcgetpgrp(self._stream.fileno()) == os.getpgrp()
        except OSError:  # no terminal that controls this process
            return True

    def _write(self, text: str) -> None:
        if text:
            with suppress(OSError, ValueError):  # the terminal is gone; the search goes on
                self._stream.write(text)
                self._stream.flush()

    def _tick(self) -> None:
        while not self._ended.wait(EVERY_S):
            self.draw()

    def _begin_anew(self, number: int, frame: FrameType | None) -> None:
        self._drawn = []  # the shell has written below it
