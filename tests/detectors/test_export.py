"""The ONNX file scores as the detector does, for pictures of all sizes."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import zoo
from registry import bundle
from registry.bundle import Bundle
from registry.folder_shelf import FolderShelf
from tests.exams import publish
from tests.method_exam import fit_bundle
from tests.textures_drawn import draw, draw_hole, write
from zoo import cli
from zoo.data.images import Mode
from zoo.data.preprocessing import Preprocessing, prepare
from zoo.detectors import export, fuse
from zoo.detectors.detector import Detector
from zoo.errors import BadImageError, ConfigError
from zoo.methods import neighbours
from zoo.methods.fcbigan.config import NetworkConfig
from zoo.methods.fcbigan.networks import Networks, initialise
from zoo.methods.fcbigan.scorer import fcbigan_losses
from zoo.methods.local_statistics import LocalStatistics
from zoo.methods.random_features import RandomFeatures
from zoo.methods.sparse_dictionary import SparseDictionary
from zoo.scoring.aggregation import Rule, calibrate
from zoo.scoring.fusion import Fusion, fit_tail
from zoo.scoring.thresholds import Rates, fit_threshold
from zoo.training import TrainingData

# Torch traces for long, so there are three models that differ in all that may: a plain one without
# a network; one in colour, smoothed before the distance, at half the scale; a fused one of 16
# bits, at two scales, whose first part has one loss, two views and the maximum.
COLOUR = Rule(aggregation="mahalanobis", mean_filter=5, top_fraction=0.05)
PART = Rule(aggregation="linear", weights=(0.0, 0.0, 1.0), mean_filter=3, top_fraction=1e-6)


@pytest.fixture(scope="module", autouse=True)
def unchecked() -> Iterator[None]:
    """Shapes are not checked while torch traces, because sides are symbols and not `int`."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def bundle_of(tiny_bundle: Bundle, rule: Rule, *, mode: Mode, scale: float, views: int) -> Bundle:
    """Return a detector with a segmenter and random weights, calibrated on good pictures."""
    config = NetworkConfig(
        patch=16, depth=2, discriminator_depth=2, width=4, latent_channels=4, segmenter=True,
        segmenter_depth=2,
    )  # fmt: skip
    preprocessing = Preprocessing(mode=mode, scale=scale)
    networks = Networks(config, channels=preprocessing.channels)
    initialise(networks, torch.Generator().manual_seed(0))
    rng = np.random.default_rng(0)
    good = [
        fcbigan_losses(
            networks.eval(), prepare(draw(90, 100, rng), preprocessing)[None], output_stride=2
        )[0]
        for _ in range(3)
    ]
    return replace(
        tiny_bundle,
        config=asdict(config) | {"output_stride": 2, "views": views},
        preprocessing=asdict(preprocessing),
        calibration=asdict(calibrate(rule, good)),
        weights={name: each.numpy() for name, each in networks.state_dict().items()},
    )


@pytest.fixture(scope="module")
def alone(tiny_data: TrainingData) -> Bundle:
    return fit_bundle(tiny_data, LocalStatistics())


@pytest.fixture(scope="module")
def model(alone: Bundle) -> bytes:
    return export.to_onnx(alone)


@pytest.fixture(scope="module")
def in_colour(tiny_bundle: Bundle) -> tuple[Bundle, bytes]:
    made = bundle_of(tiny_bundle, COLOUR, mode="RGB", scale=0.5, views=1)
    return made, export.to_onnx(made)


def run(model: bytes, pixels: np.ndarray) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(None, {"image": pixels}), strict=True))


def assert_alike(made: Bundle, model: bytes, height: int, width: int) -> None:
    """Compare a detector and its file on a grey picture of noise, and on one in colour."""
    for channels in (1, 3):
        pixels = np.random.default_rng(1).integers(0, 256, (height, width, channels), np.uint8)
        with warnings.catch_warnings():  # the detector may be grey, the picture is not
            warnings.simplefilter("ignore")
            said = Detector(made).score(pixels)
        found = run(model, pixels)
        assert found["map"].shape == (height, width)
        np.testing.assert_allclose(found["map"], said.map, atol=export.MOST_DIFFERENCE)
        assert float(found["score"]) == pytest.approx(said.score, abs=export.MOST_DIFFERENCE)
        assert bool(found["is_anomalous"]) == said.is_anomalous
        assert made.threshold["rule"] == "normal"
        assert "p_value" not in found


@pytest.mark.parametrize(("height", "width"), [(64, 64), (93, 95), (330, 71)])
def test_the_file_says_what_the_detector_says_of_a_picture_of_any_size(
    alone: Bundle, model: bytes, height: int, width: int
) -> None:
    assert_alike(alone, model, height, width)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (61, 90), (64, 64), (130, 47)])
