"""New limits of a detector on pictures of another line, and pictures that are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from registry.bundle import Bundle
from zoo.data import textures
from zoo.data.preprocessing import intensity_range
from zoo.data.textures import Texture
from zoo.detectors import Detector
from zoo.errors import ConfigError, DataError
from zoo.scoring.thresholds import Rates
from zoo.training import Part, TrainingData, at_rates, choose, made, rates_of, recalibrated


@pytest.fixture(scope="module")
def weave(drawn_folder: Path) -> Texture:
    return textures.find(drawn_folder.parent, "weave")


@pytest.fixture(scope="module")
def plain(tiny_parts: list[Part]) -> Bundle:
    """The method that is surest of a hole in these small pictures."""
    return next(each.bundle for each in tiny_parts if each.bundle.method == "local_statistics")


@pytest.fixture(scope="module")
def fused(tiny_data: TrainingData, tiny_parts: list[Part]) -> Bundle:
    parts = tiny_parts[:2]
    return made(parts, choose(parts, tiny_data), tiny_data)


def darker(pixels: np.ndarray) -> np.ndarray:
    return np.rint(pixels * 0.6).astype(np.uint8)


def in_other_light(texture: Texture) -> Texture:
    changed = (replace(each, pixels=darker(each.pixels)) for each in texture.pictures)
    return replace(texture, pictures=tuple(changed))


def holed(pixels: np.ndarray) -> np.ndarray:
    changed = pixels.copy()
    changed[20:40, 30:52] = 8
    return changed


@pytest.mark.parametrize("kind", ["plain", "fused"])
def test_pictures_in_other_light_are_good_again_and_defects_are_found(
    request: pytest.FixtureRequest, weave: Texture, kind: str
) -> None:
    old: Bundle = request.getfixturevalue(kind)
    light = in_other_light(weave)
    new = recalibrated(old, light, say=print)
    detector = Detector(new)
    for each in light.pictures[:4]:
        good = detector.score(each.pixels)
        assert not good.is_anomalous
        assert good.mask.mean() < 0.02
        found = detector.score(holed(each.pixels))
        assert found.is_anomalous
        assert found.mask[22:38, 32:50].mean() > 0.3
        assert found.map[22:38, 32:50].mean() > 1.2 * found.map[:12].mean()
    assert new.threshold["images"] == len(light.pictures)
    assert new.data["recalibrated_on"] == [each.key for each in light.pictures]
    assert new.data["fit"] == old.data["fit"]
    weights = [each.weights for each in new.parts or (new,)]
    before = [each.weights for each in old.parts or (old,)]
    for one, other in zip(weights, before, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one), "nothing is trained"


@pytest.mark.parametrize("kind", ["plain", "fused"])
def test_the_warning_of_other_light_ends_with_a_recalibration(
    request: pytest.FixtureRequest, weave: Texture, kind: str
) -> None:
    old: Bundle = request.getfixturevalue(kind)
    few = replace(weave, pictures=weave.pictures[:5])
    new = recalibrated(old, in_other_light(few), say=print)
    for each in weave.pictures[5:]:
        before = Detector(old).score(darker(each.pixels)).warnings
        assert any("Brightness" in line for line in before)
        assert Detector(new).score(darker(each.pixels)).warnings == ()
        assert any("Brightness" in line for line in Detector(new).score(each.pixels).warnings)


def test_light_is_undone_by_its_ratio_although_some_pixels_are_white(
    weave: Texture, plain: Bundle
) -> None:
    """Quantiles of the new pictures would not move beyond white, and nothing were undone."""

    def brighter(pixels: np.ndarray) -> np.ndarray:
        return np.rint(pixels * 1.6).clip(0, 255).astype(np.uint8)

    bright = tuple(replace(each, pixels=brighter(each.pixels)) for each in weave.pictures)
    said: list[str] = []
    new = recalibrated(plain, replace(weave, pictures=bright), say=said.append)
    white = float(np.mean([(each.pixels == 255).mean() for each in bright]))
    assert white > 0.02
    assert [line for line in said if "are the brightest of the scale" in line]
    for name in ("low", "high"):
        assert new.preprocessing[name] == pytest.approx(1.6 * plain.preprocessing[name], rel=0.02)
    assert new.preprocessing["high"] > 1
    again = recalibrated(new, weave, say=said.append)
    for name in ("low", "high"):
        assert again.preprocessing[name] == pytest.approx(plain.preprocessing[name], rel=0.02)
    assert Detector(new).score(brighter(holed(weave.pictures[0].pixels))).is_anomalous


def test_a_detector_without_statistics_is_normalised_by_the_new_pictures(
    weave: Texture, plain: Bundle
) -> None:
    old = {name: each for name, each in plain.threshold.items() if name != "statistics"}
    new = recalibrated(replace(plain, threshold=old), in_other_light(weave), say=print)
    wanted = intensity_range([each.pixels for each in in_other_light(weave).pictures])
    assert (new.preprocessing["low"], new.preprocessing["high"]) == wanted


def test_a_rate_can_be_asked_for_and_else_stays(weave: Texture, plain: Bundle) -> None:
    rates = [
        recalibrated(plain, weave, rates=each, say=print).threshold
        for each in (None, Rates(false_alarms=0.3))
    ]
    assert [each["false_alarm_rate"] for each in rates] == [0.05, 0.3]
    assert rates[0]["value"] > rates[1]["value"]


def test_pictures_that_do_not_look_good_are_refused_by_name(weave: Texture, plain: Bundle) -> None:
    first, *rest = weave.pictures
    mixed = replace(weave, pictures=(replace(first, pixels=holed(first.pixels)), *rest))
    with pytest.raises(DataError, match=f"1 of {len(mixed.pictures)} .* {first.name} .*deviations"):
        recalibrated(plain, mixed, say=print)


def test_fewer_than_five_pictures_are_refused(weave: Texture, plain: Bundle) -> None:
    with pytest.raises(DataError, match="takes 5 good pictures or more; .* has 4"):
        recalibrated(plain, replace(weave, pictures=weave.pictures[:4]), say=print)


def test_another_operating_point_is_that_of_a_detector_made_with_it(
    tiny_data: TrainingData, tiny_parts: list[Part]
) -> None:
    parts = tiny_parts[:2]
    usual, wanted = (
        made(parts, choose(parts, tiny_data), tiny_data, rates=rates)
        for rates in (Rates(), Rates(false_alarms=0.3, look_again=0.5))
    )
    found = at_rates(usual, rates_of(wanted))
    same = ("value", "look_again_value", "rule", "scores", "false_alarm_rate", "look_again_rate")
    assert [found.threshold[name] for name in same] == [wanted.threshold[name] for name in same]
    assert found.threshold["map_value"] == usual.threshold["map_value"]
    assert found.threshold["look_again_value"] < found.threshold["value"]
    assert found.threshold["value"] < usual.threshold["value"]


def test_a_detector_without_scores_needs_pictures_for_another_operating_point(
    plain: Bundle,
) -> None:
    old = {name: plain.threshold[name] for name in ("value", "rule", "images")}
    with pytest.raises(ConfigError, match="older version made it. Give good pictures with --good"):
        at_rates(replace(plain, threshold=old), Rates())
