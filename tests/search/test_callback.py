"""The search's callback without any Ray: time, interruption, and what is saved for a resumption."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.exams import ListLog
from tests.search.tiny_searches import config
from zoo.search.callback import SearchCallback
from zoo.search.progress import Lines


def callback(**changes: Any) -> SearchCallback:
    return SearchCallback(
        ListLog(), config("p", **changes), Lines(list[str]().append), folder=Path()
    )


def test_when_the_time_is_over_the_callback_ends_the_search_once() -> None:
    signals: list[int] = []
    made = callback(time_budget_s=1e-9)
    before = signal.signal(signal.SIGUSR1, lambda number, _: signals.append(number))
    try:
        for step in range(3):
            made.on_step_end(step, [])
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert signals == [signal.SIGUSR1]
    made.close([])
    assert not made.interrupted


def test_a_search_that_ends_before_its_limits_was_interrupted() -> None:
    made = callback(trials=1)
    made.close([])
    assert made.interrupted


def test_the_counts_of_a_callback_go_on_in_the_one_that_resumes() -> None:
    first, second = callback(), callback()
    first.ended, first.best, first.best_trial = {"a": "finished"}, 0.5, "a"
    first.held, first.running = {"a": 40.0, "b": 2.0}, {"b": time.monotonic() - 60}
    second.set_state(json.loads(json.dumps(first.get_state())))
    assert second.outcomes["finished"] == 1
    assert second.standing.counts == "1 finished"
    assert (second.best, second.best_trial) == (0.5, "a")
    assert second.held == {"a": 40.0, "b": pytest.approx(62, abs=1)}
    assert not second.running
