"""Warnings about good pictures that make a detector weak."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.data.survey import warnings_of
from zoo.data.textures import Picture


def picture(pixels: np.ndarray, name: str = "a.png") -> Picture:
    return Picture(name=name, pixels=pixels, key=name)


def surface(seed: int, gain: float = 1, gamma: float = 1, channels: int = 1) -> Picture:
    values = np.random.default_rng(seed).uniform(0.3, 0.6, (60, 80, channels))
    return picture(np.rint(255 * gain * values**gamma).astype(np.uint8), f"{seed}.png")


GOOD = [surface(seed) for seed in range(12)]


def test_pictures_without_a_weakness_get_no_warning() -> None:
    assert warnings_of(GOOD, 12) == []
    assert warnings_of([surface(seed, channels=3) for seed in range(5)], 3) == []


@pytest.mark.parametrize("count", [1, 4])
def test_fewer_than_five_pictures_are_too_few(count: int) -> None:
    (warning,) = warnings_of(GOOD[:count], count)
    assert f"only {count} good picture{'s' * (count > 1)}:" in warning
    assert "Add pictures" in warning
    assert warnings_of(GOOD[:5], 5) == []


@pytest.mark.parametrize(("independent", "words"), [(1, "one piece"), (2, "2 pieces")])
def test_pictures_of_one_or_two_pieces_of_material_are_too_few(
    independent: int, words: str
) -> None:
    (warning,) = warnings_of(GOOD, independent)
    assert f"12 good pictures seem to show only {words} of material" in warning
    assert warnings_of(GOOD, 3) == []


@pytest.mark.parametrize(("count", "listed"), [(1, "c0: "), (4, "c0, c1, c2 and others: ")])
def test_constant_pictures_are_named_three_at_most(count: int, listed: str) -> None:
    constant = [picture(np.full((60, 80, 1), 115, np.uint8), f"c{n}") for n in range(count)]
    listed = listed.replace(": ", ". ")
    found = [each for each in warnings_of([*GOOD, *constant], 12) if "same value" in each]
    assert len(found) == 1
    assert f"{count} of {12 + count} good pictures have" in found[0]
    assert f"everywhere: {listed}" in found[0]


def test_a_picture_with_one_other_pixel_is_not_constant() -> None:
    pixels = np.full((60, 80, 1), 115, np.uint8)
    pixels[7, 9] = 116
    assert not any("same value" in each for each in warnings_of([*GOOD, picture(pixels)], 13))


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize(("end", "word"), [(0, "darkest"), (1, "brightest")])
def test_saturated_pictures_are_told_with_the_share_of_pixels(
    end: int, word: str, depth: type[np.uint8] | type[np.uint16]
) -> None:
    top = np.iinfo(depth).max

    def with_share(columns: int) -> list[Picture]:
        cut = [each.pixels[:, :, :].astype(np.float64) / 255 * top for each in GOOD]
        for each in cut:
            each[:, :columns] = end * top
        return [picture(each.astype(depth)) for each in cut]

    (warning,) = warnings_of(with_share(8), 12)
    assert f"10% of the values in the good pictures are the {word} of the scale" in warning
    assert warnings_of(with_share(1), 12) == []


@pytest.mark.parametrize(("gain", "gamma"), [(0.5, 1), (1.6, 1), (1, 0.5), (1, 2)])
def test_light_that_varies_more_than_a_gain_and_a_gamma_is_told(gain: float, gamma: float) -> None:
    (warning,) = warnings_of([*GOOD, *(surface(50 + n, gain, gamma) for n in range(4))], 16)
    assert "The light varies much from picture to picture (mean level from 0." in warning


def test_contrast_that_varies_at_one_mean_level_is_told() -> None:
    flat = [picture((115 + (each.pixels - 115.0) / 4).astype(np.uint8)) for each in GOOD[:4]]
    (warning,) = warnings_of([*GOOD, *flat], 12)
    assert "picture to picture (contrast from 0.0" in warning


@pytest.mark.parametrize("gamma", [0.8, 1.25])
@pytest.mark.parametrize("gain", [0.88, 1.12])
def test_light_within_a_usual_gain_and_gamma_is_not_told(gain: float, gamma: float) -> None:
    assert warnings_of([*GOOD, *(surface(50 + n, gain, gamma) for n in range(4))], 16) == []


def test_every_warning_is_one_line_and_says_what_to_do() -> None:
    pixels = np.zeros((60, 80, 1), np.uint8)
    found = warnings_of([picture(pixels), picture(pixels + 255)], 2)
    assert len(found) == 5
    for warning in found:
        assert "\n" not in warning
        assert any(word in warning for word in ("Add", "Take", "remove"))
