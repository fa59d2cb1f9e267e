"""The settings that a search takes over from earlier ones of its home."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from registry import bundle
from registry.bundle import Bundle
from zoo.search.earlier import earlier_settings


def keep(made: Bundle, folder: Path, *, hours_ago: float, width: int) -> None:
    settings = made.made_by["settings"] | {"width": width}
    bundle.save(replace(made, made_by=made.made_by | {"settings": settings}), folder / "best")
    seconds = folder.stat().st_mtime - 3600 * hours_ago
    os.utime(folder / "best", (seconds, seconds))


def test_those_of_the_same_texture_come_first_and_the_newest_of_them(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    other = replace(tiny_bundle, texture="other")
    keep(tiny_bundle, tmp_path / "a", hours_ago=5, width=5)
    keep(tiny_bundle, tmp_path / "b", hours_ago=3, width=3)
    keep(other, tmp_path / "c", hours_ago=1, width=1)
    keep(tiny_bundle, tmp_path / "d", hours_ago=4, width=3)  # as b
    (tmp_path / "e" / "best").mkdir(parents=True)  # of a search that was killed
    unknown = replace(tiny_bundle, method="of_another_version")
    keep(unknown, tmp_path / "f", hours_ago=0, width=9)
    found = earlier_settings(tmp_path, tiny_bundle.texture)
    assert [each["width"] for each in found] == [3, 5]
    assert found[0]["scale"] == tiny_bundle.preprocessing["scale"]
    assert [each["width"] for each in earlier_settings(tmp_path, "other")] == [1, 3]
    assert earlier_settings(tmp_path / "nothing", "other") == []
