"""Which pixels are anomalous: a threshold by F1 on painted windows, and outlines of peaks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.ndimage import maximum_filter

from zoo.errors import ConfigError
from zoo.scoring.outlines import REACH, anomalous_pixels, fit_pixel_threshold, peaks_near


def test_the_peak_near_a_pixel_is_the_highest_value_of_the_square_around_it() -> None:
    map_ = np.random.default_rng(0).normal(size=(40, 57)).astype(np.float32)
    expected = maximum_filter(map_, size=2 * REACH + 1, mode="nearest")
    np.testing.assert_array_equal(peaks_near(map_), expected)


def test_of_the_slope_around_a_peak_only_the_share_of_it_is_anomalous() -> None:
    rows = np.array([[0, 2, 4, 6, 8, 10, 8, 6, 4, 2, 0]], np.float32)
    every = anomalous_pixels(rows, threshold=1.0)
    assert rows[every].tolist() == [2, 4, 6, 8, 10, 8, 6, 4, 2]
    outlined = anomalous_pixels(rows, threshold=1.0, share_of_peak=0.8)
    assert rows[outlined].tolist() == [8, 10, 8]
    assert not anomalous_pixels(rows, threshold=10.0, share_of_peak=0.8).any()


def test_a_faint_defect_away_from_a_clear_one_keeps_its_outline() -> None:
    map_ = np.zeros((40, 60), np.float32)
    map_[10:14, 10:14], map_[10:14, 14 + REACH : 20 + REACH] = 2.0, 9.0
    expected = map_ > 1
    outlined = anomalous_pixels(map_, threshold=1.0, share_of_peak=0.8)
    np.testing.assert_array_equal(outlined, expected)


def scars(seed: int, *, slope: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Draw maps of clear and of faint scratches, and their masks.

    Args:
        seed: Of the places and of the noise.
        slope: Standard deviation of the fall of the map around a scratch, in pixels; 0 for none.
    """
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for strength in (2.0, 2.5, 12.0, 15.0) * 3:
        mask = np.zeros((64, 64), np.uint8)
        start, end = rng.integers(8, 56, (2, 2)).tolist()
        cv2.line(mask, start, end, 1, 2)
        risen = strength * mask.astype(np.float32)
        if slope:
            risen = strength * np.exp(-((cv2.distanceTransform(1 - mask, 2, 5) / slope) ** 2) / 2)
        maps.append(risen + 0.2 * rng.normal(size=mask.shape).astype(np.float32))
        masks.append(mask > 0)
    return maps, masks


def test_outlines_follow_the_peak_where_maps_have_slopes_and_only_there() -> None:
    good = [0.2 * np.random.default_rng(9).normal(size=(64, 64)).astype(np.float32)]
    assert fit_pixel_threshold(*scars(0, slope=0.0), good).share_of_peak == 0

    maps, masks = scars(0, slope=3.0)
    found = fit_pixel_threshold(maps, masks, good)
    assert found.share_of_peak >= 0.7
    later, truth = scars(1, slope=3.0)

    def f1(share_of_peak: float) -> float:
        outlined = [
            anomalous_pixels(each, threshold=found.value, share_of_peak=share_of_peak)
            for each in later
        ]
        hits = sum((each & mask).sum() for each, mask in zip(outlined, truth, strict=True))
        return float(2 * hits / (np.sum(outlined) + np.sum(truth)))

    assert f1(found.share_of_peak) > f1(0.0) + 0.1


def test_a_limit_below_0_has_no_share_of_a_peak() -> None:
    maps, masks = scars(0, slope=3.0)
    good = [np.full((64, 64), -60.0, np.float32)]
    found = fit_pixel_threshold([each - 50 for each in maps], masks, good)
    assert found.value < 0
    assert found.share_of_peak == 0


# ------------------------------------------------------------------------- the threshold of pixels


def windows_of(seed: int) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Draw maps of windows with a tenth of defective pixels, their masks, and good maps."""
    rng = np.random.default_rng(seed)
    masks = [rng.random((40, 50)) < 0.1 for _ in range(4)]
    maps = [rng.normal(size=mask.shape) + 3 * mask for mask in masks]
    return maps, masks, [rng.normal(size=(30, 30)) for _ in range(3)]


@pytest.mark.parametrize("prevalence", [0.002, 0.05, 0.3])
def test_the_threshold_of_pixels_has_the_highest_f1_at_the_prevalence(prevalence: float) -> None:
    maps, masks, good = windows_of(0)
    found = fit_pixel_threshold(maps, masks, good, prevalence=prevalence, most_false=0.5).value
    values, labels = np.stack(maps), np.stack(masks)

    def f1(threshold: float) -> float:
        recall = (values > threshold)[labels].mean()
        false = (values > threshold)[~labels].mean()
        flagged = prevalence * recall + (1 - prevalence) * false
        return float(2 * prevalence * recall / (flagged + prevalence))

    best = max(f1(each) for each in np.linspace(-1, 6, 2000))
    assert f1(found) >= best - 1e-9
    assert f1(found - 0.5) < best
    assert f1(found + 0.5) < best


def test_few_pixels_of_good_pictures_lie_above_the_threshold_of_pixels() -> None:
    maps, masks, _ = windows_of(1)
    noisy = [5 * np.random.default_rng(2).normal(size=(60, 60))]
    found = fit_pixel_threshold(maps, masks, noisy, most_false=0.01).value
    assert (noisy[0] > found).mean() == pytest.approx(0.01, abs=1e-3)


def test_equal_values_are_on_one_side_of_the_threshold_of_pixels() -> None:
    maps, masks = [np.array([[0.0, 0.0, 1.0, 1.0]])], [np.array([[False, False, True, True]])]
    assert 0 < fit_pixel_threshold(maps, masks, [np.zeros((2, 2))]).value < 1


@pytest.mark.parametrize("mask", [False, True])
def test_a_threshold_of_pixels_needs_defective_and_good_ones(mask: bool) -> None:
    with pytest.raises(ConfigError, match=r"of 4, \d are defective"):
        fit_pixel_threshold([np.zeros((2, 2))], [np.full((2, 2), mask)], [np.zeros((2, 2))])
