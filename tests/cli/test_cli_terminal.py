"""Commands on a terminal, as a person sees them; scripts get what they had."""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from registry import bundle
from tests.cli.commands import Shop, champion, move_in
from tests.cli.terminals import Screen, Session, terminal
from tests.exams import flip
from zoo.cli import main


def seen(*command: str | Path, width: int = 100) -> Screen:
    """Run a command with a terminal as its standard output."""
    screen = Screen(width)
    with terminal(width, 500) as (stream, read):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(sys, "stdout", stream)
            patched.setenv("TERM", "xterm")
            patched.delenv("NO_COLOR", raising=False)
            with suppress(SystemExit):  # a refusal, after it has shown why
                main([str(part) for part in command])
        screen.feed(read())
    return screen


def test_names_are_a_table_for_people_and_names_for_scripts(
    shop: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_STARTERS", "off")
    head, row = seen("names").text.splitlines()
    assert head.split() == ["NAME", "VERSION", "SINCE", "VAL", "AP", "SIZE", "FROM", "METHOD"]
    name, version, _, _, value, size, unit, origin, method = row.split()
    assert (name, version, unit, origin, method) == ("weave", "1", "MB", "shelf", "fcbigan")
    made = bundle.load(champion(shop.home))
    assert float(value) == pytest.approx(made.metrics["val_pixel_ap"], abs=1e-3)
    assert 0 < float(size) < 1
    main(["names"])
    assert capsys.readouterr().out == "weave\n"


def test_a_bundle_that_would_have_to_be_downloaded_has_no_size(
    stocked: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move_in(tmp_path / "home", monkeypatch)
    monkeypatch.setenv("ZOO_STARTERS", "off")
    shutil.copytree(stocked.home / "shelf", tmp_path / "home" / "shelf")
    shutil.rmtree(tmp_path / "home" / "shelf" / "objects")
    assert seen("names").text.splitlines()[1].split()[5:] == ["-", "shelf", "-"]


def test_a_card_on_a_terminal_has_titles_in_colour_and_fits(shop: Shop) -> None:
    screen = seen("show", "weave", width=60)
    lines = screen.text.splitlines()
    assert lines[0] == "The detector"
    assert all(len(line) <= 60 for line in lines)
    assert "Known limits" in lines
    assert screen.colours == {"1", "2", "0"}


def test_a_history_colours_what_was_done_and_wraps_why(shop: Shop) -> None:
    screen = seen("history", "weave", width=80)
    head, first, *more = screen.text.splitlines()
    assert head.startswith("WHEN ")
    assert "  forced  " in first
    at = head.index("REASON")
    assert more
    assert all(line[:at].strip() == "" for line in more), "wrapped under the first"
    assert "33" in screen.colours


def test_a_shelf_is_checked_in_a_table_that_names_the_damaged(
    stocked: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move_in(tmp_path / "home", monkeypatch)
    shutil.copytree(stocked.home / "shelf", tmp_path / "home" / "shelf")
    assert seen("shelf", "verify").text.splitlines()[1].split()[:2] == ["weave:1", "ok"]
    [weights] = (tmp_path / "home" / "shelf").rglob(bundle.WEIGHTS)
    flip(weights)
    screen = seen("shelf", "verify")
    assert screen.text.splitlines()[1].split()[:2] == ["weave:1", "damaged"]
    assert "1;31" in screen.colours


def test_a_verdict_is_said_in_words_and_in_colour(shop: Shop) -> None:
    screen = seen("score", "weave", *shop.images, width=200)
    verdicts = {line.split()[1] for line in screen.text.splitlines()[1:]}
    assert verdicts == {"good", "DEFECTIVE"}
    assert {"32", "1;31"} <= screen.colours


def test_a_command_in_a_window_of_its_own_obeys_no_color(shop: Shop) -> None:
    session = Session("history", "weave", env={"ZOO_HOME": str(shop.home), "NO_COLOR": "1"})
    try:
        text = session.ended()
    finally:
        session.close()
    assert session.process.returncode == 0
    assert "forced" in text
    assert not session.screen.colours
    assert not session.screen.modes
