"""Metrics of how well maps and scores separate anomalous from normal.

All metrics depend only on the order of the scores (higher is more anomalous), so a monotone
transformation has no effect. Only thresholds at anomalous scores matter: the few anomalous scores
are searched among the sorted normal ones, which avoids an argsort of all scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from zoo.errors import BadMaskError, ConfigError, DataError

PREVALENCE = 0.02  # close to the share of defective pixels in practice: 0.6 % to 7 % in MVTec AD
_PICKS = 512  # anomalous scores of each image that place the bins, for any size of its defect


def average_precision(
    scores: Float[np.ndarray, " n"],
    labels: Bool[np.ndarray, " n"],
    *,
    prevalence: float | None = None,
) -> float:
    """Return the area under the precision-recall curve, as steps; equal scores are one step.

    Average precision depends on the share of positives: the same detector has a lower value where
    defects are rarer. With `prevalence` the two classes are reweighted so that positives have this
    share of the weight. Images with large and with small defects can then be compared.

    Source: Boyd et al. 2012, "Unachievable region in precision-recall space"; without
    `prevalence` it is scikit-learn's `average_precision_score`.

    Args:
        scores: Higher is more anomalous.
        labels: True is anomalous.
        prevalence: Share of the weight of positives, in (0, 1); None keeps their own share.

    Raises:
        DataError: There is no positive, no negative, or a score that is not a number.
        ConfigError: The prevalence is not between 0 and 1.

    Example:
        >>> scores, labels = np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, False, True, False])
        >>> average_precision(scores, labels)
        0.8333333333333333
        >>> round(average_precision(scores, labels, prevalence=0.02), 3)
        0.52
    """
    positives, negatives = sorted_classes(scores, labels)
    values, first = np.unique(positives, return_index=True)
    hits = 1.0 - first / positives.size
    alarms = 1.0 - np.searchsorted(negatives, values, side="left") / negatives.size
    own = positives.size / (positives.size + negatives.size)
    return _area(hits[::-1], alarms[::-1], own if prevalence is None else prevalence)


def auroc(scores: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"]) -> float:
    """Return the probability that a positive has a higher score; equal scores count as half.

    Source: Mann and Whitney 1947.

    Raises:
        DataError: There is no positive, no negative, or a score that is not a number.

    Example:
        >>> auroc(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False]))
        0.875
    """
    positives, negatives = sorted_classes(scores, labels)
    below = np.searchsorted(negatives, positives, side="left").mean()
    not_above = np.searchsorted(negatives, positives, side="right").mean()
    return float((below + not_above) / (2 * negatives.size))


def f1(found: Bool[np.ndarray, " n"], labels: Bool[np.ndarray, " n"]) -> float:
    """Return F1 of what is called anomalous: the Dice coefficient of mask and truth.

    Raises:
        DataError: There is no positive, or no negative.

    Example:
        >>> f1(np.array([True, True, False]), np.array([True, False, True]))
        0.5
    """
    positives = int(labels.sum())
    _check_classes(positives, labels.size - positives)
    return 2 * int((found & labels).sum()) / (int(found.sum()) + positives)


def best_f1(scores: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"]) -> float:
    """Return the highest F1 of all thresholds; no detector can know the threshold.

    Raises:
        DataError: There is no positive, no negative, or a score that is not a number.

    Example:
        >>> best_f1(np.array([4.0, 3.0, 2.0]), np.array([True, False, True]))
        0.8
    """
    return float(f1_curve(scores, labels)[1].max())


def f1_curve(
    scores: Float[np.ndarray, " n"],
    labels: Bool[np.ndarray, " n"],
    *,
    prevalence: float | None = None,
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Return the distinct positive scores, ascending, and F1 if each is just above the threshold.

    No other threshold has a higher F1.

    Args:
        scores: Higher is more anomalous.
        labels: True is anomalous.
        prevalence: As for `average_precision`.

    Raises:
        DataError: There is no positive, no negative, or a score that is not a number.
    """
    positives, negatives = sorted_classes(scores, labels)
    values, first = np.unique(positives, return_index=True)
    own = positives.size / (positives.size + negatives.size)
    share = own if prevalence is None else prevalence
    weight = (1 - share) / share * positives.size / negatives.size
    true = positives.size - first
    false = weight * (negatives.size - np.searchsorted(negatives, values, side="left"))
    return values, 2 * true / (true + false + positives.size)


