"""Laws of synthetic defects: where they are, which pixels they keep, what a seed decides."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from zoo.data.defects.families import FAMILIES, HELD_OUT, TRAINED, Family
from zoo.data.defects.painting import MARGIN, paint, training_pair
from zoo.data.defects.sheet import draw_sheet
from zoo.data.defects.validation import SIZES, WINDOW, fingerprint, sizes_on, validation_set
from zoo.data.images import unit
from zoo.data.textures import Picture
from zoo.errors import BadImageError, ConfigError, EmptyFolderError


def texture(height: int = 72, width: int = 96, *, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Woven bars with some noise, in [0, 1], not square."""
    rng = np.random.default_rng(seed)
    down, right = np.mgrid[:height, :width]
    bars = np.sin(down / 3 + seed) * np.cos(right / 4) * 0.25 + 0.5
    tints = np.linspace(0.8, 1.0, channels)
    image = bars[..., None] * tints + rng.normal(0, 0.02, (height, width, channels))
    return np.asarray(np.clip(image, 0, 1), dtype=np.float32)


def pictures(
    number: int = 4,
    *,
    height: int = 72,
    width: int = 96,
    channels: int = 1,
    dtype: type[np.unsignedinteger] = np.uint8,
) -> tuple[Picture, ...]:
    top = np.iinfo(dtype).max
    return tuple(
        Picture(
            name=f"{seed}.png",
            pixels=np.rint(texture(height, width, channels=channels, seed=seed) * top).astype(
                dtype
            ),
            key=f"key-{seed}",
        )
        for seed in range(number)
    )


def brush(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_defect_changes_pixels_only_in_and_just_around_its_mask(
    family: str, channels: int
) -> None:
    image, donor = texture(channels=channels), texture(80, 64, channels=channels, seed=1)
    before = image.copy()
    for seed in range(12):
        painted, mask = paint(
            image,
            family,
            rng=brush(seed),
            size=0.03 + 0.02 * seed,
            contrast=0.1 + 0.07 * seed,
            donor=donor,
        )
        assert painted.shape == image.shape
        assert painted.dtype == image.dtype
        assert mask.shape == image.shape[:2]
        assert 0 <= painted.min() <= painted.max() <= 1
        assert mask.any()
        assert mask.mean() < 0.5
        around = cv2.dilate(mask.astype(np.uint8), np.ones((2 * MARGIN + 1,) * 2, np.uint8)) > 0
        changed = (painted != image).any(axis=2)
        assert not (changed & ~around).any()
        assert changed[mask].mean() > 0.5
    assert np.array_equal(image, before)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_seed_paints_the_same_and_another_one_differently(family: str) -> None:
    image, donor = texture(), texture(seed=1)
    (one, mask), (same, same_mask), (other, _) = (
        paint(image, family, rng=brush(seed), size=0.2, contrast=0.7, donor=donor)
        for seed in (5, 5, 6)
    )
    assert np.array_equal(one, same)
    assert np.array_equal(mask, same_mask)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("shape", [(32, 32), (16, 40), (200, 33)])
@pytest.mark.parametrize("family", FAMILIES)
def test_small_and_narrow_images_get_defects_of_any_size(
    family: str, shape: tuple[int, int]
) -> None:
    image = texture(*shape)
    for size in (0.001, 0.25, 1.0):
        _, mask = paint(image, family, rng=brush(0), size=size, contrast=0.5, donor=image)
        assert mask.any()
        assert not mask.all()


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_without_any_structure_still_gets_a_defect(family: str) -> None:
    board = (np.indices((40, 50)).sum(axis=0) % 2).astype(np.float32)[..., None]
    noise = (brush(0).random((40, 50, 1)) < 0.5).astype(np.float32)
    for image in (
        np.zeros_like(board),
        np.full_like(board, 0.4),
        np.ones_like(board),
        board,
        noise,
    ):
        for seed in range(5):
            painted, mask = paint(
                image, family, rng=brush(seed), size=0.2, contrast=0.1, donor=image
            )
            assert mask.any()
            assert (painted != image).any(axis=2)[mask].mean() > 0.3


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"cut_paste", "gap"}))
def test_a_larger_size_covers_more_and_a_higher_contrast_changes_more(family: str) -> None:
    image, donor = texture(256, 288), texture(256, 288, seed=1)

    def painted(size: float, contrast: float) -> list[tuple[np.ndarray, np.ndarray]]:
        return [
            paint(image, family, rng=brush(seed), size=size, contrast=contrast, donor=donor)
            for seed in range(12)
        ]

    small, large = (
        np.mean([mask.sum() for _, mask in painted(size, 0.6)]) for size in (0.05, 0.25)
    )
    assert large > 3 * small
    faint, clear = (
        np.mean([np.abs(changed - image).sum() for changed, _ in painted(0.15, contrast)])
        for contrast in (0.1, 1.0)
    )
    assert clear > 1.3 * faint


