"""How a search stands, and the protocol of what shows it to the user."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from registry.trials import Outcome
from zoo.words import outcomes

HEARTBEAT_S = 15.0  # at least one line in so many seconds, or the search looks dead


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How the trials of a search stand.

    Attributes:
        best: `val_pixel_ap` of the best trial; None before the first report.
        best_trial: Its id; empty before the first report.
        running: Number of trials that run now.
        outcomes: Number of trials by outcome, with those before a resumption.
        trials: Largest number of trials.
        seconds: For how long this process has run the trials.
        left_s: Seconds that are left for trials.
    """

    best: float | None
    best_trial: str
    running: int
    outcomes: Mapping[Outcome, int]
    trials: int
    seconds: float
    left_s: float

    @property
    def ended(self) -> int:
        """Number of trials that have ended."""
        return sum(self.outcomes.values())

    @property
    def counts(self) -> str:
        """The number of trials by outcome, as text."""
        return outcomes(self.outcomes.items()) or "no trial ended"


@runtime_checkable
class Progress(Protocol):
    """Shows a search to the user."""

    def __call__(self, line: str) -> None:
        """Show a line that stays."""

    def stands(self, standing: Standing, news: str = "", *, lasting: bool = False) -> None:
        """Show how the trials stand; called at each event, and about once a second.

        Args:
            standing: How they stand.
            news: What happened; empty if only time has passed.
            lasting: Whether the news is to be kept in view: something has gone wrong.
        """


class Lines:
    """Shows a search as lines, for a log: one for each piece of news, and one now and then."""

    def __init__(self, say: Callable[[str], None], *, every_s: float = HEARTBEAT_S) -> None:
        """Take what receives each line, and the longest time without one."""
        self._say, self._every_s = say, every_s
        self._said_at = time.monotonic()

    def __call__(self, line: str) -> None:
        """Show a line."""
        self._say(line)

    def stands(self, standing: Standing, news: str = "", *, lasting: bool = False) -> None:
        """Show how the trials stand, if there is news or the last line is long ago."""
        if not news and time.monotonic() - self._said_at < self._every_s:
            return
        self._said_at = time.monotonic()
        best = "no result yet"
        if standing.best is not None:
            best = f"best {standing.best:.3f} ({standing.best_trial})"
        line = (
            f"[{_clock(standing.seconds)}] {standing.running} running, {standing.counts} | {best} "
            f"| {_clock(standing.left_s)} left"
        )
        self._say(f"{line} | {news}" if news else line)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
