"""Metrics compared with scikit-learn, with values by hand, and with each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from zoo.errors import BadMaskError, ConfigError, DataError
from zoo.scoring.metrics import (
    PREVALENCE,
    Counts,
    areas,
    aupro,
    auroc,
    average_precision,
    best_f1,
    count,
    f1,
)
from zoo.scoring.objective import stratum_average_precision


def drawn(
    n: int = 5_000, *, seed: int = 0, levels: int | None = None, share: float = 0.1
) -> tuple[np.ndarray, np.ndarray]:
    """Scores that separate anomalous from normal fairly well; with `levels`, many are equal."""
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < share
    scores = (rng.standard_normal(n) + 1.5 * labels).astype(np.float32)
    if levels is not None:
        scores = np.round(scores * levels / 8).astype(np.float32)
    return scores, labels


def drawn_maps(images: int = 6, *, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Maps that are not square, each with a bright defect of another size and contrast."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for index in range(images):
        mask = np.zeros((48, 80), dtype=bool)
        mask[5 : 8 + 4 * index, 10 : 14 + 3 * index] = True
        maps.append((rng.standard_normal(mask.shape) + (1 + index % 3) * mask).astype(np.float32))
        masks.append(mask)
    return maps, masks


def pooled(maps: list[np.ndarray], masks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks])


@pytest.mark.parametrize("levels", [None, 40, 8, 1])
def test_average_precision_and_auroc_are_those_of_scikit_learn_with_ties_too(
    levels: int | None,
) -> None:
    scores, labels = drawn(levels=levels)
    assert average_precision(scores, labels) == pytest.approx(
        average_precision_score(labels, scores), abs=1e-12
    )
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@pytest.mark.parametrize("prevalence", [0.001, 0.02, 0.5, 0.9])
@pytest.mark.parametrize("levels", [None, 8])
def test_a_prevalence_is_a_weight_on_each_class_as_a_whole(
    levels: int | None, prevalence: float
) -> None:
    scores, labels = drawn(levels=levels)
    weights = np.where(labels, prevalence / labels.sum(), (1 - prevalence) / (~labels).sum())
    expected = average_precision_score(labels, scores, sample_weight=weights)
    assert average_precision(scores, labels, prevalence=prevalence) == pytest.approx(expected)


def test_the_own_prevalence_changes_nothing_and_a_lower_one_lowers_the_precision() -> None:
    scores, labels = drawn()
    own = average_precision(scores, labels)
    assert average_precision(scores, labels, prevalence=labels.mean()) == pytest.approx(own)
    assert average_precision(scores, labels, prevalence=labels.mean() / 10) < own - 0.1


def test_average_precision_of_four_scores_is_that_worked_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    labels = np.array([False, True, False, True])
    # Recall 1/2 at precision 1/2, recall 1 at precision 2/4.
    assert average_precision(scores, labels) == pytest.approx(0.5)
    # Positives weigh .1 / 2 each, negatives .9 / 2: .05 / .5, then .1 / 1.
    assert average_precision(scores, labels, prevalence=0.1) == pytest.approx(0.1)


def test_equal_scores_everywhere_give_the_prevalence_and_one_half() -> None:
    scores, labels = np.zeros(10), np.arange(10) < 3
    assert average_precision(scores, labels) == pytest.approx(0.3)
    assert average_precision(scores, labels, prevalence=0.02) == pytest.approx(0.02)
    assert auroc(scores, labels) == pytest.approx(0.5)


def test_reversed_scores_mirror_the_auroc() -> None:
    scores, labels = drawn(levels=8)
    assert auroc(-scores, labels) == pytest.approx(1 - auroc(scores, labels))
    assert auroc(scores, labels) > 0.7


def test_a_monotone_change_of_scale_changes_no_figure() -> None:
    maps, masks = drawn_maps()
    scores, labels = pooled(maps, masks)
    bent = [np.exp(m.astype(np.float64)) - 7 for m in maps]
    bent_scores, _ = pooled(bent, masks)
    assert average_precision(bent_scores, labels) == average_precision(scores, labels)
    assert auroc(bent_scores, labels) == auroc(scores, labels)
    assert aupro(bent, masks) == pytest.approx(aupro(maps, masks), abs=1e-12)
    assert np.array_equal(count(bent, masks).anomalous, count(maps, masks).anomalous)


def test_infinite_scores_are_only_very_high() -> None:
    scores, labels = drawn()
    order = average_precision(scores, labels)
    top = scores.argmax()
    scores[top] = np.inf
    assert average_precision(scores, labels) == order


def test_a_perfect_map_has_aupro_one_and_a_reversed_one_zero() -> None:
    _, masks = drawn_maps()
    assert aupro([mask.astype(np.float32) for mask in masks], masks) == pytest.approx(1.0)
    assert aupro([1 - mask.astype(np.float32) for mask in masks], masks) == pytest.approx(0.0)


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_a_random_map_and_a_constant_one_have_half_the_limit(limit: float) -> None:
    rng = np.random.default_rng(0)
    masks = [np.zeros((200, 120), dtype=bool) for _ in range(4)]
    for mask in masks:
        mask[20:120, 10:100] = True
    random = [rng.random(mask.shape, dtype=np.float32) for mask in masks]
    assert aupro(random, masks, limit=limit) == pytest.approx(limit / 2, abs=0.01)
    constant = [np.ones(mask.shape, dtype=np.float32) for mask in masks]
    assert aupro(constant, masks, limit=limit) == pytest.approx(limit / 2, abs=1e-9)


def test_aupro_weighs_a_small_region_like_a_large_one() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[:20, :20] = True
    mask[30, 50] = True
    large, small = mask.astype(np.float32), np.zeros(mask.shape, dtype=np.float32)
    large[30, 50] = -1
    small[mask] = -1
    small[30, 50] = 1
    assert aupro([large], [mask]) == pytest.approx(0.5)
    assert aupro([small], [mask]) == pytest.approx(0.5)


def test_regions_that_touch_at_a_corner_are_one() -> None:
    mask = np.zeros((10, 12), dtype=bool)
    mask[0:2, 0:2] = mask[2, 2] = True
    found = mask.astype(np.float32)
    found[2, 2] = -1
    assert aupro([found], [mask]) == pytest.approx(4 / 5)


def test_aupro_of_five_pixels_is_that_worked_by_hand() -> None:
    mask = np.array([[True, False, True, False, False]])
    values = np.array([[4.0, 3.0, 2.0, 1.0, 0.0]])
    # Overlap 1/2 up to rate 1/3, then 1: up to .5 that is (1/2 * 1/3 + 1 * 1/6) / .5.
    assert aupro([values], [mask], limit=0.5) == pytest.approx(2 / 3)


def test_aupro_agrees_with_a_curve_made_of_every_threshold() -> None:
    maps, masks = drawn_maps(seed=3)
    maps = [np.round(m, 1) for m in maps]
    scores, labels = pooled(maps, masks)
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(scores)[::-1]:
        rates.append(float((scores[~labels] >= threshold).mean()))
        overlaps.append(
            float(np.mean([(m[k] >= threshold).mean() for m, k in zip(maps, masks, strict=True)]))
        )
    grid = np.linspace(0, 0.3, 30_001)
    expected = np.trapezoid(np.interp(grid, rates, overlaps), grid) / 0.3
    assert aupro(maps, masks) == pytest.approx(expected, abs=1e-3)


def test_counts_hold_every_pixel_of_every_image_once() -> None:
    maps, masks = drawn_maps()
    counts = count(maps, masks)
    assert counts.anomalous.sum(axis=1).tolist() == [int(mask.sum()) for mask in masks]
    assert counts.normal.sum(axis=1).tolist() == [int((~mask).sum()) for mask in masks]
    assert counts.anomalous.shape == counts.normal.shape
    assert counts.anomalous.shape[1] <= 2048


@pytest.mark.parametrize("prevalence", [None, 0.02, 0.3])
def test_the_average_precision_of_counts_is_that_of_the_bins_numbers(
    prevalence: float | None,
) -> None:
    rng = np.random.default_rng(1)
    anomalous, normal = rng.integers(0, 5, 20), rng.integers(0, 9, 20)
    scores = np.repeat(np.tile(np.arange(20.0), 2), np.concatenate([anomalous, normal]))
    labels = np.arange(scores.size) < anomalous.sum()
    share = anomalous.sum() / scores.size if prevalence is None else prevalence
    (found,) = areas(anomalous[None], normal[None].astype(float), share)
    assert found == pytest.approx(
        average_precision(scores, labels, prevalence=prevalence), abs=1e-12
    )


@pytest.mark.parametrize("seed", range(3))
def test_counted_family_figures_are_within_a_two_hundredth_of_the_exact_ones(seed: int) -> None:
    maps, masks = drawn_maps(12, seed=seed)
    families = [("thread", "stain", "hole")[index % 3] for index in range(12)]
    counted = stratum_average_precision(count(maps, masks), [(each,) for each in families])
    assert list(counted) == ["thread", "stain", "hole"]
    for family, value in counted.items():
        chosen = [index for index, name in enumerate(families) if name == family]
        scores, labels = pooled([maps[i] for i in chosen], [masks[i] for i in chosen])
        exact = average_precision(scores, labels, prevalence=PREVALENCE)
        assert 0.01 < exact < 0.99
        assert value == pytest.approx(exact, abs=0.005)


def test_a_small_defect_keeps_its_precision_beside_a_huge_one() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.standard_normal((200, 300)).astype(np.float32) for _ in range(2)]
    masks = [np.zeros((200, 300), dtype=bool) for _ in range(2)]
    masks[0][:190] = True
    masks[1][100, 20:280] = True
    maps[0][masks[0]] += 8
    maps[1][masks[1]] += 2
    counted = stratum_average_precision(count(maps, masks, bins=256), [("stain",), ("thread",)])
    exact = average_precision(maps[1].ravel(), masks[1].ravel(), prevalence=PREVALENCE)
    assert counted["thread"] == pytest.approx(exact, abs=0.01)


def test_rows_drawn_twice_weigh_twice() -> None:
    maps, masks = drawn_maps(4)
    counts = count(maps, masks)
    rows = np.array([0, 0, 3])
    drawn_rows = Counts(anomalous=counts.anomalous[rows], normal=counts.normal[rows])
    twice = stratum_average_precision(drawn_rows, [("a",)] * 3)
    maps, masks = [maps[i] for i in rows], [masks[i] for i in rows]
    exact = average_precision(*pooled(maps, masks), prevalence=PREVALENCE)
    assert twice["a"] == pytest.approx(exact, abs=0.005)


def test_good_images_count_as_normal_pixels() -> None:
    maps, masks = drawn_maps(3)
    masks[1][:] = False
    counts = count(maps, masks)
    assert counts.anomalous[1].sum() == 0
    assert counts.normal[1].sum() == 48 * 80


@pytest.mark.parametrize("figure", [average_precision, auroc])
def test_without_one_of_the_classes_a_figure_is_refused_with_both_numbers(
    figure: Callable[..., object],
) -> None:
    with pytest.raises(DataError, match="0 anomalous and 5 normal"):
        figure(np.zeros(5), np.zeros(5, dtype=bool))
    with pytest.raises(DataError, match="5 anomalous and 0 normal"):
        figure(np.zeros(5), np.ones(5, dtype=bool))


@pytest.mark.parametrize("figure", [aupro, count])
def test_maps_without_one_of_the_classes_are_refused_with_both_numbers(
    figure: Callable[..., object],
) -> None:
    values = [np.zeros((4, 6))]
    with pytest.raises(DataError, match="0 anomalous and 24 normal"):
        figure(values, [np.zeros((4, 6), dtype=bool)])
    with pytest.raises(DataError, match="24 anomalous and 0 normal"):
        figure(values, [np.ones((4, 6), dtype=bool)])


def test_counts_without_one_of_the_classes_are_refused() -> None:
    some, none = np.array([1, 2]), np.array([0, 0])
    empty = Counts(anomalous=none[None], normal=some[None])
    with pytest.raises(DataError, match="0 anomalous and 3 normal"):
        stratum_average_precision(empty, [("stain",)])
    counts = Counts(anomalous=np.stack([some, none]), normal=np.stack([some, some]))
    with pytest.raises(DataError, match="in the stratum 'hole'"):
        stratum_average_precision(counts, [("stain",), ("hole",)])
    with pytest.raises(DataError, match=r"2 windows, and strata of 1"):
        stratum_average_precision(counts, [("stain",)])


def test_a_score_that_is_not_a_number_is_refused_wherever_it_is() -> None:
    for position in (0, 9):
        scores = np.arange(10.0)
        scores[position] = np.nan
        labels = np.arange(10) < 4
        for figure in (average_precision, auroc):
            with pytest.raises(DataError, match="1 scores are not a number"):
                figure(scores, labels)
        for maps_figure in (aupro, count):
            with pytest.raises(DataError, match="1 scores are not a number"):
                maps_figure([scores.reshape(2, 5)], [labels.reshape(2, 5)])


@pytest.mark.parametrize("figure", [aupro, count])
def test_a_mask_of_another_size_is_refused_with_both_sizes(figure: Callable[..., object]) -> None:
    with pytest.raises(BadMaskError, match="Map 0 has 4x6 pixels and its mask 6x4"):
        figure([np.zeros((4, 6))], [np.zeros((6, 4), dtype=bool)])
    with pytest.raises(DataError, match="1 maps and 0 masks"):
        figure([np.zeros((4, 6))], [])


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.1])
def test_a_prevalence_outside_its_range_is_refused_with_its_value(prevalence: float | None) -> None:
    with pytest.raises(ConfigError, match=f"prevalence = {prevalence}"):
        average_precision(*drawn(100), prevalence=prevalence)


def test_a_limit_or_a_number_of_bins_outside_its_range_is_refused_with_its_value() -> None:
    maps, masks = drawn_maps(1)
    for limit in (0.0, 1.5):
        with pytest.raises(ConfigError, match=f"limit = {limit}"):
            aupro(maps, masks, limit=limit)
    with pytest.raises(ConfigError, match="bins = 1"):
        count(maps, masks, bins=1)


# ------------------------------------------------------------------------------------------- F1


def test_f1_is_that_of_scikit_learn_and_the_best_one_that_of_all_thresholds() -> None:
    rng = np.random.default_rng(3)
    labels = rng.random(500) < 0.2
    scores = np.round(rng.normal(size=500) + 1.5 * labels, 1)
    every = {t: f1_score(labels, scores > t) for t in (-9.0, *np.unique(scores)[:-1])}
    for threshold, expected in every.items():
        assert f1(scores > threshold, labels) == pytest.approx(expected)
    assert best_f1(scores, labels) == pytest.approx(max(every.values()))
    assert f1(scores > 99, labels) == 0.0
