"""The objective: strata, windows without a defect, and the paired bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.errors import DataError
from zoo.scoring import metrics, objective
from zoo.scoring.metrics import PREVALENCE, Counts, areas, average_precision, count
from zoo.scoring.objective import (
    BINS,
    Judged,
    _coarse,
    image_auroc,
    paired_maps,
    paired_scores,
    stratum_average_precision,
)

STRATA = [("hole", "small"), ("hole", "large"), ("stain", "small"), ("stain", "large"), (), ()]


def drawn(signal: dict[str, float], *, seed: int = 0, alarm: float = 0.0) -> Counts:
    """Count maps of noise, higher where a defect is; `alarm` lifts a corner of good windows."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for strata in STRATA * 4:
        map_, mask = rng.normal(size=(24, 20)), np.zeros((24, 20), bool)
        if strata:
            mask[5:9, 6:11] = True
            map_[mask] += signal[strata[0]]
        else:
            map_[:4, :5] += alarm
        maps.append(map_.astype(np.float32))
        masks.append(mask)
    return count(maps, masks)


def by_bins(anomalous: np.ndarray, normal: np.ndarray) -> float:
    """The average precision with the number of the bin as the score of each pixel."""
    bins = np.arange(float(anomalous.size))
    scores = np.concatenate([np.repeat(bins, anomalous), np.repeat(bins, normal)])
    labels = np.arange(scores.size) < anomalous.sum()
    return average_precision(scores, labels, prevalence=PREVALENCE)


def test_each_stratum_has_its_own_figure_and_the_objective_is_their_mean() -> None:
    found = stratum_average_precision(drawn({"hole": 5.0, "stain": 0.0}), STRATA * 4)
    assert list(found) == ["hole", "small", "large", "stain"]
    assert found["hole"] > 0.9
    assert found["stain"] < 0.1
    assert found["stain"] < found["small"] < found["hole"]
    assert objective.of_map(found) == pytest.approx(np.mean(list(found.values())))


def test_an_alarm_on_good_windows_lowers_every_stratum() -> None:
    signal = {"hole": 3.0, "stain": 3.0}
    quiet, loud = (
        stratum_average_precision(drawn(signal, alarm=alarm), STRATA * 4) for alarm in (0.0, 6.0)
    )
    assert all(loud[name] < quiet[name] - 0.1 for name in quiet)


def test_without_good_windows_the_figure_is_that_of_the_pixels_around_the_defects() -> None:
    counts = drawn({"hole": 1.0, "stain": 2.0})
    rows = np.array([bool(each) for each in STRATA * 4])
    some = Counts(anomalous=counts.anomalous[rows], normal=counts.normal[rows])
    strata = [each for each in STRATA * 4 if each]
    found = stratum_average_precision(some, strata)
    for family in ("hole", "stain"):
        own = [family in each for each in strata]
        anomalous, normal = some.anomalous[own].sum(0), some.normal[own].sum(0)
        assert found[family] == pytest.approx(by_bins(anomalous, normal))


def test_many_histograms_at_once_give_the_same_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    anomalous, normal = rng.integers(0, 5, (6, 30)), rng.integers(0, 90, (6, 30))
    anomalous[3] = 0
    found = areas(anomalous, normal.astype(float), PREVALENCE)
    assert np.isnan(found[3])
    for row in (0, 1, 2, 4, 5):
        assert found[row] == pytest.approx(by_bins(anomalous[row], normal[row]))


def test_strata_that_do_not_fit_the_windows_are_refused() -> None:
    counts = drawn({"hole": 1.0, "stain": 1.0})
    for strata in (STRATA, [()] * len(counts.anomalous)):
        with pytest.raises(DataError, match="24 windows"):
            stratum_average_precision(counts, strata)


def test_a_better_map_wins_nearly_every_draw_and_an_equal_one_none() -> None:
    better = Judged(counts=drawn({"hole": 4.0, "stain": 3.0}, seed=1), strata=STRATA * 4)
    worse = Judged(counts=drawn({"hole": 1.0, "stain": 1.0}, seed=2), strata=STRATA * 4)
    found = paired_maps(better, worse)
    assert found.one > found.other
    assert found.win_share > 0.99
    assert paired_maps(worse, better).win_share < 0.01
    assert paired_maps(better, better).win_share == 0


def test_a_difference_that_may_be_rounding_wins_no_draw() -> None:
    usual = drawn({"hole": 2.0, "stain": 2.0})
    anomalous, normal = (10**6 * each for each in (usual.anomalous, usual.normal))
    higher = anomalous.copy()
    for row in np.flatnonzero(usual.anomalous.sum(axis=1)):  # of each window one pixel of millions
        at = higher[row, :-1].nonzero()[0][-1]
        higher[row, at : at + 2] += [-1, 1]
    assert (higher != anomalous).any()
    one, other = (
        Judged(counts=Counts(anomalous=each, normal=normal), strata=STRATA * 4)
        for each in (higher, anomalous)
    )
    assert other.objective < one.objective < other.objective + 1e-5
    assert paired_maps(one, other).win_share == 0


def test_scores_are_compared_by_the_pairs_in_the_right_order() -> None:
    strata = STRATA * 4
    labels = np.array([bool(each) for each in strata])
    rng = np.random.default_rng(0)
    better = labels + rng.normal(0, 0.3, labels.size)
    worse = labels + rng.normal(0, 3.0, labels.size)
    found = paired_scores(better, worse, strata)
    assert found is not None
    assert found.one == image_auroc(better, strata) == metrics.auroc(better, labels)
    assert found.win_share > 0.95
    same = paired_scores(worse, worse, strata)
    assert same is not None
    assert same.win_share == 0


def test_without_good_windows_there_is_nothing_to_compare_scores_with() -> None:
    assert image_auroc(np.zeros(4), STRATA[:4]) is None
    assert paired_scores(np.zeros(4), np.ones(4), STRATA[:4]) is None


def test_draws_of_fine_counts_take_fewer_bins_with_the_same_pixels_in_the_same_order() -> None:
    rng = np.random.default_rng(0)
    fine = Counts(anomalous=rng.integers(0, 9, (4, 2047)), normal=rng.integers(0, 99, (4, 2047)))
    coarse = _coarse(fine)
    assert coarse.normal.shape[1] == coarse.anomalous.shape[1] <= BINS
    for one, other in ((fine.normal, coarse.normal), (fine.anomalous, coarse.anomalous)):
        np.testing.assert_array_equal(one.cumsum(1)[:, 3::4], other.cumsum(1)[:, : 2047 // 4])
        np.testing.assert_array_equal(one.sum(1), other.sum(1))
