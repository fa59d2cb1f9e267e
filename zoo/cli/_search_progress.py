"""How `zoo search` is shown: a block on a terminal, lines in a log, JSON for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

from zoo.cli import _terminal
from zoo.cli._block import Block
from zoo.cli._search_state import State, of_one
from zoo.cli.output import say
from zoo.search.progress import Lines, Standing

Way = Literal["auto", "live", "lines", "json"]
JSON = "progress"  # the one name of each JSON line
JSON_EVERY_S = 1.0


class SearchProgress:
    """Shows one search; fits `zoo.search.progress.Progress`.

    Attributes:
        state: What is known of it.
    """

    def __init__(
        self, state: State, changed: Callable[[], None], lines: Lines | None = None
    ) -> None:
        """Take a state, what shows it when it has changed, and what prints lines in its place."""
        self.state, self._changed, self._lines = state, changed, lines
        self._earlier: int | None = None  # trials that had ended when this process took over

    def __call__(self, line: str) -> None:
        """Show a line that stays."""
        say(line)

    def begins(self, name: str, budget_s: float) -> None:
        """Show the name of the search, and when its time is over."""
        self.state.name, self.state.began = name, time.time()
        self.state.ends = self.state.began + budget_s
        self._changed()

    def doing(self, what: str) -> None:
        """Show what the search does from now on."""
        self.state.doing = what
        self._changed()

    def untrained(self, value: float) -> None:
        """Show the objective of the methods that learn nothing."""
        self.state.untrained = value
        self._changed()

    def stands(self, standing: Standing, news: str = "", *, lasting: bool = False) -> None:
        """Show how the trials stand."""
        if self._lines:
            self._lines.stands(standing, news, lasting=lasting)
        elif news and lasting:
            say(f"{time.strftime('%H:%M:%S')} {news}")
        state, now = self.state, time.time()
        if standing.best is not None and (standing.best_trial, standing.best) != (
            state.best_trial,
            state.best,
        ):
            state.best, state.best_trial, state.best_at = standing.best, standing.best_trial, now
        if news:
            state.news, state.news_at = news, now
        state.running, state.most = standing.running, standing.trials
        state.counts = standing.counts if standing.ended else ""
        state.trials_end = self._trials_end(standing, now)
        self._changed()

    def _trials_end(self, standing: Standing, now: float) -> float | None:
        """Return when the last trial will have ended, if that is before the time is over."""
        if self._earlier is None:
            self._earlier = standing.ended
        own, left = standing.ended - self._earlier, standing.trials - standing.ended
        if own < 2 or left * standing.seconds / own >= standing.left_s:
            return None
        return now + left * standing.seconds / own


def chosen(way: Way) -> Way:
    """Return how a search is shown: `auto` is a block on a terminal, and else lines."""
    if way != "auto":
        return way
    return "live" if _terminal.can_move(sys.stderr) else "lines"


@contextmanager
def shown(way: Way) -> Iterator[SearchProgress]:
    """Show a search until the block ends.

    Args:
        way: As `chosen` takes it.
    """
    state = State(began=time.time())
    way = chosen(way)
    if way == "lines":
        yield SearchProgress(state, lambda: None, Lines(say))
    elif way == "json":
        yield SearchProgress(state, _as_json(state))
    else:
        with Block(sys.stderr, partial(of_one, state)) as block:
            yield SearchProgress(state, partial(block.draw, soon=True))


def _as_json(state: State) -> Callable[[], None]:
    """Return what prints a state as JSON, if it does something new or a second has passed."""
    last: tuple[str, float] = ("", 0.0)

    def show() -> None:
        nonlocal last
        if state.doing == last[0] and time.monotonic() - last[1] < JSON_EVERY_S:
            return
        last = (state.doing, time.monotonic())
        say(json.dumps({JSON: state.as_json()}))

    return show
