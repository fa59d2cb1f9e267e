"""How a search is shown: the state of one and of several, as a block, as lines and as JSON."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from registry.trials import Outcome
from tests.cli.terminals import Screen, terminal
from zoo.cli import _search_all
from zoo.cli._block import Block
from zoo.cli._search_progress import SearchProgress, shown
from zoo.cli._search_state import State, of_one, of_several
from zoo.search.progress import Lines, Standing
from zoo.words import time_of_day

NONE: dict[Outcome, int] = {"finished": 0, "stopped_early": 0, "failed": 0, "interrupted": 0}
NOW = 1_800_000_000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of day in seconds, which stands still."""
    now = [NOW]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def standing(**values: Any) -> Standing:
    usual = {
        "best": None,
        "best_trial": "",
        "running": 2,
        "outcomes": NONE,
        "trials": 40,
        "seconds": 60.0,
        "left_s": 600.0,
    }
    return Standing(**{**usual, **values})


def lines_of(state: State, width: int = 100, height: int = 24) -> list[str]:
    return ["".join(text for text, _ in line) for line in of_one(state, width, height)]


def progress() -> SearchProgress:
    return SearchProgress(State(began=time.time()), lambda: None)


def test_the_block_says_what_is_best_what_runs_and_when_it_ends(clock: list[float]) -> None:
    made = progress()
    made.begins("brick-1", 1200.0)
    made.doing("runs trials")
    made.untrained(0.336)
    made.stands(standing(running=1), "")
    clock[0] += 300
    made.stands(
        standing(best=0.69, best_trial="a1", outcomes=NONE | {"finished": 1, "failed": 2}),
        "trial b2 failed",
    )
    clock[0] += 120
    title, best, took, trials, last = lines_of(made.state)
    assert title == "brick-1  runs trials"
    assert best.strip() == "best  0.690 by trial a1, 2 min ago; 0.336 by what learns nothing"
    ends = time_of_day(NOW + 1200)
    assert took.strip() == (
        f"time  [########----------------] 7 min of 20 min, 13 min left, ends at {ends}"
    )
    assert trials.strip() == "trials  2 running, 1 finished, 2 failed, of at most 40"
    assert last.strip() == "last  trial b2 failed, 2 min ago"


def test_before_anything_is_known_nothing_is_made_up(clock: list[float]) -> None:
    made = progress()
    clock[0] += 90
    text = "\n".join(lines_of(made.state))
    assert "reads the pictures" in text
    assert "no result yet" in text
    assert "1 min 30 s so far" in text
    made.begins("brick-1", 1200.0)
    made.stands(standing(running=0), "")
    assert "none yet, of at most 40" in "\n".join(lines_of(made.state))


def test_a_time_that_is_over_is_said(clock: list[float]) -> None:
    made = progress()
    made.begins("brick-1", 5.0)
    clock[0] += 65
    _, _, took, *_ = lines_of(made.state)
    assert took.strip() == "time  1 min 5 s; the time is over, and it finishes what it has begun"


def test_where_the_trials_end_before_the_time_that_is_said(clock: list[float]) -> None:
    made = progress()
    made.begins("brick-1", 1200.0)
    made.stands(standing(trials=4, seconds=1.0, left_s=1000.0), "")
    clock[0] += 60
    done = NONE | {"finished": 2}
    made.stands(standing(trials=4, seconds=60.0, left_s=940.0, outcomes=done), "")
    assert f"1 min left, ends about {time_of_day(NOW + 120)}" in lines_of(made.state)[2]
    made.stands(standing(trials=400, seconds=60.0, left_s=940.0, outcomes=done), "")
    assert f"ends at {time_of_day(NOW + 1200)}" in lines_of(made.state)[2]


def test_trials_from_before_a_resumption_say_nothing_about_the_speed(clock: list[float]) -> None:
    made = progress()
    made.begins("brick-1", 1200.0)
    before = NONE | {"finished": 30}
    made.stands(standing(outcomes=before, seconds=1.0), "")
    assert made.state.counts == "30 finished"
    made.stands(standing(outcomes=before | {"failed": 1}, seconds=10.0), "")
    assert made.state.trials_end is None, "one trial of this process is no speed"