def test_the_file_of_a_network_in_colour_says_what_the_detector_says(
    in_colour: tuple[Bundle, bytes], height: int, width: int
) -> None:
    assert_alike(*in_colour, height, width)


def test_the_file_says_what_it_is(alone: Bundle, model: bytes) -> None:
    session = onnxruntime.InferenceSession(model)
    (image,) = session.get_inputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", ["h", "w", "c"])
    known = session.get_modelmeta().custom_metadata_map
    assert known["texture"] == "weave"
    assert known["smallest_side"] == "64"
    assert known["fingerprint"] == alone.data["fingerprint"]


def test_weights_are_in_the_file_once_however_many_views_there_are(fused_model: bytes) -> None:
    found = onnx.load_model_from_string(fused_model)
    weights = [each.raw_data for each in found.graph.initializer if len(each.raw_data) > 64]
    assert len(weights) >= 3
    assert len(weights) == len(set(weights))


def test_what_has_no_form_for_all_sizes_is_refused(tiny_data: TrainingData) -> None:
    with pytest.raises(ConfigError, match="made by method 'sparse_dictionary', which has no form"):
        export.to_onnx(fit_bundle(tiny_data, SparseDictionary(atoms=12)))


# ------------------------------------------------------------------------------------------ fused


def fuse_all(
    bundles: tuple[Bundle, ...], map_weights: tuple[float, ...], score_weights: tuple[float, ...]
) -> Bundle:
    rng = np.random.default_rng(1)
    good = [draw(64, 72, rng) for _ in range(3)]
    plain = [Detector(each) for each in bundles]
    tails = tuple(fit_tail([torch.from_numpy(d.map(each)) for each in good]) for d in plain)
    scores, groups = tuple(np.linspace(0.1, 3, 40).tolist()), [*range(30), *[30] * 10]
    limit = fit_threshold(scores, Rates(false_alarms=0.05), groups=groups)
    return fuse(
        bundles,
        Fusion(tails=tails, map_weights=map_weights, score_weights=score_weights),
        texture="weave",
        threshold=asdict(limit) | {"map_value": 2.5},
        metrics={},
        data=bundles[0].data,
        made_by={},
    )


@pytest.fixture(scope="module")
def bundles(tiny_bundle: Bundle, tiny_data: TrainingData) -> tuple[Bundle, ...]:
    """Parts at two scales; the last one has no form for all sizes."""
    return (
        bundle_of(tiny_bundle, PART, mode="L", scale=1.0, views=2),
        fit_bundle(tiny_data, RandomFeatures(width=4, memory=40), scale=0.7),
        fit_bundle(tiny_data, LocalStatistics()),
    )


@pytest.fixture(scope="module")
def fused_bundle(bundles: tuple[Bundle, ...]) -> Bundle:
    return fuse_all(bundles, (1.0, 0.5, 0.0), (0.0, 1.0, 0.0))


