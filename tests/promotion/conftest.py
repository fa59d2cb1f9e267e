"""A drawn texture, a detector for it and a worse one, and a home to promote them in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.memo import Memo

if TYPE_CHECKING:
    from registry.bundle import Bundle
    from tests.promotion.home import Home
    from zoo.training import Part

HEIGHT, WIDTH = 72, 64


def draw(path: Path, rng: np.random.Generator, *, hole: bool) -> None:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    shift = rng.uniform(0, 6, 2)
    pattern = np.sin((rows + shift[0]) * 1.0) + np.sin((columns + shift[1]) * 1.0)
    pixels = 128 + 25 * pattern + rng.normal(0, 4, (HEIGHT, WIDTH))
    if hole:
        pixels[20:34, 30:48] = 128
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A texture in MVTec's layout, in a folder `data` that no test changes."""
    root, rng = tmp_path_factory.mktemp("data") / "mesh", np.random.default_rng(0)
    for n in range(14):
        draw(root / "train" / "good" / f"{n:03}.png", rng, hole=False)
    for n in range(4):
        draw(root / "test" / "good" / f"{n:03}.png", rng, hole=False)
        draw(root / "test" / "hole" / f"{n:03}.png", rng, hole=True)
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[20:34, 30:48] = 255
        (root / "ground_truth" / "hole").mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(root / "ground_truth" / "hole" / f"{n:03}_mask.png")
    return root


@pytest.fixture(scope="session")
def parts(drawn: Path, untrained_once: Memo) -> list[Part]:
    """The methods that learn nothing."""
    from zoo.data import textures
    from zoo.training import gather

    return untrained_once.parts_of(gather(textures.find(drawn.parent, "mesh")))


@pytest.fixture(scope="session")
def made(drawn: Path, parts: list[Part]) -> Bundle:
    """The best sum of the methods that learn nothing, which a search begins with."""
    from zoo.data import textures
    from zoo.training import choose, gather, made

    data = gather(textures.find(drawn.parent, "mesh"))
    return made(parts, choose(parts, data), data)


@pytest.fixture(scope="session")
def worse(parts: list[Part]) -> Bundle:
    """One of the methods, with most of what it learned forgotten."""
    [part] = [each.bundle for each in parts if each.name == "local_statistics@1"]
    mean = part.weights["mean"]
    noise = np.random.default_rng(0).normal(size=mean.shape).astype(mean.dtype)
    return replace(part, weights={**part.weights, "mean": mean + 50 * noise})


@pytest.fixture
def home(
    tmp_path: Path, drawn: Path, untrained_once: Memo, monkeypatch: pytest.MonkeyPatch
) -> Home:
    from tests.promotion.home import Home

    untrained_once.used(monkeypatch)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return Home(tmp_path, drawn)
