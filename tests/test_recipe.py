"""A configuration and good pictures in, one detector out, the same each time."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import textures_drawn
from tests.textures_drawn import one_a_family
from zoo import bundle, defects, recipe, scoring, textures
from zoo.bundle import Bundle
from zoo.detector import Detector
from zoo.errors import BadImageError, ConfigError
from zoo.recipe import Draft, Materials, Settings


def made(materials: Materials, settings: Settings, **given: Any) -> list[Draft]:
    drafts: list[Draft] = []
    recipe.make(materials, settings, report=drafts.append, **{"seed": 0, **given})
    return drafts


def but_seconds(figures: Any) -> dict[str, float]:
    return {name: value for name, value in figures.items() if "seconds" not in name}


def assert_same(one: Bundle, other: Bundle) -> None:
    """Compare to the last bit all but the time it took."""
    assert but_seconds(one.metrics) == but_seconds(other.metrics)
    assert replace(one, metrics={}, weights={}) == replace(other, metrics={}, weights={})
    assert one.weights.keys() == other.weights.keys()
    assert all(tensor.equal(other.weights[name]) for name, tensor in one.weights.items())


# ------------------------------------------------------------------------------------------- laws


def test_the_same_seed_makes_the_same_detector(
    tiny_materials: Materials, tiny_settings: Settings, tiny_drafts: list[Draft]
) -> None:
    again = made(tiny_materials, tiny_settings)
    assert len(again) == len(tiny_drafts) == tiny_settings.train.reports
    for one, other in zip(tiny_drafts, again, strict=True):
        assert one.report == other.report
        assert but_seconds(one.metrics) == but_seconds(other.metrics)
        assert_same(one.bundle, other.bundle)


def test_another_seed_makes_another_detector(
    tiny_materials: Materials, tiny_settings: Settings, tiny_drafts: list[Draft]
) -> None:
    brief = replace(tiny_settings, train=replace(tiny_settings.train, megapixels=0.01, reports=1))
    one, other = (made(tiny_materials, brief, seed=seed)[-1].bundle for seed in (0, 1))
    name = "encoder.layers.0.weight"
    assert not one.weights[name].equal(other.weights[name])
    assert (one.made_by["seed"], other.made_by["seed"]) == (0, 1)


def test_a_training_goes_on_from_a_draft(
    tiny_materials: Materials, tiny_settings: Settings, tmp_path: Path
) -> None:
    brief = replace(tiny_settings, train=replace(tiny_settings.train, megapixels=0.02))
    drafts: list[Draft] = []

    def keep(draft: Draft) -> None:
        torch.save(draft.state, tmp_path / str(draft.report))
        drafts.append(draft)

    recipe.make(tiny_materials, brief, seed=0, report=keep)
    state = torch.load(tmp_path / "1", weights_only=True)
    resumed = made(tiny_materials, brief, state=state)
    assert [draft.report for draft in resumed] == [2]
    assert_same(resumed[-1].bundle, drafts[-1].bundle)


def test_every_draft_is_a_complete_bundle(tiny_drafts: list[Draft], tmp_path: Path) -> None:
    pixels = np.full((40, 50), 128, np.uint8)
    scores = []
    for draft in tiny_drafts:
        bundle.save(draft.bundle, tmp_path / str(draft.report))
        loaded = Detector(bundle.load(tmp_path / str(draft.report)))
        assert draft.bundle.metrics["val_pixel_ap"] == draft.metrics["val_pixel_ap"]
        scores.append(loaded.score(pixels).score)
    assert len(set(scores)) == len(tiny_drafts), "a draft's weights went on changing"


def test_no_test_image_is_read(
    drawn_folder: Path, tiny_settings: Settings, tiny_drafts: list[Draft], tmp_path: Path
) -> None:
    root = tmp_path / "weave"
    shutil.copytree(drawn_folder, root)
    junk = [*(root / "test").rglob("*.png"), *(root / "ground_truth").rglob("*.png")]
    assert len(junk) > 5
    for path in junk:
        path.write_bytes(b"unreadable")
    materials = recipe.gather(textures.find(tmp_path, "weave"))
    materials = replace(materials, validation=one_a_family(materials.validation))
    assert_same(made(materials, tiny_settings)[-1].bundle, tiny_drafts[-1].bundle)


# ----------------------------------------------------------------------------- what is in a bundle


def test_a_bundle_says_where_it_came_from(
    tiny_materials: Materials, tiny_settings: Settings, tiny_bundle: Bundle
) -> None:
    splits = tiny_materials.splits
    assert tiny_bundle.data == {
        "fingerprint": tiny_materials.fingerprint,
        "licence": tiny_materials.licence,
        "non_commercial": False,
        "split_seed": splits.seed,
        "split": splits.note,
        "fit": [picture.key for picture in splits.fit],
        "validation": defects.fingerprint(tiny_materials.validation),
        "validation_seed": 0,
    }
    assert tiny_bundle.made_by["training"]["batch"] == tiny_settings.train.batch
    assert tiny_bundle.made_by["torch"] == torch.__version__
    assert (tiny_bundle.texture, tiny_bundle.method) == ("weave", "fcbigan")
    assert tiny_bundle.threshold["set_on"] == "calibration"


@pytest.mark.parametrize(
    ("licence", "kept"), [("CC BY-NC-SA 4.0", True), ("cc by-nc 4.0", True), ("CC0", False)]
)
def test_a_detector_of_non_commercial_pictures_says_so(
    tiny_materials: Materials, licence: str, kept: bool
) -> None:
    data = recipe.provenance(replace(tiny_materials, licence=licence))
    assert (data["licence"], data["non_commercial"]) == (licence, kept)


def test_the_objective_is_the_mean_over_families(tiny_drafts: list[Draft]) -> None:
    figures = dict(tiny_drafts[-1].metrics)
    families = [figures[f"val_pixel_ap_{family}"] for family in defects.FAMILIES]
    assert figures["val_pixel_ap"] == pytest.approx(np.mean(families))
    held_out = [figures[f"val_pixel_ap_{family}"] for family in defects.HELD_OUT]
    assert figures["val_pixel_ap_held_out"] == pytest.approx(np.mean(held_out))
    assert "train_reconstruction_penalty" in figures
    assert not any(name.startswith("test") for name in figures)


def test_the_figure_on_the_card_is_what_the_detector_reaches(
    tiny_materials: Materials, tiny_bundle: Bundle
) -> None:
    detector, windows = Detector(tiny_bundle), tiny_materials.validation
    found = recipe.validation_figures(
        [detector.map(window.image) for window in windows],
        [window.mask for window in windows],
        [window.family for window in windows],
    )
    assert found["val_pixel_ap"] == pytest.approx(tiny_bundle.metrics["val_pixel_ap"], abs=1e-4)


def test_finishing_sets_the_threshold_on_all_calibration_images(
    tiny_materials: Materials, tiny_bundle: Bundle
) -> None:
    splits = tiny_materials.splits
    more = (*splits.calibration, *splits.val, *splits.fit)
    assert len(more) > recipe.STATISTICS_IMAGES
    many = replace(tiny_materials, splits=replace(splits, calibration=more))
    finished = recipe.finish(tiny_bundle, many, false_alarm_rate=0.1)
    detector = Detector(tiny_bundle)
    scores = [detector.score(picture.pixels).score * detector.threshold for picture in more]
    expected = scoring.threshold(scores, false_alarm_rate=0.1)
    assert finished.threshold["value"] == pytest.approx(expected.value)
    assert finished.threshold["images"] == len(more)
    assert finished.threshold["set_on"] == "calibration"
    same = replace(finished, threshold={}, metrics=tiny_bundle.metrics)
    assert_same(same, replace(tiny_bundle, threshold={}))


def test_finishing_notes_what_the_floor_reaches_beside_the_detectors_own_figures(
    tiny_materials: Materials, tiny_bundle: Bundle
) -> None:
    added = dict(recipe.finish(tiny_bundle, tiny_materials).metrics)
    floor = recipe.floor(tiny_materials, scale=1.0)
    assert added.pop("val_pixel_ap_floor") == floor.metrics["val_pixel_ap"]
    assert added == tiny_bundle.metrics


def test_without_a_rule_of_its_own_one_is_chosen_on_val(
    tiny_materials: Materials, tiny_settings: Settings
) -> None:
    train = replace(tiny_settings.train, megapixels=0.01, reports=1, defect_rounds=1)
    networks = replace(tiny_settings.networks, segmenter=True, segmenter_depth=3)
    free = replace(tiny_settings, rule=None, train=train, networks=networks)
    fixed = replace(free, rule=scoring.Rule(aggregation="max", mean_filter=31))
    chosen, given = (made(tiny_materials, each)[-1].bundle for each in (free, fixed))
    assert given.calibration["rule"]["mean_filter"] == 31
    assert chosen.metrics["val_pixel_ap"] > given.metrics["val_pixel_ap"]
    assert len(chosen.calibration["mean"]) == 3


# --------------------------------------------------------------------------------------- the floor


def test_the_floor_is_a_detector_that_finds_a_hole(tiny_materials: Materials) -> None:
    floor = recipe.floor(tiny_materials, scale=1.0)
    assert floor.method == "local_statistics"
    assert floor.metrics["val_pixel_ap"] > 0.1
    detector = Detector(floor)
    good = tiny_materials.splits.calibration[0].pixels
    holed = good.copy()
    holed[20:40, 30:52] = 20
    assert not detector.score(good).is_anomalous
    found = detector.score(holed)
    assert found.is_anomalous
    assert found.map[20:40, 30:52].mean() > 3 * found.map[:8].mean()


def test_the_floor_is_the_same_each_time(tiny_materials: Materials) -> None:
    assert_same(*(recipe.floor(tiny_materials, scale=1.0) for _ in range(2)))


# ---------------------------------------------------------------------------------------- settings


def test_the_preset_is_section_5_2_of_the_thesis() -> None:
    thesis = recipe.thesis()
    assert thesis.networks.patch == 48
    assert thesis.train.fixed_patches == 12_000
    assert thesis.train.rotations
    assert not thesis.train.penalty_reaches_generator
    assert thesis.rule == scoring.Rule(aggregation="max", mean_filter=48)
    assert (thesis.scale, thesis.output_stride) == (1.0, 1)


def test_what_goes_beyond_the_thesis_is_off_in_its_preset() -> None:
    thesis = recipe.thesis()
    assert not thesis.networks.segmenter
    assert (thesis.train.ema, thesis.train.defect_rounds) == (0.0, 0)


def test_settings_are_the_preset_but_for_the_values_given_and_a_rule_chosen_on_val() -> None:
    found = recipe.settings({"patch": 64, "ema": 0.5, "scale": 0.5, "output_stride": 4})
    thesis = recipe.thesis()
    assert found == Settings(
        networks=replace(thesis.networks, patch=64),
        train=replace(thesis.train, ema=0.5),
        scale=0.5,
        output_stride=4,
        rule=None,
    )


def test_every_name_that_may_be_set_can_be_set() -> None:
    base = recipe.thesis()
    for name in recipe.field_names():
        owners = [each for each in (base.networks, base.train, base) if hasattr(each, name)]
        assert len(owners) == 1, name
        assert recipe.with_values(base, {name: getattr(owners[0], name)}) == base


def test_learning_from_synthetic_defects_brings_its_network() -> None:
    assert recipe.settings({"defect_rounds": 2}).networks.segmenter
    assert not recipe.settings({"defect_rounds": 0}).networks.segmenter


def test_a_segmenter_halves_a_patch_only_as_often_as_it_can() -> None:
    for patch, asked, got in ((64, 4, 4), (64, 6, 5), (48, 5, 4), (96, 5, 5), (72, 4, 3)):
        values = {"patch": patch, "depth": 3, "discriminator_depth": 3, "defect_rounds": 1}
        found = recipe.settings(values | {"segmenter_depth": asked})
        assert found.networks.segmenter_depth == got


def test_a_finished_detector_looks_at_the_views_its_settings_want(
    tiny_materials: Materials,
) -> None:
    wanted = recipe.settings(textures_drawn.TINY | {"reports": 1, "views": 4, "defect_rounds": 1})
    drafts: list[recipe.Draft] = []
    recipe.make(tiny_materials, wanted, seed=0, report=drafts.append)
    draft = drafts[0].bundle
    assert draft.config["views"] == 1
    finished = recipe.finish(draft, tiny_materials)
    assert finished.config["views"] == 4
    assert recipe.settings_of(finished).views == recipe.settings_of(draft).views == 4
    pixels = tiny_materials.splits.val[0].pixels
    losses = Detector(finished).losses(pixels)
    mirrored = Detector(finished).losses(np.ascontiguousarray(pixels[:, ::-1])).flip(-1)
    torch.testing.assert_close(losses, mirrored, rtol=1e-4, atol=1e-5)
    one = Detector(draft).losses(pixels)
    other = Detector(draft).losses(np.ascontiguousarray(pixels[:, ::-1])).flip(-1)
    assert not torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def test_an_output_stride_that_is_too_large_becomes_the_largest_there_is() -> None:
    found = recipe.settings({"discriminator_depth": 2, "output_stride": 16})
    assert found.output_stride == 4


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
        recipe.settings({name: 1})


def test_an_unknown_setting_without_a_near_name_is_refused_with_all_names() -> None:
    with pytest.raises(ConfigError, match=f"Known are {', '.join(recipe.field_names())}"):
        recipe.settings({"zzz": 1})


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
        recipe.settings(values)


def test_pictures_that_a_patch_does_not_fit_into_are_refused_before_any_work(
    tiny_materials: Materials, tiny_settings: Settings
) -> None:
    large = replace(tiny_settings, networks=replace(tiny_settings.networks, patch=40), scale=0.5)
    with pytest.raises(BadImageError, match=r"64x72 pixels; a patch of 40 at scale 0.5 .* 80x80"):
        made(tiny_materials, large)


def test_a_device_that_is_not_there_is_refused(
    tiny_materials: Materials, tiny_settings: Settings
) -> None:
    with pytest.raises(ConfigError, match="no device 'cuda:99'"):
        made(tiny_materials, tiny_settings, device="cuda:99")


def test_gathering_is_deterministic_by_its_seeds(drawn_folder: Path) -> None:
    texture = textures.find(drawn_folder.parent, "weave")
    one, again, other = (recipe.gather(texture, validation_seed=seed) for seed in (0, 0, 1))
    prints = [defects.fingerprint(each.validation) for each in (one, again, other)]
    assert prints[0] == prints[1] != prints[2]
    keys = [[picture.key for picture in each.splits.fit] for each in (one, again, other)]
    assert keys[0] == keys[1] == keys[2]


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.25])
def test_no_family_is_lost_when_rules_are_ranked_on_small_pictures(
    tiny_materials: Materials, scale: float
) -> None:
    figures = recipe.floor(tiny_materials, scale=scale).metrics
    families = {window.family for window in tiny_materials.validation}
    assert families <= {name.removeprefix("val_pixel_ap_") for name in figures}
