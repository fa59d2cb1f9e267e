"""Where patches come from, and how they are flipped, rotated and varied in tone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from zoo.data.patches import Patches, augment, vary_tone
from zoo.errors import BadImageError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(height: int, width: int, start: int = 0) -> Tensor:
    """Return an image whose pixel values encode their place; rows differ by 1000."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    return (start + 1000.0 * rows + columns)[None]


def from_one(count: int, image: Tensor, *, patch: int, seed: int = 0, fixed: int = 0) -> Tensor:
    made = Patches([image], patch=patch, generator=seeded(seed), rotations=False, fixed=fixed)
    return made.draw(count)


def symmetries(patch: Tensor) -> list[Tensor]:
    """Return the eight symmetries of a square patch, turned without our own code."""
    turned = [torch.rot90(patch, turn, (-2, -1)) for turn in range(4)]
    return turned + [each.flip(-1) for each in turned]


@pytest.mark.parametrize("rotations", [False, True])
def test_every_patch_occurs_in_one_of_its_images(rotations: bool) -> None:
    images = [numbered(9, 12), numbered(20, 6, start=100_000), numbered(6, 7, start=200_000)]
    patches = Patches(images, patch=5, generator=seeded(), rotations=rotations).draw(300)
    assert patches.shape == (300, 1, 5, 5)
    seen = set()
    for patch in patches:
        number, at = divmod(int(patch.min()), 100_000)
        top, left = divmod(at, 1000)
        cut = images[number][:, top : top + 5, left : left + 5]
        assert any(patch.equal(each) for each in symmetries(cut))
        seen.add(number)
    assert seen == {0, 1, 2}


def test_every_corner_is_drawn_the_last_row_and_column_included() -> None:
    patches = from_one(600, numbered(8, 6), patch=4)
    corners = {divmod(int(patch.min()), 1000) for patch in patches}
    assert corners == {(top, left) for top in range(5) for left in range(3)}


def test_every_place_is_as_likely_as_every_other_in_images_of_any_size() -> None:
    images = [numbered(5, 5), numbered(8, 8, start=100_000)]
    patches = Patches(images, patch=4, generator=seeded(), rotations=False).draw(5800)
    places = [int(patch.min()) for patch in patches]
    counts = np.array([places.count(place) for place in set(places)])
    assert len(counts) == 2 * 2 + 5 * 5
    assert abs(counts - 200).max() < 5 * 200**0.5


def test_fixed_corners_are_few_and_stay() -> None:
    made = Patches([numbered(40, 50)], patch=4, generator=seeded(), rotations=True, fixed=7)
    first, later = made.draw(300), made.draw(300)
    places = [{int(patch.min()) for patch in patches} for patches in (first, later)]
    assert places[0] == places[1]
    assert len(places[0]) == 7
    assert len({int(patch.min()) for patch in from_one(300, numbered(40, 50), patch=4)}) > 150


@pytest.mark.parametrize("fixed", [0, 5])
def test_the_same_generator_draws_the_same_patches_and_another_others(fixed: int) -> None:
    first, again, other = (
        from_one(20, numbered(30, 40), patch=6, seed=seed, fixed=fixed) for seed in (1, 1, 2)
    )
    assert first.equal(again)
    assert not first.equal(other)


def test_colour_stays_with_its_pixel() -> None:
    image = torch.cat([numbered(9, 12), numbered(9, 12, start=50_000), numbered(9, 12) * -1])
    patches = Patches([image], patch=4, generator=seeded(), rotations=True).draw(20)
    assert (patches[:, 1] - patches[:, 0] == 50_000).all()
    assert (patches[:, 2] + patches[:, 0] == 0).all()


@pytest.mark.parametrize(("height", "width"), [(15, 40), (40, 15)])
def test_an_image_smaller_than_a_patch_is_refused_with_both_sizes(height: int, width: int) -> None:
    with pytest.raises(BadImageError, match=rf"{height}x{width} pixels .* patch of 16x16"):
        Patches(
            [numbered(20, 20), numbered(height, width)],
            patch=16,
            generator=seeded(),
            rotations=True,
        )


def test_an_image_as_large_as_a_patch_is_drawn_whole() -> None:
    patches = from_one(10, numbered(6, 6), patch=6)
    assert all(any(patch.equal(each) for each in symmetries(numbered(6, 6))) for patch in patches)


@pytest.mark.parametrize(("rotations", "kinds"), [(True, 8), (False, 4)])
def test_patches_are_turned_eight_ways_or_only_flipped_four_ways(
    rotations: bool, kinds: int
) -> None:
    patch = numbered(5, 5)
    turned = augment(patch.expand(800, 1, 5, 5), generator=seeded(), rotations=rotations)
    flips = [patch, patch.flip(-1), patch.flip(-2), patch.flip(-1).flip(-2)]
    allowed = symmetries(patch) if rotations else flips
    counts = [sum(each.equal(one) for each in turned) for one in allowed]
    assert sum(counts) == 800
    assert len(counts) == kinds
    assert min(counts) > 0.6 * 800 / kinds


def test_tone_varies_by_no_more_than_the_share_asked_for_and_per_patch() -> None:
    patches = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    varied = vary_tone(patches, 0.2, generator=torch.Generator().manual_seed(1))
    gains = varied.std(dim=(1, 2, 3)) / patches.std(dim=(1, 2, 3))
    offsets = (varied - gains[:, None, None, None] * patches).mean(dim=(1, 2, 3))
    assert float(gains.min()) < 0.85
    assert float(gains.max()) > 1.15
    assert float((gains - 1).abs().max()) <= 0.2 + 1e-4
    assert float(offsets.abs().max()) <= 0.4 + 1e-4
    assert float(offsets.abs().max()) > 0.3
