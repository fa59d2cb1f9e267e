"""Settings are made of flat values by name; wrong values are refused."""

from __future__ import annotations

from typing import Any

import pytest

from zoo import methods
from zoo.errors import ConfigError
from zoo.scoring.aggregation import Rule
from zoo.training import Settings, field_names, preset, settings, with_values


def fields(values: dict[str, Any]) -> dict[str, Any]:
    return methods.flat(settings(values).method)


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no preset 'tesis'; .*Did you mean 'thesis'\?"):
        preset("tesis")


def test_the_preset_is_section_5_2_of_the_thesis() -> None:
    found = preset("thesis")
    fields = methods.flat(found.method)
    assert fields["patch"] == 48
    assert fields["fixed_patches"] == 12_000
    assert fields["rotations"]
    assert not fields["penalty_reaches_generator"]
    assert found.rule == Rule(aggregation="max", mean_filter=48)
    assert (found.scale, fields["output_stride"]) == (1.0, 1)


def test_what_goes_beyond_the_thesis_is_off_in_its_preset() -> None:
    fields = methods.flat(preset("thesis").method)
    assert not fields["segmenter"]
    assert (fields["ema"], fields["defect_rounds"]) == (0.0, 0)


def test_settings_are_the_preset_but_for_the_values_given_and_a_rule_chosen_on_val() -> None:
    values = {"patch": 64, "ema": 0.5, "output_stride": 4}
    found = settings(values | {"scale": 0.5})
    usual = methods.flat(preset("thesis").method)
    assert methods.flat(found.method) == usual | values
    assert found == Settings(method=found.method, scale=0.5, rule=None)


def test_every_name_that_may_be_set_can_be_set() -> None:
    for method in methods.names():
        base = Settings(method=methods.named(method)())
        known = methods.flat(base.method) | {"scale": base.scale}
        assert "scale" in field_names(method)
        for name in field_names(method):
            assert with_values(base, {name: known[name]}) == base


def test_learning_from_synthetic_defects_brings_its_network() -> None:
    assert fields({"defect_rounds": 2})["segmenter"]
    assert not fields({"defect_rounds": 0})["segmenter"]
    assert "segmenter" not in field_names()


def test_a_segmenter_halves_a_patch_only_as_often_as_it_can() -> None:
    for patch, asked, got in ((64, 4, 4), (64, 6, 5), (48, 5, 4), (96, 5, 5), (72, 4, 3)):
        values = {"patch": patch, "depth": 3, "discriminator_depth": 3, "defect_rounds": 1}
        assert fields(values | {"segmenter_depth": asked})["segmenter_depth"] == got


def test_an_output_stride_that_is_too_large_becomes_the_largest_there_is() -> None:
    assert fields({"discriminator_depth": 2, "output_stride": 16})["output_stride"] == 4


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("patches", "patch"),
        ("learning_rat", "learning_rate"),
        ("latent_chanels", "latent_channels"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_near_name(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=rf"no setting '{name}'. Did you mean '{near}'\?"):
        settings({name: 1})


def test_an_unknown_setting_without_a_near_name_is_refused_with_all_names() -> None:
    with pytest.raises(ConfigError, match=f"It has {', '.join(field_names())}"):
        settings({"zzz": 1})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"depth": 9}, "depth must be 1 to 6, not 9"),
        ({"patch": 50}, "it is 50"),
        ({"ema": 1.0}, "ema must be at least 0 and below 1, not 1.0"),
        ({"output_stride": 3}, r"one of \[1, 2, 4, 8, 16\], not 3"),
        ({"output_stride": "many"}, "output_stride takes a whole number, such as 1, not 'many'"),
        ({"patch": "large"}, "patch takes a whole number, such as 48, not 'large'"),
        ({"depth": 3.0}, "depth takes a whole number, such as 4, not 3.0"),
        ({"rotations": "no"}, "rotations takes true or false, such as true, not 'no'"),
        ({"learning_rate": float("inf")}, "learning_rate takes a number, such as 0.0002, not inf"),
    ],
)
def test_a_value_that_cannot_work_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        settings(values)