def test_defects_of_a_dark_image_are_as_visible_as_those_of_a_bright_one() -> None:
    bright = texture(128, 128)
    dark = bright / 8
    for family in FAMILIES:
        areas = [
            np.mean(
                [
                    paint(image, family, rng=brush(seed), size=0.2, contrast=0.8, donor=image)[
                        1
                    ].sum()
                    for seed in range(8)
                ]
            )
            for image in (bright, dark)
        ]
        assert 0.5 < areas[1] / areas[0] < 2, family


def test_foreign_matter_on_a_grey_picture_of_three_channels_is_grey() -> None:
    image = np.repeat(texture(), 3, axis=2)
    for family in ("noise_blob", "thread", "hole", "stain"):
        painted, mask = paint(image, family, rng=brush(1), size=0.2, contrast=1.0, donor=image)
        assert mask.any()
        assert np.ptp(painted, axis=2).max() < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_in_double_precision_keeps_its_other_pixels_to_the_last_bit(family: str) -> None:
    image = np.random.default_rng(0).random((40, 56, 1))
    painted, mask = paint(image, family, rng=brush(0), size=0.3, contrast=0.9, donor=image)
    assert painted.dtype == np.float64
    around = cv2.dilate(mask.astype(np.uint8), np.ones((2 * MARGIN + 1,) * 2, np.uint8)) > 0
    assert 0 < around.sum() < mask.size
    assert np.array_equal(painted[~around], image[~around])


def test_one_line_in_the_list_adds_a_family_and_leaves_the_others_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = validation_set(pictures(), seed=0, per_family=2, window=64)
    rows = draw_sheet(pictures(), seed=0).height / len(FAMILIES)
    dark = Family(paint=lambda patch, brush: (0 * patch, np.ones(patch.shape[:2], np.float32)))
    monkeypatch.setitem(FAMILIES, "dark", dark)
    painted, mask = paint(texture(), "dark", rng=brush(0), size=0.5, contrast=1.0, donor=texture())
    assert mask.sum() == 36 * 36
    assert (painted[mask] == 0).all()
    after = validation_set(pictures(), seed=0, per_family=2, window=64)
    assert fingerprint(after[:-2]) == fingerprint(before)
    assert [made.family for made in after[-2:]] == ["dark", "dark"]
    assert draw_sheet(pictures(), seed=0).height == rows * len(FAMILIES)


def test_at_least_one_family_is_held_out_and_training_draws_from_all_others() -> None:
    assert set(FAMILIES) >= HELD_OUT
    assert len(HELD_OUT) >= 1
    assert set(TRAINED) == set(FAMILIES) - HELD_OUT


def test_a_training_pair_is_painted_with_trained_families_and_never_one_held_out() -> None:
    image, donor, used = texture(48, 64), texture(seed=1), set()
    for seed in range(60):
        rng = brush(seed)
        expected, mask = image, np.zeros((48, 64), dtype=bool)
        for _ in range(rng.integers(1, 4)):
            family = TRAINED[rng.integers(len(TRAINED))]
            size, contrast = np.exp(rng.uniform(np.log(0.06), np.log(0.5))), rng.uniform(0.05, 1)
            expected, added = paint(
                expected, family, rng=rng, size=size, contrast=contrast, donor=donor
            )
            mask |= added
            used.add(family)
        painted, painted_mask = training_pair(image, rng=brush(seed), donor=donor)
        assert np.array_equal(painted, expected)
        assert np.array_equal(painted_mask, mask)
    assert used == set(TRAINED)
    assert not used & HELD_OUT


