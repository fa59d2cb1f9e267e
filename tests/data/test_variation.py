"""Benign variation: what it may change, and that it stays within its ranges."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zoo.data.variation import BLUR, GAIN, GAMMA, SHADING, vary


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(level: float, count: int = 200) -> Tensor:
    return torch.full((count, 1, 24, 20), 2 * level - 1)


def test_no_variation_changes_nothing() -> None:
    x = torch.rand(3, 3, 20, 24, generator=generator()) * 2 - 1
    assert vary(x, 0.0, generator=generator()) is x


def test_each_picture_has_its_own_light_and_stays_in_the_range() -> None:
    x = torch.rand(16, 3, 20, 24, generator=generator()) * 2 - 1
    y = vary(x, 1.0, generator=generator(1))
    assert y.shape == x.shape
    assert y.abs().max() <= 1
    means = y.mean(dim=(1, 2, 3))
    assert len(set(means.tolist())) == 16
    assert torch.equal(y, vary(x, 1.0, generator=generator(1)))
    assert not torch.equal(y, vary(x, 1.0, generator=generator(2)))


def test_an_even_surface_stays_within_gain_gamma_and_shading() -> None:
    level = 0.5
    varied = (vary(flat(level), 1.0, generator=generator()) + 1) / 2
    means = varied.mean(dim=(1, 2, 3))
    lowest, highest = (
        (level * (1 + sign * GAIN)) ** gamma for sign, gamma in ((-1, GAMMA[1]), (1, GAMMA[0]))
    )
    assert lowest - 0.01 <= means.min() < level - 0.05
    assert level + 0.05 < means.max() <= highest + 0.01
    spans = varied.mean(dim=3).squeeze(1)
    assert (spans[:, 0] / spans[:, -1]).max() < ((1 + SHADING / 2) / (1 - SHADING / 2)) ** 1.3


def test_half_of_the_variation_changes_about_half_as_much() -> None:
    changes = [
        (vary(flat(0.5), amount, generator=generator()) - flat(0.5)).abs().mean()
        for amount in (0.5, 1.0)
    ]
    assert 0.4 < changes[0] / changes[1] < 0.6


def test_some_pictures_lose_sharpness_and_at_a_smaller_scale_less_of_it() -> None:
    edge = torch.zeros(200, 1, 24, 20)
    edge[..., 10:] = 0.5

    def steepest(scale: float) -> Tensor:
        y = vary(edge, 1.0, generator=generator(), scale=scale)
        return y.mean(dim=2).diff(dim=-1).amax(dim=(1, 2))

    full, half = steepest(1.0), steepest(0.5)
    assert BLUR > 0.5
    assert (full < 0.75 * half).float().mean() > 0.1
    assert (full > 0.9 * half).float().mean() > 0.4


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.2, 0.7)])
def test_light_acts_on_intensities_and_not_on_the_range_they_are_mapped_to(
    low: float, high: float
) -> None:
    level = 0.4
    x = torch.full((100, 1, 24, 20), 2 * (level - low) / (high - low) - 1)
    y = vary(x, 1.0, generator=generator(), low=low, high=high)
    means = ((y + 1) / 2 * (high - low) + low).mean(dim=(1, 2, 3))
    assert means.min() > (level * (1 - GAIN)) ** GAMMA[1] - 0.02
    assert means.max() < (level * (1 + GAIN)) ** GAMMA[0] + 0.02
