"""Detectors of every format that was ever written: each still loads, and scores as it did.

`tests/formats/N/` has a bundle of format N and what it scored when it was made. A new format gets a
folder of its own, and the older ones stay as they are.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.textures_drawn import HEIGHT, WIDTH, draw, draw_hole
from zoo import bundle
from zoo.detector import Detector

FORMATS = sorted((Path(__file__).parent / "formats").iterdir())


@pytest.mark.parametrize("folder", FORMATS, ids=lambda folder: folder.name)
def test_a_bundle_of_each_format_loads_and_scores_as_it_did(folder: Path) -> None:
    detector = Detector(bundle.load(folder))
    rng = np.random.default_rng(5)
    images = {"hole": draw_hole(HEIGHT, WIDTH, rng)[0], "good": draw(HEIGHT, WIDTH, rng)}
    expected = json.loads((folder / "expected.json").read_text())
    for name, image in images.items():
        found = detector.map(image)
        assert float(found.max()) == pytest.approx(expected[name]["max"], rel=1e-4)
        assert float(found.mean()) == pytest.approx(expected[name]["mean"], rel=1e-3, abs=1e-4)


def test_the_format_that_is_written_now_is_among_them() -> None:
    assert str(bundle.FORMAT) in [folder.name for folder in FORMATS]
