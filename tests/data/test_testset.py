"""Test pictures with their masks, and masks that are refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.data.pictures_written import drawn, write, write_good, write_truncated
from zoo.data.testset import has_test, read_test
from zoo.data.textures import find
from zoo.errors import BadImageError, BadMaskError


@pytest.fixture
def audited(tmp_path: Path) -> Path:
    """Make an MVTec folder with one good and one defective test image."""
    write_good(tmp_path, 2)
    write(tmp_path / "test" / "good" / "000.png", drawn(seed=5))
    write(tmp_path / "test" / "hole" / "000.png", drawn(seed=6, channels=3))
    mask = np.zeros((48, 64, 1), np.uint8)
    mask[10:20, 30:35] = 1
    write(tmp_path / "ground_truth" / "hole" / "000_mask.png", mask)
    return tmp_path


def test_test_images_come_with_kind_and_mask_in_the_mode_of_the_texture(audited: Path) -> None:
    texture = find(audited, "x")
    assert has_test(texture)
    good, hole = read_test(texture)
    assert (good.name, good.kind) == ("test/good/000.png", "good")
    assert good.mask is not None
    assert not good.mask.any()
    assert (hole.name, hole.kind) == ("test/hole/000.png", "hole")
    assert hole.pixels.shape == (48, 64, 1)
    assert hole.mask is not None
    assert hole.mask.sum() == 50
    assert hole.mask[10:20, 30:35].all()


def test_test_images_are_read_one_at_a_time(audited: Path) -> None:
    write_truncated(audited / "test" / "hole" / "000.png")
    pictures = read_test(find(audited, "x"))
    assert next(pictures).kind == "good"
    with pytest.raises(BadImageError, match=r"hole.000\.png"):
        next(pictures)


def test_has_test_opens_no_picture(tmp_path: Path) -> None:
    texture = find(write_good(tmp_path, 1), "x")
    assert not has_test(texture)
    (tmp_path / "test" / ".cache").mkdir(parents=True)
    assert not has_test(texture)
    (tmp_path / "test" / "hole").mkdir()
    assert not has_test(texture)
    write_truncated(tmp_path / "test" / "hole" / "000.png")
    assert has_test(texture)


def test_a_missing_mask_is_refused_with_both_paths(audited: Path) -> None:
    mask = audited / "ground_truth" / "hole" / "000_mask.png"
    mask.unlink()
    picture = audited / "test" / "hole" / "000.png"
    expected = re.escape(f"{picture} has no mask {mask}")
    with pytest.raises(BadMaskError, match=expected):
        list(read_test(find(audited, "x")))


def test_a_mask_of_another_size_is_refused_with_both_sizes_and_paths(audited: Path) -> None:
    mask = write(audited / "ground_truth" / "hole" / "000_mask.png", drawn(64, 48))
    with pytest.raises(BadMaskError) as caught:
        list(read_test(find(audited, "x")))
    message = str(caught.value)
    assert f"{audited / 'test' / 'hole' / '000.png'} is 48x64 pixels" in message
    assert f"{mask} is 64x48" in message


def test_a_damaged_mask_is_refused_with_its_path(audited: Path) -> None:
    mask = write_truncated(audited / "ground_truth" / "hole" / "000_mask.png")
    with pytest.raises(BadMaskError, match=re.escape(str(mask))):
        list(read_test(find(audited, "x")))
