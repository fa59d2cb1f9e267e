"""Weights from which a segmenter starts: what they know, for which networks they are, how made."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from docs import make_pretrained as maker
from docs.drawn_textures import material
from tests.textures_drawn import draw
from zoo.data.defects.families import FAMILIES, ROTATIONS, held_out
from zoo.data.defects.fit_pictures import FitPictures
from zoo.data.preprocessing import Preprocessing, intensity_range
from zoo.errors import ConfigError
from zoo.methods import Progress
from zoo.methods.fcbigan import pretrained
from zoo.methods.fcbigan.config import PRETRAINED, NetworkConfig, TrainConfig
from zoo.methods.fcbigan.method import FCBiGAN
from zoo.methods.fcbigan.networks import Networks, Segmenter
from zoo.methods.fcbigan.training import new_networks
from zoo.scoring import metrics
from zoo.training import settings

SHAPE = NetworkConfig(
    patch=64, depth=2, discriminator_depth=2, segmenter=True, segmenter_depth=3, width=8
)
BRIEF = TrainConfig(
    megapixels=3 * 2 * 64**2 / 1e6, batch=2, defect_rounds=1, reports=3, pretrained=True
)


def woven(channels: int = 1, *, unseen: frozenset[str] = frozenset()) -> FitPictures:
    """Return pictures of the drawn texture to train on."""
    rng = np.random.default_rng(3)
    pixels = [np.repeat(draw(160, 160, rng), channels, axis=2) for _ in range(3)]
    low, high = intensity_range(pixels)
    return FitPictures(
        pixels,
        Preprocessing(mode="RGB" if channels == 3 else "L", low=low, high=high),
        device=torch.device("cpu"),
        unseen=unseen,
    )


def started(shape: NetworkConfig = SHAPE, *, channels: int = 1, rotation: int = 0) -> Networks:
    """Return networks whose segmenter has the weights of a rotation."""
    networks = new_networks(shape, channels=channels, seed=0)
    pretrained.start(networks, families=set(FAMILIES) - held_out(rotation))
    return networks.eval()


def segmenter_of(networks: Networks) -> Segmenter:
    """Return the segmenter, which is there."""
    assert networks.segmenter is not None
    return networks.segmenter


def found(segmenter: Segmenter, pictures: FitPictures) -> float:
    """Return the AP of the logits on painted windows."""
    rng = np.random.default_rng(0)
    made = [pictures.painting(64, rng) for _ in range(12)]
    with torch.no_grad():
        maps = [segmenter.everywhere(each.after[None])[0].numpy().ravel() for each in made]
    return metrics.average_precision(
        np.concatenate(maps), np.concatenate([each.mask.ravel() for each in made])
    )


@cache
def chance(shape: NetworkConfig) -> float:
    """Return the AP of random weights; the median of three, as one may be lucky."""
    drawn = (segmenter_of(new_networks(shape, channels=1, seed=seed).eval()) for seed in range(3))
    return statistics.median(found(each, woven()) for each in drawn)


@pytest.mark.parametrize("rotation", range(ROTATIONS))
@pytest.mark.parametrize(("width", "depth"), PRETRAINED)
def test_they_find_defects_in_a_material_that_they_never_saw(
    width: int, depth: int, rotation: int
) -> None:
    shape, pictures = replace(SHAPE, width=width, segmenter_depth=depth), woven()
    assert chance(shape) < 0.2
    assert found(segmenter_of(started(shape, rotation=rotation)), pictures) > chance(shape) + 0.3


def test_a_grey_picture_has_the_same_map_in_a_grey_and_in_a_coloured_segmenter() -> None:
    x = woven()[0][None]
    grey, coloured = (segmenter_of(started(channels=channels)) for channels in (1, 3))
    with torch.no_grad():
        torch.testing.assert_close(grey(x), coloured(x.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("channels", [1, 3])
def test_at_first_the_restored_picture_beside_the_picture_changes_nothing(channels: int) -> None:
    x = woven(channels)[0][None]
    plain = segmenter_of(started(channels=channels))
    beside = segmenter_of(started(replace(SHAPE, restoration=True), channels=channels))
    with torch.no_grad():
        torch.testing.assert_close(beside(torch.cat([x, x.flip(-1)], 1)), plain(x))


@pytest.mark.parametrize("rotation", range(ROTATIONS))
def test_a_training_starts_from_weights_that_saw_none_of_the_families_that_judge(
    rotation: int,
) -> None:
    pictures = woven(unseen=held_out(rotation))
    begun = first_weights(FCBiGAN(networks=SHAPE, training=BRIEF), pictures)
    stored = load_file(pretrained.path(rotation))
    name = "down.1.0.0.weight"
    torch.testing.assert_close(
        begun[f"segmenter.{name}"], stored[f"width8-depth3.{name}"].float(), atol=2e-2, rtol=0
    )
    others = [load_file(pretrained.path(each)) for each in range(ROTATIONS) if each != rotation]
    for other in others:
        far = (begun[f"segmenter.{name}"] - other[f"width8-depth3.{name}"].float()).abs().max()
        assert far > 0.1


def first_weights(method: FCBiGAN, pictures: FitPictures) -> Mapping[str, Tensor]:
    """Return the weights after the first report of a training."""
    reports: list[Progress] = []
    method.fit(pictures, generator=torch.Generator().manual_seed(0), report=reports.append)
    return reports[0].weights


def test_a_training_that_goes_on_does_not_start_again() -> None:
    method, pictures = FCBiGAN(networks=SHAPE, training=BRIEF), woven()
    whole: list[Progress] = []

    def keep(progress: Progress) -> None:
        weights = {name: each.clone() for name, each in progress.weights.items()}
        whole.append(replace(progress, weights=weights))

    method.fit(pictures, generator=torch.Generator().manual_seed(0), report=keep)
    halted: list[Progress] = []

    class HaltedError(Exception):
        pass

    def halt(progress: Progress) -> None:
        halted.append(progress)
        raise HaltedError

    with pytest.raises(HaltedError):
        method.fit(pictures, generator=torch.Generator().manual_seed(0), report=halt)
    rest: list[Progress] = []
    method.fit(
        pictures,
        generator=torch.Generator().manual_seed(0),
        report=rest.append,
        state=halted[0].state,
    )
    for name, each in whole[-1].weights.items():
        torch.testing.assert_close(rest[-1].weights[name], each, msg=name)


@pytest.mark.parametrize(
    "changes",
    [{"width": 32}, {"segmenter_depth": 2}, {"discriminator_norm": "none"}, {"defect_rounds": 0}],
)
def test_a_trial_of_another_shape_starts_from_random_weights_and_says_so(
    changes: dict[str, Any],
) -> None:
    shape = {"width": 8, "segmenter_depth": 3, "discriminator_norm": "batch"}
    fields = shape | {"patch": 64, "defect_rounds": 4, "pretrained": True}
    assert training_of(fields).pretrained
    assert not training_of(fields | changes).pretrained


def training_of(fields: Mapping[str, Any]) -> TrainConfig:
    """Return the training that fields ask for."""
    method = settings(fields).method
    assert isinstance(method, FCBiGAN)
    return method.training


def test_a_shape_without_weights_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\(width, segmenter_depth\), one of .* not \(12, 3\)"):
        FCBiGAN(networks=replace(SHAPE, width=12), training=BRIEF)


def test_the_same_command_makes_the_same_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(maker, "ROUNDS", 2)
    monkeypatch.setattr(maker, "ALIVE", 4)
    monkeypatch.setattr(maker, "PAINTINGS", 2)
    shipped, made = load_file(pretrained.path(1)), []
    for turn in ("first", "second"):
        monkeypatch.setattr(pretrained, "FOLDER", tmp_path / turn)
        maker.train(1)
        made.append(hashlib.sha256(pretrained.path(1).read_bytes()).hexdigest())
    assert made[0] == made[1]
    own = load_file(pretrained.path(1))
    assert {name: each.shape for name, each in own.items()} == {
        name: each.shape for name, each in shipped.items()
    }


def test_drawn_textures_are_of_many_kinds_and_have_pictures_of_one_material() -> None:
    rng = np.random.default_rng(0)
    contrasts = []
    for _ in range(20):
        made = material(rng)
        first, second = (made.picture(rng).astype(float) for _ in range(2))
        contrasts.append(first.std(axis=(0, 1)).max())
        assert np.abs(first - second).mean() > 1, "another piece"
        assert abs(np.log((first.std() + 1) / (second.std() + 1))) < 0.7, "of the same material"
    assert min(contrasts) > 4
    assert len({round(each) for each in contrasts}) > 10
