"""Statistics of a picture: each has its own cause, a defect is none, and few pictures suffice."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from tests.textures_drawn import draw
from zoo.data.statistics import (
    STATISTICS,
    cause,
    distance,
    picture_statistics,
    statistics_of,
    usual_of,
    warnings_of,
)


def noise(shape: tuple[int, ...], seed: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def leather(seed: int, height: int = 160, width: int = 224, channels: int = 3) -> np.ndarray:
    """Draw a soft, irregular surface, brown if in colour, from 0 to 1."""
    surface = 0.45 + 0.4 * cv2.GaussianBlur(noise((height, width), seed), (0, 0), 1.0)
    tint = np.array([1.2, 1.0, 0.7], np.float32)[:channels]
    return np.asarray(surface[..., None] * tint)


def filed(values: np.ndarray, dtype: type = np.uint8) -> np.ndarray:
    return np.asarray(np.rint(np.clip(values, 0, 1) * np.iinfo(dtype).max), dtype)


def moved(values: np.ndarray, before: np.ndarray) -> dict[str, float]:
    """Return by how much each statistic differs, in what does not matter at all."""
    found, known = (picture_statistics(filed(each, np.uint16)) for each in (values, before))
    assert found.keys() == known.keys()
    distances = {}
    for name, value in known.items():
        ratio = name in ("brightness", "contrast")
        least = {"brightness": 0.1, "contrast": 0.2, "sharpness": 0.15}.get(name, 0.05)
        change = np.log(found[name] / value) if ratio else found[name] - value
        distances[name] = abs(float(change)) / least
    return distances


def as_varied(values: np.ndarray, as_these: np.ndarray) -> np.ndarray:
    """Give values the mean and the deviation of others."""
    scale = as_these.std((0, 1)) / values.std((0, 1))
    return np.asarray(as_these.mean((0, 1)) + (values - values.mean((0, 1))) * scale)


CAUSES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], set[str]]] = {
    "darker": (lambda x: x * 0.7, {"brightness", "contrast"}),
    "a veil of light": (lambda x: x + 0.2 * x.mean((0, 1)), {"brightness"}),
    "less contrast": (lambda x: x.mean((0, 1)) + 0.7 * (x - x.mean((0, 1))), {"contrast"}),
    "blurred": (lambda x: as_varied(cv2.GaussianBlur(x, (0, 0), 1.2), x), {"sharpness"}),
    "noise": (lambda x: as_varied(x + 0.05 * noise(x.shape), x), {"sharpness"}),
    "redder": (lambda x: x * np.array([1.1, 0.95, 1.0], np.float32), {"red_green"}),
    "bluer": (lambda x: x * np.array([0.985, 0.985, 1.2], np.float32), {"blue_yellow"}),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_a_statistic_moves_with_its_own_cause_and_with_no_other(cause: str) -> None:
    change, expected = CAUSES[cause]
    for seed in range(3):
        before = leather(seed)
        found = moved(change(before), before)
        assert {name for name, distance in found.items() if distance > 1} >= expected, found
        rest = {name: each for name, each in found.items() if name not in expected}
        assert all(distance < 0.8 for distance in rest.values()), rest


def test_grey_pictures_have_no_colour_and_the_same_light_as_in_three_channels() -> None:
    grey = filed(leather(0, channels=1))
    found, three = picture_statistics(grey), picture_statistics(np.repeat(grey, 3, axis=2))
    assert set(found) == {"brightness", "contrast", "sharpness"}
    assert {name: three[name] for name in found} == pytest.approx(found, abs=1e-5)
    assert (three["red_green"], three["blue_yellow"]) == pytest.approx((0, 0))


def test_brightness_and_contrast_are_those_of_the_pixels() -> None:
    found = picture_statistics(np.random.default_rng(0).integers(51, 154, (90, 70, 1), np.uint8))
    assert found["brightness"] == pytest.approx(0.4, abs=0.02)
    assert found["contrast"] == pytest.approx(0.9 * 0.4, abs=0.02)


def test_bytes_and_sixteen_bits_have_the_same_statistics() -> None:
    eight = filed(leather(1))
    sixteen = eight.astype(np.uint16) * np.uint16(257)
    assert picture_statistics(sixteen) == pytest.approx(picture_statistics(eight), abs=1e-5)


@pytest.mark.parametrize(
    "region", [(slice(0, 160), slice(40, 85)), (slice(90, 130), slice(0, 224))]
)
def test_a_region_has_the_statistics_of_its_picture(region: tuple[slice, slice]) -> None:
    shade = np.linspace(0.95, 1.05, 224, dtype=np.float32)[:, None]
    whole = leather(2) * shade
    for name, away in moved(whole[region], whole).items():
        assert away < 1, name


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 900, 3), (5, 4, 1), (31, 33, 3), (3000, 33, 1)])
@pytest.mark.parametrize("value", [0, 255])
def test_every_shape_and_a_constant_picture_have_finite_statistics(
    shape: tuple[int, int, int], value: int
) -> None:
    for pixels in (
        np.full(shape, value, np.uint8),
        np.random.default_rng(0).integers(0, 256, shape, np.uint8),
    ):
        found = statistics_of(pixels, np.zeros(shape[:2], np.float32))
        assert set(found) <= set(STATISTICS)
        assert all(np.isfinite(each) for each in found.values())


def test_the_background_is_the_median_of_the_map_and_a_peak_does_not_move_it() -> None:
    map_ = np.full((1024, 1200), 0.25, np.float32)
    map_[100:500, 100:800] = 9.0
    pixels = np.zeros((1024, 1200, 1), np.uint8)
    assert statistics_of(pixels, map_)["background"] == 0.25


# ------------------------------------------------------------------------------- what is usual


def values(count: int, *, mean: float = 0.5, deviation: float = 0.03, seed: int = 0) -> list[float]:
    found: list[float] = np.random.default_rng(seed).normal(mean, deviation, count).tolist()
    return found


def warned(value: float, good: list[float], name: str = "brightness") -> bool:
    return bool(warnings_of({name: value}, usual_of({name: good}), "weave"))


@pytest.mark.parametrize("count", [5, 19, 60])
@pytest.mark.parametrize("name", ["brightness", "sharpness"])
def test_about_one_in_a_thousand_good_pictures_has_a_warning(name: str, count: int) -> None:
    rng, alarms, drawn = np.random.default_rng(count), 0, 20_000
    for _ in range(drawn // 20):
        limits = usual_of({name: rng.normal(0.5, 0.1, count).clip(0.01).tolist()})
        later = rng.normal(0.5, 0.1, 20).clip(0.01)
        alarms += sum(bool(warnings_of({name: float(each)}, limits, "x")) for each in later)
    assert alarms / drawn < 0.005
    if name == "sharpness" and count == 5:  # no larger width, and the logarithm plays no part
        assert alarms > 0


def test_what_differs_as_much_as_three_deviations_is_usual_and_ten_is_not() -> None:
    good = values(30)
    assert not warned(0.5 + 3 * 0.03, good)
    assert warned(0.5 + 10 * 0.03, good)
    assert warned(0.5 - 8 * 0.03, good)


def test_a_value_that_a_good_picture_had_is_usual() -> None:
    outlier = [*values(40), 0.95]
    assert not warned(0.95, outlier)
    assert warned(0.95, outlier[:-1])


def test_pictures_that_are_all_alike_do_not_warn_at_a_hundredth_of_a_percent() -> None:
    for name in STATISTICS:
        assert not warned(0.5001, [0.5] * 60, name)
        assert not warned(0.48, [0.5] * 60, name)
        assert warned(0.8, [0.5] * 60, name)
    assert not warned(0.0, [0.0] * 60)


def test_of_few_pictures_the_limits_are_wide_and_of_one_there_are_none() -> None:
    assert usual_of({"brightness": [0.5]})["brightness"].lower == -np.inf
    wide = [
        usual_of({"brightness": np.linspace(0.4, 0.6, count).tolist()})["brightness"]
        for count in (5, 60)
    ]
    assert wide[0].upper - wide[0].lower > 1.5 * (wide[1].upper - wide[1].lower)
    assert usual_of({"brightness": [0.0, 1.0]})["brightness"].upper == np.inf


def test_light_multiplies_so_a_black_picture_is_unusual_where_light_varies_much() -> None:
    varied = np.linspace(0.2, 0.7, 30).tolist()
    assert not warned(0.15, varied)
    assert warned(0.0, varied)


def test_a_distance_of_one_is_where_a_warning_of_many_like_pictures_begins() -> None:
    for name in STATISTICS:
        (usual,) = usual_of({name: [0.5] * 60}).values()
        ends = distance(name, np.array([usual.lower, 0.5, usual.upper]), 0.5)
        assert ends == pytest.approx([-1, 0, 1])
        assert cause(name).startswith("The ")


def test_a_warning_says_what_was_found_what_was_usual_and_what_to_do() -> None:
    good = {"brightness": [0.42, 0.44, 0.45, 0.47], "sharpness": [0.1, 0.11, 0.12, 0.13]}
    found = {"brightness": 0.12345, "sharpness": 0.1, "red_green": 0.9}
    (line,) = warnings_of(found, usual_of(good), "weave")
    assert line == (
        "Brightness is outside of what the good pictures had, 0.42 to 0.47: it is 0.123. The light "
        "or the exposure differs. Correct that, or recalibrate with good pictures of this line: "
        "zoo recalibrate weave --good DIR."
    )
    other = warnings_of(found | {"brightness": 0.05}, usual_of(good), "weave")[0]
    assert other != line
    assert other.partition(":")[0] == line.partition(":")[0]


def test_of_twelve_good_pictures_no_other_warns_and_a_hole_in_one_neither() -> None:
    rng = np.random.default_rng(7)
    drawn = [draw(64, 72, rng) for _ in range(40)]
    for count in (5, 12):
        found = [picture_statistics(each) for each in drawn[:count]]
        good = usual_of({name: [each[name] for each in found] for name in found[0]})
        for pixels in drawn[count:]:
            assert warnings_of(picture_statistics(pixels), good, "weave") == ()
            pixels = pixels.copy()
            pixels[10:30, 20:40] = 30
            assert warnings_of(picture_statistics(pixels), good, "weave") == ()
