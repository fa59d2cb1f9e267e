"""Dates, sizes and durations as people read them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo import words
from zoo.errors import BundleError, UnknownDetectorError, ZooError, visible


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine in another time zone than UTC."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
def test_a_time_is_the_local_date_with_its_zone_where_that_matters() -> None:
    assert words.date(1_795_871_006.3) == "2026-11-28 14:03"
    assert words.date(1_795_871_006.3, zone=True) == "2026-11-28 14:03 CET"
    assert words.date(1_780_000_000.0, zone=True) == "2026-05-28 22:26 CEST"


@pytest.mark.parametrize("when", [math.nan, math.inf, -1.0, 2.0**40])
def test_what_is_no_time_is_a_dash(when: float) -> None:
    assert words.date(when) == "-"


def test_the_time_of_another_day_has_its_date() -> None:
    now = time.time()
    assert len(words.time_of_day(now)) == len("17:05")
    assert len(words.time_of_day(now + 2 * 86_400)) == len("2026-11-28 17:05")


@given(st.floats())
def test_every_number_is_a_duration_a_size_and_a_share(number: float) -> None:
    for shown in (words.duration(number), words.percent(number), words.megabytes(number)):
        assert shown


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_a_duration_says_about_how_long(seconds: int, other: int) -> None:
    def read(text: str) -> float:
        units = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
        parts = text.split()
        return sum(float(n) * units[u] for n, u in zip(parts[::2], parts[1::2], strict=True))

    for each in (seconds, other):
        said = read(words.duration(float(each)))
        assert abs(said - each) <= max(0.06 * each, 0.5), words.duration(float(each))


@given(st.text(), st.integers(5, 50))
def test_a_text_of_others_is_one_line_that_is_short_enough(text: str, most: int) -> None:
    shown = words.shortened(text, most)
    assert len(shown) <= most
    assert visible(shown) == shown
    assert "\n" not in shown
    shown.encode()


@pytest.mark.parametrize("kind", [ZooError, BundleError, UnknownDetectorError])
def test_an_error_is_one_line_without_control_characters_whatever_it_quotes(
    kind: type[ZooError],
) -> None:
    name = "a\x1b[2J\nPromoted\r\x9b\u202e\udcff  é"
    shown = r"a\x1b[2J\nPromoted\r\x9b\u202e\udcff  é"
    assert str(kind(f"There is no '{name}'.")) == f"There is no '{shown}'."
