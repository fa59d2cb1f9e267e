"""A fused detector is the weighted sum of the log tails of its parts, and scores like any other."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save as save_tensors
from scipy.ndimage import maximum_filter

import zoo
from registry import bundle
from registry.bundle import Bundle
from registry.folder_shelf import FolderShelf
from tests.detectors.threads import assert_threads_agree
from tests.exams import publish
from tests.forged import (
    afresh,
    in_part,
    in_tail,
    torch_weights,
    with_value,
    with_values,
    with_weights,
)
from tests.method_exam import fit_bundle
from tests.textures_drawn import draw, draw_hole
from zoo.detectors import Detector, card, fuse, ready
from zoo.errors import BadImageError, BundleError, ConfigError
from zoo.methods.local_statistics import LocalStatistics
from zoo.methods.random_features import RandomFeatures
from zoo.scoring.fusion import Fusion, added, fit_tail, log_tail
from zoo.scoring.maps import image_score
from zoo.scoring.thresholds import Rates, fit_threshold
from zoo.training import TrainingData

HEIGHT, WIDTH = 64, 72
THRESHOLD = {"value": 1.5, "false_alarm_rate": 0.05, "rule": "normal", "images": 3, "scores": ()}


@pytest.fixture(scope="module")
def bundles(tiny_data: TrainingData, tiny_bundle: Bundle) -> tuple[Bundle, ...]:
    """Three complete detectors, at two scales."""
    return (
        fit_bundle(tiny_data, LocalStatistics(), scale=0.5),
        tiny_bundle,
        fit_bundle(tiny_data, RandomFeatures(width=4, memory=40)),
    )


@pytest.fixture(scope="module")
def made(bundles: tuple[Bundle, ...]) -> Bundle:
    """A fused detector: another choice of parts for the map than for the score."""
    return fuse_all(bundles)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return draw_hole(HEIGHT, WIDTH, np.random.default_rng(5))[0]


def fuse_all(
    bundles: tuple[Bundle, ...], threshold: dict[str, Any] = THRESHOLD, **changes: Any
) -> Bundle:
    rng = np.random.default_rng(1)
    good = [draw(HEIGHT, WIDTH, rng) for _ in range(3)]
    plain = [Detector(each) for each in bundles]
    given: dict[str, Any] = {
        "tails": tuple(fit_tail([torch.from_numpy(d.map(each)) for each in good]) for d in plain),
        "map_weights": (1.0, 0.5, 0.0)[: len(bundles)],
        "score_weights": (0.5, 0.0, 1.0)[: len(bundles)],
        "top_fraction": 0.02,
    }
    return fuse(
        bundles, Fusion(**(given | changes)), texture="weave", threshold=threshold,
        metrics={"val_pixel_ap": 0.5}, data=bundles[0].data, made_by={"seed": 0},
    )  # fmt: skip


def uncomputed(monkeypatch: pytest.MonkeyPatch, method: type) -> list[int]:
    """Return a list that grows whenever the method computes."""
    calls: list[int] = []
    scorer = method.scorer  # type: ignore[attr-defined]

    def counted(self: Any, *given: Any, **named: Any) -> Callable[[torch.Tensor], torch.Tensor]:
        losses = scorer(self, *given, **named)

        def count(x: torch.Tensor) -> torch.Tensor:
            calls.append(len(x))
            found: torch.Tensor = losses(x)
            return found

        return count

    monkeypatch.setattr(method, "scorer", counted)
    return calls


# ------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_fusion_of_one_orders_pixels_as_its_part_does(
    at: int, bundles: tuple[Bundle, ...], pixels: np.ndarray
) -> None:
    one = fuse_all((bundles[at],), map_weights=(1.0,), score_weights=(1.0,))
    found, alone = Detector(one).map(pixels).ravel(), Detector(bundles[at]).map(pixels).ravel()
    order = np.argsort(alone, kind="stable")
    assert (np.diff(found[order]) > -1e-6).all()
    assert len(np.unique(found)) > 0.5 * len(np.unique(alone))


def test_its_map_and_score_are_weighted_sums_of_the_log_tails_of_its_parts(
    bundles: tuple[Bundle, ...], made: Bundle, pixels: np.ndarray
) -> None:
    detector, fusion = Detector(made), card.read(made).fusion
    assert fusion is not None
    maps = [torch.from_numpy(Detector(each).map(pixels)) for each in bundles]
    tails = [log_tail(each, tail) for each, tail in zip(maps, fusion.tails, strict=True)]
    in_map, in_score = (
        added(tails, weights) for weights in (fusion.map_weights, fusion.score_weights)
    )
    np.testing.assert_array_equal(detector.map(pixels), in_map.numpy())
    np.testing.assert_array_equal(detector.score_map(pixels), in_score.numpy())
    assert (in_map - in_score).abs().max() > 0.1
    found = detector.score(pixels)
    np.testing.assert_allclose(found.map, in_map.numpy() / 1.5, rtol=1e-6)
    assert found.score == pytest.approx(float(image_score(in_score, 0.02)) / 1.5)
    assert detector.top_fraction == 0.02


@pytest.mark.parametrize(("height", "width"), [(46, 90), (61, 57), (64, 72)])
def test_its_map_is_as_large_as_its_image(made: Bundle, height: int, width: int) -> None:
    image = draw(height, width, np.random.default_rng(0))
    detector = Detector(made)
    for found in (detector.map(image), detector.score_map(image), detector.score(image).map):
        assert found.shape == (height, width)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()


@pytest.mark.parametrize("how", ["saved and loaded", "pickled"])
def test_it_comes_back_and_scores_the_same_to_the_last_bit(
    how: str, made: Bundle, pixels: np.ndarray, tmp_path: Path
) -> None:
    detector = Detector(made)
    if how == "pickled":
        again = pickle.loads(pickle.dumps(detector))
    else:
        bundle.save(made, tmp_path)
        again = Detector(bundle.load(tmp_path))
    found, before = again.score(pixels), detector.score(pixels)
    assert found.map.tobytes() == before.map.tobytes()
    assert found.score == before.score
    assert repr(again) == repr(detector) == "Detector('weave', method='fusion', device='cpu')"


def test_a_list_scores_as_its_images_do_one_by_one(made: Bundle, pixels: np.ndarray) -> None:
    detector, other = Detector(made), draw(50, 58, np.random.default_rng(1))
    images = [pixels, other, draw(HEIGHT, WIDTH, np.random.default_rng(2))]
    found = detector.score(images)
    assert len(found) == 3
    for one, image in zip(found, images, strict=True):
        np.testing.assert_allclose(one.map, detector.score(image).map, atol=1e-4)
        assert one.score == pytest.approx(detector.score(image).score, abs=1e-4)


def test_many_threads_score_as_one_does(made: Bundle) -> None:
    detector, rng = Detector(made), np.random.default_rng(4)
    images = [draw(50 + 3 * n, 70 - 2 * n, rng) for n in range(6)]
    assert_threads_agree(detector, images, threads=4)


def test_a_part_of_no_weight_is_not_computed(
    bundles: tuple[Bundle, ...], pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fuse_all(bundles, map_weights=(1.0, 0.0, 0.0), score_weights=(0.0, 0.0, 1.0))
    calls = {
        method: uncomputed(monkeypatch, method)
        for method in (LocalStatistics, type(Detector(bundles[1]).method), RandomFeatures)
    }
    detector = Detector(made)
    detector.score(pixels)
    assert list(map(len, calls.values())) == [1, 0, 1]
    detector.map(pixels)
    assert list(map(len, calls.values())) == [2, 0, 1]
    detector.score_map(pixels)
    assert list(map(len, calls.values())) == [2, 0, 2]


def test_a_part_of_both_sums_is_computed_once(
    made: Bundle, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = uncomputed(monkeypatch, LocalStatistics)
    Detector(made).score([pixels, pixels])
    assert calls == [2]


def waiting(monkeypatch: pytest.MonkeyPatch, *, seconds: float) -> list[bool]:
    """Let two methods wait for each other; return whether each met the other."""
    both, met = threading.Barrier(2), []

    def wait(self: Any, *given: Any, **named: Any) -> Callable[[torch.Tensor], torch.Tensor]:
        losses = scorers[type(self)](self, *given, **named)

        def compute(x: torch.Tensor) -> torch.Tensor:
            try:
                both.wait(seconds)
            except threading.BrokenBarrierError:
                both.reset()
                met.append(False)
            else:
                met.append(torch.get_num_threads() == 1)
            found: torch.Tensor = losses(x)
            return found

        return compute

    scorers: dict[type, Any] = {each: each.scorer for each in (LocalStatistics, RandomFeatures)}
    for each in scorers:
        monkeypatch.setattr(each, "scorer", wait)
    return met


@pytest.mark.usefixtures("two_threads")
def test_on_two_cores_two_parts_are_computed_at_once_with_a_thread_each(
    bundles: tuple[Bundle, ...], pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fuse_all((bundles[0], bundles[2]), map_weights=(1.0, 0.5), score_weights=(1.0, 0.5))
    torch.set_num_threads(1)
    expected = Detector(made).map(pixels)
    torch.set_num_threads(2)
    met = waiting(monkeypatch, seconds=20)
    np.testing.assert_array_equal(Detector(made).map(pixels), expected)
    assert met == [True, True]
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_parts_of_a_large_picture_are_computed_one_after_the_other(
    bundles: tuple[Bundle, ...], pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fuse_all((bundles[0], bundles[2]), map_weights=(1.0, 0.5), score_weights=(1.0, 0.5))
    met = waiting(monkeypatch, seconds=0.2)
    monkeypatch.setattr(ready, "LARGE", pixels.size - 1)
    Detector(made).map(pixels)
    assert met == [False, False]


LATE = """
import sys, threading
from pathlib import Path
import numpy, torch
from registry import bundle
from zoo.detectors import Detector
torch.set_num_threads(2)
detector = Detector(bundle.load(Path(sys.argv[1])))
def score():
    threading.main_thread().join()
    print(detector.score(numpy.zeros((64, 72, 1), numpy.uint8)).map.shape)
