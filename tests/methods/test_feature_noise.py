"""The exam of the discriminator of features and noise, and tests of its parts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.method_exam import MethodExam, fit_weights, losses_of
from zoo.errors import ConfigError, DivergedError
from zoo.methods import backbone
from zoo.methods.feature_noise import MARGIN, FeatureNoise, whitening


class TestFeatureNoise(MethodExam):
    name = "feature_noise"
    options = {"width": 32, "steps": 150}  # noqa: RUF012  read only


def correlated(count: int, *, seed: int = 0) -> Tensor:
    """Return vectors that vary together: 20 directions of the features hold all variance."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(20, backbone.VECTOR, generator=torch.Generator().manual_seed(9))
    return torch.randn(count, 20, generator=generator) @ mixing + 5


def verdicts(method: FeatureNoise, vectors: Tensor, seen: Tensor) -> Tensor:
    found = method.learn(seen, generator=torch.Generator().manual_seed(0))
    hidden = torch.nn.functional.leaky_relu(vectors @ found["hidden"].T + found["bias"], 0.2)
    return hidden @ found["verdict"]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("patch", 15, "16 or more"),
        ("noise", 0.0, "above 0"),
        ("noise", float("nan"), "above 0"),
        ("width", 0, "1 to 4096"),
        ("steps", 0, "1 or more"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: float, said: str) -> None:
    with pytest.raises(ConfigError, match=f"{field} must be .*{said}.*, not {value}"):
        FeatureNoise(**{field: value})  # type: ignore[arg-type]


def test_good_vectors_are_below_the_margin_and_what_leaves_their_directions_is_above_it() -> None:
    method = FeatureNoise(width=64, steps=300)
    good, seen = correlated(500, seed=1), correlated(4000)
    away = good + torch.randn(good.shape, generator=torch.Generator().manual_seed(2))
    # The distance from the mean hardly changes; only the directions do.
    assert (away - 5).norm(dim=1).mean() < 1.1 * (good - 5).norm(dim=1).mean()
    assert (verdicts(method, good, seen) < 0).float().mean() > 0.95
    assert (verdicts(method, away, seen) > MARGIN).float().mean() > 0.95


def test_whitened_vectors_have_variance_one_where_they_vary_and_none_is_made_of_rounding() -> None:
    seen = correlated(4000)
    mean, axes = whitening(seen)
    powers = torch.linalg.eigvalsh(torch.cov(((seen - mean) @ axes).T))
    assert (powers[-20:] - 1).abs().max() < 0.05
    assert powers[:-20].max() < 0.01


def test_a_good_picture_in_another_light_is_good_even_if_only_one_picture_was_seen() -> None:
    image = torch.rand(1, 96, 104, generator=torch.Generator().manual_seed(0)) - 0.5
    method = FeatureNoise(width=32, steps=400)
    weights = fit_weights(method, [image])
    network = backbone.bundled(weights)
    plain = backbone.features(network, image[None], patch=16)[0].flatten(1).T
    alone = weights | method.learn(plain, generator=torch.Generator().manual_seed(0))
    darker = image * 0.85 - 0.15
    assert losses_of(method, weights)(darker).mean() < -0.2
    assert losses_of(method, alone)(darker).mean() > 0.2


def test_features_that_are_not_finite_end_the_training_with_what_to_do() -> None:
    seen = correlated(100)
    method = FeatureNoise(width=8, steps=3)
    huge = torch.full_like(seen, 1e30) * torch.linspace(-1, 1, 100)[:, None]
    with pytest.raises(DivergedError, match="zoo data check"):
        method.learn(huge.nan_to_num() * float("inf"), generator=torch.Generator().manual_seed(0))
