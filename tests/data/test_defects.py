"""Laws of synthetic defects: where they are, which pixels they keep, what a seed decides."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from zoo.data.defects.families import FAMILIES, Family, held_out, judged
from zoo.data.defects.painting import MARGIN, Look, paint
from zoo.data.defects.sheet import draw_sheet
from zoo.data.defects.validation import (
    GOOD,
    PLACEBO,
    SIZES,
    WINDOW,
    fingerprint,
    sizes_on,
    validation_set,
)
from zoo.data.images import unit
from zoo.data.textures import Picture
from zoo.errors import BadImageError, ConfigError, EmptyFolderError


def texture(
    height: int = 72, width: int = 96, *, channels: int = 1, seed: int = 0, wider: float = 1.0
) -> np.ndarray:
    """Woven bars with some noise, in [0, 1], not square; `wider` multiplies their width."""
    rng = np.random.default_rng(seed)
    down, right = np.mgrid[:height, :width] / wider
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
            look=Look(size=0.03 + 0.02 * seed, contrast=0.1 + 0.07 * seed),
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
        paint(image, family, rng=brush(seed), look=Look(size=0.2, contrast=0.7), donor=donor)
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
        _, mask = paint(
            image, family, rng=brush(0), look=Look(size=size, contrast=0.5), donor=image
        )
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
                image, family, rng=brush(seed), look=Look(size=0.2, contrast=0.1), donor=image
            )
            assert mask.any()
            assert (painted != image).any(axis=2)[mask].mean() > 0.3


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"cut_paste", "gap"}))
def test_a_larger_size_covers_more_and_a_higher_contrast_changes_more(family: str) -> None:
    # What is displaced by more than half a period changes no further, so bars that are moved are
    # wider than they are moved.
    wider = 8.0 if family == "disorder" else 1.0
    image, donor = (texture(256, 288, seed=seed, wider=wider) for seed in (0, 1))

    def painted(size: float, contrast: float) -> list[tuple[np.ndarray, np.ndarray]]:
        return [
            paint(
                image, family, rng=brush(seed), look=Look(size=size, contrast=contrast), donor=donor
            )
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
                    paint(
                        image,
                        family,
                        rng=brush(seed),
                        look=Look(size=0.2, contrast=0.8),
                        donor=image,
                    )[1].sum()
                    for seed in range(8)
                ]
            )
            for image in (bright, dark)
        ]
        assert 0.5 < areas[1] / areas[0] < 2, family


def test_foreign_matter_on_a_grey_picture_of_three_channels_is_grey() -> None:
    image = np.repeat(texture(), 3, axis=2)
    for family in ("noise_blob", "thread", "hole", "stain"):
        painted, mask = paint(
            image, family, rng=brush(1), look=Look(size=0.2, contrast=1.0), donor=image
        )
        assert mask.any()
        assert np.ptp(painted, axis=2).max() < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_in_double_precision_keeps_its_other_pixels_to_the_last_bit(family: str) -> None:
    image = np.random.default_rng(0).random((40, 56, 1))
    painted, mask = paint(
        image, family, rng=brush(0), look=Look(size=0.3, contrast=0.9), donor=image
    )
    assert painted.dtype == np.float64
    around = cv2.dilate(mask.astype(np.uint8), np.ones((2 * MARGIN + 1,) * 2, np.uint8)) > 0
    assert 0 < around.sum() < mask.size
    assert np.array_equal(painted[~around], image[~around])


def test_one_line_in_the_list_adds_a_family(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = draw_sheet(pictures(), seed=0).height / (len(FAMILIES) + 2)
    dark = Family(
        paint=lambda patch, brush: (0 * patch, np.ones(patch.shape[:2], np.float32)), kind="matter"
    )
    monkeypatch.setitem(FAMILIES, "dark", dark)
    look = Look(size=0.5, contrast=1.0)
    painted, mask = paint(texture(), "dark", rng=brush(0), look=look, donor=texture())
    assert 0 < mask.sum() <= 36 * 36
    assert (painted[mask] == 0).all()
    assert any("dark" in held_out(seed) for seed in range(12))
    assert draw_sheet(pictures(), seed=0).height == rows * (len(FAMILIES) + 2)


def test_each_seed_is_judged_by_a_family_of_each_kind_that_it_does_not_teach() -> None:
    kinds = {name: family.kind for name, family in FAMILIES.items()}
    for seed in range(12):
        assert [kinds[name] for name in judged(seed)] == ["matter", "line", "tone", "structure"]
        assert set(judged(seed)) <= held_out(seed)
        taught = set(FAMILIES) - held_out(seed)
        assert {kinds[name] for name in taught} == {"matter", "line", "structure"}
        assert len(taught) > len(held_out(seed))
    judges = [set(judged(seed)) for seed in range(12)]
    assert judges[0] != judges[1]
    lines = {name for name, kind in kinds.items() if kind in ("matter", "line", "tone")}
    assert set().union(*judges) > lines


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_validation_set_has_so_many_windows_of_each_family_in_the_pictures_dtype(
    dtype: type[np.unsignedinteger], channels: int
) -> None:
    goods = pictures(channels=channels, dtype=dtype)
    validation = validation_set(goods, seed=0, per_family=2, window=64)
    families = [made.family for made in validation]
    assert families[:8] == [name for name in judged(0) for _ in range(2)]
    assert families[8:12] == [GOOD] * 4
    assert set(families[12:]) == {PLACEBO}
    for made in validation:
        assert made.image.dtype == dtype
        assert made.image.shape == (64, 64, channels)
        assert made.mask.shape == (64, 64)
        assert made.mask.any() == bool(made.strata) == (made.family in FAMILIES)
        assert not made.mask.all()


def test_a_window_without_variation_differs_from_its_picture_only_around_the_mask() -> None:
    goods = pictures(dtype=np.uint16)
    by_key = {picture.key: picture.pixels for picture in goods}
    validation = validation_set(goods, seed=1, per_family=4, window=512)
    plain = [made for made in validation if made.strata and not made.varied]
    assert len(plain) == 8
    for made in plain:
        changed = (made.image != by_key[made.source]).any(axis=2)
        around = cv2.dilate(made.mask.astype(np.uint8), np.ones((2 * MARGIN + 1,) * 2, np.uint8))
        assert not (changed & (around == 0)).any()
        assert changed[made.mask].mean() > 0.5


def test_half_of_the_windows_are_varied_and_good_ones_that_are_not_are_as_they_were() -> None:
    goods = pictures(dtype=np.uint16)
    by_key = {picture.key: picture.pixels for picture in goods}
    validation = validation_set(goods, seed=1, per_family=4, window=512)
    varied = [made for made in validation if made.varied]
    assert 0.4 < len(varied) / len(validation) < 0.6
    for made in (each for each in validation if each.family == GOOD):
        same = np.array_equal(made.image, by_key[made.source])
        assert same != made.varied


def test_pictures_take_turns_and_smaller_ones_are_used_whole() -> None:
    goods = (*pictures(2), *pictures(3, height=40, width=50)[2:])
    validation = validation_set(goods, seed=0, per_family=3, window=64)
    sources = [made.source for made in validation]
    counts = {sources[:12].count(key) for key in set(sources)}
    assert counts == {4}
    assert len(set(sources)) == 3
    shapes = {made.source: made.mask.shape for made in validation}
    assert shapes == {"key-0": (64, 64), "key-1": (64, 64), "key-2": (40, 50)}


def test_sizes_ascend_within_a_family() -> None:
    goods = pictures(2, height=256, width=256)
    validation = validation_set(goods, seed=0, per_family=6, window=256)
    areas = np.array([made.mask.sum() for made in validation if made.strata]).reshape(4, 6)
    assert (areas[:, 4:].mean(axis=1) > 3 * areas[:, :2].mean(axis=1)).all()
    sizes = [made.strata[1] for made in validation if made.strata]
    assert sizes[:6] == ["small", "small", "medium", "medium", "large", "large"]


def test_a_validation_set_is_decided_by_its_seed() -> None:
    goods = pictures()
    one, same, other = (
        validation_set(goods, seed=seed, per_family=2, window=64) for seed in (0, 0, 1)
    )
    assert fingerprint(one) == fingerprint(same)
    assert len(one) == len(other)
    assert not any(np.array_equal(a.image, b.image) for a, b in zip(one, other, strict=True))
    defects = [(a, b) for a, b in zip(one, other, strict=True) if a.strata and b.strata]
    assert len(defects) == 8
    assert not any(np.array_equal(a.mask, b.mask) for a, b in defects)


def test_a_validation_set_works_with_a_single_picture() -> None:
    validation = validation_set(pictures(1), seed=0, per_family=1)
    assert sum(bool(made.strata) for made in validation) == len(judged(0))


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
    names = len(FAMILIES) + 2
    assert height % names == 0
    rows = page[:, 120:].reshape(names, height // names, width - 120, 3)
    red = (rows == (255, 0, 0)).all(axis=3).sum(axis=(1, 2))
    assert (red[:2] == 0).all()  # good windows and placebos have no mask
    assert (red[2:] > 20).all()


def test_an_unknown_family_is_refused_with_the_near_name() -> None:
    with pytest.raises(ConfigError, match=r"'scrach'.*Did you mean 'scratch'\?"):
        paint(texture(), "scrach", rng=brush(0), look=Look(size=0.1, contrast=0.5), donor=texture())


@pytest.mark.parametrize(("name", "value"), [("size", 0.0), ("size", 1.2), ("contrast", -0.5)])
def test_a_strength_out_of_range_is_refused_with_its_value(name: str, value: float) -> None:
    strength = {"size": 0.1, "contrast": 0.5, name: value}
    with pytest.raises(ConfigError, match=f"{name} = {value}"):
        Look(**strength)


def test_an_image_too_small_for_a_defect_is_refused_with_its_size() -> None:
    look = Look(size=0.1, contrast=0.5)
    with pytest.raises(BadImageError, match="15x60"):
        paint(texture(15, 60), "hole", rng=brush(0), look=look, donor=texture())


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


@pytest.mark.parametrize("side", [16, 96, 205, 280, 383, 384, 1024])
def test_a_small_picture_shows_defects_as_large_in_pixels_as_a_window(side: int) -> None:
    smallest, largest = sizes_on(side)
    assert 0 < smallest < largest <= 0.7
    shown = min(side, WINDOW)
    assert largest * shown <= SIZES[1] * WINDOW + 1e-9
    if side >= 250:
        assert largest * shown == pytest.approx(SIZES[1] * WINDOW)
    if side >= WINDOW:
        assert (smallest, largest) == SIZES
