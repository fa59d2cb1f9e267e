"""Every device trains alike: detectors that load, score the same elsewhere, and can be continued.

On a machine without a GPU only the CPU is tested.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from registry import bundle
from tests import textures_drawn
from zoo import methods
from zoo.data.patches import Patches
from zoo.detectors import Detector
from zoo.methods import backbone
from zoo.methods.fcbigan import defect_patches, graphs, training
from zoo.methods.fcbigan.config import NetworkConfig, TrainConfig
from zoo.methods.fcbigan.defect_patches import DefectPatches
from zoo.methods.fcbigan.training import Players, batches, new_networks, play, spot
from zoo.training import (
    Checkpoint,
    PreparedData,
    Settings,
    TrainingData,
    finish,
    settings,
    train,
    train_best,
)

SEGMENTED = textures_drawn.TINY | {
    "defect_rounds": 2,
    "segmenter_depth": 2,
    "variation": 1.0,
    "placebo_share": 0.5,
    "reports": 2,
}
UNTRAINED = [name for name in methods.names() if methods.named(name).untrained]
without_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="there is no GPU that torch can use"
)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=without_gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(defect_patches, "DEFECT_POOL", 48)
    if request.param != "cpu":  # as with several threads, and tests have one
        monkeypatch.setattr(training, "workers_for", lambda *_: 2)
    return str(request.param)


def trained(
    data: TrainingData, device: str, state: Mapping[str, Any] | None = None
) -> list[Checkpoint]:
    """Train, and return the checkpoints with copies of their states."""
    seen: list[Checkpoint] = []

    def report(made: Checkpoint) -> None:
        seen.append(replace(made, state=copy.deepcopy(made.state)))

    train(data, settings(SEGMENTED), seed=0, device=device, report=report, state=state)
    return seen


def assert_scores_agree(
    made: bundle.Bundle, data: TrainingData, device: str, tmp_path: Path
) -> None:
    """Compare the maps of a device with those of the CPU, from the bundle on disk."""
    bundle.save(made, tmp_path / "made")
    loaded = bundle.load(tmp_path / "made")
    pixels = data.validation[0].image
    there, here = (Detector(loaded, device=each).score(pixels) for each in (device, "cpu"))
    assert np.isfinite(here.map).all()
    assert there.score == pytest.approx(here.score, rel=0.02)
    assert np.abs(there.map - here.map).max() < 0.02 * np.abs(here.map).max()


def test_a_detector_scores_on_the_cpu_as_on_the_device_that_trained_it(
    tiny_data: TrainingData, device: str, tmp_path: Path
) -> None:
    made = trained(tiny_data, device)[-1]
    assert len(made.bundle.weights) > 20
    assert all(np.isfinite(each).all() for each in made.bundle.weights.values())
    assert_scores_agree(finish(made.bundle, tiny_data), tiny_data, device, tmp_path)


def test_a_training_is_continued_on_its_device(tiny_data: TrainingData, device: str) -> None:
    whole = trained(tiny_data, device)
    resumed = trained(tiny_data, device, whole[0].state)
    assert [each.report for each in resumed] == [2]
    expected, found = whole[-1].bundle.weights, resumed[-1].bundle.weights
    assert expected.keys() == found.keys()
    # Sums on a GPU may be in another order at each run.
    rtol, atol = (0.0, 0.0) if device == "cpu" else (0.05, 0.02)
    for name, each in expected.items():
        np.testing.assert_allclose(found[name], each, rtol=rtol, atol=atol, err_msg=name)


@pytest.mark.parametrize("name", UNTRAINED)
def test_methods_that_learn_nothing_fit_on_each_device(
    name: str, tiny_data: TrainingData, device: str, tmp_path: Path
) -> None:
    if name.startswith("feature_") and not any(metadata.distributions(name=backbone.PACKAGE)):
        pytest.skip(f"{backbone.PACKAGE} is not installed")
    wanted = Settings(method=methods.named(name)())
    made = train_best(tiny_data, wanted, seed=0, device=device)
    assert_scores_agree(finish(made, tiny_data), tiny_data, device, tmp_path)


@without_gpu
def test_no_round_waits_for_the_gpu(tiny_data: TrainingData) -> None:
    device = torch.device("cuda")
    pictures = PreparedData(tiny_data, 1.0, device).fit
    generator = torch.Generator(device).manual_seed(0)
    config = TrainConfig(batch=8, defect_rounds=2, variation=1.0, tone_jitter=0.1, ema=0.9)
    shape = NetworkConfig(
        patch=16, depth=2, discriminator_depth=2, segmenter_depth=2, width=4, latent_channels=4,
        segmenter=True,
    )  # fmt: skip
    players = Players(new_networks(shape, channels=1, seed=0).to(device), config)
    patches = Patches(pictures, patch=16, generator=generator, rotations=True)
    fakes = DefectPatches(pictures, patch=16, generator=generator)
    fakes.begin(1000)
    z = torch.randn(8, 4, 4, 4, generator=generator, device=device)

    def step() -> None:
        play(players, patches.draw(8), z, fakes.draw(4, rotations=True))
        for both, masks in batches(patches, fakes, config):
            players.pace(0.5)
            spot(players, both, masks)
            players.average("segmenter", decay=0.9)

    step()  # the first one makes the optimisers' state
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls this mode a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_replayed_round_trains_as_one_that_is_launched_kernel_by_kernel(
    tiny_data: TrainingData, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = settings(SEGMENTED | {"megapixels": 0.2, "reports": 1})
    found = []
    for warm_up in (graphs.WARM_UP, 10**9):
        monkeypatch.setattr(graphs, "WARM_UP", warm_up)
        found.append(train_best(tiny_data, longer, seed=0, device=device).weights)
    for name, each in found[0].items():
        np.testing.assert_allclose(found[1][name], each, rtol=0.05, atol=0.02, err_msg=name)
