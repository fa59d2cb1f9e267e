"""A score says where its picture is unlike the good ones, and a defect is not such a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from registry import bundle
from registry.bundle import Bundle
from tests.method_exam import fit_bundle
from tests.textures_drawn import HEIGHT, WIDTH, draw, draw_hole, one_a_family
from zoo.data import textures
from zoo.data.statistics import STATISTICS
from zoo.data.textures import Picture, Texture
from zoo.detectors import Detector, Score, card
from zoo.errors import BundleError
from zoo.methods.local_statistics import LocalStatistics
from zoo.methods.random_features import RandomFeatures
from zoo.training import TrainingData, floor, gather, made, part_of

METHODS = (LocalStatistics(), RandomFeatures(width=4, memory=40))
Change = Callable[[np.ndarray], np.ndarray]


def fused_of(data: TrainingData) -> Bundle:
    parts = [part_of(fit_bundle(data, each), data) for each in METHODS]
    return made(parts, floor(parts, data), data)


@pytest.fixture(scope="module")
def fused(tiny_data: TrainingData) -> Bundle:
    return fused_of(tiny_data)


@pytest.fixture(scope="module")
def plain(fused: Bundle) -> Bundle:
    return fused.parts[0]


@pytest.fixture(scope="module", params=["plain", "fused"])
def detector(request: pytest.FixtureRequest) -> Detector:
    return Detector(request.getfixturevalue(request.param))


def of_five(texture: Texture, draw_one: Callable[[int], np.ndarray]) -> TrainingData:
    """Return the data of five pictures, which are divided into regions."""
    pixels = [draw_one(seed) for seed in range(5)]
    pictures = tuple(Picture(name=f"{n}", pixels=each, key=f"{n}") for n, each in enumerate(pixels))
    mode = "RGB" if pixels[0].shape[2] == 3 else "L"
    data = gather(replace(texture, pictures=pictures, mode="RGB" if mode == "RGB" else "L"))
    return replace(data, validation=one_a_family(data.validation))


@pytest.fixture(scope="module")
def weave(drawn_folder: Path) -> Texture:
    return textures.find(drawn_folder.parent, "weave")


def large(seed: int) -> np.ndarray:
    return draw(180, 260, np.random.default_rng(seed))


def brown(seed: int, tint: tuple[float, ...] = (1.0, 0.8, 0.5)) -> np.ndarray:
    return np.asarray(np.rint(large(seed) * np.array(tint)), np.uint8)


CHANGES: dict[str, tuple[Change, str]] = {
    "darker": (lambda x: np.rint(x * 0.6).astype(np.uint8), "The light or the exposure differs"),
    "brighter": (lambda x: (x * 0.7 + 75).astype(np.uint8), "The light or the exposure differs"),
    "blurred": (
        lambda x: cv2.GaussianBlur(x, (0, 0), 1.5).reshape(x.shape),
        "The focus, the resolution, the noise or the compression differs",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_picture_unlike_the_good_ones_has_a_warning_with_the_reason(
    detector: Detector, change: str
) -> None:
    alter, reason = CHANGES[change]
    found = detector.score(alter(draw(HEIGHT, WIDTH, np.random.default_rng(50))))
    assert any(reason in line for line in found.warnings)
    assert all(line.endswith("zoo recalibrate weave --good DIR.") for line in found.warnings)
    assert f"warnings={len(found.warnings)}" in repr(found)


def test_good_pictures_and_defects_have_none(detector: Detector) -> None:
    rng = np.random.default_rng(51)
    for _ in range(20):
        good, bad = draw(HEIGHT, WIDTH, rng), draw_hole(2 * HEIGHT, 2 * WIDTH, rng)[0]
        assert detector.score(good).warnings == ()
        assert detector.score(bad).warnings == ()
        assert detector.score(bad).score > detector.score(good).score


def test_what_is_stored_is_what_a_score_of_the_good_pictures_has(
    detector: Detector, tiny_data: TrainingData
) -> None:
    scores = [detector.score(each.pixels) for each in tiny_data.good]
    stored = detector.bundle.threshold["statistics"]
    assert set(stored) == {"brightness", "contrast", "sharpness", "background"}
    for name, values in stored.items():
        assert values == sorted(values)
        assert values == pytest.approx(sorted(s.statistics[name] for s in scores), abs=1e-4)
    for score in scores:
        assert score.statistics["background"] == pytest.approx(float(np.median(score.map)))


def test_every_form_of_a_picture_has_the_same_statistics(detector: Detector) -> None:
    pixels = draw(HEIGHT, WIDTH, np.random.default_rng(52))
    other = CHANGES["darker"][0](pixels)
    expected = detector.score(pixels).statistics
    forms = [pixels / 255, pixels.astype(np.uint16) * np.uint16(257), np.repeat(pixels, 3, axis=2)]
    for form in forms:
        assert detector.score(form).statistics == pytest.approx(expected, abs=1e-3)
    together = detector.score([other, pixels, other[:50]])
    assert together[1].statistics == pytest.approx(expected, abs=1e-4)
    assert [bool(each.warnings) for each in together] == [True, False, True]


def test_most_of_a_picture_in_another_material_moves_the_background(plain: Bundle) -> None:
    values = {"background": plain.threshold["statistics"]["background"]}
    own = replace(plain, threshold=plain.threshold | {"statistics": values})
    rng = np.random.default_rng(53)
    noise = rng.integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8)
    (line,) = Detector(own).score(noise).warnings
    assert line.startswith("The anomaly of most pixels is outside of what the good pictures had")
    assert Detector(own).score(draw(HEIGHT, WIDTH, rng)).warnings == ()


def test_five_pictures_divided_into_regions_do_not_warn_of_whole_pictures_of_the_same_kind(
    weave: Texture,
) -> None:
    detector = Detector(fused_of(of_five(weave, large)))
    for seed in range(100, 115):
        assert detector.score(large(seed)).warnings == ()
    assert detector.score(CHANGES["darker"][0](large(100))).warnings != ()


def test_a_tinted_picture_has_a_warning_of_its_colour_and_of_nothing_else(weave: Texture) -> None:
    data = of_five(weave, brown)
    detector = Detector(part_of(fit_bundle(data, LocalStatistics()), data).bundle)
    assert detector.score(brown(100)).warnings == ()
    stored = detector.bundle.threshold["statistics"]
    colours = {"red_green", "blue_yellow"}
    assert set(stored) == set(STATISTICS)
    tinted = detector.score(brown(100, (1.0, 0.8, 0.95))).warnings
    assert any(line.startswith("Blue against yellow") for line in tinted)
    assert not any(line.startswith(("Brightness", "Contrast", "Sharpness")) for line in tinted)
    grey = detector.score(large(100)[..., 0])
    assert {name: grey.statistics[name] for name in colours} == dict.fromkeys(colours, 0.0)
    assert any("colour of the light" in line for line in grey.warnings)


def test_a_bundle_from_before_the_statistics_has_none(plain: Bundle, fused: Bundle) -> None:
    for each in (plain, fused):
        old = {name: value for name, value in each.threshold.items() if name != "statistics"}
        before = replace(each, threshold=old)
        pixels = CHANGES["darker"][0](draw(HEIGHT, WIDTH, np.random.default_rng(54)))
        found = Detector(before).score(pixels)
        assert (found.statistics, found.warnings) == ({}, ())
        assert found.map.tobytes() == Detector(each).score(pixels).map.tobytes()
        assert card.of(before)["statistics"] == {}
    assert Score(map=np.zeros((2, 3), np.float32), score=0.5).warnings == ()


def test_a_saved_detector_warns_as_before(fused: Bundle, tmp_path: Path) -> None:
    bundle.save(fused, tmp_path)
    pixels = CHANGES["blurred"][0](draw(HEIGHT, WIDTH, np.random.default_rng(55)))
    again = Detector(bundle.load(tmp_path)).score(pixels)
    assert again.warnings == Detector(fused).score(pixels).warnings != ()


def test_a_statistic_that_this_version_does_not_know_is_skipped(plain: Bundle) -> None:
    newer = plain.threshold["statistics"] | {"glitter": "of a later version"}
    found = Detector(replace(plain, threshold=plain.threshold | {"statistics": newer}))
    assert found.score(draw(HEIGHT, WIDTH, np.random.default_rng(56))).warnings == ()


@pytest.mark.parametrize("values", [["high"], [], [None, 1.0], [1e200], "0.5", {"0": 0.5}, 0.5])
def test_statistics_that_are_no_list_of_numbers_are_refused(plain: Bundle, values: object) -> None:
    broken = plain.threshold | {"statistics": {"brightness": values}}
    with pytest.raises(BundleError, match="'weave' do not fit"):
        Detector(replace(plain, threshold=broken))


def test_the_card_says_the_range_in_words_and_hides_the_values(fused: Bundle) -> None:
    taken = {"scores_as_taken": fused.threshold["scores"]}
    shown = card.of(replace(fused, threshold=fused.threshold | taken))
    low, *_, high = fused.threshold["statistics"]["brightness"]
    assert shown["statistics"]["brightness"].startswith(f"{low:.3g} to {high:.3g}; a warning below")
    assert list(shown["statistics"]) == ["brightness", "contrast", "sharpness", "background"]
    assert not {"statistics", "scores", "scores_as_taken", "groups"} & set(shown["threshold"])
    json.dumps(shown)


@pytest.mark.parametrize("name", ["images", "independent"])
@pytest.mark.parametrize("value", [0, -1, 10**9, 2.5, "many", True])
def test_a_number_of_good_pictures_that_cannot_be_is_refused(
    plain: Bundle, name: str, value: object
) -> None:
    with pytest.raises(BundleError, match=rf"{name} is {value!r}"):
        Detector(replace(plain, threshold=plain.threshold | {name: value}))
