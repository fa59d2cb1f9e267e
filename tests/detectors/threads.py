"""What many threads must give: what one gives."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from zoo.detectors.detector import Detector


def assert_threads_agree(detector: Detector, images: Sequence[np.ndarray], *, threads: int) -> None:
    expected = [detector.score(image) for image in images]
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(detector.score, images))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.map, other.map)
