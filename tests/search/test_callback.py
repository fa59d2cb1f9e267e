"""The search's callback without any Ray: time, interruption, and what is saved for a resumption."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from ray.tune.experiment import Trial

from tests.exams import ListLog
from tests.search.tiny_searches import config
from zoo.search.callback import SearchCallback, reason_of
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


HEAD = "Failure # 1 (occurred at 2026-11-29_08-00-00)\n"
OF_MEMORY = (
    "The actor died because of a task.\n1 worker(s) were killed due to the node running low on "
    "memory. Memory on the node (IP: 192.0.2.2, ID: 86f5) was 22.36GB used / 23.54GB limit "
    "(0.95)\nTop 10 memory users:\nRefer to the documentation on how to address it.\n"
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "its worker was lost"),
        ("", "its worker was lost"),
        (HEAD, "its worker was lost"),
        (HEAD + "Traceback:\n  line\nValueError: no\n", "ValueError: no"),
        (
            HEAD + OF_MEMORY,
            "Ray ended its worker because the memory of the node was nearly full (22.36GB used / "
            "23.54GB limit). Set a lower `batch` or `width` in the space, or more --threads for "
            "fewer trials at once.",
        ),
        (HEAD + OF_MEMORY + HEAD + "ValueError: no\n", "ValueError: no"),
    ],
)
def test_a_failure_has_the_last_reason_that_ray_saved_in_one_line(
    tmp_path: Path, text: str | None, reason: str
) -> None:
    trial = Trial("run", stub=True)
    if text is not None:
        (tmp_path / "error.txt").write_text(text)
    with pytest.MonkeyPatch.context() as patched:
        where = str(tmp_path / "error.txt") if text is not None else None
        patched.setattr(Trial, "error_file", where)
        assert reason_of(trial) == reason
