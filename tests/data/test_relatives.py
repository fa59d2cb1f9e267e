"""Pictures of one piece of material are found; pictures that only resemble each other are not."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from zoo.data.relatives import Link, groups, join, related
from zoo.data.textures import Picture


def picture(pixels: np.ndarray, name: str = "a.png") -> Picture:
    pixels = np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[..., None])
    return Picture(name=name, pixels=pixels, key=name)


def surface(seed: int, height: int = 200, width: int = 160) -> np.ndarray:
    """Draw an irregular surface of fine and coarse grains."""
    rng = np.random.default_rng(seed)
    noise = [cv2.GaussianBlur(rng.normal(0, 1, (height, width)), (0, 0), s) * s for s in (1, 3, 8)]
    values = (128 + 30 * np.sum(noise, axis=0)).clip(0, 255)
    return np.asarray(values, np.uint8)


def lattice(seed: int, noise: float, period: float = 37.3) -> np.ndarray:
    """Draw a grid of wires whose phase is random."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:256, :200] + rng.uniform(0, period, (2, 1, 1))
    wires = np.where((rows % period < 7) | (columns % period < 5), 60.0, 170.0)
    blurred = cv2.GaussianBlur(wires, (0, 0), 1) + rng.normal(0, noise, wires.shape)
    return blurred.clip(0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray) -> np.ndarray:
    written = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    read = cv2.imdecode(written, cv2.IMREAD_GRAYSCALE)
    assert read is not None
    return read


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "encoded again": encoded,
    "darker": lambda pixels: (230 * (pixels / 255) ** 1.25).astype(np.uint8),
    "shifted": lambda pixels: pixels[8:, 5:],
    "flipped": lambda pixels: pixels[:, ::-1],
    "turned": np.rot90,
    "turned by half": lambda pixels: np.rot90(pixels, 2),
    "turned the other way, flipped, shifted and encoded again": lambda pixels: encoded(
        np.ascontiguousarray(np.rot90(pixels[4:, ::-1], 3))
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_copy_is_grouped_with_its_picture_and_with_no_other(name: str) -> None:
    others = [picture(surface(seed)) for seed in range(8)]
    assert groups([*others, picture(CHANGES[name](surface(3)))])[3] == [3, 8]
    assert len(groups([*others, picture(CHANGES[name](surface(99)))])) == 9


def test_crops_that_overlap_are_grouped_and_those_of_other_photographs_are_not() -> None:
    whole = surface(0, 400, 300)
    crops = [whole[:200, :160], whole[120:320, 60:220], surface(1), surface(2)]
    assert groups([picture(crop) for crop in crops]) == [[0, 1], [2], [3]]


def test_crops_that_adjoin_without_a_shared_pixel_are_grouped() -> None:
    found = []
    for seed in range(3):
        whole = surface(seed, 400, 400)
        found += [whole[:200, :200], whole[:200, 200:], whole[200:, :200], whole[200:, 200:]]
    assert groups([picture(crop) for crop in found]) == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
    ]


@pytest.mark.parametrize("noise", [3, 5, 20])
def test_pictures_of_one_periodic_texture_are_not_relatives(noise: float) -> None:
    assert len(groups([picture(lattice(seed, noise)) for seed in range(24)])) == 24


def test_a_copy_is_found_among_pictures_of_a_periodic_texture() -> None:
    pixels = [lattice(seed, 5) for seed in range(12)]
    copy = encoded((0.9 * pixels[4]).astype(np.uint8))
    assert groups([picture(each) for each in [*pixels, copy]])[4] == [4, 12]


def test_many_copies_of_one_picture_are_one_group() -> None:
    rng = np.random.default_rng(0)
    copies = [surface(0) + rng.normal(0, 4, (200, 160)) for _ in range(14)]
    pictures = [picture(copy.clip(0, 255).astype(np.uint8)) for copy in copies]
    assert groups(pictures) == [list(range(14))]


def sheets(shades: list[int]) -> list[Picture]:
    """Draw a picture for each shade, with numbered names."""
    names = [f"{number}.png" for number in range(len(shades))]
    return [
        picture((surface(i) // 4 + shade).astype(np.uint8), name)
        for i, (shade, name) in enumerate(zip(shades, names, strict=True))
    ]


def test_consecutive_pictures_of_a_very_different_shade_are_one_sheet() -> None:
    shades = [2 * (each % 8) for each in range(30)]
    assert len(groups(sheets(shades))) == 30
    shades[8:12] = [180] * 4  # 8, 9, 10, 11: their names are consecutive as numbers only
    assert [each for each in groups(sheets(shades)) if len(each) > 1] == [[8, 9, 10, 11]]


def test_pictures_of_one_shade_that_are_not_consecutive_are_not_one_sheet() -> None:
    shades = [2 * (each % 8) for each in range(30)]
    shades[3] = shades[9] = shades[15] = 180
    assert len(groups(sheets(shades))) == 30


def test_the_order_of_the_pictures_changes_no_group() -> None:
    whole = surface(0, 400, 300)
    crops = [
        whole[:200, :160],
        surface(1),
        surface(2),
        np.rot90(surface(1)),
        whole[120:320, 60:220],
    ]
    pictures = [picture(crop, f"{number}") for number, crop in enumerate(crops)]
    backwards = pictures[::-1]
    one = {frozenset(pictures[p].name for p in group) for group in groups(pictures)}
    two = {frozenset(backwards[p].name for p in group) for group in groups(backwards)}
    assert one == two == {frozenset("04"), frozenset("13"), frozenset("2")}


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 300, 3), (3, 900, 1), (6, 8, 1)])
def test_pictures_too_small_to_compare_and_constant_ones_are_no_relatives(
    shape: tuple[int, int, int],
) -> None:
    rng = np.random.default_rng(0)
    noise = [picture(rng.integers(0, 65536, shape).astype(np.uint16)) for _ in range(25)]
    assert len(groups(noise)) == 25
    assert len(groups([picture(np.full((64, 64), each, np.uint8)) for each in range(25)])) == 25


def test_of_no_picture_and_of_one_there_is_nothing_to_compare() -> None:
    assert groups([]) == []
    assert related([]) == []
    assert groups([picture(surface(0))]) == [[0]]


def test_a_largest_group_keeps_the_most_certain_links() -> None:
    chain = [Link(1.5, 0, 1), Link(2.5, 1, 2), Link(1.6, 2, 3), Link(2.9, 3, 4)]
    assert join(6, chain) == [[0, 1, 2, 3, 4], [5]]
    assert join(6, chain, largest=3) == [[0, 1, 2], [3, 4], [5]]
