"""The same configuration and pictures give the same complete detector."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from registry import bundle
from registry.bundle import Bundle
from tests import textures_drawn
from tests.textures_drawn import one_a_family
from zoo import methods
from zoo.data import textures
from zoo.data.defects.families import FAMILIES, held_out, judged
from zoo.data.defects.validation import fingerprint
from zoo.data.images import unit
from zoo.data.variation import under_variation
from zoo.detectors import Detector
from zoo.errors import BadImageError, ConfigError
from zoo.scoring import objective
from zoo.scoring.aggregation import Rule
from zoo.scoring.outlines import fit_pixel_threshold
from zoo.scoring.thresholds import Rates, fit_threshold
from zoo.training import (
    Checkpoint,
    Settings,
    TrainingData,
    finish,
    gather,
    provenance,
    settings,
    settings_of,
    train,
    train_best,
    with_values,
)
from zoo.training.data import STATISTICS_IMAGES, PreparedData, validation_figures
from zoo.training.fit import with_limits


def made(data: TrainingData, settings: Settings, **given: Any) -> list[Checkpoint]:
    checkpoints: list[Checkpoint] = []
    train(data, settings, report=checkpoints.append, **{"seed": 0, **given})
    return checkpoints


def but_seconds(figures: Any) -> dict[str, float]:
    return {name: value for name, value in figures.items() if "seconds" not in name}


def assert_same(one: Bundle, other: Bundle) -> None:
    """Compare two bundles bit by bit, except for the time of the training."""
    assert but_seconds(one.metrics) == but_seconds(other.metrics)
    assert replace(one, metrics={}, weights={}) == replace(other, metrics={}, weights={})
    assert one.weights.keys() == other.weights.keys()
    assert all(np.array_equal(each, other.weights[name]) for name, each in one.weights.items())


# ------------------------------------------------------------------------------------------- laws


def test_the_same_seed_makes_the_same_detector(
    tiny_data: TrainingData, tiny_settings: Settings, tiny_checkpoints: list[Checkpoint]
) -> None:
    again = made(tiny_data, tiny_settings)
    assert len(again) == len(tiny_checkpoints) == methods.flat(tiny_settings.method)["reports"]
    for one, other in zip(tiny_checkpoints, again, strict=True):
        assert one.report == other.report
        assert but_seconds(one.metrics) == but_seconds(other.metrics)
        assert_same(one.bundle, other.bundle)


def test_another_seed_makes_another_detector(
    tiny_data: TrainingData, tiny_settings: Settings, tiny_checkpoints: list[Checkpoint]
) -> None:
    brief = with_values(tiny_settings, {"megapixels": 0.01, "reports": 1})
    one, other = (made(tiny_data, brief, seed=seed)[-1].bundle for seed in (0, 1))
    name = "encoder.layers.0.weight"
    assert not np.array_equal(one.weights[name], other.weights[name])
    assert (one.made_by["seed"], other.made_by["seed"]) == (0, 1)


def test_a_training_goes_on_from_a_draft(
    tiny_data: TrainingData, tiny_settings: Settings, tmp_path: Path
) -> None:
    brief = with_values(tiny_settings, {"megapixels": 0.02})
    checkpoints: list[Checkpoint] = []

    def keep(checkpoint: Checkpoint) -> None:
        torch.save(checkpoint.state, tmp_path / str(checkpoint.report))
        checkpoints.append(checkpoint)

    train(tiny_data, brief, seed=0, report=keep)
    state = torch.load(tmp_path / "1", weights_only=True)
    resumed = made(tiny_data, brief, state=state)
    assert [checkpoint.report for checkpoint in resumed] == [2]
    assert_same(resumed[-1].bundle, checkpoints[-1].bundle)


def test_every_checkpoint_is_a_complete_bundle(
    tiny_checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    pixels = np.full((40, 50), 128, np.uint8)
    scores = []
    for checkpoint in tiny_checkpoints:
        bundle.save(checkpoint.bundle, tmp_path / str(checkpoint.report))
        loaded = Detector(bundle.load(tmp_path / str(checkpoint.report)))
        assert checkpoint.bundle.metrics["val_pixel_ap"] == checkpoint.metrics["val_pixel_ap"]
        scores.append(loaded.score(pixels).score)
    assert len(set(scores)) == len(tiny_checkpoints), "a checkpoint's weights went on changing"


def test_no_test_image_is_read(
    drawn_folder: Path, tiny_settings: Settings, tiny_checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    root = tmp_path / "weave"
    shutil.copytree(drawn_folder, root)
    junk = [*(root / "test").rglob("*.png"), *(root / "ground_truth").rglob("*.png")]
    assert len(junk) > 5
    for path in junk:
        path.write_bytes(b"unreadable")
    data = gather(textures.find(tmp_path, "weave"))
    data = replace(data, validation=one_a_family(data.validation))
    assert_same(made(data, tiny_settings)[-1].bundle, tiny_checkpoints[-1].bundle)


# ----------------------------------------------------------------------------- what is in a bundle


def test_a_bundle_says_where_it_came_from(
    tiny_data: TrainingData, tiny_settings: Settings, tiny_bundle: Bundle
) -> None:
    splits = tiny_data.splits
    assert tiny_bundle.data == {
        "fingerprint": tiny_data.fingerprint,
        "camera": str(tiny_data.optics),
        "licence": tiny_data.licence,
        "non_commercial": False,
        "split_seed": splits.seed,
        "split": splits.note,
        "fit": [picture.key for picture in splits.fit],
        "validation": fingerprint(tiny_data.validation),
        "validation_seed": 0,
    }
    assert tiny_bundle.made_by["settings"] == methods.flat(tiny_settings.method)
    assert tiny_bundle.made_by["torch"] == torch.__version__
    assert (tiny_bundle.texture, tiny_bundle.method) == ("weave", "fcbigan")
    assert tiny_bundle.threshold["set_on"] == "calibration"


@pytest.mark.parametrize(
    ("licence", "kept"),
    [
        ("CC BY-NC-SA 4.0", True),
        ("cc by-nc 4.0", True),
        ("Attribution-NonCommercial-ShareAlike 4.0 International", True),
        ("Attribution-Non-Commercial", True),
        ("CC0", False),
        ("CC BY-ND 4.0, made with E-NCODER", False),
    ],
)
def test_a_detector_of_non_commercial_pictures_says_so(
    tiny_data: TrainingData, licence: str, kept: bool
) -> None:
    data = provenance(replace(tiny_data, licence=licence))
    assert (data["licence"], data["non_commercial"]) == (licence, kept)


def test_the_objective_is_the_mean_over_strata_of_families_sizes_and_contrasts(
    tiny_data: TrainingData, tiny_checkpoints: list[Checkpoint]
) -> None:
    figures = dict(tiny_checkpoints[-1].metrics)
    strata = dict.fromkeys(name for window in tiny_data.validation for name in window.strata)
    own = set(judged(tiny_data.validation_seed))
    assert own < set(strata) <= own | {"small", "medium", "large", "faint", "clear"}
    values = [figures[f"val_pixel_ap_{stratum}"] for stratum in strata]
    assert figures["val_pixel_ap"] == pytest.approx(np.mean(values))
    of_strata = {name for name in figures if name.startswith("val_pixel_ap_")}
    assert len(of_strata) == len(values)
    assert 0 <= figures["val_image_auroc"] <= 1
    assert "train_reconstruction_penalty" in figures
    assert not any(name.startswith("test") for name in figures)


def test_the_figures_on_the_card_are_what_the_detector_reaches(
    tiny_data: TrainingData, tiny_bundle: Bundle
) -> None:
    detector, windows = Detector(tiny_bundle), tiny_data.validation
    maps = [detector.map(window.image) for window in windows]
    found = validation_figures(maps, windows, detector.calibration.rule.top_fraction)
    assert len(found) > 7
    for name, value in found.items():
        assert tiny_bundle.metrics[name] == pytest.approx(value, abs=1e-4), name


def test_without_a_window_without_a_defect_there_is_no_figure_of_images(
    tiny_data: TrainingData,
) -> None:
    windows = [window for window in tiny_data.validation if window.strata]
    maps = [np.random.default_rng(0).random(window.mask.shape) for window in windows]
    figures = validation_figures(maps, windows, 0.01)
    assert "val_pixel_ap" in figures
    assert "val_image_auroc" not in figures


def test_the_limits_are_set_on_the_good_pictures_of_calibration_and_val(
    tiny_data: TrainingData, tiny_bundle: Bundle
) -> None:
    splits = tiny_data.splits
    many = replace(tiny_data, splits=replace(splits, calibration=splits.calibration * 5))
    more = (*splits.calibration * 5, *splits.val)
    assert len(more) > STATISTICS_IMAGES
    finished = with_limits(tiny_bundle, many, rates=Rates(false_alarms=0.1))[0]
    detector = Detector(tiny_bundle)
    scores = [detector.score(picture.pixels).score * detector.threshold for picture in more]
    limit = fit_threshold(scores, Rates(false_alarms=0.1), groups=many.good_groups)
    assert finished.threshold["value"] == pytest.approx(limit.value)
    assert finished.threshold["images"] == len(more)
    assert finished.threshold["set_on"] == "calibration and val"
    windows = [detector.map(window.image) for window in many.validation]
    masks = [window.mask for window in many.validation]
    good = [detector.map(picture.pixels) for picture in more]
    expected = fit_pixel_threshold(windows, masks, good, thin=2)
    assert finished.threshold["map_value"] == pytest.approx(expected.value)
    assert finished.threshold["share_of_peak"] == expected.share_of_peak
    same = replace(finished, threshold={}, metrics=tiny_bundle.metrics)
    assert_same(same, replace(tiny_bundle, threshold={}))


def test_draws_of_one_photograph_are_not_independent_pictures(
    tiny_data: TrainingData, tiny_bundle: Bundle
) -> None:
    splits = replace(tiny_data.splits, groups=dict.fromkeys(tiny_data.splits.groups, 0))
    one = replace(tiny_data, splits=splits)
    known = finish(tiny_bundle, one).threshold
    assert len(known["scores"]) >= 60
    assert known["independent"] == known["images"] == len(one.good)
    assert known["rule"] == "normal"


def test_a_finished_detector_holds_its_rate_on_good_pictures_in_another_light(
    tiny_data: TrainingData, tiny_bundle: Bundle
) -> None:
    rates = Rates(false_alarms=0.1)
    limited = with_limits(tiny_bundle, tiny_data, rates=rates)[0]
    finished = finish(tiny_bundle, tiny_data, rates=rates)
    known = finished.threshold
    assert (known["varied"], limited.threshold["varied"]) == (True, False)
    assert known["images"] == len(tiny_data.good)
    assert len(known["scores"]) >= 60
    assert known["independent"] == len(set(tiny_data.good_groups))
    assert known["map_value"] == limited.threshold["map_value"]
    pictures = [
        tiny_data.optics.exposed(under_variation(unit(each.pixels), seed=seed), each.pixels.dtype)
        for seed in range(1000, 1004)
        for each in tiny_data.good
    ]
    alarms = [
        np.mean([Detector(made).score(each).is_anomalous for each in pictures])
        for made in (limited, finished)
    ]
    assert alarms[1] < 0.2 < alarms[0]


def test_without_a_rule_of_its_own_one_is_chosen_on_val(
    tiny_data: TrainingData, tiny_settings: Settings
) -> None:
    values = {"megapixels": 0.01, "reports": 1, "defect_rounds": 1, "segmenter_depth": 3}
    free = replace(with_values(tiny_settings, values), rule=None)
    fixed = replace(free, rule=Rule(aggregation="max", mean_filter=31))
    chosen, given = (made(tiny_data, each)[-1].bundle for each in (free, fixed))
    assert given.calibration["rule"]["mean_filter"] == 31
    assert chosen.metrics["val_pixel_ap"] > given.metrics["val_pixel_ap"]
    assert len(chosen.calibration["mean"]) == 3


@pytest.mark.parametrize("sure", [0.0, 1.01])
def test_a_finished_detector_looks_at_the_views_its_settings_want_where_val_is_sure_of_them(
    tiny_data: TrainingData, monkeypatch: pytest.MonkeyPatch, sure: float
) -> None:
    monkeypatch.setattr(objective, "WIN_SHARE", sure)
    wanted = settings(textures_drawn.TINY | {"reports": 1, "views": 4, "defect_rounds": 1})
    checkpoints: list[Checkpoint] = []
    train(tiny_data, wanted, seed=0, report=checkpoints.append)
    checkpoint = checkpoints[0].bundle
    assert checkpoint.config["views"] == 1
    finished = finish(checkpoint, tiny_data)
    assert finished.config["views"] == (1 if sure > 1 else 4)
    assert settings_of(finished).method == settings_of(checkpoint).method == wanted.method
    pixels = tiny_data.splits.val[0].pixels
    for made_of, alike in ((finished, sure <= 1), (checkpoint, False)):
        anomaly = Detector(made_of).map(pixels)
        mirrored = Detector(made_of).map(np.ascontiguousarray(pixels[:, ::-1]))[:, ::-1]
        assert np.allclose(anomaly, mirrored, rtol=1e-3, atol=1e-4) == alike


def test_pictures_that_a_patch_does_not_fit_into_are_refused_before_any_work(
    tiny_data: TrainingData, tiny_settings: Settings
) -> None:
    large = with_values(tiny_settings, {"patch": 40, "scale": 0.5})
    with pytest.raises(BadImageError, match=r"64x72 pixels; a patch of 40 at scale 0.5 .* 80x80"):
        made(tiny_data, large)


def test_a_device_that_is_not_there_is_refused(
    tiny_data: TrainingData, tiny_settings: Settings
) -> None:
    with pytest.raises(ConfigError, match="no device 'cuda:99'"):
        made(tiny_data, tiny_settings, device="cuda:99")


def test_gathering_is_deterministic_by_its_seeds(drawn_folder: Path) -> None:
    texture = textures.find(drawn_folder.parent, "weave")
    one, again, other = (gather(texture, validation_seed=seed) for seed in (0, 0, 1))
    prints = [fingerprint(each.validation) for each in (one, again, other)]
    assert prints[0] == prints[1] != prints[2]
    keys = [[picture.key for picture in each.splits.fit] for each in (one, again, other)]
    assert keys[0] == keys[1] == keys[2]


def test_a_training_paints_no_family_of_the_validation_windows(tiny_data: TrainingData) -> None:
    prepared = PreparedData(tiny_data, 1.0, torch.device("cpu"))
    unseen = {window.family for window in tiny_data.validation if window.strata}
    assert unseen == set(judged(tiny_data.validation_seed))
    assert not unseen & set(prepared.fit.families)
    assert set(prepared.fit.families) == set(FAMILIES) - held_out(tiny_data.validation_seed)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.25])
def test_no_stratum_is_lost_when_rules_are_ranked_on_small_pictures(
    tiny_data: TrainingData, scale: float
) -> None:
    wanted = Settings(method=methods.named("local_statistics")(), scale=scale)
    figures = train_best(tiny_data, wanted, seed=0).metrics
    strata = {name for window in tiny_data.validation for name in window.strata}
    assert len(strata) > 5
    assert strata <= {name.removeprefix("val_pixel_ap_") for name in figures}
