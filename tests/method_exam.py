"""The tests that every method must pass; a method is tested by a subclass of three lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from registry import bundle
from registry.bundle import Bundle
from zoo import methods
from zoo.detectors import Detector
from zoo.errors import BadImageError, BundleError
from zoo.methods import Method, pieces
from zoo.training import Settings, TrainingData, settings_of, train_best


def fit_weights(method: Method, images: Sequence[Tensor], *, seed: int = 0) -> dict[str, Tensor]:
    """Fit a method, and return a copy of what it reported last."""
    reports: list[dict[str, Tensor]] = []
    method.fit(
        images,
        generator=torch.Generator().manual_seed(seed),
        report=lambda now: reports.append({k: v.clone() for k, v in now.weights.items()}),
    )
    return reports[-1]


def losses_of(method: Method, weights: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """Return the loss function of one picture, "c h w" to "t h w"."""
    losses = method.scorer(weights)
    return lambda x: losses(x[None])[0]


def fit_bundle(data: TrainingData, method: Method, *, scale: float = 1.0) -> Bundle:
    """Fit a method on a texture, as a benchmark does."""
    return train_best(data, Settings(method=method, scale=scale), seed=0)


class MethodExam:
    """Tests of the protocol. The subclass gives the name of the method and small options.

    class TestLocalStatistics(MethodExam):
        name = "local_statistics"
        options = {"patch": 9}
    """

    name: str
    options: Mapping[str, object] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def method(cls) -> Method:
        return methods.built(methods.named(cls.name), cls.options)

    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls, method: Method, tiny_data: TrainingData) -> Bundle:
        return fit_bundle(tiny_data, method)

    def test_a_hole_is_more_anomalous_than_the_texture_around_it(
        self, fitted: Bundle, tiny_data: TrainingData
    ) -> None:
        detector = Detector(fitted)
        good = tiny_data.splits.calibration[0].pixels
        holed = good.copy()
        holed[20:40, 30:52] = 20
        found = detector.score(holed)
        assert found.map.shape == good.shape[:2]
        assert np.isfinite(found.map).all()
        inside = found.map[24:36, 34:48].mean()
        assert inside > found.map[:, :16].mean()
        assert found.score > detector.score(good).score

    def test_losses_have_their_names_and_are_as_large_as_the_picture_whatever_its_shape(
        self, fitted: Bundle, method: Method
    ) -> None:
        for height, width in ((method.patch, method.patch + 13), (61, 47)):
            pixels = np.random.default_rng(0).integers(0, 256, (height, width, 1), dtype=np.uint8)
            losses = Detector(fitted).losses(pixels)
            assert tuple(losses) == method.loss_names
            assert {each.shape for each in losses.values()} == {(height, width)}

    def test_saved_and_loaded_it_scores_the_same(
        self, fitted: Bundle, tiny_data: TrainingData, tmp_path: Path
    ) -> None:
        bundle.save(fitted, tmp_path)
        again = bundle.load(tmp_path)
        assert again.method == self.name
        pixels = tiny_data.splits.val[0].pixels
        one, other = (Detector(each).score(pixels) for each in (fitted, again))
        assert (one.map == other.map).all()
        assert one.score == other.score

    def test_the_same_seed_and_pictures_give_the_same_detector(
        self, fitted: Bundle, method: Method, tiny_data: TrainingData
    ) -> None:
        again = fit_bundle(tiny_data, method)
        assert fitted.weights.keys() == again.weights.keys()
        assert len(fitted.weights) > 0
        for key, array in fitted.weights.items():
            assert np.array_equal(array, again.weights[key]), key

    def test_the_configuration_comes_back_from_the_bundle(
        self, fitted: Bundle, method: Method
    ) -> None:
        assert Detector(fitted).method == method.in_training
        assert settings_of(fitted).method == method

    def test_every_tensor_has_the_shape_that_the_configuration_implies(
        self, fitted: Bundle, method: Method
    ) -> None:
        for name, array in fitted.weights.items():
            for odd in (array[None], np.concatenate([array.reshape(-1)] * 2)):
                changed = replace(fitted, weights={**fitted.weights, name: odd})
                with pytest.raises(BundleError, match=re.escape(f"tensor '{name}' has shape ")):
                    Detector(changed)
            missing = {key: each for key, each in fitted.weights.items() if key != name}
            with pytest.raises(BundleError, match=re.escape(f"has no tensor '{name}'")):
                Detector(replace(fitted, weights=missing))
        with pytest.raises(BundleError, match="unknown tensor 'zzz'"):
            Detector(replace(fitted, weights={**fitted.weights, "zzz": np.zeros(1, np.float32)}))

    def test_pictures_of_one_size_score_together_as_they_score_alone(
        self, fitted: Bundle, tiny_data: TrainingData
    ) -> None:
        detector = Detector(fitted)
        pictures = [picture.pixels for picture in tiny_data.splits.val]
        together = detector.score(pictures)
        assert len(together) == len(pictures) > 1
        for one, pixels in zip(together, pictures, strict=True):
            alone = detector.score(pixels)
            np.testing.assert_allclose(one.map, alone.map, rtol=1e-4, atol=1e-5)
            assert one.score == pytest.approx(alone.score, rel=1e-4)

    def test_a_large_picture_in_pieces_has_the_losses_of_the_whole(
        self, method: Method, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if method.export_side is None:
            pytest.skip("it has no form for pictures of all sizes")
        generator = torch.Generator().manual_seed(0)
        images = [torch.rand(1, 64, 72, generator=generator) for _ in range(3)]
        losses_at = losses_of(method, fit_weights(method, images))
        large = torch.rand(1, 330, 1010, generator=generator)
        whole = losses_at(large)
        monkeypatch.setattr(pieces, "SIDE", 128)
        torch.testing.assert_close(losses_at(large), whole, rtol=1e-4, atol=1e-4)

    def test_colour_is_seen(self, method: Method) -> None:
        generator = torch.Generator().manual_seed(0)
        images = [torch.rand(3, 64, 72, generator=generator) * 0.2 - 0.1 for _ in range(3)]
        losses_at = losses_of(method, fit_weights(method, images))
        reddened = images[0].clone()
        reddened[0, 20:44, 20:52] = 0.9
        reddened[1:, 20:44, 20:52] = -0.9
        losses = losses_at(reddened)
        assert losses.shape[1:] == (64, 72)
        assert (losses[:, 26:38, 28:44].mean((1, 2)) > losses[:, :, :8].mean((1, 2))).any()

    def test_an_image_smaller_than_a_patch_is_refused_in_training_and_in_scoring(
        self, fitted: Bundle, method: Method, tiny_data: TrainingData
    ) -> None:
        small = method.patch - 1
        with pytest.raises(BadImageError, match=f"{small}x70"):
            Detector(fitted).score(np.zeros((small, 70), np.uint8))
        scale = small / 64  # the drawn pictures have 64 rows
        with pytest.raises(BadImageError, match=f"a patch of {method.patch}"):
            fit_bundle(tiny_data, method, scale=scale)
