"""The floor of a search, and what joins it.

The floor is the sum of the methods that learn nothing, as calibrated log tails; it takes a minute
and nobody chose it. Another detector is added to it, or replaces it, only where the objective says
so beyond chance, once for the map and once for the score of a picture. It may be trained, or a
method that learns from good pictures only and that is not in the floor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from torch import Tensor

from registry.bundle import Bundle
from zoo import methods
from zoo.detectors import fuse
from zoo.errors import ConfigError, one_line
from zoo.scoring import metrics, objective
from zoo.scoring.fusion import Fusion, Tail, added, fit_tail, log_tail
from zoo.scoring.maps import image_score
from zoo.scoring.objective import BINS, WIN_SHARE, Paired
from zoo.scoring.thresholds import Rates
from zoo.training.data import RATES, TrainingData, validation_figures
from zoo.training.fit import THIN, limits, train_best, with_limits
from zoo.training.provenance import provenance, versions
from zoo.training.settings import Settings

SMALLEST = 96  # pixels; a smaller picture shows too little of a texture
MEGAPIXELS = 64.0  # of all good pictures, at the larger of two scales; about two minutes
HEDGED = 0.9  # of the best objective: what a sum with parts that learn nothing must reach

Maps = Sequence[Float[Tensor, "_ _"]]
Weights = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A detector that may be a part of a sum, and its log tails.

    Attributes:
        bundle: The detector.
        tail: How rare its values are among the calibration pictures.
        good: The log tails of the calibration pictures.
        windows: The log tails of the validation windows.
    """

    bundle: Bundle
    tail: Tail
    good: Maps
    windows: Maps

    @property
    def trained(self) -> bool:
        """Whether it learned more than good pictures show."""
        return not methods.named(self.bundle.method).untrained

    @property
    def in_floor(self) -> bool:
        """Whether it is a part of the floor."""
        return not self.trained and methods.named(self.bundle.method).in_floor

    @property
    def name(self) -> str:
        """Its method and its scale."""
        return f"{self.bundle.method}@{self.bundle.preprocessing['scale']:g}"


def part_of(bundle: Bundle, data: TrainingData, *, rates: Rates = RATES) -> Part:
    """Measure a detector on good pictures, which set its thresholds, and on *val*."""
    complete, good, windows = with_limits(bundle, data, rates=rates)
    tail = fit_tail(good)
    return Part(
        bundle=complete,
        tail=tail,
        good=[log_tail(each, tail) for each in good],
        windows=[log_tail(each, tail) for each in windows],
    )


def untrained(data: TrainingData, *, say: Callable[[str], None]) -> list[Bundle]:
    """Fit every method that learns nothing, at two scales if the pictures are large enough.

    One that cannot be fitted here is reported to `say`. `part_of` completes them: it sets their
    limits on good pictures that no training has seen.

    Raises:
        BadImageError: A picture is too small for one of them.
    """
    found, used = [], scales(data)
    for name in methods.names():
        cls = methods.named(name)
        if not cls.untrained:
            continue
        try:
            for scale in used:
                wanted = Settings(method=cls(), scale=scale)
                found.append(train_best(data, wanted, seed=0))
        except ConfigError as error:
            say(f"Without {name}: {one_line(error)}")
    return found


def scales(data: TrainingData) -> tuple[float, ...]:
    """Return the scales of the methods that learn nothing: a second one sees larger defects.

    The first is the largest at which all good pictures together have at most `MEGAPIXELS`, the
    second is half of it; a scale is left out at which a tenth of the pictures has a side under
    `SMALLEST`.
    """
    splits = data.splits
    sizes = [each.pixels.shape for each in (*splits.fit, *splits.val, *splits.calibration)]
    side = float(np.quantile([min(height, width) for height, width, _ in sizes], 0.1))
    megapixels = sum(height * width for height, width, _ in sizes) / 1e6
    scale = 1.0
    while megapixels * scale**2 > MEGAPIXELS and side * scale / 2 >= SMALLEST:
        scale /= 2
    return (scale, scale / 2) if side * scale / 2 >= SMALLEST else (scale,)


