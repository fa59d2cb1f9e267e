"""Scores many files, on a CPU several at a time: small pictures do not keep all cores busy."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Shaped

from zoo.data.images import read_image
from zoo.detectors.detector import Detector
from zoo.detectors.ready import LARGE
from zoo.detectors.score import Score
from zoo.errors import BadImageError

AHEAD = 2  # files read and scored ahead of the one that is asked for, for each at once


class Scored(NamedTuple):
    """What became of a file: pixels and score, or an error."""

    path: Path
    pixels: Shaped[np.ndarray, "h w c"] | None
    score: Score | None
    error: BadImageError | None


def score_files(
    detector: Detector, paths: Sequence[Path], *, at_once: int | None = None
) -> Generator[Scored]:
    """Score files and return them in their order, each as soon as it and those before are done.

    Args:
        detector: Scores them.
        paths: The files. One that cannot be read or scored comes with its error.
        at_once: Number of files at once, each with one thread; by default the threads of torch on
            a CPU, and 1 on a GPU, which one picture keeps busy. Pictures of more than `LARGE`
            values are scored one after the other.

    Raises:
        BundleError: As `Detector.score`.
    """
    threads = torch.get_num_threads()
    at_once = min(at_once or (threads if detector.device.type == "cpu" else 1), len(paths))
    alone = threading.Lock()

    def scored(path: Path) -> Scored:
        try:
            pixels = read_image(path)
            with alone if pixels.size > LARGE else nullcontext():
                return Scored(path, pixels, detector.score(pixels), None)
        except BadImageError as error:
            named = error if str(path) in str(error) else BadImageError(f"{path}: {error}")
            return Scored(path, None, None, named)

    if at_once < 2:
        yield from map(scored, paths)
        return
    # torch has a number of threads for each thread of Python; a new one begins with the last set.
    pool = ThreadPoolExecutor(at_once, "score", initializer=lambda: torch.set_num_threads(1))
    waiting: deque[Future[Scored]] = deque()
    try:
        for path in paths:
            waiting.append(pool.submit(scored, path))
            if len(waiting) > AHEAD * at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # also if the caller stops early
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
