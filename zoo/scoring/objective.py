"""The objective of a search: how well maps find the defects of every stratum, without false alarms.

A stratum is a group of defects of one family, one size or one contrast. Each has its own average
precision, so that no kind of defect is lost in a mean over all pixels. Two detectors are compared
by a paired bootstrap over the windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from zoo.errors import DataError
from zoo.scoring.metrics import PREVALENCE, Counts, areas, auroc

OTHERS = 0.5  # weight of the windows without a defect among the normal pixels
DRAWS = 400  # of the bootstrap
WIN_SHARE = 0.9  # of the draws that a choice by *val* needs
TIE = 1e-4  # smaller differences win no draw: they may be rounding, and are worth nothing
BINS = 512  # of the scores of pixels; enough to compare maps

Strata = Sequence[Sequence[str]]  # of each window; none for a window without a defect


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Two detectors on the same windows.

    Attributes:
        one: The figure of the first detector.
        other: The figure of the second.
        win_share: Share of the bootstrap draws in which the figure of the first is higher, by more
            than `TIE`.
    """

    one: float
    other: float
    win_share: float
    draws: int = DRAWS


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A map of validation windows and its objective; each figure is computed once.

    Attributes:
        counts: The result of `metrics.count`, one row for each window.
        strata: The strata of each window; none for a window without a defect.
    """

    counts: Counts
    strata: Strata

    @cached_property
    def objective(self) -> float:
        """The objective of the map.

        Raises:
            DataError: As `stratum_average_precision`.
        """
        return of_map(stratum_average_precision(self.counts, self.strata))

    @cached_property
    def drawn(self) -> Float[np.ndarray, " d"]:
        """The objective in each bootstrap draw of the windows, the same draws for every map."""
        found = _over_draws(_coarse(self.counts), self.strata, _draws(self.strata))
        return np.asarray(np.nanmean(np.stack(list(found.values())), axis=0))


def stratum_average_precision(counts: Counts, strata: Strata) -> dict[str, float]:
    """Return the average precision of the pixels of each stratum, at the prevalence `PREVALENCE`.

    The normal pixels are those around the defects of the stratum, and those of all windows without
    a defect, which have half of the weight.

    Args:
        counts: The result of `metrics.count`, one row for each window.
        strata: The strata of each window; none for a window without a defect.

    Raises:
        DataError: There is no stratum, or not one for each row; or a stratum has no anomalous or no
            normal pixel.
    """
    once = np.ones((1, len(counts.anomalous)), np.int64)
    found = _over_draws(counts, strata, once)
    for stratum in found:
        rows = [stratum in each or not each for each in strata]
        own, normal = counts.anomalous[rows].sum(), counts.normal[rows].sum()
        if not own or not normal:
            raise DataError(
                f"There are {own} anomalous and {normal} normal scores in the stratum "
                f"'{stratum}'; this metric needs both."
            )
    return {name: float(values[0]) for name, values in found.items()}


def of_map(strata: Mapping[str, float]) -> float:
    """Return the objective of a map: the mean over the strata."""
    return float(np.mean(list(strata.values())))


def image_auroc(scores: Float[np.ndarray, " n"], strata: Strata) -> float | None:
    """Return the AUROC of the windows with a defect against those without; None without both."""
    labels = np.array([bool(each) for each in strata])
    return auroc(scores, labels) if labels.any() and not labels.all() else None


def paired_maps(one: Judged, other: Judged) -> Paired:
    """Compare the objective of two maps of the same windows; equal maps give equal figures.

    Raises:
        DataError: There is no stratum, or not one for each row.
    """
    return Paired(one=one.objective, other=other.objective, win_share=_wins(one.drawn, other.drawn))


def paired_scores(
    one: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"], strata: Strata
) -> Paired | None:
    """Compare the AUROC of two scores of the same windows; None without both kinds of windows."""
    labels = np.array([bool(each) for each in strata])
    if labels.all() or not labels.any():
        return None
    draws = _draws(strata)
    figures = [auroc(each, labels) for each in (one, other)]
    drawn = []
    for each in (one, other):
        # The share of pairs in the right order, each pair as often as both were drawn.
        order = np.sign(each[labels][:, None] - each[~labels][None]) / 2 + 0.5
        right = np.einsum("dp,pq,dq->d", draws[:, labels], order, draws[:, ~labels])
        drawn.append(right / (draws[:, labels].sum(1) * draws[:, ~labels].sum(1)))
    return Paired(one=figures[0], other=figures[1], win_share=_wins(*drawn))


def _wins(one: Float[np.ndarray, " d"], other: Float[np.ndarray, " d"]) -> float:
    """Return the share of the draws that the first wins."""
    return float(np.mean(one > other + TIE))


def _over_draws(
    counts: Counts, strata: Strata, draws: Int[np.ndarray, "d n"]
) -> dict[str, Float[np.ndarray, " d"]]:
    """Return the average precision of each stratum in each draw; NaN where it was not drawn."""
    if len(strata) != len(counts.anomalous) or not any(strata):
        raise DataError(f"{len(counts.anomalous)} windows, and strata of {len(strata)}.")
    good = np.array([not each for each in strata])
    elsewhere = _shares(_product(draws[:, good], counts.normal[good]))
    others = OTHERS * (elsewhere.sum(axis=1, keepdims=True) > 0)
    elsewhere *= others
    found = {}
    for stratum in dict.fromkeys(name for each in strata for name in each):
        rows = np.array([stratum in each for each in strata])
        around = _shares(_product(draws[:, rows], counts.normal[rows]))
        normal = (1 - others) * around + elsewhere
        anomalous = _product(draws[:, rows], counts.anomalous[rows])
        found[stratum] = areas(anomalous, normal, PREVALENCE)
    return found


def _coarse(counts: Counts) -> Counts:
    """Return the counts in at most `BINS` bins, by joining neighbours: draws are many."""
    bins = counts.normal.shape[1]
    starts = np.arange(0, bins, -(-bins // BINS))
    anomalous, normal = (
        np.add.reduceat(each, starts, axis=1) for each in (counts.anomalous, counts.normal)
    )
    return Counts(anomalous=anomalous, normal=normal)


def _product(
    times: Int[np.ndarray, "d n"], counts: Int[np.ndarray, "n k"]
) -> Float[np.ndarray, "d k"]:
    """Return the matrix product; float64 is exact here, and ten times faster than integers."""
    return np.asarray(times.astype(np.float64) @ counts.astype(np.float64))


def _shares(counts: Float[np.ndarray, "d k"]) -> Float[np.ndarray, "d k"]:
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def _draws(strata: Strata) -> Int[np.ndarray, "d n"]:
    """Draw windows with replacement, `DRAWS` times, those of each family among themselves."""
    rng = np.random.default_rng(0)
    families = np.array([each[0] if each else "" for each in strata])
    draws = np.zeros((DRAWS, len(strata)), np.int64)
    for family in dict.fromkeys(families.tolist()):
        rows = np.flatnonzero(families == family)
        draws[:, rows] = rng.multinomial(rows.size, np.full(rows.size, 1 / rows.size), size=DRAWS)
    return draws
