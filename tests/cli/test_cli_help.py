"""The help of every command, the page made from it, and what is refused before a command runs."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import refused, search_refused
from zoo.cli import parser

ROOT = Path(__file__).parents[2]


def commands() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of the whole command and of every subcommand."""
    top = parser()
    [group] = [each for each in top._actions if isinstance(each, argparse._SubParsersAction)]
    return {"zoo": top, **group.choices}


def test_the_commands_are_those_of_the_readme() -> None:
    known = ["zoo", "demo", "search", "train", "score", "names", "show", "export"]
    known += ["history", "rollback", "runs", "promote", "shelf", "bench", "audit", "cluster"]
    assert [name for name in commands() if name in known] == known


@pytest.mark.parametrize("name", list(commands()))
def test_every_help_ends_with_an_example_that_the_command_takes(name: str) -> None:
    _, _, examples = commands()[name].format_help().rpartition("\n\nexample:\n")
    lines = [shlex.split(line) for line in examples.splitlines()]
    assert lines
    for line in lines:
        assert line[0] == "zoo"
        assert name in ("zoo", line[1])
        assert parser().parse_args(line[1:]).run.__module__ == f"zoo.cli.{line[1]}"


@pytest.mark.parametrize("name", list(commands()))
def test_every_argument_of_every_command_is_explained(name: str) -> None:
    arguments = commands()[name]._actions
    assert arguments
    silent = [each.dest for each in arguments if not each.help and each.dest != "command"]
    assert name == "zoo" or not silent


def test_the_page_of_the_command_line_is_what_the_help_says_now() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_cli.py"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "40"},
    ).stdout
    assert made == (ROOT / "docs" / "cli.md").read_text("utf-8"), "run `make docs`"
    assert made.count("\n## `zoo ") == len(commands()) - 1


def test_an_unknown_command_is_refused_with_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = refused(capsys, "serch")
    assert "'serch'" in line
    assert "search" in line.replace("serch", "")
    assert line.endswith("See `zoo --help`.")


@pytest.mark.parametrize("time", ["5x", "m", "0", "-3m", "1h30"])
def test_what_is_no_time_is_refused_with_what_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, time: str
) -> None:
    line = search_refused(capsys, tmp_path, f"--time-budget={time}")
    assert f"'{time}' is no time; write 90s, 20m or 2h" in line


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("20m", 1200), ("2h", 7200)]
)
def test_a_time_is_read_by_its_unit(text: str, seconds: float) -> None:
    command = ["search", "--category", "a", "--data", "d", "--time-budget", text]
    assert parser().parse_args(command).time_budget == seconds


def test_one_seed_has_no_spread(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "a spread takes 2 seeds or more" in search_refused(capsys, tmp_path, "--confirm", "1")


@pytest.mark.parametrize("option", ["--trials", "--threads", "--reports"])
def test_a_number_that_must_be_above_0_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str
) -> None:
    line = search_refused(capsys, tmp_path, option, "0")
    assert f"{option}: '0' is no whole number above 0" in line
