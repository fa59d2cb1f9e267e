"""Common fixtures: type and shape checks at each call, and a small texture with its detector.

The packages are imported inside the fixtures, because modules that are imported before the hook are
not checked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import textures_drawn
from tests.memo import Memo
from tests.type_checks import check_calls_of
from tests.web_server import Site, serving

check_calls_of("zoo", "registry", "search_spaces")

if TYPE_CHECKING:
    from registry.bundle import Bundle
    from registry.folder_shelf import FolderShelf
    from zoo.training.data import TrainingData
    from zoo.training.fit import Checkpoint
    from zoo.training.fusing import Part
    from zoo.training.settings import Settings


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Use one thread, as trials do: another number of threads changes the last digits."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Let torch have two threads, as a user has on two cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def no_starters() -> None:
    """Leave out the detectors of the package: a test counts what it has made itself."""
    os.environ["ZOO_STARTERS"] = "off"


@pytest.fixture
def address(site: Site) -> Iterator[str]:
    """The address of a web server of the fixture `site`, which a module has."""
    with serving(site) as address:
        yield address


@pytest.fixture(scope="session")
def drawn_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `weave` in MVTec's layout, alone in its parent. Copy it before changing it."""
    return textures_drawn.write_folder(tmp_path_factory.mktemp("data") / "weave")


@pytest.fixture(scope="session")
def tiny_data(drawn_folder: Path) -> TrainingData:
    """The drawn texture, with only the largest validation window of each family, to be fast."""
    from zoo.data import textures
    from zoo.training.data import gather

    data = gather(textures.find(drawn_folder.parent, "weave"))
    return replace(data, validation=textures_drawn.one_a_family(data.validation))


@pytest.fixture(scope="session")
def of_all_workers(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all workers of a run share."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def untrained_once(of_all_workers: Path) -> Memo:
    """The fits of the methods that learn nothing, made once for each texture and split."""
    return Memo(of_all_workers)


@pytest.fixture(scope="session")
def tiny_parts(tiny_data: TrainingData, untrained_once: Memo) -> list[Part]:
    """The methods that learn nothing, fitted to the drawn texture."""
    return untrained_once.parts_of(tiny_data)


@pytest.fixture(scope="session")
def tiny_settings() -> Settings:
    """Settings that train in about a second, with a fixed rule."""
    from zoo.scoring.aggregation import Rule
    from zoo.training.settings import settings

    values = textures_drawn.TINY | {"reports": 2}
    return replace(settings(values), rule=Rule(aggregation="max", mean_filter=5))


@pytest.fixture(scope="session")
def tiny_checkpoints(tiny_data: TrainingData, tiny_settings: Settings) -> list[Checkpoint]:
    """Every checkpoint of one training."""
    from zoo.training.fit import train

    checkpoints: list[Checkpoint] = []
    train(tiny_data, tiny_settings, seed=0, report=checkpoints.append)
    return checkpoints


@pytest.fixture(scope="session")
def tiny_bundle(tiny_checkpoints: list[Checkpoint]) -> Bundle:
    """The detector at the end of a small training."""
    return tiny_checkpoints[-1].bundle


@pytest.fixture
def shelf(tiny_bundle: Bundle, tmp_path: Path) -> FolderShelf:
    """A shelf in `shelf` with one detector, which is in `made` too."""
    from registry import bundle
    from registry.folder_shelf import FolderShelf
    from tests.exams import publish

    bundle.save(tiny_bundle, tmp_path / "made")
    shelf = FolderShelf(tmp_path / "shelf")
    publish(shelf, tmp_path / "made", texture="weave", version=1)
    return shelf