@dataclass(frozen=True, kw_only=True)
class Sum:
    """A sum of parts with its objective on the validation windows.

    Attributes:
        parts: The parts that may have a weight.
        weights: The weight of each.
        data: Its windows are used.
    """

    parts: Sequence[Part]
    weights: Weights
    data: TrainingData

    @cached_property
    def windows(self) -> Maps:
        """The sum on each validation window."""
        return [
            added(each, self.weights) for each in zip(*(p.windows for p in self.parts), strict=True)
        ]

    @cached_property
    def counts(self) -> metrics.Counts:
        """The pixels of all windows by value."""
        return metrics.count(
            [each[::THIN, ::THIN].numpy() for each in self.windows],
            [window.mask[::THIN, ::THIN] for window in self.data.validation],
            bins=BINS,
        )

    def scores(self, top_fraction: float) -> Float[np.ndarray, " n"]:
        """The score of each window."""
        return np.array([float(image_score(each, top_fraction)) for each in self.windows])


def choose(parts: Sequence[Part], data: TrainingData, *, top_fraction: float = 0.01) -> Fusion:
    """Return the sum for the map and the sum for the score.

    The candidates are the floor, each part alone, each method that learns nothing at all its
    scales, and sums of one of these with a part that is trained or not in the floor. One of them
    holds if the best does not beat it in `WIN_SHARE` of the bootstrap draws. The floor is taken if
    it holds; if not, the best sum of trained and untrained parts, if it holds or its map has at
    least `HEDGED` of the best objective; if not, the best one. Validation is painted like training,
    and what learned nothing does not know that paint: so it is worth more than validation says.

    Args:
        parts: At least one. Without one that learns nothing, the floor is the sum of all.
        data: The texture.
        top_fraction: Share of the pixels whose mean is the score.
    """
    strata = [window.strata for window in data.validation]
    sums = [Sum(parts=parts, weights=each, data=data) for each in _candidates(parts)]
    counts = [each.counts for each in sums]
    figures = [
        objective.of_map(objective.stratum_average_precision(each, strata)) for each in counts
    ]
    map_ = _preferred(
        parts,
        sums,
        figures,
        lambda best, other: objective.paired_maps(counts[best], counts[other], strata),
        enough=HEDGED,
    )
    scores = [each.scores(top_fraction) for each in sums]
    ranked = [objective.image_auroc(each, strata) or 0.0 for each in scores]
    score = _preferred(
        parts,
        sums,
        ranked,
        lambda best, other: objective.paired_scores(scores[best], scores[other], strata),
    )
    return Fusion(
        tails=tuple(part.tail for part in parts),
        map_weights=map_.weights,
        score_weights=score.weights,
        top_fraction=top_fraction,
    )


def _preferred(
    parts: Sequence[Part],
    sums: Sequence[Sum],
    figures: Sequence[float],
    compare: Callable[[int, int], Paired | None],
    *,
    enough: float = 1.0,
) -> Sum:
    """Return the sum to take: the floor, a sum of both kinds of parts, or the best, in this order.

    Args:
        parts: The parts of all sums.
        sums: The candidates, the floor first. Those with an untrained method that is not in the
            floor are left out unless one of them is better beyond chance than all others.
        figures: The objective of each.
        compare: Compares two candidates by their places; None if there is nothing to compare.
        enough: Share of the best figure with which a sum of both kinds holds in any case.
    """
    trained = np.array([part.trained for part in parts])

    def mixed(each: Sum) -> bool:
        used = np.array(each.weights) > 0
        return bool((used & trained).any() and (used & ~trained).any())

    best = int(np.argmax(figures))

    def holds(place: int) -> bool:
        found = compare(best, place) if place != best else None
        return found is None or found.win_share < WIN_SHARE

    if holds(0):
        return sums[0]
    beside = np.array([not part.trained and not part.in_floor for part in parts])
    places = list(range(len(sums)))
    without = [place for place in places if not np.array(sums[place].weights) @ beside]
    simpler = max(without, key=lambda place: figures[place], default=best)
    if holds(simpler):
        best, places = simpler, without or places
    both = [place for place in places if mixed(sums[place])]
    if both:
        hedged = max(both, key=lambda place: figures[place])
        if figures[hedged] >= enough * figures[best] or holds(hedged):
            return sums[hedged]
    return sums[best]


