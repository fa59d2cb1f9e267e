"""A recalibrated champion on the shelf: a version of its own, that a rollback undoes."""

from __future__ import annotations

import pytest

from registry.bundle import Bundle, load
from tests.promotion.home import Home
from zoo.data import textures
from zoo.errors import ConfigError, UnknownDetectorError
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


def test_another_operating_point_is_a_version_too(home: Home, made: Bundle) -> None:
    home.promote(home.saved(made))
    done = recalibrate(
        "mesh", registry=home.registry, false_alarms=0.2, look_again=0.4, say=home.said.append
    )
    found = load(home.shelf.resolve("mesh")[0])
    assert done.version == 2
    assert "stored scores: false alarms 20.00%, look again 40.00%" in done.decision.reason
    assert found.threshold["look_again_value"] < found.threshold["value"]
    assert found.threshold["value"] < made.threshold["value"]
    assert {name.partition("_")[0] for name in found.metrics} & {"val", "test"} == {"val"}
    recalibrate("mesh", registry=home.registry, look_again=0.0, say=home.said.append)
    two = load(home.shelf.resolve("mesh")[0]).threshold
    assert (two["false_alarm_rate"], two["look_again_rate"]) == (0.2, None)
    assert two["value"] == found.threshold["value"]


def test_a_recalibration_to_nothing_new_is_refused(home: Home, made: Bundle) -> None:
    home.promote(home.saved(made))
    with pytest.raises(ConfigError, match="Nothing to change: give good pictures with --good DIR"):
        recalibrate("mesh", registry=home.registry, say=home.said.append)
    with pytest.raises(ConfigError, match="'look again' is 0.01, and that of false alarms 0.05"):
        recalibrate("mesh", registry=home.registry, look_again=0.01, say=home.said.append)
