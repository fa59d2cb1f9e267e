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
    from zoo.bundle import Bundle
    from zoo.recipe import Draft, Materials, Settings


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
def tiny_materials(drawn_folder: Path) -> Materials:
    """The drawn texture, with the largest validation window of each family to be quick."""
    from zoo import recipe, textures

    materials = recipe.gather(textures.find(drawn_folder.parent, "weave"))
    return replace(materials, validation=textures_drawn.one_a_family(materials.validation))


@pytest.fixture(scope="session")
def tiny_settings() -> Settings:
    """Settings that train in about a second, with a rule of their own."""
    from zoo import recipe
    from zoo.scoring import Rule

    values = textures_drawn.TINY | {"reports": 2}
    return replace(recipe.settings(values), rule=Rule(aggregation="max", mean_filter=5))


@pytest.fixture(scope="session")
def tiny_drafts(tiny_materials: Materials, tiny_settings: Settings) -> list[Draft]:
    """Every draft of one training."""
    from zoo import recipe

    drafts: list[Draft] = []
    recipe.make(tiny_materials, tiny_settings, seed=0, report=drafts.append)
    return drafts


@pytest.fixture(scope="session")
def tiny_bundle(tiny_drafts: list[Draft]) -> Bundle:
    """The detector that a small training ends with."""
    return tiny_drafts[-1].bundle