def made(
    parts: Sequence[Part],
    fusion: Fusion,
    data: TrainingData,
    *,
    rates: Rates = RATES,
) -> Bundle:
    """Return the detector of a sum: its threshold, and its figures on *val*.

    Parts without a weight are left out.
    """
    kept = [place for place, used in enumerate(fusion.used) if used]
    parts = [parts[place] for place in kept]
    fusion = Fusion(
        tails=tuple(fusion.tails[place] for place in kept),
        map_weights=tuple(fusion.map_weights[place] for place in kept),
        score_weights=tuple(fusion.score_weights[place] for place in kept),
        top_fraction=fusion.top_fraction,
    )
    sums = [
        [added(each, weights) for each in zip(*(part.good for part in parts), strict=True)]
        for weights in (fusion.map_weights, fusion.score_weights)
    ]
    scores = [float(image_score(each, fusion.top_fraction)) for each in sums[1]]
    found = Sum(parts=parts, weights=fusion.map_weights, data=data)
    figures = validation_figures(
        [each.numpy() for each in found.windows], data.validation, fusion.top_fraction
    )
    ranked = objective.image_auroc(
        Sum(parts=parts, weights=fusion.score_weights, data=data).scores(fusion.top_fraction),
        [window.strata for window in data.validation],
    )
    if ranked is not None:
        figures["val_image_auroc"] = ranked
    return fuse(
        [part.bundle for part in parts],
        fusion,
        texture=data.texture,
        threshold=limits(scores, sums[0], found.windows, data, rates=rates),
        metrics=figures,
        data=provenance(data),
        made_by=versions(),
    )


def window_maps_of(
    parts: Sequence[Part], data: TrainingData
) -> dict[str, list[Float[np.ndarray, "_ _"]]]:
    """Return the maps of the validation windows of the floor and of each part that learns nothing.

    The values of a map are log tails; pixels have the same order as in the map of the detector.
    """
    known = [part for part in parts if not part.trained]
    sums = Sum(parts=known, weights=_floor_weights(known), data=data)
    found = {"the sum of all methods that learn nothing": [each.numpy() for each in sums.windows]}
    for part in known:
        found[f"{part.name}, which learns nothing"] = [x.numpy() for x in part.windows]
    return found


def floor(parts: Sequence[Part]) -> Fusion:
    """Return the sum of all parts of the floor, each with weight 1."""
    weights = _floor_weights(parts)
    return Fusion(
        tails=tuple(part.tail for part in parts), map_weights=weights, score_weights=weights
    )


def _floor_weights(parts: Sequence[Part]) -> Weights:
    """Return weight 1 for each part of the floor; for all parts if there is none."""
    known = [float(part.in_floor) for part in parts]
    return tuple(known) if any(known) else (1.0,) * len(parts)


def _candidates(parts: Sequence[Part]) -> list[Weights]:
    """Return the weights of all sums that are compared, the floor first."""
    rows = np.eye(len(parts))
    base = np.array(_floor_weights(parts))
    untrained = [row for row, part in zip(rows, parts, strict=True) if not part.trained]
    trained = [row for row, part in zip(rows, parts, strict=True) if part.trained]
    joining = [row for row, part in zip(rows, parts, strict=True) if not part.in_floor]
    names = [part.bundle.method for part in parts]
    for name in dict.fromkeys(part.bundle.method for part in parts if not part.trained):
        untrained.append(np.array([float(each == name) for each in names]))  # at all its scales
    found = [base, *rows, *untrained]
    for row in joining:
        found += [base + row, *(row + other for other in untrained if not row @ other)]
    if len(trained) > 1:
        found += [sum(trained), base + sum(trained)]
    return list(dict.fromkeys(tuple(map(float, each)) for each in found))
