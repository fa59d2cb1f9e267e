"""The floor of a search, and what joins it.

The floor is a sum of methods that learn nothing, as calibrated log tails, and takes a minute or
two. A trained detector is added to it, or replaces it, only where the objective says so beyond
chance, once for the map and once for the score of a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from registry.bundle import Bundle
from zoo import methods
from zoo.detectors import fuse
from zoo.errors import ConfigError, one_line
from zoo.scoring import objective
from zoo.scoring.fusion import Fusion, Tail, added, fit_tail, log_tail
from zoo.scoring.maps import TOP, image_score
from zoo.scoring.objective import BINS, WIN_SHARE
from zoo.scoring.thresholds import Rates
from zoo.training.data import RATES, TrainingData, validation_figures
from zoo.training.fit import limits, train_best, window_counts, with_limits
from zoo.training.provenance import provenance, versions
from zoo.training.settings import Settings

SMALLEST = 96  # pixels; a smaller picture shows too little of a texture
MEGAPIXELS = 64.0  # of all good pictures, at the larger of two scales; about two minutes
WORTH = 0.1  # of the objective of a sum: what the whole floor in it is worth beyond that
SHARES = (0.0, 0.25, 0.5, 1.0)  # of the floor in a sum with what is trained
TOPS = (TOP, 1e-6, 0.001, 0.003, 0.03, 0.1)  # shares for the score; the second is the maximum

Maps = Sequence[Float[Tensor, "_ _"]]
Weights = tuple[float, ...]
_Kind = TypeVar("_Kind")


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
    def features(self) -> str:
        """What it compares; the name of its method if no other method compares the same."""
        return methods.named(self.bundle.method).features or self.bundle.method

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
    def judged(self) -> objective.Judged:
        """The map of all windows, as it is compared with others."""
        counts = window_counts([each.numpy() for each in self.windows], self.data, bins=BINS)
        return objective.Judged(counts=counts, strata=self.data.strata)

    @property
    def objective(self) -> float:
        """The objective of the map."""
        return self.judged.objective

    def scores(self, top_fraction: float) -> Float[np.ndarray, " n"]:
        """The score of each window."""
        return np.array([float(image_score(each, top_fraction)) for each in self.windows])


def choose(parts: Sequence[Part], data: TrainingData) -> Fusion:
    """Return the sum for the map, the sum for the score, and of which pixels the score is the mean.

    The candidates are the floor, each part alone, the mean of all trained parts, and one of these
    trained ones with the floor, half of it or a quarter.

    For the map, the floor is taken if the best of them does not beat it in `WIN_SHARE` of the
    bootstrap draws. If not, and a trained part is in the best one, the sum of a trained part and a
    share of the floor is taken whose objective, times 1 + `WORTH` * share, is highest. If not, the
    best one. Validation is painted like training, and what learned nothing does not know that
    paint: so it is worth more than validation says.

    The score has the sum of the map and is the mean of `TOP` of its pixels, the highest, if that
    holds against the sum, and then against the one of `TOPS`, that ranks pictures best.

    Args:
        parts: At least one. Without one that learns nothing, the floor is the mean of all.
        data: The texture.
    """
    rows = np.eye(len(parts))
    alone = {each: Sum(parts=parts, weights=each, data=data) for each in map(_weights, rows)}
    base = _floor_weights(parts, [each.objective for each in alone.values()])
    trained = rows[[part.trained for part in parts]]
    if len(trained) > 1:
        trained = np.vstack([trained, trained.mean(axis=0)])
    shares = {_weights(row + share * np.array(base)): share for share in SHARES for row in trained}
    sums = {
        each: alone.get(each) or Sum(parts=parts, weights=each, data=data)
        for each in (base, *alone, *shares)
    }
    map_ = _preferred(sums, shares)
    score = _ranking({each: sums[each].scores(TOP) for each in sums}, map_, data)
    return Fusion(
        tails=tuple(part.tail for part in parts),
        map_weights=map_,
        score_weights=score,
        top_fraction=_ranking({top: sums[score].scores(top) for top in TOPS}, TOP, data),
    )


def _ranking(
    scores: Mapping[_Kind, Float[np.ndarray, " n"]], usual: _Kind, data: TrainingData
) -> _Kind:
    """Return what ranks pictures best, if validation is sure of it; else what is usual."""
    ranked = {each: objective.image_auroc(scores[each], data.strata) or 0.0 for each in scores}
    best = max(ranked, key=lambda each: ranked[each])
    found = objective.paired_scores(scores[best], scores[usual], data.strata)
    return best if found is not None and found.win_share >= WIN_SHARE else usual


def _weights(row: Float[np.ndarray, " n"]) -> Weights:
    return tuple(map(float, row))


def _preferred(sums: Mapping[Weights, Sum], shares: Mapping[Weights, float]) -> Weights:
    """Return the weights to take.

    Args:
        sums: The candidates, the floor first.
        shares: Of those with a trained part, the share of the floor in each.
    """
    base, best = next(iter(sums)), max(sums, key=lambda each: sums[each].objective)
    if (
        best == base
        or objective.paired_maps(sums[best].judged, sums[base].judged).win_share < WIN_SHARE
    ):
        return base
    if best not in shares:
        return best
    return max(shares, key=lambda each: sums[each].objective * (1 + WORTH * shares[each]))


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
        data.strata,
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
    sums = Sum(parts=known, weights=floor(known, data).map_weights, data=data)
    found = {
        "the sum of the best methods that learn nothing": [each.numpy() for each in sums.windows]
    }
    for part in known:
        found[f"{part.name}, which learns nothing"] = [x.numpy() for x in part.windows]
    return found


def floor(parts: Sequence[Part], data: TrainingData) -> Fusion:
    """Return the sum of what learns nothing.

    Of parts that compare the same features the best one is in it, so that none counts twice. The
    weight of each is its share of their objectives. Without any such part all have the same weight.
    """
    own = [Sum(parts=[part], weights=(1.0,), data=data).objective for part in parts]
    weights = _floor_weights(parts, own)
    return Fusion(
        tails=tuple(part.tail for part in parts), map_weights=weights, score_weights=weights
    )


def _floor_weights(parts: Sequence[Part], own: Sequence[float]) -> Weights:
    """Return the weights of the floor; `own` is the objective of each part alone."""
    kept: dict[str, int] = {}
    for at in sorted(range(len(parts)), key=lambda at: -own[at]):
        if not parts[at].trained:
            kept.setdefault(parts[at].features, at)
    row = np.zeros(len(parts))
    for at in kept.values():
        row[at] = max(own[at], 1e-6)
    return _weights(row / row.sum() if kept else np.full(len(parts), 1 / len(parts)))
