"""An image has the same score in any form; what is not an image is refused."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from registry import bundle
from registry.bundle import Bundle
from registry.folder_shelf import FolderShelf
from tests.detectors.threads import assert_threads_agree
from tests.exams import flip, publish
from tests.method_exam import fit_bundle
from tests.textures_drawn import draw, draw_hole, write
from zoo.data.images import as_pixels
from zoo.detectors.detector import Detector
from zoo.detectors.devices import available
from zoo.detectors.score import Score, calibrated
from zoo.errors import BadImageError, BundleError, ConfigError
from zoo.methods.fcbigan.method import FCBiGAN
from zoo.methods.local_statistics import LocalStatistics
from zoo.scoring.thresholds import Rates, fit_threshold
from zoo.training import TrainingData

HEIGHT, WIDTH = 64, 72


@pytest.fixture(scope="module")
def detector(tiny_bundle: Bundle) -> Detector:
    return Detector(tiny_bundle)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return draw_hole(HEIGHT, WIDTH, np.random.default_rng(5))[0]


# ------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize(("height", "width"), [(16, 40), (33, 17), (64, 72), (61, 90)])
def test_a_map_is_as_large_as_its_image(detector: Detector, height: int, width: int) -> None:
    found = detector.score(draw(height, width, np.random.default_rng(0))[..., 0])
    assert found.map.shape == found.mask.shape == (height, width)
    assert found.map.dtype == np.float32
    assert np.isfinite(found.map).all()


def test_a_map_is_as_large_as_its_image_at_half_the_scale(tiny_bundle: Bundle) -> None:
    half = Detector(replace(tiny_bundle, preprocessing={"mode": "L", "scale": 0.5}))
    assert half.score(draw(61, 72, np.random.default_rng(0))).map.shape == (61, 72)


def test_a_detector_that_was_saved_and_loaded_scores_the_same_to_the_last_bit(
    detector: Detector, tiny_bundle: Bundle, pixels: np.ndarray, tmp_path: Path
) -> None:
    bundle.save(tiny_bundle, tmp_path)
    again = Detector(bundle.load(tmp_path)).score(pixels)
    found = detector.score(pixels)
    assert again.map.tobytes() == found.map.tobytes()
    assert (again.score, again.threshold) == (found.score, found.threshold)


def test_scoring_twice_gives_the_same(detector: Detector, pixels: np.ndarray) -> None:
    first, second = detector.score([pixels, pixels])
    assert first.map.tobytes() == second.map.tobytes()


FORMS: dict[str, Callable[[np.ndarray, Path], Any]] = {
    "path": lambda pixels, path: path,
    "string": lambda pixels, path: str(path),
    "bytes": lambda pixels, path: path.read_bytes(),
    "memory view": lambda pixels, path: memoryview(path.read_bytes()),
    "pil": lambda pixels, path: Image.fromarray(pixels[..., 0]),
    "pil from a file": lambda pixels, path: Image.open(path),
    "array h w": lambda pixels, path: pixels[..., 0],
    "array h w 1": lambda pixels, path: pixels,
    "tensor h w": lambda pixels, path: torch.from_numpy(pixels[..., 0]),
    "tensor 1 h w": lambda pixels, path: torch.from_numpy(pixels[..., 0])[None],
    "16 bits": lambda pixels, path: pixels.astype(np.uint16) * np.uint16(257),
    "array that is a view": lambda pixels, path: np.repeat(pixels, 2, axis=0)[::2],
}


@pytest.mark.parametrize("form", FORMS)
def test_an_image_scores_the_same_in_every_form(
    form: str, detector: Detector, pixels: np.ndarray, tmp_path: Path
) -> None:
    image = FORMS[form](pixels, write(tmp_path / "a.png", pixels))
    found, expected = detector.score(image), detector.score(pixels)
    np.testing.assert_allclose(found.map, expected.map, atol=1e-4)
    assert found.score == pytest.approx(expected.score, abs=1e-4)


def test_a_list_scores_as_its_images_do_one_by_one(detector: Detector, pixels: np.ndarray) -> None:
    other = draw(40, 50, np.random.default_rng(1))
    found = detector.score([pixels, other])
    assert [each.map.shape for each in found] == [(HEIGHT, WIDTH), (40, 50)]
    for one, image in zip(found, (pixels, other), strict=True):
        assert one.map.tobytes() == detector.score(image).map.tobytes()
    assert detector.score([]) == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_from_0_to_1_score_nearly_as_bytes(
    dtype: type, detector: Detector, pixels: np.ndarray
) -> None:
    found, expected = detector.score(pixels / dtype(255)), detector.score(pixels)
    np.testing.assert_allclose(found.map, expected.map, atol=1e-3)


def test_a_tensor_that_is_being_trained_is_scored(detector: Detector, pixels: np.ndarray) -> None:
    image = (torch.from_numpy(pixels[..., 0]) / 255).requires_grad_()
    np.testing.assert_allclose(detector.score(image).map, detector.score(pixels).map, atol=1e-3)


def test_true_and_false_are_white_and_black() -> None:
    assert as_pixels(np.array([[True, False]])).tolist() == [[[255], [0]]]


def test_scoring_leaves_the_image_as_it_was(detector: Detector, pixels: np.ndarray) -> None:
    mine = pixels.copy()
    detector.score(mine)
    np.testing.assert_array_equal(mine, pixels)


# ------------------------------------------------------------------------------------- the result


def test_a_score_says_what_is_above_its_threshold() -> None:
    anomaly = np.array([[0.5, 2.0, 2.5], [1.0, 3.0, 2.0]], np.float32)
    found = Score(map=anomaly, score=2.1, threshold=2.0)
    assert found.is_anomalous
    assert found.mask.tolist() == [[False, False, True], [False, True, False]]
    assert not Score(map=anomaly, score=2.0, threshold=2.0).is_anomalous
    assert repr(found) == "Score(score=2.1, threshold=2, verdict='defective', map=2x3)"


def test_a_detector_with_a_band_gives_three_answers(
    tiny_bundle: Bundle, pixels: np.ndarray
) -> None:
    raw = Detector(tiny_bundle).score(pixels).score * tiny_bundle.threshold["value"]
    cases = [(raw + 2, raw + 1, "good"), (raw + 1, raw - 1, "look again"), (raw - 1, raw - 2, "")]
    for value, lower, expected in cases:
        limits = {"value": value, "look_again_value": lower, "look_again_rate": 0.2}
        found = Detector(
            replace(tiny_bundle, threshold=dict(tiny_bundle.threshold) | limits)
        ).score(pixels)
        assert found.verdict == (expected or "defective")
        assert found.as_json()["verdict"] == found.verdict
        assert found.is_anomalous == (not expected)
        assert found.look_again == pytest.approx(calibrated(lower, value))
    two = Detector(tiny_bundle).score(pixels)
    assert two.look_again == two.threshold


def test_the_score_is_the_mean_of_the_highest_pixels_of_the_map(
    detector: Detector, pixels: np.ndarray
) -> None:
    found = detector.score(pixels)
    count = round(found.map.size * detector.calibration.rule.top_fraction)
    assert found.score == pytest.approx(float(np.sort(found.map, axis=None)[-count:].mean()))


def test_scores_and_maps_are_calibrated_to_a_threshold_of_one(
    detector: Detector, pixels: np.ndarray
) -> None:
    found, raw = detector.score(pixels), detector.map(pixels)
    assert found.threshold == 1.0
    assert detector.threshold == detector.bundle.threshold["value"] > 0
    np.testing.assert_allclose(found.map, raw / detector.threshold, rtol=1e-6)
    np.testing.assert_array_equal(found.mask, raw > detector.threshold)


@pytest.mark.parametrize("value", [-2.0, 0.0, 1e-3, 7.0])
def test_calibrated_scores_keep_their_order_and_their_side_of_the_threshold(value: float) -> None:
    raw = np.linspace(-9, 9, 181)
    found = calibrated(raw, value)
    assert (np.diff(found) > 0).all()
    assert calibrated(value, value) == 1.0
    np.testing.assert_array_equal(found > 1, raw > value)


def test_an_image_is_anomalous_where_its_p_value_is_within_the_false_alarm_rate(
    tiny_bundle: Bundle,
) -> None:
    rng, rate = np.random.default_rng(3), 0.1
    plain = Detector(tiny_bundle)
    good = [draw(HEIGHT, WIDTH, rng) for _ in range(19)]
    scores = [plain.score(each).score * plain.threshold for each in good]
    threshold = fit_threshold(scores, Rates(false_alarms=rate))
    detector = Detector(replace(tiny_bundle, threshold=asdict(threshold)))
    for image in (*(draw(HEIGHT, WIDTH, rng) for _ in range(20)), draw_hole(HEIGHT, WIDTH, rng)[0]):
        found = detector.score(image)
        assert found.p_value is not None
        assert found.is_anomalous == (found.p_value <= rate)
    assert found.p_value == 1 / 20


def test_relatives_share_one_vote_in_a_p_value(tiny_bundle: Bundle, pixels: np.ndarray) -> None:
    plain = Detector(tiny_bundle)
    raw = plain.score(pixels).score * plain.threshold
    scores = [raw - 1] * 30 + [raw + 1] * 10
    groups = [*range(30), *[30] * 10]  # the ten higher ones are crops of one picture
    threshold = fit_threshold(scores, Rates(false_alarms=0.2), groups=groups)
    found = Detector(replace(tiny_bundle, threshold=asdict(threshold))).score(pixels)
    assert found.p_value == pytest.approx((1 + 1) / (1 + 31))


def test_too_few_good_images_give_no_p_value(detector: Detector, pixels: np.ndarray) -> None:
    assert detector.bundle.threshold["rule"] == "normal"
    assert detector.score(pixels).p_value is None


def test_a_bundle_from_before_p_values_has_none(tiny_bundle: Bundle, pixels: np.ndarray) -> None:
    old = {k: v for k, v in tiny_bundle.threshold.items() if k != "scores"} | {"rule": "conformal"}
    assert Detector(replace(tiny_bundle, threshold=old)).score(pixels).p_value is None


def test_many_threads_score_as_one_does(detector: Detector) -> None:
    rng = np.random.default_rng(4)
    images = [draw(40 + 3 * n, 60 - 2 * n, rng) for n in range(12)]
    assert_threads_agree(detector, images, threads=6)


def test_an_iterator_is_scored_image_by_image_as_it_is_asked(
    detector: Detector, pixels: np.ndarray
) -> None:
    asked: list[int] = []

    def camera() -> Iterator[np.ndarray]:
        for number in range(1000):
            asked.append(number)
            yield pixels

    scores = detector.score(camera())
    assert asked == []
    assert next(scores).score == detector.score(pixels).score
    assert asked == [0]


def test_a_detector_has_the_name_of_its_texture(detector: Detector) -> None:
    assert detector.name == "weave"
    assert isinstance(detector, zoo.Detector)


# -------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("image", "shape"),
    [
        (np.zeros((64, 72, 4), np.uint8), r"\(64, 72, 4\)"),
        (np.zeros((1, 64, 72), np.uint8), r"\(1, 64, 72\)"),
        (np.zeros((64,), np.uint8), r"\(64,\)"),
        (np.zeros((0, 72), np.uint8), r"\(0, 72\)"),
        (torch.zeros(64, 72, 3), r"\(64, 72, 3\)"),
        (np.zeros((1, 2, 64, 72, 3), np.uint8), r"\(1, 2, 64, 72, 3\)"),
    ],
)
def test_a_shape_that_is_no_images_is_refused_with_it(
    image: Any, shape: str, detector: Detector
) -> None:
    with pytest.raises(BadImageError, match=f"this one has shape {shape}"):
        detector.score(image)


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint32, np.complex64])
def test_a_type_that_is_no_pixels_is_refused_by_name(dtype: type, detector: Detector) -> None:
    with pytest.raises(BadImageError, match=f"not {np.dtype(dtype)}"):
        detector.score(np.zeros((64, 72), dtype))


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(-1.0, 1.0, r"\[-1, 1\]"), (0.0, 255.0, r"\[0, 255\]"), (float("nan"), 1.0, r"\[nan, nan\]")],
)
def test_floats_outside_0_to_1_are_refused_with_their_range(
    low: float, high: float, said: str, detector: Detector
) -> None:
    image = np.full((64, 72), high, np.float32)
    image[3, 5] = low
    with pytest.raises(BadImageError, match=rf"must lie in \[0, 1\]; these lie in {said}"):
        detector.score(image)


def test_an_image_above_the_limit_is_refused_with_both_sizes(
    detector: Detector, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.detectors.ready.MOST_PIXELS", 4_000)
    with pytest.raises(BadImageError, match="has 64x72 pixels; at most 0 megapixels"):
        detector.score(pixels)


@pytest.mark.parametrize(("height", "width"), [(15, 72), (64, 9)])
def test_an_image_smaller_than_a_patch_is_refused_with_both_sizes(
    detector: Detector, height: int, width: int
) -> None:
    with pytest.raises(BadImageError, match=rf"{height}x{width} pixels; .*'weave'.* 16x16 pixels"):
        detector.score(np.zeros((height, width), np.uint8))


def test_the_size_that_is_asked_for_is_that_before_scaling(tiny_bundle: Bundle) -> None:
    half = Detector(replace(tiny_bundle, preprocessing={"mode": "L", "scale": 0.5}))
    with pytest.raises(BadImageError, match="30x72 pixels; .* 32x32 pixels"):
        half.score(np.zeros((30, 72), np.uint8))


def test_a_file_that_is_no_picture_is_refused_with_its_path(
    detector: Detector, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(BadImageError, match=f"{tmp_path / 'a.png'} cannot be read"):
        detector.score(tmp_path / "a.png")
    with pytest.raises(BadImageError, match="nowhere.png"):
        detector.score("nowhere.png")


def test_a_bundle_of_an_unknown_method_is_refused_with_the_known_ones(tiny_bundle: Bundle) -> None:
    with pytest.raises(
        BundleError, match="'weave' .* method 'magic'; .* fcbigan, .*local_statistic"
    ):
        Detector(replace(tiny_bundle, method="magic"))


def test_weights_that_do_not_fit_their_configuration_are_refused(tiny_bundle: Bundle) -> None:
    wider = replace(tiny_bundle, config={**tiny_bundle.config, "width": 8})
    fewer = replace(tiny_bundle, weights=dict(list(tiny_bundle.weights.items())[1:]))
    newer = replace(tiny_bundle, config={**tiny_bundle.config, "halo": 3})
    for broken in (wider, fewer, newer):
        with pytest.raises(BundleError, match="The weights of 'weave' do not fit"):
            Detector(broken)


def test_a_device_that_is_not_there_is_refused_by_name(tiny_bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="no device 'cuda:99' here"):
        Detector(tiny_bundle, device="cuda:99")
    assert available("cpu") == torch.device("cpu")


def test_a_card_that_went_through_json_makes_the_same_detector(
    tiny_bundle: Bundle, detector: Detector
) -> None:
    calibration = json.loads(json.dumps(tiny_bundle.calibration))
    assert Detector(replace(tiny_bundle, calibration=calibration)).calibration == (
        detector.calibration
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_scored_too(
    dtype: torch.dtype, detector: Detector, pixels: np.ndarray
) -> None:
    image = (torch.from_numpy(pixels[..., 0]) / 255).to(dtype)
    expected = detector.score(image.float())
    np.testing.assert_allclose(detector.score(image).map, expected.map, atol=1e-3)


def test_a_colour_image_is_scored_by_a_grey_detector(
    detector: Detector, pixels: np.ndarray
) -> None:
    found = detector.score(np.repeat(pixels, 3, axis=2))
    np.testing.assert_allclose(found.map, detector.score(pixels).map, atol=1e-4)


def test_a_grey_detector_says_once_that_it_makes_colour_grey(
    tiny_bundle: Bundle, pixels: np.ndarray
) -> None:
    colour, detector = np.repeat(pixels, 3, axis=2), Detector(tiny_bundle)
    colour[0, 0] = (255, 0, 0)
    with pytest.warns(UserWarning, match="'weave' is grey: colour pictures are converted"):
        detector.score(colour)
    detector.score(colour)


# ------------------------------------------------------------------------------------- refresh


@pytest.fixture
def shelf(tiny_bundle: Bundle, tmp_path: Path) -> FolderShelf:
    """A shelf with two detectors; the first is the champion."""
    made = FolderShelf(tmp_path / "shelf")
    for version, scale in ((1, 1.0), (2, 0.5)):
        changed = tiny_bundle.preprocessing | {"scale": scale}
        bundle.save(replace(tiny_bundle, preprocessing=changed), tmp_path / str(version))
    publish(made, tmp_path / "2", texture="weave", version=2)
    publish(made, tmp_path / "1", texture="weave", version=1)
    return made


def test_a_refreshed_detector_is_the_new_champion(shelf: FolderShelf, tmp_path: Path) -> None:
    detector = zoo.load("weave", shelf=str(tmp_path / "shelf"))
    assert detector.preprocessing.scale == 1.0
    assert not detector.refresh()
    shelf.change("weave", lambda old: old.rolled_back(""))
    assert detector.refresh()
    assert detector.preprocessing.scale == 0.5
    assert not detector.refresh()


def test_a_detector_that_is_old_enough_follows_by_itself(
    shelf: FolderShelf, tmp_path: Path, pixels: np.ndarray
) -> None:
    young = zoo.load("weave", shelf=str(tmp_path / "shelf"), max_age_s=1e6)
    old = zoo.load("weave", shelf=str(tmp_path / "shelf"), max_age_s=0.0)
    shelf.change("weave", lambda held: held.rolled_back(""))
    deadline = time.monotonic() + 20
    while old.preprocessing.scale != 0.5 and time.monotonic() < deadline:
        old.score(pixels)
        young.score(pixels)
    assert (old.preprocessing.scale, young.preprocessing.scale) == (0.5, 1.0)


def test_a_damaged_new_champion_is_told_and_the_old_one_goes_on(
    shelf: FolderShelf, tmp_path: Path, pixels: np.ndarray
) -> None:
    detector = zoo.load("weave", shelf=str(tmp_path / "shelf"))
    before = detector.score(pixels).score
    flip(shelf.fetch("weave@previous") / bundle.WEIGHTS)
    shelf.change("weave", lambda held: held.rolled_back(""))
    for _ in range(2):
        with pytest.raises(BundleError, match="is damaged"):
            detector.refresh()
        assert detector.score(pixels).score == before


def test_a_detector_that_came_from_no_shelf_has_nothing_to_follow(detector: Detector) -> None:
    with pytest.raises(ConfigError, match="not loaded from a shelf, so it cannot be refreshed"):
        detector.refresh()


def test_one_pixel_is_refused_by_every_method(tiny_data: TrainingData) -> None:
    with pytest.raises(BadImageError):
        Detector(fit_bundle(tiny_data, LocalStatistics())).score(np.zeros((1, 40), np.uint8))


# ------------------------------------------------------------------------------ many at a time


@pytest.fixture(scope="module")
def batch() -> np.ndarray:
    """Eight pictures of the same size, "b h w c"."""
    rng = np.random.default_rng(3)
    return np.stack([draw(64, 72, rng) for _ in range(8)])


def assert_alike(some: list[Score], others: list[Score]) -> None:
    assert len(some) == len(others) > 0
    for one, other in zip(some, others, strict=True):
        np.testing.assert_allclose(one.map, other.map, rtol=1e-4, atol=1e-5)
        assert one.score == pytest.approx(other.score, rel=1e-4)


@pytest.mark.parametrize(
    "hand_over",
    [
        lambda batch: batch,
        lambda batch: torch.from_numpy(batch).permute(0, 3, 1, 2),
        lambda batch: torch.from_numpy(batch).permute(0, 3, 1, 2) / 255,
        lambda batch: list(batch),
        lambda batch: tuple(batch),
    ],
    ids=["array b h w c", "tensor b c h w", "floats", "list", "tuple"],
)
def test_a_batch_scores_as_its_pictures_do_alone(
    hand_over: Callable[[np.ndarray], Any], detector: Detector, batch: np.ndarray
) -> None:
    found = detector.score(hand_over(batch))
    assert isinstance(found, list)
    assert_alike(found, [detector.score(pixels) for pixels in batch])


def test_pictures_of_one_size_go_through_the_method_together(
    tiny_bundle: Bundle, batch: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, ...]] = []
    scorer = FCBiGAN.scorer

    def counted(method: FCBiGAN, *given: Any, **named: Any) -> Any:
        losses = scorer(method, *given, **named)

        def count(x: torch.Tensor) -> torch.Tensor:
            sizes.append(tuple(x.shape))
            return losses(x)

        return count

    monkeypatch.setattr(FCBiGAN, "scorer", counted)
    watched = Detector(tiny_bundle)
    mixed = [*batch[:3], batch[3][:40], *batch[4:], batch[3][:40, :50]]
    found = watched.score(mixed)
    assert [score.map.shape for score in found] == [each.shape[:2] for each in mixed]
    assert sizes == [(7, 1, 64, 72), (1, 1, 40, 72), (1, 1, 40, 50)]
    sizes.clear()
    monkeypatch.setattr("zoo.detectors.detector.BATCH_PIXELS", 3 * 64 * 72)
    watched.score(batch)
    assert [size[0] for size in sizes] == [3, 3, 2]


def test_a_batch_of_none_is_none(detector: Detector, batch: np.ndarray) -> None:
    assert detector.score([]) == []
    assert list(detector.score(batch[:0])) == []  # type: ignore[call-overload]


# ------------------------------------------------------------------------- through other processes


def test_a_pickled_detector_scores_the_same(detector: Detector, pixels: np.ndarray) -> None:
    again = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(again.score(pixels).map, detector.score(pixels).map)
    assert (again.name, again.device) == (detector.name, detector.device)


def test_a_pickled_detector_of_a_shelf_goes_on_following_it(
    shelf: FolderShelf, tmp_path: Path
) -> None:
    loaded = zoo.load("weave", shelf=str(tmp_path / "shelf"))
    again = pickle.loads(pickle.dumps(loaded))
    assert repr(again) == repr(loaded)
    shelf.change("weave", lambda old: old.rolled_back(""))
    assert again.refresh()
    assert again.preprocessing.scale == 0.5


def test_weights_that_cannot_be_written_to_do_no_harm(
    tiny_bundle: Bundle, detector: Detector, pixels: np.ndarray
) -> None:
    """Arrays from the object store of Ray are read-only."""
    frozen = {name: array.copy() for name, array in tiny_bundle.weights.items()}
    for array in frozen.values():
        array.flags.writeable = False
    found = Detector(replace(tiny_bundle, weights=frozen)).score(pixels)
    np.testing.assert_array_equal(found.map, detector.score(pixels).map)


def test_workers_of_another_process_score_with_it(detector: Detector, batch: np.ndarray) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        found = pool.map(detector.score, list(batch[:2]))
    assert_alike(found, detector.score(list(batch[:2])))


def test_its_repr_says_texture_version_method_and_device(
    detector: Detector, shelf: FolderShelf, tmp_path: Path
) -> None:
    assert repr(detector) == "Detector('weave', method='fcbigan', device='cpu')"
    loaded = zoo.load("weave@previous", shelf=str(tmp_path / "shelf"))
    assert repr(loaded) == "Detector('weave', version=2, method='fcbigan', device='cpu')"


def test_its_losses_have_names(detector: Detector, pixels: np.ndarray) -> None:
    losses = detector.losses(pixels)
    assert list(losses) == ["reconstruction", "discriminator"]
    assert {each.shape for each in losses.values()} == {pixels.shape[:2]}
