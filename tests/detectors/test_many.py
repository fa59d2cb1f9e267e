"""Files that are scored several at a time have the scores of single ones, in order."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from registry.bundle import Bundle
from tests.textures_drawn import draw, write
from zoo.detectors import many
from zoo.detectors.detector import Detector
from zoo.detectors.many import score_files
from zoo.errors import BundleError


@pytest.fixture(scope="module")
def detector(tiny_bundle: Bundle) -> Detector:
    return Detector(tiny_bundle)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Six files; the third is no picture, the fifth is too small."""
    rng = np.random.default_rng(0)
    found = [write(tmp_path / f"{at}.png", draw(64, 72, rng)) for at in range(6)]
    found[2].write_bytes(b"no picture")
    write(found[4], draw(3, 3, rng))
    return found


@pytest.mark.parametrize("at_once", [None, 1, 2, 9])
@pytest.mark.usefixtures("two_threads")
def test_the_order_is_that_of_the_files_and_each_is_scored_or_has_its_error(
    detector: Detector, paths: list[Path], at_once: int | None
) -> None:
    found = list(score_files(detector, paths, at_once=at_once))
    assert [each.path for each in found] == paths
    assert [each.error is None for each in found] == [True, True, False, True, False, True]
    for each in found:
        if each.score is None:
            assert each.pixels is None
            assert each.path.name in str(each.error)
        else:
            np.testing.assert_allclose(each.score.map, detector.score(each.path).map, rtol=1e-4)
    assert torch.get_num_threads() == 2


class Waiting(Detector):
    """A detector that scores two pictures only if both are there at the same time."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.both = threading.Barrier(2, timeout=20)

    def score(self, image: Any) -> Any:
        self.both.wait()
        assert torch.get_num_threads() == 1
        return super().score(image)


@pytest.mark.usefixtures("two_threads")
def test_on_two_cores_two_are_scored_at_once_with_a_thread_each(
    tiny_bundle: Bundle, paths: list[Path]
) -> None:
    good = [paths[at] for at in (0, 1, 3, 5)]
    found = list(score_files(Waiting(tiny_bundle), good))
    assert all(each.score for each in found)


class Alone(Waiting):
    """A detector that fails if it scores two pictures at a time."""

    def score(self, image: Any) -> Any:
        with pytest.raises(threading.BrokenBarrierError):
            self.both.wait(timeout=0.2)
        self.both.reset()
        return Detector.score(self, image)


@pytest.mark.usefixtures("two_threads")
def test_large_pictures_are_scored_one_after_the_other(
    tiny_bundle: Bundle, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "LARGE", 64)
    found = list(score_files(Alone(tiny_bundle), paths[:2]))
    assert all(each.score for each in found)


class Broken(Detector):
    """A detector whose bundle is broken."""

    def score(self, image: Any) -> Any:
        raise BundleError("broken")


@pytest.mark.usefixtures("two_threads")
def test_whoever_stops_early_or_meets_an_error_leaves_no_thread_behind(
    tiny_bundle: Bundle, detector: Detector, paths: list[Path]
) -> None:
    stopped = score_files(detector, paths * 3)
    assert next(stopped).score is not None
    stopped.close()
    with pytest.raises(BundleError, match="broken"):
        list(score_files(Broken(tiny_bundle), paths))
    assert not [each for each in threading.enumerate() if each.name.startswith("score")]
    assert torch.get_num_threads() == 2
