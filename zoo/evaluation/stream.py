"""The lines that `zoo score` writes, read back as arrays."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from zoo.errors import ScoresError
from zoo.files import check_regular

STDIN = "-"
MOST_BYTES = 2**36  # of a file; its lines are read one by one
LONGEST = 2**26  # bytes of a line; one with the contours of a thousand regions has a few megabytes


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Scored pictures, in their order.

    Attributes:
        images: Their names.
        scores: 1 is the threshold.
        alarms: Which were called anomalous.
        times: When they were scored, in seconds since 1970; NaN where it is not known.
        statistics: Statistics of the pixels, by name; NaN where a picture has none.
        notes: What was left out or changed, as text.
    """

    images: Sequence[str]
    scores: Float[np.ndarray, " n"]
    alarms: Bool[np.ndarray, " n"]
    times: Float[np.ndarray, " n"]
    statistics: Mapping[str, Float[np.ndarray, " n"]]
    notes: tuple[str, ...] = ()


def read(places: Sequence[str | Path], *, digest: str | None = None) -> Stream:
    """Read the lines of `zoo score --json`, one after the other.

    Scores of different detectors, or of two versions of one, cannot be compared. So lines of
    others are left out, and a note says how many. A line that names no detector counts as its own.
    If every line has a time, the lines are sorted by it; a time without a zone is UTC.

    Args:
        places: Files, in the order of their pictures; "-" is standard input.
        digest: That of the detector whose lines are meant; None takes all lines.

    Raises:
        ScoresError: A file cannot be read, a line is not one of `zoo score`, or no line is left.
    """
    images: list[str] = []
    rows: list[tuple[float, bool, float]] = []
    statistics: dict[str, dict[int, float]] = {}
    others: Counter[str] = Counter()
    for where, line in _lines(places):
        known = _parsed(where, line)
        if digest and known.get("digest", digest) != digest:
            others[str(known.get("detector", "another detector"))] += 1
            continue
        for name, value in _statistics(where, known).items():
            statistics.setdefault(name, {})[len(rows)] = value
        rows.append((_number(where, known, "score"), _alarm(where, known), _time(where, known)))
        images.append(str(known.get("image", where)))
    left_out = ", ".join(f"{count} of {name}" for name, count in others.items())
    if not rows:
        found = f"only lines of others ({left_out})" if others else "no line"
        raise ScoresError(
            f"Scores of the detector are expected in {', '.join(map(str, places))}, and there is "
            f"{found}. Score pictures with it: `zoo score NAME DIR --json`."
        )
    scores, alarms, times = zip(*rows, strict=True)
    return _in_order(
        Stream(
            images=images,
            scores=np.array(scores),
            alarms=np.array(alarms, np.bool_),
            times=np.array(times),
            statistics={name: _filled(each, len(rows)) for name, each in statistics.items()},
            notes=(f"Lines of other detectors or versions are left out: {left_out}.",)
            if others
            else (),
        )
    )


def _in_order(stream: Stream) -> Stream:
    """Sort by time if all times are known."""
    steps = np.diff(stream.times)
    if np.isnan(stream.times).any() or (steps >= 0).all():
        return stream
    order = np.argsort(stream.times, kind="stable")
    note = f"Times go backwards in {int((steps < 0).sum())} places; the lines are sorted by time."
    return replace(
        stream,
        images=[stream.images[at] for at in order],
        scores=stream.scores[order],
        alarms=stream.alarms[order],
        times=stream.times[order],
        statistics={name: each[order] for name, each in stream.statistics.items()},
        notes=(*stream.notes, note),
    )


def _filled(known: Mapping[int, float], count: int) -> Float[np.ndarray, " {count}"]:
    values = np.full(count, np.nan)
    values[list(known)] = list(known.values())
    return values


def _lines(places: Sequence[str | Path]) -> Iterator[tuple[str, bytes]]:
    """Yield each line that is not blank, and where it is."""
    for place in places:
        name = "standard input" if place == STDIN else str(place)
        try:
            if place != STDIN:
                check_regular(Path(place), most=MOST_BYTES)
            with ExitStack() as stack:
                file = (
                    sys.stdin.buffer
                    if place == STDIN
                    else stack.enter_context(Path(place).open("rb"))
                )
                for number, line in enumerate(iter(partial(file.readline, LONGEST), b""), 1):
                    if line.strip():
                        yield f"{name}, line {number}", line
        except OSError as error:
            raise ScoresError(
                f"The scores in {name} cannot be read: {error.strerror}. Give files that "
                f"`zoo score NAME DIR --json` wrote; {STDIN} is standard input, for a pipe."
            ) from error


def _parsed(where: str, line: bytes) -> dict[str, Any]:
    try:
        known = json.loads(line)
    except (ValueError, RecursionError):
        known = None
    if not isinstance(known, dict):
        found = line[:40].decode(errors="replace").strip()
        raise ScoresError(
            f"{where}: a JSON object is expected, and there is '{found}'. Give what "
            "`zoo score NAME DIR --json` prints; its table and the file of --csv have less."
        )
    return known


def _wrong(where: str, name: str, value: object, expected: str) -> ScoresError:
    return ScoresError(
        f"{where}: '{name}' must be {expected}, not {value!r:.40}. Give lines as "
        "`zoo score NAME DIR --json` prints them."
    )


def _number(where: str, known: Mapping[str, Any], name: str) -> float:
    value = known.get(name)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not abs(value) < sys.float_info.max  # NaN, infinity, and a whole number of 400 digits
    ):
        raise _wrong(where, name, value, "a finite number")
    return float(value)


def _alarm(where: str, known: Mapping[str, Any]) -> bool:
    value = known.get("is_anomalous")
    if not isinstance(value, bool):
        raise _wrong(where, "is_anomalous", value, "true or false")
    return value


def _time(where: str, known: Mapping[str, Any]) -> float:
    """Return seconds since 1970, or NaN if the line has no time."""
    value = known.get("time")
    if value is None:
        return math.nan
    try:
        found = datetime.fromisoformat(value)
        found = found if found.tzinfo else found.replace(tzinfo=UTC)
        return found.astimezone(UTC).timestamp()
    except (TypeError, ValueError, OverflowError) as error:
        raise _wrong(where, "time", value, "a time as 2026-11-24T12:00:00Z") from error


def _statistics(where: str, known: Mapping[str, Any]) -> dict[str, float]:
    values = known.get("statistics", {})
    if not isinstance(values, dict):
        raise _wrong(where, "statistics", values, "an object of numbers")
    return {name: _number(where, values, name) for name in values}
