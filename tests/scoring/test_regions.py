"""Regions of a map: what they say of themselves, their order, and which are too small."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from zoo.scoring.regions import find_regions, smallest_region


def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Draw a map with a bar of 2 x 6 pixels, a diagonal of 3 and a single pixel."""
    map_ = np.full((20, 30), 0.5, np.float32)
    map_[3:5, 10:16] = 2.0
    map_[4, 12] = 3.5
    for step in range(3):
        map_[10 + step, 20 + step] = 5.0
    map_[18, 2] = 9.0
    return map_, map_ > 1


def test_a_region_says_where_it_is_how_large_and_how_anomalous() -> None:
    *_, bar = find_regions(*drawn())
    assert (bar.top, bar.left, bar.height, bar.width, bar.area) == (3, 10, 2, 6, 12)
    assert bar.peak == 3.5
    assert bar.mean == pytest.approx((11 * 2 + 3.5) / 12)
    assert bar.centroid == (3.5, 12.5)
    assert set(bar.contour) == {(3, 10), (3, 15), (4, 10), (4, 15)}


def test_the_highest_peak_comes_first_and_diagonal_pixels_are_one_region() -> None:
    assert [(region.peak, region.area) for region in find_regions(*drawn())] == [
        (9.0, 1),
        (5.0, 3),
        (3.5, 12),
    ]


def test_small_regions_are_left_out_and_an_empty_mask_has_none() -> None:
    map_, mask = drawn()
    assert [region.area for region in find_regions(map_, mask, smallest=3)] == [3, 12]
    assert find_regions(map_, mask, smallest=13) == ()
    assert find_regions(map_, np.zeros_like(mask)) == ()


def test_a_contour_encloses_the_pixels_of_a_region_without_holes() -> None:
    map_ = np.zeros((60, 60), np.float32)
    cv2.ellipse(map_, (28, 31), (20, 11), 25, 0, 360, 2.0, -1)
    (region,) = find_regions(map_, map_ > 1)
    corners = np.array([(column, row) for row, column in region.contour], np.int32)
    filled = cv2.fillPoly(np.zeros((60, 60), np.uint8), [corners], 1)
    np.testing.assert_array_equal(filled > 0, map_ > 1)


def test_a_region_is_one_whose_outline_has_two_parts_and_is_as_large_as_what_is_above() -> None:
    map_ = np.zeros((20, 40), np.float32)
    map_[5:9, 4:30] = 2.0  # a slope that joins a clear part of 4 x 3 pixels and one of 3 x 8
    map_[5:9, 6:9], map_[5:8, 18:26] = 9.0, 8.0
    map_[15, 4:7] = 2.0
    above, outlined = map_ > 1, map_ > 5
    (region,) = find_regions(map_, above, outlined=outlined, smallest=4 * 26)
    assert (region.top, region.left, region.height, region.width) == (5, 6, 4, 20)
    assert (region.area, region.peak) == (12 + 24, 9.0)
    assert region.mean == pytest.approx((12 * 9 + 24 * 8) / 36)
    assert set(region.contour) == {(5, 18), (5, 25), (7, 18), (7, 25)}
    assert find_regions(map_, above, outlined=outlined, smallest=4 * 26 + 1) == ()
    assert len(find_regions(map_, above)) == 2  # the line is one by itself, and none in the outline
    assert find_regions(map_, above, outlined=np.zeros_like(above)) == ()


def test_a_region_is_json_with_few_digits() -> None:
    *_, bar = find_regions(*drawn())
    read = json.loads(json.dumps(bar.as_json()))
    assert read["mean"] == 2.125
    assert read["centroid"] == [3.5, 12.5]
    assert read["contour"][0] == [3, 10]


@pytest.mark.parametrize(("rate", "expected"), [(0.5, 5), (0.05, 41), (0.001, 41)])
def test_good_pictures_rarely_have_a_region_of_the_smallest_area(
    rate: float, expected: int
) -> None:
    masks = []
    for area in (0, 4, 0, 9, 40, 4, 100):
        mask = np.zeros((30, 50), np.bool_)
        mask[5].flat[: min(area, 50)] = True
        mask[6].flat[: max(area - 50, 0)] = True
        mask[20, 3] = area > 0
        masks.append(mask)
    assert smallest_region(masks, false_alarm_rate=rate) == expected
    reached = np.mean([area >= expected for area in (0, 4, 0, 9, 40, 4, 100)])
    assert reached <= max(rate, 1 / 7)


def test_a_good_picture_without_a_region_needs_no_area() -> None:
    assert smallest_region([np.zeros((4, 4), np.bool_)] * 3, false_alarm_rate=0.05) == 1
