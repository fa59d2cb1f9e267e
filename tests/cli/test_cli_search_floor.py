"""What a search fits first is the first champion, and is not fitted again when it goes on."""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from registry import bundle
from registry.trials import FLOOR, UNTRAINED
from tests.memo import Memo
from zoo.cli import _search_floor, parser
from zoo.cli._search_floor import fit_floor
from zoo.cli._search_progress import SearchProgress
from zoo.cli._search_state import State
from zoo.data import textures
from zoo.data.textures import Texture
from zoo.training import Part, TrainingData


def asked(*more: str) -> argparse.Namespace:
    """Return the arguments of a search."""
    return parser().parse_args(["search", "--category", "weave", "--data", "data", *more])


def fitted(folder: Path, texture: Texture, data: TrainingData, *more: str) -> list[Part]:
    """Fit what a search with these arguments fits first."""
    progress = SearchProgress(State(began=time.time()), lambda: None)
    return fit_floor(asked(*more), texture, data, folder, progress)


@pytest.fixture
def texture(drawn_folder: Path) -> Texture:
    return textures.find(drawn_folder.parent, "weave")


@pytest.fixture(autouse=True)
def fitted_once(untrained_once: Memo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_search_floor, "untrained", untrained_once.untrained)


def test_the_first_champion_has_a_threshold_for_pictures_under_variation(
    texture: Texture,
    tiny_data: TrainingData,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    published = list[Path]()
    monkeypatch.setattr(
        _search_floor, "promoted", lambda folder, *_, **__: published.append(folder)
    )
    fitted(tmp_path / "search", texture, tiny_data)
    assert published == [tmp_path / "search" / FLOOR]
    assert bundle.load(published[0]).threshold["varied"] is True


def test_a_search_that_goes_on_has_what_it_fitted_and_one_that_did_not_get_so_far_fits_it(
    texture: Texture, tiny_data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "search"
    first = fitted(folder, texture, tiny_data, "--no-promote")
    with monkeypatch.context() as changed:
        changed.setattr(_search_floor, "untrained", lambda data, say: pytest.fail("fitted again"))
        again = fitted(folder, texture, tiny_data, "--no-promote", "--resume")
    assert [part.name for part in again] == [part.name for part in first]
    for one, other in zip(first, again, strict=True):
        weights = other.bundle.weights
        assert all(np.array_equal(each, weights[name]) for name, each in one.bundle.weights.items())
        assert one.bundle.threshold == other.bundle.threshold

    (folder / UNTRAINED / first[0].name / bundle.CARD).write_text("{")
    assert len(fitted(folder, texture, tiny_data, "--no-promote", "--resume")) == len(first)
    shutil.rmtree(folder / FLOOR)  # it was stopped before all were fitted
    shutil.rmtree(folder / UNTRAINED / first[1].name)
    assert len(fitted(folder, texture, tiny_data, "--no-promote", "--resume")) == len(first)
