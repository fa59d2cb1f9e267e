"""`zoo search`: what is refused before a search starts, with what is wrong, and nothing made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from registry import bundle
from tests import textures_drawn
from tests.cli.commands import TRAIN, Shop, champion, refused, search_refused


def test_an_empty_folder_is_refused_and_nothing_is_made(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path
) -> None:
    (tmp_path / "data" / "weave" / "train" / "good").mkdir(parents=True)
    line = search_refused(capsys, tmp_path / "data")
    assert "No picture of good 'weave'" in line
    assert str(tmp_path / "data" / "weave") in line
    assert not home.exists()


def test_a_corrupt_picture_among_good_ones_is_named_and_nothing_is_made(
    capsys: pytest.CaptureFixture[str], home: Path, weave: Path
) -> None:
    path = weave / "train" / "good" / "003.png"
    path.write_bytes(path.read_bytes()[:200])
    line = search_refused(capsys, weave.parent)
    assert "003.png" in line
    assert not home.exists()


def test_after_a_search_on_a_corrupt_picture_the_champion_is_what_it_was(
    capsys: pytest.CaptureFixture[str], shop: Shop, weave: Path
) -> None:
    (weave / "train" / "good" / "003.png").write_bytes(b"no picture")
    before = bundle.digest(champion(shop.home))
    searches = sorted(shop.home.glob("searches/*"))
    assert "003.png" in search_refused(capsys, weave.parent)
    assert bundle.digest(champion(shop.home)) == before
    assert sorted(shop.home.glob("searches/*")) == searches


def test_pictures_smaller_than_a_patch_are_refused_with_both_sizes(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for number in range(14):
        picture = textures_drawn.draw(20, 90, rng)
        textures_drawn.write(tmp_path / "data" / "weave" / f"{number}.png", picture)
    line = search_refused(capsys, tmp_path / "data")
    assert "has a side of 20 pixels; space 'default' needs 48" in line
    of_weave = ["--category", "weave", f"--data={tmp_path}/data", f"--out={tmp_path}/out"]
    line = refused(capsys, *TRAIN, *of_weave, "--set", "patch=32")
    assert "has 20x90 pixels; a patch of 32 at scale 1.0 needs 32x32" in line
    assert not (tmp_path / "out").exists()
    assert not home.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("widht: 16\n", ["'widht'", "width"]),
        ("learning_rate: {log_uniform: [1.0e-2, 1.0e-4]}\n", ["learning_rate", "0.01", "0.0001"]),
        ("width: {choice: []}\n", ["width"]),
        ("width: [1\n", ["YAML"]),
    ],
)
def test_a_wrong_space_file_is_refused_with_file_and_field(
    capsys: pytest.CaptureFixture[str],
    home: Path,
    weave: Path,
    tmp_path: Path,
    text: str,
    said: list[str],
) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    line = search_refused(capsys, weave.parent, "--space", tmp_path / "mine.yaml")
    assert all(each in line for each in ["mine.yaml", *said]), line
    assert not home.exists()


def test_a_test_image_without_its_mask_is_refused_before_a_search_begins(
    capsys: pytest.CaptureFixture[str], home: Path, weave: Path
) -> None:
    (weave / "ground_truth" / "hole" / "001_mask.png").unlink()
    line = refused(capsys, "search", "--category", "weave", "--data", weave.parent)
    assert "001_mask.png" in line
    assert not home.exists() or not list(home.iterdir())
