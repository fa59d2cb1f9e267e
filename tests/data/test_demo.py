"""The demo: real photographs, test tiles apart from training tiles, defects with exact masks."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from skimage import data as photographs

from zoo.data import demo
from zoo.data.splits import split
from zoo.data.testset import has_test, read_test
from zoo.data.textures import find
from zoo.errors import ConfigError, DataError, StorageError


def contents(root: Path) -> dict[str, bytes]:
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def place_of(tile: np.ndarray, photograph: np.ndarray) -> tuple[int, int, int, int]:
    """Find where a tile was cut: top, bottom, left, right."""
    height, width = tile.shape
    top, left = np.nonzero(photograph[: 1 - height or None, : 1 - width or None] == tile[0, 0])
    for row, column in np.ndindex(tile.shape):  # each pixel leaves fewer places
        if len(top) == 1:
            break
        same = photograph[top + row, left + column] == tile[row, column]
        top, left = top[same], left[same]
    place = int(top[0]), int(top[0]) + height, int(left[0]), int(left[0]) + width
    np.testing.assert_array_equal(photograph[place[0] : place[1], place[2] : place[3]], tile)
    return place


@pytest.mark.parametrize("texture", demo.TEXTURES)
def test_the_demo_is_a_texture_with_audited_defects(
    tmp_path: Path, texture: demo.Photograph
) -> None:
    root = demo.make(tmp_path, texture=texture)
    assert root == tmp_path / texture
    found = find(tmp_path, texture)
    assert (found.layout, found.mode, len(found.pictures)) == ("mvtec", "L", 20)
    assert has_test(found)
    splits = split(found)
    # Tiles that adjoin in the photograph may be told to be relatives, and stay in one split.
    sizes = [len(splits.fit), len(splits.val), len(splits.calibration)]
    assert sum(sizes) == 20
    assert all(abs(size - share) <= 1 for size, share in zip(sizes, (10, 5, 5), strict=True))
    kinds = [picture.kind for picture in read_test(found)]
    counts = {kind: kinds.count(kind) for kind in kinds}
    assert counts == {"crack": 6, "good": 8, "smear": 6, "stain": 6}


@pytest.mark.parametrize("size", [48, 64, 96])
def test_no_tile_shares_a_pixel_with_a_training_tile(tmp_path: Path, size: int) -> None:
    demo.make(tmp_path, texture="gravel", size=size)
    texture = find(tmp_path, "gravel")
    photograph = photographs.gravel()
    uses = np.zeros(photograph.shape, int)
    for picture in texture.pictures:
        top, bottom, left, right = place_of(picture.pixels[..., 0], photograph)
        uses[top:bottom, left:right] += 1
    assert len(texture.pictures) >= 12
    assert uses.max() == 1
    good = [picture for picture in read_test(texture) if picture.kind == "good"]
    assert len(good) == demo.GOOD_TILES
    for tested in good:
        top, bottom, left, right = place_of(tested.pixels[..., 0], photograph)
        assert not uses[top:bottom, left:right].any()


@pytest.mark.parametrize("kind", demo.PAINTERS)
@pytest.mark.parametrize("texture", demo.TEXTURES)
def test_paint_stays_inside_its_mask_and_shows_there(texture: str, kind: str) -> None:
    photograph = getattr(photographs, texture)()
    for seed in range(8):
        tile = photograph[200:270, 60 + seed : 150 + seed]
        before = tile.copy()
        painted, mask = demo.paint(tile, kind, rng=np.random.default_rng(seed))
        np.testing.assert_array_equal(tile, before)
        np.testing.assert_array_equal(painted[~mask], tile[~mask])
        change = np.abs(painted.astype(int) - tile)
        assert (change[mask] >= 4).mean() > 0.7
        assert change[mask].mean() > 10
        assert 0.003 < mask.mean() < 0.35


def test_the_mask_on_disk_is_where_the_defect_is(tmp_path: Path) -> None:
    demo.make(tmp_path, texture="brick", size=64)
    photograph = photographs.brick()
    rows = sliding_window_view(photograph, 64, axis=1)
    defective = [p for p in read_test(find(tmp_path, "brick")) if p.kind == "crack"]
    assert len(defective) == demo.DEFECTS_A_KIND
    for picture in defective:
        assert picture.mask is not None
        pixels, clean = picture.pixels[..., 0], ~picture.mask
        row = int(np.argmax(clean.all(axis=1)))
        ((at, left),) = np.argwhere((rows == pixels[row]).all(axis=2)).tolist()
        cut = photograph[at - row : at - row + 64, left : left + 64]
        assert demo.STRIP[0] <= at - row <= demo.STRIP[1] - 64
        np.testing.assert_array_equal(pixels[clean], cut[clean])
        assert (pixels[~clean] != cut[~clean]).mean() > 0.9


def test_a_seed_fixes_every_file_and_another_changes_the_defects(tmp_path: Path) -> None:
    first = contents(demo.make(tmp_path / "a", texture="grass", seed=4, size=48))
    assert contents(demo.make(tmp_path / "b", texture="grass", seed=4, size=48)) == first
    other = contents(demo.make(tmp_path / "c", texture="grass", seed=5, size=48))
    assert other.keys() == first.keys()
    assert other["test/crack/000.png"] != first["test/crack/000.png"]
    assert other["train/good/000.png"] == first["train/good/000.png"]


def test_textures_do_not_share_their_defects(tmp_path: Path) -> None:
    masks = {
        (demo.make(tmp_path, texture=texture) / "ground_truth/stain/000_mask.png").read_bytes()
        for texture in demo.TEXTURES
    }
    assert len(masks) == 3


def test_every_test_picture_differs_from_the_others(tmp_path: Path) -> None:
    root = demo.make(tmp_path, size=64)
    pictures = list(contents(root / "test").values())
    assert len(pictures) == 26
    assert len(set(pictures)) == 26


def test_the_licence_is_cc0_and_names_the_source(tmp_path: Path) -> None:
    for texture in demo.TEXTURES:
        root = demo.make(tmp_path, texture=texture, size=48)
        assert find(tmp_path, texture).licence.startswith("CC0 1.0")
        assert demo.SOURCES[texture] in (root / "license.txt").read_text()
        url = demo.SOURCES[texture].split()[-1]
        assert url in (inspect.getdoc(getattr(photographs, texture)) or "")


def test_an_older_demo_is_replaced_without_leftovers(tmp_path: Path) -> None:
    demo.make(tmp_path, size=48)
    again = contents(demo.make(tmp_path, size=96, seed=1))
    assert again == contents(demo.make(tmp_path / "fresh", size=96, seed=1))


@pytest.mark.parametrize("place", ["train/good/mine.png", "train/good/000.png"])
def test_a_demo_that_was_changed_is_refused_and_kept(tmp_path: Path, place: str) -> None:
    root = demo.make(tmp_path, texture="brick", size=96)
    (root / place).write_bytes(b"mine")
    with pytest.raises(DataError, match="whose files were changed since"):
        demo.make(tmp_path, texture="brick", size=96)
    assert (root / place).read_bytes() == b"mine"


def test_a_folder_with_something_else_in_it_is_refused_and_kept(tmp_path: Path) -> None:
    root = tmp_path / "brick"
    (root / "train").mkdir(parents=True)
    (root / "train" / "mine.txt").write_text("precious")
    (root / "license.txt").write_text("CC0 1.0 as well")
    with pytest.raises(DataError, match=f"{root} is not empty"):
        demo.make(tmp_path)
    assert (root / "train" / "mine.txt").read_text() == "precious"
    assert not (root / "test").exists()


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "brick").mkdir()
    assert (demo.make(tmp_path, size=48) / "train/good/000.png").is_file()


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "brick").write_text("")
    with pytest.raises(DataError, match="brick is not empty"):
        demo.make(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file/brick"):
        demo.make(tmp_path / "file")


@pytest.mark.parametrize("size", [47, 97])
def test_a_size_out_of_range_is_refused_with_the_range(tmp_path: Path, size: int) -> None:
    with pytest.raises(ConfigError, match=f"size is {size}.*48 to 96"):
        demo.make(tmp_path, size=size)


def test_masks_are_black_and_white_pngs(tmp_path: Path) -> None:
    root = demo.make(tmp_path, size=48)
    paths = sorted((root / "ground_truth").rglob("*_mask.png"))
    assert len(paths) == 18
    for path in paths:
        with Image.open(path) as image:
            assert set(np.asarray(image).flat) == {0, 255}
