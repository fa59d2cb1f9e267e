"""What every test shares: shapes checked at each call, and one tiny texture with its detector.

The rooms are imported inside the fixtures, as those imported above the hook would go unchecked.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jaxtyping import install_import_hook

from tests import textures_drawn

install_import_hook(["zoo", "registry", "search_spaces"], "beartype.beartype")

if TYPE_CHECKING:
    from registry.bundle import Bundle
    from zoo.training.data import TrainingData
    from zoo.training.fit import Checkpoint
    from zoo.training.settings import Settings


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Keep to one thread, as trials do: with another number, the last digits are others."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def drawn_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `weave` in MVTec's layout, alone in its parent. Copy it before changing it."""
    return textures_drawn.write_folder(tmp_path_factory.mktemp("data") / "weave")


@pytest.fixture(scope="session")
def tiny_materials(drawn_folder: Path) -> TrainingData:
    """The drawn texture, with the largest validation window of each family to be quick."""
    from zoo.data import textures
    from zoo.training.data import gather

    materials = gather(textures.find(drawn_folder.parent, "weave"))
    return replace(materials, validation=textures_drawn.one_a_family(materials.validation))


@pytest.fixture(scope="session")
def tiny_settings() -> Settings:
    """Settings that train in about a second, with a rule of their own."""
    from zoo.scoring.aggregation import Rule
    from zoo.training.settings import settings

    values = textures_drawn.TINY | {"reports": 2}
    return replace(settings(values), rule=Rule(aggregation="max", mean_filter=5))


@pytest.fixture(scope="session")
def tiny_drafts(tiny_materials: TrainingData, tiny_settings: Settings) -> list[Checkpoint]:
    """Every checkpoint of one training."""
    from zoo.training.fit import train

    checkpoints: list[Checkpoint] = []
    train(tiny_materials, tiny_settings, seed=0, report=checkpoints.append)
    return checkpoints


@pytest.fixture(scope="session")
def tiny_bundle(tiny_drafts: list[Checkpoint]) -> Bundle:
    """The detector that a small training ends with."""
    return tiny_drafts[-1].bundle
