"""Every method passes the same exam."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tests import textures_drawn
from tests.method_exam import MethodExam, fit_bundle, fit_weights, losses_of
from zoo.detectors.detector import Detector
from zoo.errors import ConfigError
from zoo.methods import backbone, built, named
from zoo.methods.fcbigan.config import NetworkConfig
from zoo.methods.fcbigan.training import new_networks
from zoo.methods.local_statistics import LocalStatistics, _moments, _slope
from zoo.training.data import TrainingData


class TestFCBiGAN(MethodExam):
    name = "fcbigan"
    options = textures_drawn.TINY | {
        "defect_rounds": 4,
        "segmenter": True,
        "segmenter_depth": 2,
        "megapixels": 0.6,
        "output_stride": 2,
        "reports": 1,
    }


class TestFeatureMemory(MethodExam):
    name = "feature_memory"
    options = {"memory": 200}  # noqa: RUF012  read only


class TestLocalStatistics(MethodExam):
    name = "local_statistics"
    options = {"patch": 9}  # noqa: RUF012  read only


class TestRandomFeatures(MethodExam):
    name = "random_features"
    options = {"width": 8, "memory": 200}  # noqa: RUF012  read only


def test_a_method_that_does_not_exist_is_refused_with_near_names() -> None:
    with pytest.raises(ConfigError, match="no method 'local_statistic'.*'local_statistics'"):
        named("local_statistic")


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("feature_memory", "patch", 15),
        ("feature_memory", "memory", 0),
        ("random_features", "patch", 21),
        ("random_features", "width", 0),
        ("random_features", "memory", 0),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, field: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"{field} must be .*, not {value}"):
        named(name)(**{field: value})


@pytest.mark.parametrize("name", ["feature_memory", "random_features"])
def test_a_defect_is_found_where_it_is(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(1, 125, 141, generator=generator) * 0.2 for _ in range(3)]
    method = named(name)()
    losses = losses_of(method, fit_weights(method, images))
    for top, left in ((34, 34), (52, 84), (67, 60)):
        spotted = images[0].clone()
        spotted[:, top : top + 12, left : left + 12] = -0.8
        more = (losses(spotted) - losses(images[0])).clamp_min(0)[0].square()
        rows = (more.sum(1) * torch.arange(125)).sum() / more.sum()
        columns = (more.sum(0) * torch.arange(141)).sum() / more.sum()
        assert rows == pytest.approx(top + 5.5, abs=3)
        assert columns == pytest.approx(left + 5.5, abs=3)


@pytest.mark.parametrize("name", ["feature_memory", "random_features"])
def test_a_larger_patch_averages_more_and_still_fits_its_own_size(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(1, 64, 72, generator=generator) for _ in range(3)]
    spread = []
    for patch in (22, 54):
        method = built(named(name), {"patch": patch})
        weights = fit_weights(method, images)
        small = losses_of(method, weights)(images[0][:, :patch, : patch + 3])
        assert small.shape[1:] == (patch, patch + 3)
        spread.append(weights["memory"].std(dim=0).mean())
    assert spread[1] < spread[0]


def test_the_random_features_are_those_that_a_training_would_start_from() -> None:
    images = [torch.rand(1, 64, 72)]
    weights = fit_weights(built(named("random_features"), {"width": 8}), images, seed=7)
    networks = new_networks(NetworkConfig(width=8), channels=1, seed=7)
    drawn = networks.state_dict()["encoder.layers.6.weight"]
    assert torch.equal(weights["encoder.6.weight"], drawn)


@pytest.mark.parametrize("name", ["feature_memory"])
def test_a_bundle_needs_the_backbone_no_more(
    name: str, tiny_data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = named(name)()
    fitted = fit_bundle(tiny_data, method)

    def gone(*_: object, **__: object) -> None:
        raise AssertionError("the backbone was read again")

    monkeypatch.setattr(backbone, "pretrained", gone)
    pixels = tiny_data.splits.val[0].pixels
    assert Detector(fitted).score(pixels).map.shape == pixels.shape[:2]


@pytest.mark.parametrize(("patch", "step"), [(15, 3), (9, 3), (15, 5)])
def test_distances_between_two_steps_are_interpolated(patch: int, step: int) -> None:
    weights = {"mean": torch.zeros(18), "whiten": torch.eye(18)}
    x = torch.rand(2, 1, 62, 81, generator=torch.Generator().manual_seed(0)) * 2 - 1
    every, some = (LocalStatistics(patch=patch, step=each).scorer(weights)(x) for each in (1, step))
    assert some.shape == every.shape
    middles = every[..., step // 2 :: step, step // 2 :: step]
    wanted = functional.interpolate(middles, scale_factor=step, mode="bilinear")
    inside = slice(6 * step, 42)  # where no square reaches a mirrored edge
    torch.testing.assert_close(
        some[..., inside, inside], wanted[..., inside, inside], rtol=1e-4, atol=1e-4
    )
    assert not torch.allclose(some[..., inside, inside], every[..., inside, inside], rtol=1e-3)


@pytest.mark.parametrize(("patch", "step", "cell"), [(15, 3, 3), (7, 3, 2), (5, 3, 1), (1, 3, 1)])
def test_a_square_is_at_least_three_steps_wide(patch: int, step: int, cell: int) -> None:
    weights = {"mean": torch.zeros(18), "whiten": torch.eye(18)}
    x = torch.rand(1, 1, 30, 31, generator=torch.Generator().manual_seed(0))
    found, wanted, finer = (
        LocalStatistics(patch=patch, step=each).scorer(weights)(x) for each in (step, cell, 1)
    )
    assert torch.equal(found, wanted)
    assert torch.equal(found, finer) == (cell == 1)


@pytest.mark.parametrize("axis", [-2, -1])
def test_slopes_of_local_statistics_are_those_of_torch(axis: int) -> None:
    x = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(_slope(x, axis), torch.gradient(x, dim=axis)[0])


def test_the_covariance_of_parts_is_that_of_all_columns_far_from_zero_too() -> None:
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(4, 500, generator=generator, dtype=torch.float64) + 1e5
    mean, covariance = _moments(torch.split(columns, [1, 9, 200, 290], dim=1))
    torch.testing.assert_close(mean, columns.mean(dim=1))
    torch.testing.assert_close(covariance, torch.cov(columns), rtol=1e-9, atol=1e-9)
