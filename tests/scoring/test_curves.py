"""The curves are those of the figures: their areas are average precision and AUROC."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.errors import DataError
from zoo.scoring import metrics
from zoo.scoring.curves import Curves, curves


def areas(found: Curves) -> tuple[float, float]:
    """Return the average precision and the AUROC that the curves enclose."""
    steps = np.diff(np.array((0.0, *found.recall)))
    ap = float(np.sum(steps * np.array(found.precision)))
    return ap, float(np.trapezoid(found.true_rate, found.false_rate))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("levels", [4, 1000])
def test_their_areas_are_the_figures_with_and_without_ties(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.random(200) < 0.3
    scores = np.floor((rng.random(200) + 0.4 * labels) * levels) / levels
    ap, auroc = areas(curves(scores, labels))
    assert ap == pytest.approx(metrics.average_precision(scores, labels), abs=1e-4)
    assert auroc == pytest.approx(metrics.auroc(scores, labels), abs=1e-4)


def test_many_scores_become_as_few_points_as_asked_and_nearly_the_same_areas() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(50_000) < 0.1
    scores = rng.normal(size=50_000) + 1.5 * labels
    found = curves(scores, labels, points=200)
    assert len(found.recall) == 200
    assert len(found.false_rate) == 402
    ap, auroc = areas(found)
    assert ap == pytest.approx(metrics.average_precision(scores, labels), abs=0.01)
    assert auroc == pytest.approx(metrics.auroc(scores, labels), abs=0.01)


def test_they_begin_and_end_in_the_corners_and_never_turn_back() -> None:
    found = curves(np.array([1.0, 1.0, 1.0, 2.0]), np.array([True, False, True, False]))
    assert (found.false_rate[0], found.true_rate[0]) == (0, 0)
    assert (found.false_rate[-1], found.true_rate[-1]) == (1, 1)
    assert found.recall[-1] == 1
    for each in (found.recall, found.false_rate, found.true_rate):
        assert list(each) == sorted(each)


@pytest.mark.parametrize("labels", [[True, True], [False, False]])
def test_one_class_alone_has_no_curve(labels: list[bool]) -> None:
    with pytest.raises(DataError, match="this metric needs both"):
        curves(np.array([1.0, 2.0]), np.array(labels))
