"""Which textures `--category all` searches for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.pictures_written import drawn, write
from zoo.errors import EmptyFolderError
from zoo.search.all_textures import objects_in, textures_in


def with_pictures(data: Path, *names: str) -> None:
    for name in names:
        write(data / name / "train" / "good" / "0.png", drawn())


def test_all_are_the_textures_of_a_folder_without_the_objects_of_known_sets(
    tmp_path: Path,
) -> None:
    with_pictures(tmp_path, "wood", "carpet", "bottle", "vial", "my cloth", "magnetic_tile")
    (tmp_path / "notes").mkdir()
    assert textures_in(tmp_path) == ["carpet", "wood", "magnetic_tile", "my cloth"]
    assert objects_in(tmp_path) == ["bottle", "vial"]


def test_a_folder_of_objects_alone_is_refused_with_what_they_are(tmp_path: Path) -> None:
    with_pictures(tmp_path, "bottle")
    with pytest.raises(EmptyFolderError, match="no folder of one. bottle are objects. Name what"):
        textures_in(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmptyFolderError, match="none holds no folder of one. Name what"):
        textures_in(tmp_path / "none")