@pytest.fixture(scope="module")
def fused_model(fused_bundle: Bundle) -> bytes:
    """Traced as with a large memory, whose distances are computed for a few vectors at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_AT_ONCE", 40 * 100)
        return export.to_onnx(fused_bundle, bits=16)


def deep(pixels: np.ndarray) -> np.ndarray:
    """Return pixels of 16 bits whose lower 8 are drawn at random."""
    rough = np.random.default_rng(2).integers(0, 256, pixels.shape, np.uint16)
    made: np.ndarray = np.uint16(256) * pixels + rough
    return made


@pytest.mark.parametrize(("height", "width"), [(92, 92), (93, 95), (101, 130), (300, 318)])
def test_a_fused_file_of_sixteen_bits_says_what_the_fused_detector_says(
    fused_bundle: Bundle, fused_model: bytes, height: int, width: int
) -> None:
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (height, width, 1), np.uint8)
    ranks = []
    for shallow in (noise, draw(height, width, rng), draw_hole(height, width, rng)[0]):
        pixels = deep(shallow)
        said, found = Detector(fused_bundle).score(pixels), run(fused_model, pixels)
        np.testing.assert_allclose(found["map"], said.map, atol=export.MOST_DIFFERENCE)
        assert float(found["score"]) == pytest.approx(said.score, abs=export.MOST_DIFFERENCE)
        assert float(found["p_value"]) == pytest.approx(said.p_value)
        assert bool(found["is_anomalous"]) == said.is_anomalous
        assert said.p_value is not None
        ranks.append(said.p_value)
    assert 0 < min(ranks) < max(ranks) < 1


def test_a_fused_file_is_compared_and_says_what_it_is(
    fused_bundle: Bundle, fused_model: bytes
) -> None:
    pictures = export.drawn(fused_bundle, bits=16)
    assert {each.dtype for each in pictures} == {np.dtype(np.uint16)}
    shallow = draw_hole(100, 110, np.random.default_rng(5))[0]
    found = export.compare(fused_bundle, fused_model, [*pictures, shallow], bits=16)
    assert (found.images, found.difference < export.MOST_DIFFERENCE) == (5, True)
    known = onnxruntime.InferenceSession(fused_model).get_modelmeta().custom_metadata_map
    assert known["method"] == "fusion"
    assert known["smallest_side"] == "92"  # 64 pixels at 0.7 of the scale
    with pytest.raises(BadImageError, match="has 91x99 pixels; the model of 'weave' needs 92"):
        export.compare(fused_bundle, fused_model, [np.zeros((91, 99, 1), np.uint8)], bits=16)


def test_a_part_that_has_no_form_for_all_sizes_is_refused_by_name(
    bundles: tuple[Bundle, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalStatistics, "export_side", None)
    used = fuse_all(bundles, (1.0, 1.0, 0.0), (1.0, 0.0, 0.1))
    with pytest.raises(ConfigError, match="'weave' has the part 'local_statistics', whose method"):
        export.to_onnx(used)


@pytest.mark.parametrize("scales", [[1.0], [0.5], [1.0, 0.5], [0.5, 0.7], [1.0, 0.5, 0.25], [0.01]])
def test_pictures_are_traced_where_each_part_pads_them(scales: list[float]) -> None:
    scaled = [round(export._padded_side(130, scales) * scale) for scale in scales]
    assert all(side % 4 for side in scaled)
    assert any(side % 2 for side in scaled)


def test_without_its_packages_it_says_what_to_install(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else 1)
    with pytest.raises(ConfigError, match="onnxscript is not installed. Run `pip install 'text"):
        export.to_onnx(tiny_bundle)


def test_a_picture_of_sixteen_bits_is_not_compared_at_eight(alone: Bundle, model: bytes) -> None:
    deep = np.zeros((80, 80, 1), np.uint16)
    with pytest.raises(BadImageError, match="has 16 bits a channel.*--bits 16"):
        export.compare(alone, model, [deep])


def test_a_picture_that_the_smoothing_does_not_fit_into_is_not_compared(
    alone: Bundle, model: bytes
) -> None:
    rule = alone.calibration["rule"] | {"mean_filter": 71}
    wide = replace(alone, calibration=alone.calibration | {"rule": rule})
    with pytest.raises(BadImageError, match="has 70x90 pixels; the model of 'weave' needs 71 or"):
        export.compare(wide, model, [np.zeros((70, 90, 1), np.uint8)])


# ------------------------------------------------------------------------------------ the command


@pytest.fixture
def home(alone: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    bundle.save(alone, tmp_path / "made")
    publish(FolderShelf(tmp_path / "shelf"), tmp_path / "made", texture="weave", version=1)
    monkeypatch.setenv("ZOO_SHELF", str(tmp_path / "shelf"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_writes_a_file_that_it_has_compared(
    home: Path,
    alone: Bundle,
    model: bytes,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def once(made: Bundle, *, bits: export.Bits) -> bytes:
        assert bits == 8
        assert all(np.array_equal(made.weights[name], alone.weights[name]) for name in made.weights)
        return model

    monkeypatch.setattr(export, "to_onnx", once)
    picture = write(home / "piece.png", draw_hole(64, 72, np.random.default_rng(5))[0])
    cli.main(["export", "weave", "--to", "onnx", "--check", str(picture), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["model"] == "weave.onnx"
    assert said["images"] == 1
    assert 0 < said["difference"] < export.MOST_DIFFERENCE
    found = run((home / "weave.onnx").read_bytes(), draw_hole(64, 72, np.random.default_rng(5))[0])
    score = zoo.load("weave").score(picture).score
    assert float(found["score"]) == pytest.approx(score, abs=export.MOST_DIFFERENCE)


def test_a_file_that_says_another_thing_is_not_written(
    home: Path,
    alone: Bundle,
    model: bytes,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threshold = alone.threshold | {"value": alone.threshold["value"] * 1.01}
    bundle.save(replace(alone, threshold=threshold), home / "other")
    publish(FolderShelf(home / "shelf"), home / "other", texture="weave", version=2)
    monkeypatch.setattr(export, "to_onnx", lambda *_, **__: model)
    with pytest.raises(SystemExit):
        cli.main(["export", "weave", "--to", "onnx", "--out", "other.onnx"])
    assert "where 0.0001 is allowed. Nothing was written" in capsys.readouterr().err
    assert not list(home.glob("*.onnx"))
