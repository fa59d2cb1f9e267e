"""Overlays: as large as the image, with an outline around anomalies."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.textures_drawn import draw
from zoo.detectors.score import Score
from zoo.errors import ConfigError, StorageError
from zoo.report import overlays

HEIGHT, WIDTH = 64, 72
PIXELS = draw(HEIGHT, WIDTH, np.random.default_rng(0))


def scored(*, hot: float, good: float = 0.0, threshold: float = 2.0) -> Score:
    anomaly = np.full((HEIGHT, WIDTH), good, np.float32)
    anomaly[20:30, 40:60] = hot
    return Score(map=anomaly, score=hot, threshold=threshold)


def reds(picture: np.ndarray) -> set[tuple[int, int]]:
    found = np.argwhere((picture == overlays.RED).all(axis=2))
    return {(int(row), int(column)) for row, column in found}


def test_an_overlay_is_as_large_as_its_image_and_outlines_the_mask_in_red() -> None:
    picture = overlays.overlay(PIXELS, scored(hot=3.0))
    assert picture.shape == (HEIGHT, WIDTH, 3)
    edge = {(row, column) for row in (20, 29) for column in range(40, 60)}
    edge |= {(row, column) for row in range(20, 30) for column in (40, 59)}
    assert reds(picture) == edge


def test_a_good_image_has_no_outline_and_stays_as_it_is() -> None:
    picture = overlays.overlay(PIXELS, scored(hot=-1.0, good=-1.0))
    assert not reds(picture)
    np.testing.assert_array_equal(picture, np.repeat(PIXELS, 3, axis=2))


def test_the_hotter_the_pixel_the_less_is_left_of_the_picture() -> None:
    inner = (slice(22, 28), slice(42, 58))
    changes = [
        np.abs(overlays.overlay(PIXELS, scored(hot=hot))[inner].astype(int) - PIXELS[inner]).mean()
        for hot in (0.0, 1.9, 4.0)
    ]
    assert changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("threshold", [-2.0, 0.0])
def test_a_threshold_of_any_sign_gives_a_picture(threshold: float) -> None:
    picture = overlays.overlay(PIXELS, scored(hot=3.0, good=-4.0, threshold=threshold))
    assert len(reds(picture)) == 56


def test_16_bits_and_colour_look_as_they_are() -> None:
    score = scored(hot=3.0)
    plain = overlays.overlay(PIXELS, score)
    np.testing.assert_array_equal(
        plain, overlays.overlay(PIXELS.astype(np.uint16) * np.uint16(257), score)
    )
    np.testing.assert_array_equal(plain, overlays.overlay(np.repeat(PIXELS, 3, axis=2), score))


def test_an_image_stands_beside_its_overlay_with_the_truth_in_green() -> None:
    pixels = draw(256, 300, np.random.default_rng(0))
    truth = np.zeros((256, 300), np.bool_)
    truth[5:15, 6:20] = True
    score = Score(map=truth * np.float32(3), score=3.0, threshold=2.0)
    both = overlays.picture_and_map(pixels, score, truth)
    assert both.shape == (256, 300 + 4 + 300, 3)
    np.testing.assert_array_equal(both[:, 304:], overlays.overlay(pixels, score))
    assert (both[5, 6:20] == overlays.GREEN).all()
    alone = overlays.picture_and_map(pixels, score)
    np.testing.assert_array_equal(alone[:, :300], np.repeat(pixels, 3, axis=2))


def test_stacked_pictures_keep_their_pixels_and_white_fills_the_rest() -> None:
    narrow, wide = np.zeros((5, 8, 3), np.uint8), np.full((6, 11, 3), 9, np.uint8)
    page = overlays.stacked([narrow, wide])
    assert page.shape == (5 + 4 + 6 + 4, 11, 3)
    assert (page[:5, :8] == 0).all()
    assert (page[9:15] == 9).all()
    assert (page[:5, 8:] == 255).all()


def test_a_saved_picture_comes_back(tmp_path: Path) -> None:
    picture = overlays.overlay(PIXELS, scored(hot=3.0))
    path = overlays.save(picture, tmp_path / "new" / "a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(path)), picture)


def test_a_saved_picture_is_known_as_ours_and_others_are_not(tmp_path: Path) -> None:
    picture = overlays.overlay(PIXELS, scored(hot=3.0))
    assert overlays.is_ours(overlays.save(picture, tmp_path / "a.png"))
    Image.fromarray(picture).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no picture")
    assert not any(overlays.is_ours(tmp_path / name) for name in ("b.png", "c.png", "absent.png"))


def test_overlays_keep_the_tree_of_their_images_below_the_common_folder(tmp_path: Path) -> None:
    names = ["a/good/000.png", "b/good/000.jpg", "b/000.tif"]
    found = overlays.paths_of([tmp_path / name for name in names], Path("maps"))
    assert list(found) == [tmp_path / name for name in names]
    below = ["a/good/000.png", "b/good/000.png", "b/000.png"]
    assert list(found.values()) == [Path("maps") / name for name in below]
    (one,) = overlays.paths_of([tmp_path / "a" / "x.v2.jpg"], Path("maps")).values()
    assert one == Path("maps") / "x.v2.png"


def test_two_images_with_one_overlay_are_refused_with_both(tmp_path: Path) -> None:
    both = [tmp_path / "x.jpg", tmp_path / "x.png"]
    expected = re.escape(f"{both[0]} and {both[1]} would both be {Path('maps') / 'x.png'}")
    with pytest.raises(ConfigError, match=expected):
        overlays.paths_of(both, Path("maps"))


def test_a_file_of_the_users_is_refused_and_an_overlay_is_not(tmp_path: Path) -> None:
    mine, folder = tmp_path / "x.png", tmp_path / "maps"
    picture = overlays.overlay(PIXELS, scored(hot=3.0))
    overlays.save(picture, folder / "x.png")
    assert overlays.paths_of([mine], folder) == {mine: folder / "x.png"}
    Image.fromarray(picture).save(folder / "x.png")
    with pytest.raises(ConfigError, match=re.escape(f"overwrite {folder / 'x.png'}, which")):
        overlays.paths_of([mine], folder)


def test_a_link_of_the_users_that_leads_nowhere_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "a.png").symlink_to(tmp_path / "not mounted")
    with pytest.raises(ConfigError, match="would overwrite"):
        overlays.paths_of([tmp_path / "a.png"], tmp_path / "maps")


def test_a_file_in_the_way_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "way").write_text("")
    with pytest.raises(StorageError, match=r"Cannot write the picture a\.png: .*in the way"):
        overlays.save(np.zeros((4, 5, 3), np.uint8), tmp_path / "way" / "new" / "a.png")


def test_a_small_image_is_shown_enlarged_pixel_by_pixel() -> None:
    both = overlays.picture_and_map(PIXELS, scored(hot=3.0))
    assert both.shape == (4 * HEIGHT, 4 * (2 * WIDTH + 4), 3)
    np.testing.assert_array_equal(both[::4, : 4 * WIDTH : 4], np.repeat(PIXELS, 3, axis=2))
