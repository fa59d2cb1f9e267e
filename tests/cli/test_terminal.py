"""What a terminal shows: tables that fit, colours, and a block that is written in its place."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.cli.terminals import Screen, sized, terminal
from zoo.cli import _block, _terminal
from zoo.cli._block import Block, Piece
from zoo.cli._terminal import painted
from zoo.cli.output import answer, put_line, sections, table

ROWS = [
    ("SEARCH", "BEGAN", "BEST", "TRIALS"),
    ("brick-20261128-125705", "2026-11-28 12:57", "0.690", "4 finished, 5 stopped early"),
    ("木材-20261128-130000", "2026-11-28 13:00", "-", "none yet"),
]


@pytest.fixture(autouse=True)
def colourful(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that can do everything."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


@contextmanager
def printed_to(screen: Screen) -> Iterator[None]:
    with terminal(screen.width) as (stream, read):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(sys, "stdout", stream)
            yield
        screen.feed(read())


def printed(width: int, rows: Sequence[Sequence[str]]) -> Screen:
    screen = Screen(width)
    with printed_to(screen):
        table(rows)
    return screen


def test_a_table_fits_the_terminal_and_is_aligned_by_columns() -> None:
    screen = printed(100, ROWS)
    head, first, second = screen.text.splitlines()
    assert first.split("  ")[0] == "brick-20261128-125705"
    at = _terminal.columns(head[: head.index("BEGAN")])
    for line, cell in ((first, "2026-11-28 12:57"), (second, "2026-11-28 13:00")):
        assert _terminal.columns(line[: line.index(cell)]) == at
    assert screen.colours == {"1", "0"}


def test_a_long_name_loses_its_middle_and_the_last_cell_is_wrapped() -> None:
    screen = printed(60, ROWS)
    lines = screen.text.splitlines()
    assert all(_terminal.columns(line) <= 60 for line in lines)
    assert any(
        line.startswith("brick-2") and line.split()[0].endswith("…8-125705") for line in lines
    )
    assert any(line.startswith("木材") and "…" in line.split()[0] for line in lines)
    assert len(lines) > len(ROWS), "wrapped"
    assert " ".join(screen.text.split()).count("early") == 1


def test_a_terminal_that_is_narrower_than_a_table_gets_a_line_for_each_cell() -> None:
    lines = printed(40, ROWS).text.splitlines()
    assert lines[:3] == ["brick-20261128-125705", "  BEGAN   2026-11-28 12:57", "  BEST    0.690"]
    assert all(_terminal.columns(line) <= 40 for line in lines)


def test_a_file_gets_whole_lines_without_colours(capsys: pytest.CaptureFixture[str]) -> None:
    table(ROWS)
    sections([("Title", [("Label", "a sentence " * 30)])])
    head, first, _, title, line = capsys.readouterr().out.splitlines()
    assert "\x1b" not in head + title
    assert first.endswith("4 finished, 5 stopped early")
    assert line.startswith("  Label  a sentence")
    assert len(line) > 300


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_are_off_where_they_are_not_wanted(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    screen = Screen(80)
    with printed_to(screen):
        put_line(painted("zoo", "bad", sys.stdout))
        sections([("Title", [("Label", "text")])])
    assert screen.text == "zoo\nTitle\n  Label  text"
    assert not screen.colours


def test_sentences_are_wrapped_under_each_other() -> None:
    screen = Screen(40)
    with printed_to(screen):
        sections([("T", [("Label", "several words that do not fit into one line"), ("B", "b")])])
    assert screen.text.splitlines() == [
        "T",
        "  Label  several words that do not fit",
        "         into one line",
        "  B      b",
    ]


def test_what_a_terminal_would_act_on_is_visible_in_a_table() -> None:
    screen = printed(80, [("A", "B"), ("\x1b[2J", "x\ny")])
    assert screen.text.splitlines()[1] == r"\x1b[2J  x\ny"
    assert not screen.modes


def test_an_answer_is_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    answer({"val_pixel_ap": 0.66767, "seconds": 754.0, "promoted": True}, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "val pixel AP  0.668",
        "time          13 min",
        "promoted      yes",
    ]


class Ascii(io.TextIOWrapper):
    """A terminal that knows no ellipsis."""


def test_where_there_is_no_ellipsis_dots_are_written() -> None:
    stream = Ascii(io.BytesIO(), encoding="ascii")
    assert _terminal.mark_for(stream) == "..."
    assert _terminal.cut("brick-20261128", 9, mark="...") == "bri...128"


# ------------------------------------------------------------------------------------------- block


class Counting:
    """A block's lines: how often they were asked for."""

    def __init__(self, lines: int = 3) -> None:
        self.number, self.lines = 0, lines

    def __call__(self, width: int, height: int) -> list[list[Piece]]:
        self.number += 1
        made: list[list[Piece]] = [[(f"line {at} of ", "dim"), (f"drawing {self.number}", "good")]
                                   for at in range(self.lines)]  # fmt: skip
        return made[:height]