def test_a_training_pair_keeps_shape_type_and_range_and_marks_what_changed() -> None:
    image, donor = texture(48, 64, channels=3), texture(90, 70, channels=3, seed=1)
    for seed in range(40):
        painted, mask = training_pair(image, rng=brush(seed), donor=donor)
        assert painted.shape == image.shape
        assert painted.dtype == image.dtype
        assert 0 <= painted.min() <= painted.max() <= 1
        assert mask.any()
        assert not mask.all()
        around = cv2.dilate(mask.astype(np.uint8), np.ones((2 * MARGIN + 1,) * 2, np.uint8)) > 0
        assert not ((painted != image).any(axis=2) & ~around).any()


def test_training_pairs_of_one_seed_are_equal_and_hold_one_to_three_defects() -> None:
    image = texture(128, 128)
    one, same = (training_pair(image, rng=brush(3), donor=image) for _ in range(2))
    assert np.array_equal(one[0], same[0])
    assert np.array_equal(one[1], same[1])
    shares = [training_pair(image, rng=brush(seed), donor=image)[1].mean() for seed in range(40)]
    assert len(set(shares)) > 30
    assert np.mean(shares) < 0.25


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_validation_set_has_so_many_windows_of_each_family_in_the_pictures_dtype(
    dtype: type[np.unsignedinteger], channels: int
) -> None:
    goods = pictures(channels=channels, dtype=dtype)
    validation = validation_set(goods, seed=0, per_family=2, window=64)
    assert [made.family for made in validation] == [name for name in FAMILIES for _ in range(2)]
    for made in validation:
        assert made.image.dtype == dtype
        assert made.image.shape == (64, 64, channels)
        assert made.mask.shape == (64, 64)
        assert made.mask.any()
        assert not made.mask.all()


def test_a_window_differs_from_its_picture_only_in_and_just_around_the_mask() -> None:
    goods = pictures(dtype=np.uint16)
    by_key = {picture.key: picture.pixels for picture in goods}
    validation = validation_set(goods, seed=1, per_family=3, window=512)
    assert len(validation) == 3 * len(FAMILIES)
    for made in validation:
        changed = (made.image != by_key[made.source]).any(axis=2)
        around = cv2.dilate(made.mask.astype(np.uint8), np.ones((2 * MARGIN + 1,) * 2, np.uint8))
        assert not (changed & (around == 0)).any()
        assert changed[made.mask].mean() > 0.5


def test_pictures_take_turns_and_smaller_ones_are_used_whole() -> None:
    goods = (*pictures(2), *pictures(3, height=40, width=50)[2:])
    validation = validation_set(goods, seed=0, per_family=3, window=64)
    sources = [made.source for made in validation]
    assert {sources.count(key) for key in set(sources)} == {len(FAMILIES)}
    assert len(set(sources)) == 3
    shapes = {made.source: made.mask.shape for made in validation}
    assert shapes == {"key-0": (64, 64), "key-1": (64, 64), "key-2": (40, 50)}


def test_sizes_ascend_within_a_family() -> None:
    goods = pictures(2, height=256, width=256)
    validation = validation_set(goods, seed=0, per_family=6, window=256)
    areas = np.array([made.mask.sum() for made in validation]).reshape(len(FAMILIES), 6)
    assert (areas[:, 4:].mean(axis=1) > 3 * areas[:, :2].mean(axis=1)).all()


def test_a_validation_set_is_decided_by_its_seed() -> None:
    goods = pictures()
    one, same, other = (
        validation_set(goods, seed=seed, per_family=2, window=64) for seed in (0, 0, 1)
    )
    assert fingerprint(one) == fingerprint(same)
    assert len(one) == len(other)
    assert not any(np.array_equal(a.image, b.image) for a, b in zip(one, other, strict=True))
    assert not any(np.array_equal(a.mask, b.mask) for a, b in zip(one, other, strict=True))


