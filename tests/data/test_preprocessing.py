"""How an image becomes a tensor: depth, mode, scale and range."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.textures_drawn import draw
from zoo.data.preprocessing import Preprocessing, prepare
from zoo.errors import ConfigError

GREY = Preprocessing(mode="L")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_black_is_minus_1_and_white_is_1_at_any_depth(
    dtype: type[np.uint8 | np.uint16],
) -> None:
    pixels: np.ndarray = np.zeros((4, 5, 1), dtype)
    pixels[1, 2] = np.iinfo(dtype).max
    x = prepare(pixels, GREY)
    assert x.dtype == torch.float32
    assert x.shape == (1, 4, 5)
    assert [float(x.min()), float(x.max()), float(x[0, 1, 2])] == [-1, 1, 1]


def test_16_bits_are_finer_than_8() -> None:
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16, 1)
    assert len(set(prepare(pixels, GREY).flatten().tolist())) == 256


def test_8_and_16_bits_of_one_picture_are_the_same_to_the_networks() -> None:
    pixels = draw(20, 24, np.random.default_rng(0))
    deep = pixels.astype(np.uint16) * np.uint16(257)
    torch.testing.assert_close(prepare(pixels, GREY), prepare(deep, GREY))


def test_a_mode_has_its_number_of_channels() -> None:
    assert [Preprocessing(mode="L").channels, Preprocessing(mode="RGB").channels] == [1, 3]


@pytest.mark.parametrize(("scale", "size"), [(1.0, (64, 72)), (0.5, (32, 36)), (0.3, (19, 22))])
def test_scale_shrinks_both_sides_and_keeps_the_mean(scale: float, size: tuple[int, int]) -> None:
    pixels = draw(64, 72, np.random.default_rng(0))
    x = prepare(pixels, Preprocessing(mode="L", scale=scale))
    assert x.shape[-2:] == size
    assert float(x.mean()) == pytest.approx(float(prepare(pixels, GREY).mean()), abs=0.02)


def test_shrinking_averages_instead_of_skipping_pixels() -> None:
    pixels = np.zeros((32, 40, 1), np.uint8)
    pixels[:, ::2] = 255
    x = prepare(pixels, Preprocessing(mode="L", scale=0.25))
    assert float(x[:, 2:-2, 2:-2].abs().max()) < 0.1


@pytest.mark.parametrize("scale", [0.0, -0.5, 1.5, float("nan")])
def test_a_scale_outside_0_to_1_is_refused_with_its_value(scale: float) -> None:
    with pytest.raises(ConfigError, match=f"scale must be above 0 and at most 1, not {scale}"):
        Preprocessing(mode="L", scale=scale)


def test_an_image_is_brought_to_the_mode_of_its_detector() -> None:
    grey = draw(20, 24, np.random.default_rng(0))
    colour = prepare(grey, Preprocessing(mode="RGB"))
    assert colour.shape == (3, 20, 24)
    assert colour[0].equal(colour[1])
    red = np.zeros((4, 5, 3), np.uint8)
    red[..., 0] = 255
    assert sorted(set(prepare(red, GREY).flatten().tolist())) == pytest.approx([2 * 76 / 255 - 1])
