"""What is shown of a search while it runs, as plain values, and as lines of a terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from zoo.cli._block import Piece
from zoo.cli._terminal import columns, filled
from zoo.words import duration, time_of_day

BAR, SHORTEST_BAR = 24, 8  # columns of the bar of time
LONGEST = 63  # columns of what is said of the time, with those around the bar
_LABEL = 10  # columns


@dataclass
class State:
    """A search that runs. Times are seconds since 1970.

    Attributes:
        name: Of the search; of its texture until it has one.
        doing: What it does now.
        began: When it began.
        ends: When its time is over; None until it is known.
        trials_end: When its last trial will have ended, if that is before; None if it is not.
        untrained: `val_pixel_ap` of the methods that learn nothing; None before they are fitted.
        best: That of the best trial; None before the first report.
        best_trial: Its id.
        best_at: When it was found.
        running: Number of trials that run now.
        counts: Number of trials by outcome, as text; empty before the first trial.
        most: Largest number of trials.
        news: What happened last.
        news_at: When.
    """

    name: str = ""
    doing: str = "reads the pictures"
    began: float = 0.0
    ends: float | None = None
    trials_end: float | None = None
    untrained: float | None = None
    best: float | None = None
    best_trial: str = ""
    best_at: float = 0.0
    running: int = 0
    counts: str = ""
    most: int = 0
    news: str = ""
    news_at: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return all values by name."""
        return asdict(self)

    def update(self, values: Mapping[str, Any]) -> None:
        """Take the values of another process; names that this version does not know are left."""
        known = {each.name for each in fields(self)}
        vars(self).update({name: value for name, value in values.items() if name in known})


def of_one(state: State, width: int, height: int) -> list[list[Piece]]:
    """Return the lines of one search, the most important ones if there is little room."""
    title: list[Piece] = [(state.name or "zoo search", "bold"), (f"  {state.doing}", "plain")]
    lines: list[list[Piece]] = [
        title,
        _labelled("best", _best(state)),
        _labelled("time", _time(state, width)),
        _labelled("trials", _trials(state)),
        _labelled("last", _ago(state.news, state.news_at)),
    ]
    return lines[: max(height, 1)]


def of_several(states: Mapping[str, State], width: int, height: int) -> Sequence[Sequence[Piece]]:
    """Return a line of time, and a line for each texture; of too many the last are left out."""
    known = [each for each in states.values() if each.ends is not None]
    latest = max(known, key=lambda each: each.ends or 0.0, default=next(iter(states.values())))
    lines: list[list[Piece]] = [_labelled("time", _time(latest, width))]
    widest = min(max(map(columns, states)), 16)
    for name, state in states.items():
        value = state.untrained if state.best is None else state.best
        best = "   -  " if value is None else f"{value:6.3f}"
        done = _trials(state) if state.counts else ""
        lines.append(
            [
                (filled(name, widest), "bold"),
                (f"{best}  {state.doing}", "plain"),
                (f"; {done}" if done else "", "dim"),
            ]
        )
    return lines[: max(height, 1)]


def _labelled(label: str, text: str) -> list[Piece]:
    return [(f"{label:>{_LABEL - 2}}  ", "dim"), (text, "plain")]


def _best(state: State) -> str:
    floor = "" if state.untrained is None else f"{state.untrained:.3f} by what learns nothing"
    if state.best is None:
        return f"{floor}; no trial has a result yet" if floor else "no result yet"
    found = _ago(f"{state.best:.3f} by trial {state.best_trial}", state.best_at)
    return f"{found}; {floor}" if floor else found


def _trials(state: State) -> str:
    if not state.most:
        return "none yet"
    counts = [f"{state.running} running" if state.running else "", state.counts]
    return f"{', '.join(filter(None, counts)) or 'none yet'}, of at most {state.most}"


def _ago(text: str, when: float) -> str:
    seconds = time.time() - when
    if not text or not when or seconds < 2:
        return text or "nothing yet"
    return f"{text}, {duration(seconds if seconds < 60 else seconds // 60 * 60)} ago"


def _time(state: State, width: int) -> str:
    """Return a bar, how long the search has run, and when it will end."""
    now = time.time()
    passed = max(now - state.began, 0.0) if state.began else 0.0
    if state.ends is None:
        return f"{duration(_whole(passed))} so far"
    total = max(state.ends - state.began, 1e-9)
    ends = min(state.ends, state.trials_end or state.ends)
    if (left := ends - now) <= 0:
        return f"{duration(_whole(passed))}; the time is over, and it finishes what it has begun"
    said = (
        f"{duration(_whole(passed))} of {duration(total)}, {duration(_whole(left))} left, "
        f"{'ends about' if ends < state.ends else 'ends at'} {time_of_day(ends)}"
    )
    bar = min(BAR, width - _LABEL - LONGEST)
    if bar < SHORTEST_BAR:
        return said
    full = round(bar * min(passed / max(passed + left, 1e-9), 1.0))
    return f"[{'#' * full}{'-' * (bar - full)}] {said}"


def _whole(seconds: float) -> float:
    """Return whole seconds: tenths would flicker."""
    return float(int(seconds))
