"""`zoo train`: its settings, its answer, and a full disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry import bundle
from tests.cli.commands import TRAIN, Shop, full_disk, refused
from zoo.cli import main


def test_a_misspelt_setting_is_refused_with_the_near_name(
    capsys: pytest.CaptureFixture[str], weave: Path, tmp_path: Path
) -> None:
    of_weave = ["--category", "weave", f"--data={weave.parent}", f"--out={tmp_path}/out"]
    line = refused(capsys, "train", *of_weave, "--set", "widht=16")
    assert "no setting 'widht'. Did you mean 'width'?" in line
    assert "not 'width'" in refused(capsys, "train", *of_weave, "--set", "width")
    assert "width takes a whole number, such as 32, not 'wide'" in refused(
        capsys, "train", *of_weave, "--set", "width=wide"
    )
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_line_and_leaves_no_half_bundle(
    capsys: pytest.CaptureFixture[str], stocked: Shop, home: Path, tmp_path: Path
) -> None:
    of_weave = ["--category", "weave", f"--data={stocked.data}", f"--out={tmp_path}/out"]
    with full_disk(2048):
        line = refused(capsys, *TRAIN, *of_weave)
    assert line.startswith("zoo: Cannot write the bundle of 'weave': ")
    assert not list((tmp_path / "out").rglob("*"))


def test_training_with_the_preset_says_where_the_detector_is_and_how_to_promote_it(
    shop: Shop,
) -> None:
    assert shop.trained["detector"] == str(shop.made)
    assert 0 < shop.trained["val_pixel_ap"] <= 1
    made = bundle.load(shop.made)
    assert made.config["width"] == 4
    assert made.made_by["settings"]["megapixels"] == 0.1
    assert made.made_by["settings"]["defect_rounds"] == 0, "the thesis' own training"


def test_any_method_is_trained_by_its_name(
    capsys: pytest.CaptureFixture[str], stocked: Shop, tmp_path: Path
) -> None:
    of_weave = ["--category", "weave", f"--data={stocked.data}", f"--out={tmp_path}/out"]
    main(["train", *of_weave, "--method", "local_statistics", "--set", "patch=9", "--json"])
    answer = json.loads(capsys.readouterr().out)
    made = bundle.load(tmp_path / "out")
    assert (made.method, made.config["patch"]) == ("local_statistics", 9)
    assert answer["val_pixel_ap"] == made.metrics["val_pixel_ap"]
    assert answer["val_image_auroc"] == made.metrics["val_image_auroc"]


def test_an_unknown_method_is_refused_and_so_is_a_preset_beside_a_method(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    train = ("train", "--category", "weave", "--data", tmp_path, "--out", tmp_path / "out")
    line = refused(capsys, *train, "--method", "bigam")
    assert "'bigam'" in line
    assert "'bigan'" in line
    line = refused(capsys, *train, "--method", "bigan", "--preset", "thesis")
    assert "argument --preset: not allowed with argument --method" in line
