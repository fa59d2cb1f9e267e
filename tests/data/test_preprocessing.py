"""How an image becomes a tensor: depth, mode, scale and range."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.textures_drawn import draw
from zoo.data.preprocessing import Preprocessing, intensity_range, prepare
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


# ------------------------------------------------------------------------------------- intensities


def photographs(*, low: int = 60, high: int = 140, count: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(low, high, (40, 50, 1)).astype(np.uint8) for _ in range(count)]


def test_the_range_is_that_of_the_pictures_with_room_for_brighter_and_darker_defects() -> None:
    low, high = intensity_range(photographs())
    assert low == pytest.approx((60 - 40) / 255, abs=0.01)
    assert high == pytest.approx((139 + 40) / 255, abs=0.01)
    assert intensity_range(photographs(low=0, high=256)) == (0.0, 1.0)


def test_a_few_hot_pixels_do_not_widen_the_range() -> None:
    pictures = photographs()
    expected = intensity_range(pictures)
    pictures[0][3, 4] = 255
    assert intensity_range(pictures) == pytest.approx(expected, abs=0.005)


def test_even_pictures_keep_the_full_range_because_their_noise_is_not_to_be_enlarged() -> None:
    assert intensity_range([np.full((20, 30, 1), 90, np.uint8)]) == (0.0, 1.0)


@pytest.mark.parametrize("span", [(60, 140), (0, 256)])
def test_twelve_bits_in_files_of_sixteen_are_prepared_like_eight(span: tuple[int, int]) -> None:
    eight = photographs(low=span[0], high=span[1])
    twelve = [np.uint16(16) * pixels for pixels in eight]
    prepared = []
    for pictures in (eight, twelve):
        low, high = intensity_range(pictures)
        prepared.append(prepare(pictures[1], Preprocessing(mode="L", low=low, high=high)))
    assert (prepared[0] - prepared[1]).abs().max() < 0.02
    assert prepared[0].std() > 0.2


def test_what_lies_beyond_the_range_is_clamped() -> None:
    pixels = np.array([[[0], [51], [102], [255]]], np.uint8)
    x = prepare(pixels, Preprocessing(mode="L", low=0.2, high=0.4))
    assert x.flatten().tolist() == pytest.approx([-1, -1, 1, 1], abs=1e-6)


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (0.7, 0.2), (-0.1, 1.0), (0.0, 4.1)])
def test_an_empty_range_and_one_beyond_the_scale_are_refused(low: float, high: float) -> None:
    with pytest.raises(ConfigError, match=f"not {low} and {high}"):
        Preprocessing(mode="L", low=low, high=high)
