"""A method is added with one module and one line, and then works with all commands."""

from __future__ import annotations

import pickle
from pathlib import Path

import jaxtyping
import numpy as np
import pytest

from registry import bundle
from tests.method_exam import MethodExam, fit_bundle
from tests.methods.brightness import Brightness
from zoo import methods
from zoo.data import textures
from zoo.detectors import Detector, export
from zoo.evaluation import benchmark
from zoo.evaluation.benchmark_fit import BenchmarkConfig
from zoo.training import TrainingData, field_names, finish, settings


class TestBrightness(MethodExam):
    name = "brightness"
    options = {"patch": 2}  # noqa: RUF012  read only


def test_its_fields_can_be_set_by_a_search_or_a_user() -> None:
    assert field_names("brightness") == ["patch", "scale"]
    found = settings({"patch": 3, "scale": 0.5}, method="brightness")
    assert (found.method, found.scale) == (Brightness(patch=3), 0.5)
    assert methods.name_of(found.method) == "brightness"


def test_it_is_fitted_saved_loaded_pickled_scored_and_exported(
    tiny_data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = finish(fit_bundle(tiny_data, Brightness()), tiny_data)
    bundle.save(made, tmp_path / "b")
    loaded = bundle.load(tmp_path / "b")
    good = tiny_data.splits.val[0].pixels
    dark = good.copy()
    dark[20:40, 20:40] = 0
    detector = pickle.loads(pickle.dumps(Detector(loaded)))
    assert detector.score(dark).score > detector.score(good).score
    # Shapes are not checked while torch traces, because sides are symbols then.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    found = export.compare(loaded, export.to_onnx(loaded), [good, dark])
    assert found.difference < export.MOST_DIFFERENCE


def test_it_stands_in_a_benchmark_beside_the_others(drawn_folder: Path, tmp_path: Path) -> None:
    texture = textures.find(drawn_folder.parent, "weave")
    names = benchmark.names_of("brightness")
    config = BenchmarkConfig(
        data=drawn_folder.parent,
        category="weave",
        systems=benchmark.systems(names, [], scale=1.0, champion=None),
        seeds=(1,),
        threads=1,
    )
    [row] = benchmark.run(config, texture, out=tmp_path / "out", say=print)
    assert row.note == ""
    assert 0 < row.mean["test_pixel_ap"] <= 1
    assert np.isfinite(row.mean["val_pixel_ap"])
