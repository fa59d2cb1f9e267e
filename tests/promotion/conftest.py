"""A drawn texture, a detector for it and a worse one, and a home to promote them in."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from registry.bundle import Bundle
    from tests.promotion.home import Home
    from zoo.data.defects.validation import Window
    from zoo.detectors import Detector
    from zoo.promotion.comparison import Maps
    from zoo.training import Part, TrainingData

HEIGHT, WIDTH = 72, 64


class Memo:
    """What these functions return, computed once for the same pictures, windows and detector."""

    def __init__(self) -> None:
        self.bundles: dict[str, list[Bundle]] = {}
        self.parts: dict[tuple[int, str], Part] = {}
        self.maps: list[tuple[Bundle, str, Maps]] = []

    def untrained(
        self, data: TrainingData, *, say: Callable[[str], None] = lambda line: None
    ) -> list[Bundle]:
        from zoo.training import untrained

        if _key(data) not in self.bundles:
            self.bundles[_key(data)] = untrained(data, say=say)
        return self.bundles[_key(data)]

    def part_of(self, made: Bundle, data: TrainingData) -> Part:
        from zoo.training import part_of

        key = id(made), _key(data)
        if key not in self.parts:
            self.parts[key] = part_of(made, data)
        return self.parts[key]

    def window_maps(self, detector: Detector, windows: Sequence[Window]) -> Maps:
        from registry.bundle import same_detector
        from zoo.data.defects.validation import fingerprint
        from zoo.promotion.comparison import window_maps

        own = fingerprint(windows)
        for made, key, maps in self.maps:
            if key == own and same_detector(made, detector.bundle):
                return maps
        self.maps.append((detector.bundle, own, window_maps(detector, windows)))
        return self.maps[-1][2]


def _key(data: TrainingData) -> str:
    from zoo.training import provenance

    return json.dumps(provenance(data), sort_keys=True)


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
def untrained_once() -> Memo:
    """The fits of the methods that learn nothing, made once for each texture and split."""
    return Memo()


@pytest.fixture(scope="session")
def made(drawn: Path, untrained_once: Memo) -> Bundle:
    """The best sum of the methods that learn nothing, which a search begins with."""
    from zoo.data import textures
    from zoo.training import choose, gather, made

    data = gather(textures.find(drawn.parent, "mesh"))
    parts = [untrained_once.part_of(each, data) for each in untrained_once.untrained(data)]
    return made(parts, choose(parts, data), data)


@pytest.fixture(scope="session")
def worse(made: Bundle) -> Bundle:
    """One of its parts, with most of what it learned forgotten."""
    [part] = [each for each in made.parts if each.method == "local_statistics"]
    mean = part.weights["mean"]
    noise = np.random.default_rng(0).normal(size=mean.shape).astype(mean.dtype)
    return replace(part, weights={**part.weights, "mean": mean + 50 * noise})


@pytest.fixture
def home(
    tmp_path: Path, drawn: Path, untrained_once: Memo, monkeypatch: pytest.MonkeyPatch
) -> Home:
    from tests.promotion.home import Home
    from zoo.promotion import promotion

    # The same fits and the same maps, which take most of the time of a promotion.
    monkeypatch.setattr(promotion, "untrained", untrained_once.untrained)
    monkeypatch.setattr(promotion, "part_of", untrained_once.part_of)
    monkeypatch.setattr(promotion, "window_maps", untrained_once.window_maps)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return Home(tmp_path, drawn)
