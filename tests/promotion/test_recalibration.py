"""A recalibrated champion on the shelf: a version of its own, that a rollback undoes."""

from __future__ import annotations

import pytest

from registry.bundle import Bundle, load
from tests.promotion.home import Home
from zoo.data import textures
from zoo.errors import UnknownDetectorError
from zoo.promotion import recalibrate, roll_back


def test_a_recalibrated_champion_is_a_version_with_its_lineage(home: Home, made: Bundle) -> None:
    home.promote(home.saved(made))
    new = textures.find(home.pictures / "train" / "good", "mesh")
    done = recalibrate("mesh", good=new, registry=home.registry, say=home.said.append)
    assert done.version == 2
    folder, version = home.shelf.resolve("mesh")
    assert version == 2
    assert load(folder).data["recalibrated_on"] == [each.key for each in new.pictures]
    assert not any(name.startswith("test_") for name in load(folder).metrics)
    history = home.shelf.pointer("mesh").history
    assert "Recalibrated from version 1 on 14 good pictures" in history[-1].reason
    roll_back("mesh", registry=home.registry, because="the old line runs again", say=print)
    assert home.shelf.resolve("mesh")[1] == 1


def test_a_texture_without_a_champion_is_refused(home: Home) -> None:
    with pytest.raises(UnknownDetectorError):
        recalibrate("mesh", good=home.texture, registry=home.registry, say=home.said.append)