def test_a_narrow_or_low_terminal_gets_the_most_important() -> None:
    made = progress()
    made.begins("brick-1", 1200.0)
    assert "[" not in lines_of(made.state, width=70)[2]
    assert len(lines_of(made.state, height=2)) == 2
    assert lines_of(made.state, height=0)[0].startswith("brick-1")


def test_a_lasting_piece_of_news_stays_above_the_block(capsys: pytest.CaptureFixture[str]) -> None:
    made = progress()
    made.stands(standing(), "trial a finished")
    made.stands(standing(), "trial b failed", lasting=True)
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith(" trial b failed")


def test_a_log_gets_a_line_for_each_piece_of_news_and_one_now_and_then() -> None:
    said: list[str] = []
    lines = Lines(said.append, every_s=0.2)
    lines.stands(standing())
    lines.stands(standing(best=0.5, best_trial="a"), "better: val_pixel_ap 0.500")
    counts = "[01:00] 2 running, no trial ended"
    assert said == [f"{counts} | best 0.500 (a) | 10:00 left | better: val_pixel_ap 0.500"]
    time.sleep(0.25)
    lines.stands(standing())
    assert said[1:] == [f"{counts} | no result yet | 10:00 left"]


def test_without_a_terminal_there_are_lines_and_with_one_a_block(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with shown("auto") as made:
        made.begins("brick-1", 60.0)
        made.stands(standing(), "trial a finished")
    assert capsys.readouterr().err.startswith("[01:00] 2 running")
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen(80)
    with terminal(80) as (stream, read):
        with monkeypatch.context() as patched:
            patched.setattr("sys.stderr", stream)
            with shown("auto") as made:
                made.begins("brick-1", 60.0)
                made("a line that stays")
                screen.feed(read())
                assert "a line that stays\nbrick-1  reads the pictures" in screen.text
        screen.feed(read())
    assert screen.text == "a line that stays"


def test_the_json_of_a_search_is_the_state_of_another_process(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with shown("json") as made:
        made.begins("brick-1", 60.0)
        made.doing("runs trials")
        made.stands(standing(best=0.5, best_trial="a"), "better: 0.5")  # within the same second
        made.doing("stops Ray")
    printed = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [each["progress"]["doing"] for each in printed] == [
        "reads the pictures",
        "runs trials",
        "stops Ray",
    ]
    other = State()
    other.update(printed[-1]["progress"] | {"of a later version": 5})
    assert other == made.state
    assert not hasattr(other, "of a later version")


def test_several_searches_have_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    states = {name: State(name=name, began=time.time()) for name in ("carpet", "wood")}
    made = progress()
    made.begins("wood-1", 1200.0)
    made.doing("runs trials")
    made.stands(standing(best=0.69, best_trial="a1", outcomes=NONE | {"finished": 3}), "")
    line = json.dumps({"progress": made.state.as_json()})
    screen = Screen(90)
    with terminal(90) as (stream, read):
        with Block(stream, lambda width, height: of_several(states, width, height)) as block:
            _search_all._show(states, block, "wood", line)
            _search_all._show(states, block, "carpet", "Starting search carpet-1")
            _search_all._show(states, block, "carpet", "")
            _search_all._show(states, block, "wood", "{not json")
            block.draw()
            screen.feed(read())
            above, odd, took, carpet, wood = screen.text.splitlines()
        assert (above, odd) == ("carpet: Starting search carpet-1", "wood: {not json")
        assert "ends at" in took
        assert carpet.split() == ["carpet", "-", "has", "ended"]
        assert wood.startswith("wood   0.690  runs trials; 2 running, 3 finished")
    _search_all._say("wood", line)
    found = json.loads(capsys.readouterr().err)
    assert (found["texture"], found["progress"]["best"]) == ("wood", 0.69)