def test_a_validation_set_works_with_a_single_picture() -> None:
    assert len(validation_set(pictures(1), seed=0, per_family=1)) == len(FAMILIES)


def test_a_fingerprint_changes_with_one_pixel_of_image_or_mask_and_with_the_order() -> None:
    validation = validation_set(pictures(), seed=0, per_family=1, window=64)
    first = validation[0]
    image, mask = first.image.copy(), first.mask.copy()
    image[3, 4, 0] ^= 1
    mask[3, 4] ^= True
    others = [
        (replace(first, image=image), *validation[1:]),
        (replace(first, mask=mask), *validation[1:]),
        (replace(first, family="other"), *validation[1:]),
        (replace(first, source="other"), *validation[1:]),
        validation[::-1],
        validation[1:],
    ]
    prints = [fingerprint(one) for one in (validation, *others)]
    assert len(set(prints)) == len(prints) == 7
    assert prints[0].startswith("sha256:")
    assert len(prints[0]) == len("sha256:") + 64


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_has_a_row_a_family_and_red_outlines_beside_the_windows(channels: int) -> None:
    page = np.asarray(draw_sheet(pictures(channels=channels), seed=0))
    height, width = page.shape[:2]
    assert height % len(FAMILIES) == 0
    rows = page[:, 120:].reshape(len(FAMILIES), height // len(FAMILIES), width - 120, 3)
    assert ((rows == (255, 0, 0)).all(axis=3).sum(axis=(1, 2)) > 20).all()


def test_an_unknown_family_is_refused_with_the_near_name() -> None:
    with pytest.raises(ConfigError, match=r"'scrach'.*Did you mean 'scratch'\?"):
        paint(texture(), "scrach", rng=brush(0), size=0.1, contrast=0.5, donor=texture())


@pytest.mark.parametrize(("name", "value"), [("size", 0.0), ("size", 1.2), ("contrast", -0.5)])
def test_a_strength_out_of_range_is_refused_with_its_value(name: str, value: float) -> None:
    strength = {"size": 0.1, "contrast": 0.5, name: value}
    with pytest.raises(ConfigError, match=f"{name} = {value}"):
        paint(texture(), "blur", rng=brush(0), donor=texture(), **strength)


def test_an_image_too_small_for_a_defect_is_refused_with_its_size() -> None:
    with pytest.raises(BadImageError, match="15x60"):
        training_pair(texture(15, 60), rng=brush(0), donor=texture())


def test_a_validation_set_of_nothing_is_refused() -> None:
    with pytest.raises(EmptyFolderError, match="no good picture"):
        validation_set([], seed=0)
    with pytest.raises(EmptyFolderError, match="no good picture"):
        draw_sheet([], seed=0)
    with pytest.raises(ConfigError, match="per_family = 0"):
        validation_set(pictures(), seed=0, per_family=0)
    with pytest.raises(ConfigError, match="window = 8"):
        validation_set(pictures(), seed=0, window=8)


def test_sixteen_bit_pictures_are_read_to_their_full_range() -> None:
    picture = pictures(1, dtype=np.uint16)[0]
    assert unit(picture.pixels).max() <= 1
    validation = validation_set([picture], seed=0, per_family=1)
    assert max(int(made.image.max()) for made in validation) > 255


@pytest.mark.parametrize("side", [16, 96, 205, 280, 400, 511, 512, 1024])
def test_a_small_picture_shows_defects_as_large_in_pixels_as_a_window(side: int) -> None:
    smallest, largest = sizes_on(side)
    assert 0 < smallest < largest <= 0.6
    shown = min(side, WINDOW)
    assert largest * shown <= SIZES[1] * WINDOW + 1e-9
    if side >= 214:
        assert largest * shown == pytest.approx(128)
    if side >= WINDOW:
        assert (smallest, largest) == SIZES
