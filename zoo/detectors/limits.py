"""What a bundle says is normal: of the score of a picture, of pixels, regions and statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from zoo.data.statistics import STATISTICS, Usual, usual_of
from zoo.scoring.thresholds import false_alarm_interval, independent_images, weights_of

# Within these limits the numbers of a card, and a map divided by the threshold, fit in float32.
LARGEST, SMALLEST, BEYOND = 1e12, 1e-20, 1e18
LARGEST_AREA = 10**9  # pixels of the smallest region; more than any picture has
MOST_GOOD = 10_000  # values of good pictures; ours have sixty
_LISTS = ("scores", "groups", "scores_as_taken", "statistics")  # too long to be shown


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is normal, in units of the rule or of the fusion; checked.

    Attributes:
        picture: A score above it is anomalous.
        look_again: A score above it calls for a second look; `picture` if there is no such band.
        pixel: A value of the map above it is anomalous.
        share_of_peak: An anomalous pixel has this share of the highest value near it; 0 for all.
        smallest_region: Pixels of a region; good pictures rarely have one of so many.
        good_scores: Scores of good pictures if `picture` was set by rank.
        good_weights: The weight of each of them: relatives share one.
        statistics: Those of the good pictures, ascending, by name; empty in older bundles.
    """

    picture: float
    look_again: float
    pixel: float
    share_of_peak: float = 0.0
    smallest_region: int = 1
    good_scores: tuple[float, ...] = ()
    good_weights: tuple[float, ...] = ()
    statistics: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @cached_property
    def usual(self) -> dict[str, Usual]:
        """What is usual of the statistics of a picture."""
        return usual_of(self.statistics)


def read(known: Mapping[str, Any]) -> Limits:
    """Read the limits of a bundle.

    Raises:
        ValueError: A value is not allowed; so are `LookupError` and `TypeError`.
    """
    value = _limit(known["value"])
    lower = known.get("look_again_value")
    scores, weights = _good(known)
    return Limits(
        picture=value,
        look_again=value if lower is None else min(_limit(lower), value),
        pixel=_limit(known.get("map_value", value)),
        share_of_peak=_share(known.get("share_of_peak", 0.0)),
        smallest_region=_whole(known, "smallest_region", LARGEST_AREA),
        good_scores=scores,
        good_weights=weights,
        statistics=_statistics(known),
    )


def shown(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits for the card, without the long lists.

    Returns:
        `threshold`, with the 95 % interval of the true rate of false alarms, and `statistics` in
        words.
    """
    threshold = {name: each for name, each in known.items() if name not in _LISTS}
    images = independent_images(known)
    if images > 1:
        interval = false_alarm_interval(images, known["false_alarm_rate"])
        threshold["false_alarm_interval"] = [round(end, 4) for end in interval]
    usual = usual_of(_statistics(known))
    return {"threshold": threshold, "statistics": {name: str(each) for name, each in usual.items()}}


def _good(known: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the scores of good pictures and their weights; p-values need a threshold by rank."""
    scores = known.get("scores", ())
    groups = (scores and known.get("groups")) or range(len(scores))
    counts = [_whole(known, name, MOST_GOOD) for name in ("images", "independent")]
    check_numbers(*counts, *scores, *groups, *known.get("scores_as_taken", ()))
    if len(scores) > MOST_GOOD or len(groups) != len(scores):
        raise ValueError(f"it has {len(scores)} scores of good pictures, and {len(groups)} groups")
    if str(known["rule"]) != "conformal":
        return (), ()
    return tuple(scores), tuple(weights_of(list(groups)).tolist())


def _statistics(known: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """Return the values of each statistic that this version knows; older bundles have none."""
    card = dict(known.get("statistics", {}))
    found = {name: card[name] for name in STATISTICS if name in card}
    for name, values in found.items():
        if not isinstance(values, list | tuple) or not 0 < len(values) <= MOST_GOOD:
            raise ValueError(f"the statistic {name} is no list of 1 to {MOST_GOOD} values")
        check_numbers(*values)
    return {name: tuple(sorted(map(float, values))) for name, values in found.items()}


def _limit(value: Any) -> float:
    check_numbers(value)
    if 0 < abs(value) < SMALLEST:
        raise ValueError(f"the threshold is {value!r}")
    return float(value)


def _share(value: Any) -> float:
    check_numbers(value)
    if not 0 <= value <= 1:
        raise ValueError(f"share_of_peak is {value!r:.40}")
    return float(value)


def _whole(known: Mapping[str, Any], name: str, most: int) -> int:
    value = known.get(name, 1)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ValueError(f"{name} is {value!r:.40}")
    return value


def check_numbers(*values: Any) -> None:
    """Refuse values that are not numbers, or are too large."""
    for value in values:
        if not isinstance(value, int | float) or not abs(value) <= LARGEST:
            raise ValueError(f"{value!r:.40} is not a number that a card can have")
