"""How far a file is: a line in its place on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from zoo.cli import _terminal
from zoo.cli._block import Block, Piece
from zoo.cli.output import say
from zoo.words import duration, megabytes

EVERY_S = 15.0  # between two lines of a log


class Progress:
    """Receives what is done, the bytes of it and the bytes in all, and shows it.

    Attributes:
        text: What is to be shown.
    """

    def __init__(self, show: Callable[[], None]) -> None:
        """Take what is called when there is something new to show."""
        self._show = show
        self.text = ""
        self._what, self._began, self._from = "", 0.0, 0

    def __call__(self, what: str, done: int, size: int | None) -> None:
        """Note how far it is."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._began, self._from = what, now, done
        self.text = f"{what}: {_amount(done, size)}{self._pace(done, size, now)}"
        self._show()

    def _pace(self, done: int, size: int | None, now: float) -> str:
        """Return how fast it is, and how long it takes from here, once that can be told."""
        elapsed = now - self._began
        rate = (done - self._from) / elapsed if elapsed > 1 else 0.0
        if rate <= 0 or done == size:
            return ""
        left = f", {duration((size - done) / rate)} left" if size and size > done else ""
        return f", {megabytes(rate / 1e6)}/s{left}"


@contextmanager
def shown() -> Iterator[Progress]:
    """Show the progress that is noted until the block ends."""
    if not _terminal.can_move(sys.stderr):
        yield _in_lines()
        return

    def lines(columns: int, rows: int) -> list[list[Piece]]:
        return [[(progress.text, "dim")]] if progress.text else []

    progress = Progress(lambda: None)
    with Block(sys.stderr, lines) as block:
        progress = Progress(partial(block.draw, soon=True))
        yield progress


def _in_lines() -> Progress:
    last = time.monotonic()

    def show() -> None:
        nonlocal last
        if time.monotonic() - last > EVERY_S:
            last = time.monotonic()
            say(progress.text)

    progress = Progress(show)
    return progress


def _amount(done: int, size: int | None) -> str:
    if not size:
        return megabytes(done / 1e6)
    share = min(100 * done / size, 100)
    return f"{megabytes(done / 1e6)} of {megabytes(size / 1e6)}, {share:.0f} %"