threading.Thread(target=score).start()
"""


def test_a_thread_that_outlives_the_main_one_scores(made: Bundle, tmp_path: Path) -> None:
    bundle.save(made, tmp_path / "fused")
    command = [sys.executable, "-c", LATE, str(tmp_path / "fused")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.returncode) == ("(64, 72)\n", 0), ended.stderr


@pytest.mark.usefixtures("two_threads")
def test_a_part_that_fails_beside_another_leaves_no_thread_behind(
    made: Bundle, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*given: Any) -> None:
        raise MemoryError

    detector = Detector(made)
    monkeypatch.setattr(ready, "anomaly_map", failing)
    with pytest.raises(BadImageError, match="not enough memory"):
        detector.score(pixels)
    assert not [each for each in threading.enumerate() if each.name.startswith("part")]
    assert torch.get_num_threads() == 2


# ------------------------------------------------------------------------------------- the result


def test_the_map_may_have_a_limit_of_its_own(
    bundles: tuple[Bundle, ...], pixels: np.ndarray
) -> None:
    made = fuse_all(bundles, threshold=THRESHOLD | {"map_value": 3.0})
    detector, found = Detector(made), Detector(made).score(pixels)
    assert (detector.threshold, detector.map_threshold) == (1.5, 3.0)
    np.testing.assert_allclose(found.map, detector.map(pixels) / 3, rtol=1e-6)
    score = float(image_score(torch.from_numpy(detector.score_map(pixels)), 0.02))
    assert found.score == pytest.approx(score / 1.5)
    assert Detector(fuse_all(bundles)).map_threshold == 1.5


@pytest.mark.parametrize("share", [0.0, 0.8, 1.0])
def test_an_outline_follows_the_peak_as_the_card_says_and_only_the_outline(
    bundles: tuple[Bundle, ...], pixels: np.ndarray, share: float
) -> None:
    known = THRESHOLD | {"map_value": 0.2}
    plain = Detector(fuse_all(bundles, threshold=known)).score(pixels)
    assert plain.mask.sum() > 500
    np.testing.assert_array_equal(plain.mask, plain.map > 1)
    found = Detector(fuse_all(bundles, threshold=known | {"share_of_peak": share})).score(pixels)
    near = maximum_filter(found.map, size=17, mode="nearest")
    np.testing.assert_array_equal(found.mask, plain.mask & (found.map >= np.float32(share) * near))
    assert (found.mask.sum() < plain.mask.sum()) == (share > 0)
    np.testing.assert_array_equal(found.map, plain.map)
    assert (found.score, found.verdict) == (plain.score, plain.verdict)
    assert len(found.regions) <= len(plain.regions)
    assert sum(region.area for region in found.regions) == found.mask.sum()
    assert found.as_json()["anomalous_pixels"] == found.mask.sum()
    found.mask[:] = False  # an array of whoever asked for it
    assert found.mask.any()


def test_a_plain_detector_has_one_map_and_may_have_two_limits(
    tiny_bundle: Bundle, pixels: np.ndarray
) -> None:
    detector = Detector(replace(tiny_bundle, threshold=tiny_bundle.threshold | {"map_value": 9e3}))
    assert (detector.threshold, detector.map_threshold) == (tiny_bundle.threshold["value"], 9e3)
    np.testing.assert_array_equal(detector.map(pixels), detector.score_map(pixels))
    assert detector.top_fraction == detector.calibration.rule.top_fraction
    assert detector.parts == ()


def test_an_image_is_anomalous_where_its_p_value_is_within_the_false_alarm_rate(
    bundles: tuple[Bundle, ...], made: Bundle, pixels: np.ndarray
) -> None:
    rng, plain = np.random.default_rng(3), Detector(made)
    scores = [plain.score(draw(HEIGHT, WIDTH, rng)).score * plain.threshold for _ in range(19)]
    ranked = fuse_all(bundles, threshold=asdict(fit_threshold(scores, Rates(false_alarms=0.1))))
    detector = Detector(ranked)
    for image in (*(draw(HEIGHT, WIDTH, rng) for _ in range(8)), pixels):
        found = detector.score(image)
        assert found.p_value is not None
        assert found.is_anomalous == (found.p_value <= 0.1)
    assert found.p_value == 1 / 20


def test_its_losses_are_the_log_tails_of_its_parts_by_name(
    bundles: tuple[Bundle, ...], made: Bundle, pixels: np.ndarray
) -> None:
    found = Detector(made).losses(pixels)
    assert list(found) == ["local_statistics", "fcbigan", "random_features"]
    assert {each.shape for each in found.values()} == {(HEIGHT, WIDTH)}
    np.testing.assert_array_equal(
        Detector(made).map(pixels), found["local_statistics"] + 0.5 * found["fcbigan"]
    )
    double = (bundles[0], bundles[1], bundles[0])
    twice = Detector(fuse_all(double, score_weights=(1.0, 0.0, 0.0))).losses(pixels)
    assert list(twice) == ["local_statistics_1", "fcbigan", "local_statistics_2"]
    assert not twice["local_statistics_2"].any()


def test_its_parts_are_detectors(
    bundles: tuple[Bundle, ...], made: Bundle, pixels: np.ndarray
) -> None:
    parts = list(Detector(made).parts)
    assert [part.preprocessing.scale for part in parts] == [0.5, 1.0, 1.0]
    for part, alone in zip(parts, bundles, strict=True):
        np.testing.assert_array_equal(part.map(pixels), Detector(alone).map(pixels))


@pytest.mark.parametrize("asked", ["method", "preprocessing", "calibration"])
def test_what_only_parts_have_is_refused(asked: str, made: Bundle) -> None:
    message = f"fused of local_statistics, fcbigan, random_features, and each .* has a {asked}"
    with pytest.raises(ConfigError, match=message):
        getattr(Detector(made), asked)


def test_the_smallest_picture_is_that_of_its_most_demanding_part_in_use(
    bundles: tuple[Bundle, ...],
) -> None:
    plain = [Detector(each) for each in bundles]
    need = [each.method.patch / each.preprocessing.scale for each in plain]
    assert need == [30, 16, 22]
    without = Detector(
        fuse_all(bundles, map_weights=(0.0, 1.0, 0.0), score_weights=(0.0, 0.0, 1.0))
    )
    for side, detector in ((30, Detector(fuse_all(bundles))), (22, without)):
        image = draw(side, 72, np.random.default_rng(0))
        assert detector.score(image).map.shape == (side, 72)
        with pytest.raises(
            BadImageError, match=f"{side - 2}x72 pixels; .*'weave'.* {side}x{side} pixels"
        ):
            detector.score(image[2:])


def test_a_grey_one_says_once_that_it_makes_colour_grey(made: Bundle, pixels: np.ndarray) -> None:
    colour, detector = np.repeat(pixels, 3, axis=2), Detector(made)
    colour[0, 0] = (255, 0, 0)
    with pytest.warns(UserWarning, match="'weave' is grey: colour pictures are converted"):
        detector.score(colour)
    detector.score(colour)


def test_it_follows_a_plain_one_on_a_shelf(
    made: Bundle, tiny_bundle: Bundle, pixels: np.ndarray, tmp_path: Path
) -> None:
    shelf = FolderShelf(tmp_path / "shelf")
    for version, each in ((1, tiny_bundle), (2, made)):
        bundle.save(each, tmp_path / str(version))
        publish(shelf, tmp_path / str(version), texture="weave", version=version)
    detector = zoo.load("weave", shelf=str(tmp_path / "shelf"))
    assert len(detector.parts) == 3
    shelf.change("weave", lambda old: old.rolled_back(""))
    assert detector.refresh()
    assert len(detector.parts) == 0
    np.testing.assert_array_equal(detector.map(pixels), Detector(tiny_bundle).map(pixels))


# --------------------------------------------------------------------------------------- the card


def test_its_card_shows_its_parts(bundles: tuple[Bundle, ...]) -> None:
    narrow = bundles[0].preprocessing | {"low": 0.12, "high": 0.83456}
    wide = bundles[1].preprocessing | {"low": 0.0, "high": 1.0}
    some = (
        replace(bundles[0], preprocessing=narrow), replace(bundles[1], preprocessing=wide),
    )  # fmt: skip
    found = card.of(fuse_all(some))
    assert found["method"] == "fusion"
    assert found["parts"] == {
        "local_statistics": {
            "method": "local_statistics", "scale": 0.5, "map_weight": 1.0, "score_weight": 0.5,
            "intensities": "0.12 to 0.83 of full scale; others are clamped",
        },
        "fcbigan": {
            "method": "fcbigan", "scale": 1.0, "map_weight": 0.5, "score_weight": 0.0,
            "intensities": "all of the full scale",
        },
    }  # fmt: skip
    own = sum(card.of(each)["megabytes"] for each in bundles[:2])
    assert found["megabytes"] == pytest.approx(own, abs=0.011)
    assert found["metrics"] == {"val": {"pixel_ap": 0.5}}
    json.dumps(found)
    plain = card.of(some[0])
    assert plain["intensities"] == "0.12 to 0.83 of full scale; others are clamped"
    assert "parts" not in plain


# -------------------------------------------------------------------------------------- refusals


def test_parts_of_two_modes_are_refused(
    bundles: tuple[Bundle, ...], tiny_data: TrainingData
) -> None:
    fusion = card.read(fuse_all(bundles[:2])).fusion
    assert fusion is not None
    weights = {
        name: array.repeat(3, axis=1) if name == "encoder.0.weight" else array
        for name, array in bundles[2].weights.items()
    }
    colour = replace(
        bundles[2], weights=weights, preprocessing=bundles[2].preprocessing | {"mode": "RGB"}
    )
    with pytest.raises(BundleError, match="modes L and RGB, not one"):
        fuse_all((bundles[0], colour))


def test_parts_without_a_tail_are_refused(bundles: tuple[Bundle, ...]) -> None:
    fusion = card.read(fuse_all(bundles[:2])).fusion
    assert fusion is not None
    with pytest.raises(BundleError, match="it has 3 parts and tails for 2"):
        fuse(bundles, fusion, texture="weave", threshold=THRESHOLD, metrics={}, data={}, made_by={})


def test_a_part_is_refused_by_its_name(made: Bundle) -> None:
    broken = replace(made.parts[2], weights={})
    with pytest.raises(BundleError, match="Part 'random_features' of 'weave': The weights of"):
        Detector(replace(made, parts=(*made.parts[:2], broken)))


def renamed(before: str, after: str) -> Callable[[bytes], bytes]:
    """Return what renames the arrays that begin with a text."""

    def change(blob: bytes) -> bytes:
        arrays = torch_weights(blob)
        assert any(name.startswith(before) for name in arrays)
        return save_tensors(
            {after + name[len(before):] if name.startswith(before) else name: each
             for name, each in arrays.items()}
        )  # fmt: skip

    return change


def dropped(prefix: str) -> Callable[[bytes], bytes]:
    """Return what leaves out the arrays that begin with a text."""

    def change(blob: bytes) -> bytes:
        arrays = torch_weights(blob)
        kept = {name: each for name, each in arrays.items() if not name.startswith(prefix)}
        assert 0 < len(kept) < len(arrays)
        return save_tensors(kept)

    return change


def not_finite(blob: bytes) -> bytes:
    arrays = torch_weights(blob)
    arrays["2/memory"][0, 0] = torch.nan
    return save_tensors(arrays)


def many_parts(folder: Path) -> None:
    part = json.loads((folder / bundle.CARD).read_text())["parts"][0]
    with_value("parts", [part] * 2000)(folder)


def nested(folder: Path) -> None:
    """Put the whole card into its own parts."""
    whole = json.loads((folder / bundle.CARD).read_text())
    inner = {k: v for k, v in whole.items() if "sha256" not in k and k != "format"}
    with_value("parts", [inner, *whole["parts"][1:]])(folder)


HOSTILE: dict[str, Callable[[Path], None]] = {
    "parts a word": with_value("parts", "abc"),
    "parts a mapping": with_value("parts", {"0": {}}),
    "parts numbers": with_value("parts", [1, 2, 3]),
    "parts none": with_value("parts", []),
    "parts missing": with_value("parts", None),
    "parts many": many_parts,
    "parts nested": nested,
    "part without a method": in_part(0, "method", None),
    "part unknown": in_part(0, "method", "os.system"),
    "part fused": in_part(0, "method", "fusion"),
    "part of nothing": in_part(0, "parts", None),
    "part with a fusion": in_part(0, "fusion", {"tails": []}),
    "part with a key": in_part(0, "run_me", "import os"),
    "part with weights": in_part(0, "weights", {"w": [1]}),
    "part without bounds": in_part(1, "config.width", 10**12),
    "part wide": in_part(1, "config.width", 1024),
    "part of another scale": in_part(1, "preprocessing.scale", 0),
    "part of a narrow range": in_part(1, "preprocessing.low", 1.0),
    "part of a range of words": in_part(1, "preprocessing.high", "1"),
    "part of another mode": in_part(0, "preprocessing.mode", "RGB"),
    "part with no rule": in_part(2, "calibration", {}),
    "part with no threshold": in_part(2, "threshold", {}),
    "fusion of nothing": with_value("fusion", {}),
    "fusion a list": with_value("fusion", [1]),
    "fusion unknown": with_value("fusion.run_me", 1),
    "tails a number": with_value("fusion.tails", 3),
    "tails of words": with_value("fusion.tails", ["abc", "abc", "abc"]),
    "tails too few": with_value("fusion.tails", []),
    "weights too few": with_value("fusion.map_weights", [1.0]),
    "weights of nothing": with_value("fusion.score_weights", [0, 0, 0]),
    "weights of words": with_value("fusion.score_weights", ["1", "1", "1"]),
    "weights below 0": with_value("fusion.score_weights", [1.0, -1.0, 1.0]),
    "weights huge": with_value("fusion.score_weights", [1e300, 1.0, 1.0]),
    "top of everything": with_value("fusion.top_fraction", 7),
    "top a word": with_value("fusion.top_fraction", "all"),
    "knots of words": in_tail(knots=["1", "2"], heights=[0.0, 1.0]),
    "knots descend": in_tail(knots=[2.0, 1.0], heights=[0.0, 1.0]),
    "knots alike": in_tail(knots=[1.0, 1.0], heights=[0.0, 1.0]),
    "knots huge": in_tail(knots=[0.0, 1e300], heights=[0.0, 1.0]),
    "knots too many": in_tail(knots=list(range(10**5)), heights=list(range(10**5))),
    "knots that nearly touch": in_tail(knots=[0.0, 1e-30], heights=[0.0, 1.0]),
    "heights descend": in_tail(knots=[1.0, 2.0], heights=[1.0, 0.5]),
    "heights of nothing": in_tail(heights=[]),
    "a tail unknown": in_tail(run_me=[]),
    "map value a word": with_value("threshold.map_value", "high"),
    "map value tiny": with_value("threshold.map_value", 1e-300),
    "share a word": with_value("threshold.share_of_peak", "most"),
    "share above 1": with_value("threshold.share_of_peak", 1.5),
    "share below 0": with_value("threshold.share_of_peak", -0.5),
    "share of no number": with_value("threshold.share_of_peak", None),
    "a config of its own": with_value("config", {"width": 3}),
    "a preprocessing of its own": with_value("preprocessing", {"mode": "L"}),
    "a method of its own": with_value("method", "fcbigan"),
    "plain with parts": with_values({"method": "fcbigan", "fusion": {}}),
    "format before parts": with_value("format", 2),
    "arrays of no part": with_weights(renamed("2/", "3/")),
    "arrays of a negative part": with_weights(renamed("2/", "-1/")),
    "arrays of a padded part": with_weights(renamed("2/", "02/")),
    "arrays without a part": with_weights(renamed("2/", "")),
    "arrays of another part": with_weights(renamed("2/memory", "0/memory")),
    "arrays nested": with_weights(renamed("2/memory", "2/2/memory")),
    "arrays missing": with_weights(dropped("1/")),
    "arrays not finite": with_weights(not_finite),
}


@pytest.fixture(scope="module")
def sound(made: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "bundle"
    bundle.save(made, folder)
    return folder


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_bundle_is_refused_at_once(how: str, sound: Path) -> None:
    folder = afresh(sound, "hostile")
    Detector(bundle.load(folder))
    HOSTILE[how](folder)
    began = time.monotonic()
    with pytest.raises(BundleError):
        Detector(bundle.load(folder))
    assert time.monotonic() - began < 5