def test_a_block_is_written_in_its_place_and_lines_go_above_it() -> None:
    screen = Screen(60)
    with terminal(60) as (stream, read), Block(stream, Counting()) as block:
        screen.feed(read())
        assert screen.text.splitlines()[-1].startswith("line 2 of drawing ")
        block.draw()
        print("said by anyone", file=sys.stderr)
        sys.stderr.write("half a ")
        block.draw()
        sys.stderr.write("line\n")
        screen.feed(read())
        lines = screen.text.splitlines()
        assert lines[:2] == ["said by anyone", "half a line"]
        assert [line.split(" drawing")[0] for line in lines[2:]] == [
            f"line {at} of" for at in range(3)
        ]
        block.__exit__(None, None, None)
        screen.feed(read())
        assert screen.text == "said by anyone\nhalf a line"
    assert not screen.modes, "nothing that is to be undone"


def test_a_block_counts_on_by_itself_and_not_after_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_block, "EVERY_S", 0.02)
    lines = Counting()
    with terminal() as (stream, _):
        with Block(stream, lines):
            until = time.monotonic() + 20
            while lines.number < 4:
                assert time.monotonic() < until
                time.sleep(0.01)
        ended = lines.number
        time.sleep(0.2)
        assert lines.number == ended


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_block_leaves_a_clean_terminal(error: type[BaseException]) -> None:
    screen, before = Screen(60), sys.stderr
    with terminal(60) as (stream, read):
        with pytest.raises(error), Block(stream, Counting()):  # noqa: PT012 # it is the block's end
            print("kept", file=sys.stderr)
            raise error
        stream.write("$ ")
        stream.flush()
        screen.feed(read())
    assert screen.text == "kept\n$"
    assert sys.stderr is before


def test_a_block_has_no_more_lines_than_the_terminal() -> None:
    screen = Screen(30)
    with terminal(30, 4) as (stream, read), Block(stream, Counting(9)) as block:
        for _ in range(3):
            block.draw()
        screen.feed(read())
        assert len(screen.text.splitlines()) == 3


def test_a_terminal_that_became_narrower_is_left_clean() -> None:
    long: list[list[Piece]] = [[("x" * 50, "plain")]]
    screen = Screen(30)
    with terminal(60) as (stream, read), Block(stream, lambda width, height: long) as block:
        screen.feed(read())
        assert len(screen.text.splitlines()) == 2, "as the terminal wraps it now"
        sized(stream.fileno(), 30, 24)
        block.draw()
        screen.feed(read())
        assert screen.text == f"{'x' * 14}…{'x' * 14}"


def test_a_terminal_that_is_gone_does_not_end_what_is_shown() -> None:
    ours, theirs = os.openpty()
    stream = os.fdopen(theirs, "w")
    with Block(stream, Counting()) as block:
        os.close(ours)
        block.draw()
        print("nobody reads it", file=sys.stderr)
        block.draw()
    with pytest.raises(OSError, match=r".*"):
        stream.close()


def test_after_ctrl_z_a_block_begins_anew_below_what_the_shell_wrote() -> None:
    screen = Screen(60)
    with terminal(60) as (stream, read), Block(stream, Counting(2)) as block:
        stream.write("[1]+  Stopped\n$ fg\n")
        stream.flush()
        os.kill(os.getpid(), signal.SIGCONT)
        block.draw()
        screen.feed(read())
        assert "$ fg" in screen.text
    assert signal.getsignal(signal.SIGCONT) == signal.SIG_DFL


def test_lines_of_several_threads_stay_whole() -> None:
    screen, names = Screen(60), [f"thread {number}" for number in range(4)]
    with terminal(60) as (stream, read):
        with Block(stream, Counting(2)) as block:

            def write(name: str) -> None:
                for _ in range(5):
                    print(name, file=sys.stderr)
                    block.draw()

            threads = [threading.Thread(target=write, args=(name,)) for name in names]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
        screen.feed(read())
    assert sorted(screen.text.splitlines()) == sorted(5 * names)
