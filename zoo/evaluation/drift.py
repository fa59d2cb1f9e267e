"""Whether pictures that are scored one after the other are still like those of the calibration.

Tested are the score, the share of alarms, and each statistic of the pixels that the lines and the
bundle both have. The tests may be looked at after each picture: the probability that a stream which
never changes is ever reported is at most `FALSE_REPORT`, for all quantities together. What they
find, and how fast, is in docs/experiments.md, "Drift".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy.lib.stride_tricks import sliding_window_view

from zoo.data import statistics
from zoo.detectors import Detector, calibrated
from zoo.evaluation.change_point import Watched, watch
from zoo.evaluation.stream import Stream, read
from zoo.scoring.thresholds import conformal_rank, expected_alarms, independent_images

OWN = ALARMS, SCORE = "alarms", "score"
# A smaller change does not matter to a detector, however certain it is: of the score in units of
# the threshold, of a statistic as a share of the distance at which a picture may get a warning.
LEAST_OF_SCORE, LEAST_OF_STATISTIC = 0.05, 0.5
RECENT = 10  # pictures whose median says how large a change is
FALSE_REPORT = 0.01  # probability of a report, ever, about a stream that does not change
DIGITS = 6  # of a value: lines and bundles have so many, and equal values must be equal
INTERVAL = (0.025, 0.975)
DAY_S = 86400


@dataclass(frozen=True, kw_only=True)
class Alarms:
    """How many pictures were called anomalous, and how many good ones would be.

    Attributes:
        day: The day in UTC, as 2026-11-24; None for all pictures.
        pictures: Number of pictures.
        alarms: Number of those called anomalous.
        least: With `most`, the 95 % interval of the number of alarms if all pictures were good.
        most: See `least`.
    """

    day: str | None = None
    pictures: int
    alarms: int
    least: int
    most: int


@dataclass(frozen=True, kw_only=True)
class Change:
    """Since when a quantity is different.

    Attributes:
        picture: Number of the first picture of the change, from 1, as it is estimated.
        image: Its name.
        time: When it was scored, in ISO 8601 and UTC; None if it is not known.
        told: Number of the picture with which the change was certain enough.
        direction: Where the quantity went.
    """

    picture: int
    image: str
    time: str | None
    told: int
    direction: Literal["up", "down"]


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """What was found of one quantity.

    Attributes:
        name: `alarms`, `score` or a statistic of the pixels.
        calibration: Number of independent good pictures that it is compared with; for the alarms
            one more, the next one.
        pictures: Number of scored pictures that have it.
        before: Its median in the calibration and before the change; for alarms the share.
        now: Its median since the change, or of all pictures if there is none.
        p_value: The smallest one so far. It holds at any time, and for all quantities together.
        change: None if there is none.
    """

    name: str
    calibration: int
    pictures: int
    before: float | None
    now: float
    p_value: float
    change: Change | None = None


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What was found of a stream.

    Attributes:
        detector: Name of the detector.
        total: The alarms among all pictures.
        days: Those of each day, if all times are known.
        quantities: Each quantity that was tested.
        notes: What was left out or could not be compared, as text.
    """

    detector: str
    total: Alarms
    days: tuple[Alarms, ...]
    quantities: tuple[Quantity, ...]
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> tuple[Quantity, ...]:
        """The quantities that changed, the earliest first; empty if there is no drift."""
        found = [each for each in self.quantities if each.change]
        return tuple(sorted(found, key=lambda each: each.change.told if each.change else 0))


def of(detector: Detector, places: Sequence[str | Path]) -> Drift:
    """Return whether the pictures that a detector scored are still like its calibration.

    Args:
        detector: The detector; lines of others are left out.
        places: Files with the lines of `zoo score --json`; "-" is standard input.

    Raises:
        ScoresError: A file cannot be read, a line is not one of `zoo score`, or no line is left.

    Example:
        >>> import zoo
        >>> of(zoo.load("wood"), ["wood.jsonl"]).changed  # doctest: +SKIP
        ()
    """
    return measure(detector, read(places, digest=detector.digest))


def measure(detector: Detector, stream: Stream) -> Drift:
    """Return whether the pictures of a stream are still like the calibration of a detector.

    A stream may have some defective pictures: each counts by its rank, as one picture.
    """
    known, notes = detector.bundle.threshold, stream.notes
    reference = _calibration(detector)
    if _of_regions(detector):
        reference = {name: np.array([]) for name in reference}
        notes += (
            "The detector was calibrated on regions of pictures, which are not like whole ones, so "
            "only changes within the stream are found. Recalibrate it on whole pictures.",
        )
    reference[ALARMS] = _alarms_of_calibration(known)
    common = [name for name in stream.statistics if name in reference and name not in OWN]
    values = {ALARMS: stream.alarms.astype(np.float64), SCORE: stream.scores}
    values |= {name: stream.statistics[name] for name in common}
    return Drift(
        detector=detector.name,
        total=_counted(stream.alarms, known),
        days=_by_day(stream, known),
        quantities=tuple(
            _tested(name, each, reference[name], stream, p=FALSE_REPORT / len(values))
            for name, each in values.items()
        ),
        notes=notes,
    )


def _calibration(detector: Detector) -> dict[str, Float[np.ndarray, " _"]]:
    """Return the good values of the score, in the units of lines, and of each statistic.

    Where some calibration pictures are relatives, such as crops of one photograph, there are as
    many values as independent pictures, evenly spread over the ranks.
    """
    known = detector.bundle.threshold
    as_taken = known.get("scores_as_taken") or known.get("scores", ())
    scores = [calibrated(each, detector.threshold) for each in as_taken]
    good = known.get("statistics", {})
    values = {name: good[name] for name in statistics.STATISTICS if name in good}
    return {
        name: _spread(np.array(each, np.float64), independent_images(known))
        for name, each in {**values, SCORE: scores}.items()
    }