def aupro(
    maps: Sequence[Float[np.ndarray, "_ _"]],
    masks: Sequence[Bool[np.ndarray, "_ _"]],
    *,
    limit: float = 0.3,
) -> float:
    """Return the mean overlap with each defective region, over false positive rates up to `limit`.

    A region is a connected part of a mask, with diagonal neighbours; all regions have the same
    weight. The curve is exact: it has one point for each distinct anomalous score. A perfect map
    has 1, a random one `limit` / 2.

    Source: Bergmann et al. 2021, "The MVTec Anomaly Detection Dataset", section 5.3.

    Args:
        maps: One anomaly map for each image.
        masks: True is defective; the same size as the map. Good images have no True.
        limit: Highest false positive rate, over the normal pixels of all images, in (0, 1].

    Raises:
        DataError: No region, no normal pixel, or a score that is not a number.
        BadMaskError: A mask has another size than its map.
        ConfigError: The limit is not between 0 and 1.
    """
    if not 0 < limit <= 1:
        raise ConfigError(f"limit = {limit} is not above 0 and at most 1.")
    _check_sizes(maps, masks)
    scores = np.concatenate([m.ravel() for m in maps])
    labels = np.concatenate([mask.ravel() for mask in masks])
    _, negatives = sorted_classes(scores, labels)
    weights = np.concatenate([_region_weights(mask) for mask in masks])
    inside = scores[labels]
    order = np.argsort(inside)[::-1]
    values, first = np.unique(-inside[order], return_index=True)
    overlap = np.append(np.cumsum(weights[order])[first[1:] - 1], weights.sum()) / weights.sum()
    # At each value the rate first grows alone, by the normal pixels above the value; then together
    # with the overlap, by the normal pixels equal to it.
    above = 1.0 - np.searchsorted(negatives, -values, side="right") / negatives.size
    reached = 1.0 - np.searchsorted(negatives, -values, side="left") / negatives.size
    rates = np.append(np.stack([above, reached], axis=1).ravel(), 1.0)
    heights = np.append(np.stack([np.append(0.0, overlap[:-1]), overlap], axis=1).ravel(), 1.0)
    within = rates <= limit
    at_limit = np.interp(limit, rates, heights) if not within.all() else heights[-1]
    rates, heights = np.append(rates[within], limit), np.append(heights[within], at_limit)
    return float(np.trapezoid(heights, rates) / limit)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Histograms of the pixels by score; with them resampling of images needs no sort.

    Attributes:
        anomalous: Defective pixels of each image (row) in each bin (column), ascending in score.
        normal: The same for the good pixels.
    """

    anomalous: Int[np.ndarray, "n k"]
    normal: Int[np.ndarray, "n k"]


def count(
    maps: Sequence[Float[np.ndarray, "_ _"]],
    masks: Sequence[Bool[np.ndarray, "_ _"]],
    *,
    bins: int = 2048,
) -> Counts:
    """Count the pixels of each image in bins of the score, the same bins for all images.

    The edges are quantiles of the anomalous scores, because the precision-recall curve has its
    steps there. All images have the same weight, so that a thin defect counts like a large one.

    Args:
        maps: One anomaly map for each image.
        masks: True is defective; the same size as the map.
        bins: Highest number of bins; fewer if there are fewer distinct scores.

    Raises:
        DataError: No pixel is anomalous, none is normal, or a score is not a number.
        BadMaskError: A mask has another size than its map.
        ConfigError: Fewer than two bins.
    """
    if bins < 2:
        raise ConfigError(f"bins = {bins} is too few; use two or more.")
    _check_sizes(maps, masks)
    classes = [(np.sort(m[mask]), np.sort(m[~mask])) for m, mask in zip(maps, masks, strict=True)]
    _check_classes(sum(a.size for a, _ in classes), sum(b.size for _, b in classes))
    _check_numbers(*(part for pair in classes for part in pair))
    picks = np.sort(
        np.concatenate([_spread_out(inside, _PICKS) for inside, _ in classes if inside.size])
    )
    edges = np.unique(_spread_out(picks, bins - 1))
    anomalous, normal = (
        np.stack([_histogram(pair[index], edges) for pair in classes]) for index in (0, 1)
    )
    return Counts(anomalous=anomalous, normal=normal)


def areas(
    anomalous: Real[np.ndarray, "d k"], normal: Float[np.ndarray, "d k"], prevalence: float
) -> Float[np.ndarray, " d"]:
    """Return the average precision of pixels from many pairs of weighted histograms at once.

    Each is `average_precision` with the number of the bin as the score of each pixel. A row without
    an anomalous pixel has NaN.

    Example:
        >>> areas(np.array([[0, 1, 0, 1]]), np.array([[1.0, 0.0, 1.0, 0.0]]), 0.5).round(3).tolist()
        [0.833]
    """
    hits, alarms = (np.cumsum(each[:, ::-1], axis=1) for each in (anomalous, normal))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = hits * (prevalence / hits[:, -1:])
        false = alarms * ((1 - prevalence) / alarms[:, -1:])
        precision = found / (found + false)
        parts = np.where(anomalous[:, ::-1] > 0, anomalous[:, ::-1] * precision, 0.0)
        return np.where(hits[:, -1] > 0, parts.sum(axis=1) / hits[:, -1], np.nan)


def _area(
    hits: Float[np.ndarray, " k"], alarms: Float[np.ndarray, " k"], prevalence: float
) -> float:
    """Return the area from true and false positive rates, ascending."""
    if not 0 < prevalence < 1:
        raise ConfigError(f"prevalence = {prevalence} is not between 0 and 1.")
    found, false = prevalence * hits, (1.0 - prevalence) * alarms
    steps = np.diff(hits, prepend=0.0)
    reached = steps > 0  # elsewhere recall does not change, and precision may be 0 / 0
    return float(np.sum(steps[reached] * found[reached] / (found + false)[reached]))


def sorted_classes(
    scores: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " q"]]:
    """Return the sorted scores of the positives and of the negatives.

    Raises:
        DataError: There is no positive, no negative, or a score that is not a number.
    """
    positives, negatives = np.sort(scores[labels]), np.sort(scores[~labels])
    _check_classes(positives.size, negatives.size)
    _check_numbers(positives, negatives)
    return positives, negatives


def _check_classes(positives: int, negatives: int, where: str = "") -> None:
    if not positives or not negatives:
        raise DataError(
            f"There are {positives} anomalous and {negatives} normal scores{where}; "
            "this metric needs both."
        )


def _check_numbers(*ascending: Float[np.ndarray, " _"]) -> None:
    bad = sum(int(np.isnan(part).sum()) for part in ascending if np.isnan(part[-1:]).any())
    if bad:  # NaN sorts last, so the sum is seldom needed
        raise DataError(f"{bad} scores are not a number; the detector is damaged.")


def _check_sizes(
    maps: Sequence[Float[np.ndarray, "_ _"]], masks: Sequence[Bool[np.ndarray, "_ _"]]
) -> None:
    if not maps or len(maps) != len(masks):
        raise DataError(f"{len(maps)} maps and {len(masks)} masks; each map needs one mask.")
    for index, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        if values.shape != mask.shape:
            raise BadMaskError(
                f"Map {index} has {values.shape[0]}x{values.shape[1]} pixels and its mask "
                f"{mask.shape[0]}x{mask.shape[1]}; they must have the same size."
            )


def _region_weights(mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, " p"]:
    """Return for each defective pixel one divided by the area of its region, row by row."""
    from scipy.ndimage import label  # imported here: to load a detector does not need SciPy

    regions, _ = label(mask, structure=np.ones((3, 3), dtype=int))
    inside = regions[mask]
    return np.asarray(1.0 / np.bincount(inside, minlength=1)[inside], dtype=np.float64)


def _spread_out(ascending: Float[np.ndarray, " n"], picks: int) -> Float[np.ndarray, " {picks}"]:
    """Return values at equal steps of rank, with repetition if there are too few."""
    ranks = np.linspace(0, ascending.size - 1, picks).round().astype(np.intp)
    return np.asarray(ascending[ranks])


def _histogram(
    ascending: Float[np.ndarray, " n"], edges: Float[np.ndarray, " e"]
) -> Int[np.ndarray, " k"]:
    """Count the values below the first edge, between edges, and from the last edge up."""
    below = np.searchsorted(ascending, edges, side="left")
    return np.diff(below, prepend=0, append=ascending.size)