def _spread(values: Float[np.ndarray, " n"], count: int) -> Float[np.ndarray, " _"]:
    """Return at most so many of the values, evenly spread over their ranks."""
    if len(values) <= count:
        return values
    return np.asarray(np.quantile(values, (np.arange(count) + 0.5) / count, method="nearest"))


def _of_regions(detector: Detector) -> bool:
    """Return whether pictures were so few that the calibration has regions of them."""
    data = detector.bundle.data
    return "recalibrated_on" not in data and any("@" in str(key) for key in data.get("fit", ()))


def _alarms_of_calibration(known: Mapping[str, Any]) -> Float[np.ndarray, " n"]:
    """Return 1 for each of n + 1 pictures above the threshold that n pictures set, else 0.

    So many of n + 1 are expected. Without a rank it is one: the test is then less sensitive.
    """
    images = independent_images(known)
    above = max(1, images + 1 - conformal_rank(images, float(known["false_alarm_rate"])))
    return np.repeat([0.0, 1.0], [images + 1 - above, above])


def _mattered(
    values: Float[np.ndarray, " t"], found: Watched, before: float | None, name: str
) -> int | None:
    """Return the first place at which a change is both certain and large enough to matter.

    How large it is, the median of the last pictures says: `RECENT` of them, or as many as it took
    to be certain.
    """
    if found.told is None or found.since is None or name == ALARMS or before is None:
        return found.told
    width = min(RECENT, found.told - found.since + 1)
    recent = np.median(sliding_window_view(values[found.told - width + 1 :], width), axis=1)
    if name == SCORE:
        moved = (recent - before) / LEAST_OF_SCORE
    else:
        moved = statistics.distance(name, recent, before) / LEAST_OF_STATISTIC
    large = np.flatnonzero(moved >= 1 if found.rose else moved <= -1)
    return found.told + int(large[0]) if len(large) else None


def _tested(
    name: str,
    values: Float[np.ndarray, " t"],
    reference: Float[np.ndarray, " n"],
    stream: Stream,
    *,
    p: float,
) -> Quantity:
    """Test one quantity, on the pictures that have it."""
    places = np.flatnonzero(~np.isnan(values))
    values, reference = np.round(values[places], DIGITS), np.round(reference, DIGITS)
    middle = np.mean if name == ALARMS else np.median
    found = watch(values, reference, p=p, rises_only=name == ALARMS)
    since = found.since or 0
    earlier = np.concatenate([reference, values[:since]])
    before = float(middle(earlier)) if len(earlier) else None
    told, change = _mattered(values, found, before, name), None
    if told is not None:
        first = int(places[since])
        change = Change(
            picture=first + 1,
            image=stream.images[first],
            time=_shown(stream.times[first]),
            told=int(places[told]) + 1,
            direction="up" if found.rose else "down",
        )
    return Quantity(
        name=name,
        calibration=len(reference),
        pictures=len(values),
        before=before,
        now=float(middle(values[since:])),
        p_value=min(1.0, found.p_value * FALSE_REPORT / p),
        change=change,
    )


def _counted(
    alarms: Bool[np.ndarray, " n"], known: Mapping[str, Any], day: str | None = None
) -> Alarms:
    expected = expected_alarms(
        len(alarms),
        images=independent_images(known),
        false_alarm_rate=float(known["false_alarm_rate"]),
    )
    least, most = expected.ppf(INTERVAL)
    return Alarms(
        day=day, pictures=len(alarms), alarms=int(alarms.sum()), least=int(least), most=int(most)
    )


def _by_day(stream: Stream, known: Mapping[str, Any]) -> tuple[Alarms, ...]:
    """Return the alarms of each day, if all times are known."""
    if np.isnan(stream.times).any():
        return ()
    days = np.floor(stream.times / DAY_S)
    return tuple(
        _counted(stream.alarms[days == day], known, (_shown(day * DAY_S) or "")[:10])
        for day in np.unique(days)
    )


def _shown(time: float) -> str | None:
    return None if math.isnan(time) else datetime.fromtimestamp(time, UTC).isoformat()


def advice(found: Drift) -> list[str]:
    """Return in words what changed since when, and what to do; one line if nothing did."""
    if not found.changed:
        return [f"No drift in {found.total.pictures} pictures."]
    lines = [_said(each, each.change) for each in found.changed if each.change]
    return [
        *lines,
        f"If good material looks like this now: `zoo recalibrate {found.detector} --good DIR` with "
        "good pictures taken since then. After a repair, write the scores to a new file.",
    ]


def _said(quantity: Quantity, change: Change) -> str:
    since = f"picture {change.picture} ({change.image}{', ' if change.time else ''}"
    since += f"{change.time or ''}), told at picture {change.told}"
    went = "higher" if change.direction == "up" else "lower"
    if quantity.name == ALARMS:
        return (
            f"The share of pictures called anomalous is {went} since {since}: "
            f"{quantity.now:.0%} instead of {quantity.before or 0:.1%}. Look at some of them: are "
            "they defective?"
        )
    if quantity.name == SCORE:
        cause = "The material, the camera or the light"
    else:
        cause = statistics.cause(quantity.name)
    before = "" if quantity.before is None else f" instead of {quantity.before:.4g}"
    return (
        f"The {quantity.name} of the pictures is {went} since {since}: {quantity.now:.4g}{before}. "
        f"{cause} differs."
    )
