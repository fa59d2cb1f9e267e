"""Measures the time of one picture: `python -m benchmarks.one_picture BUNDLE PICTURE`.

Scores the picture in turn with the detector, with its ONNX file in ONNX Runtime, and with a
nearest-neighbour detector on ImageNet features alone (`feature_memory`, fitted to this picture, as
its time does not depend on what it remembers). `--before DIR` adds the code of another checkout,
in a process of its own. Prints the median seconds of each, its ratio to the detector, and how far
its map is from the one of the detector. All have the same number of threads.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks.batch import seconds
from registry import bundle
from registry.bundle import Bundle
from zoo.data.images import read_image
from zoo.data.preprocessing import Preprocessing, prepare
from zoo.detectors import Detector
from zoo.detectors.export import session_of, to_onnx
from zoo.errors import ConfigError
from zoo.methods.feature_memory import FeatureMemory

# What runs in the other checkout: one score for each line that it reads.
OTHER = """
import sys, time
import numpy, torch
from registry import bundle
from zoo.detectors import Detector
torch.set_num_threads(int(sys.argv[4]))
made = Detector(bundle.load(__import__("pathlib").Path(sys.argv[1])))
pixels = numpy.load(sys.argv[2])
numpy.save(sys.argv[3], made.score(pixels).map)
for _ in sys.stdin:
    began = time.perf_counter()
    made.score(pixels)
    print(time.perf_counter() - began, flush=True)
"""


def onnx_run(found: Bundle, pixels: np.ndarray) -> Callable[[], np.ndarray]:
    """Return a call that scores the picture in ONNX Runtime and returns its map."""
    session = session_of(to_onnx(found))
    return lambda: np.asarray(session.run(["map"], {"image": pixels})[0])


def neighbours_run(found: Bundle, pixels: np.ndarray) -> Callable[[], np.ndarray]:
    """Return a call that scores the picture by its ImageNet features alone."""
    mode = (found.parts or (found,))[0].preprocessing["mode"]
    x = prepare(pixels, Preprocessing(mode=mode))
    method, weights = FeatureMemory(), dict[str, torch.Tensor]()
    method.fit(
        [x],
        generator=torch.Generator().manual_seed(0),
        report=lambda progress: weights.update(progress.weights),
    )
    losses = method.scorer(weights)
    return lambda: losses(prepare(pixels, Preprocessing(mode=mode))[None])[0, 0].numpy()


@contextmanager
def other_checkout(
    checkout: Path, folder: Path, pixels: np.ndarray, threads: int
) -> Iterator[tuple[Callable[[], float], Callable[[], np.ndarray]]]:
    """Yield a call for the seconds of one score by another checkout, and one for its map."""
    with tempfile.TemporaryDirectory() as scratch:
        picture, map_ = Path(scratch) / "picture.npy", Path(scratch) / "map.npy"
        np.save(picture, pixels)
        child = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(folder.resolve()), picture, map_, str(threads)],
            env=os.environ | {"PYTHONPATH": str(checkout.resolve())},
            cwd=checkout,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        reads, writes = child.stdout, child.stdin

        def once() -> float:
            writes.write("\n")
            writes.flush()
            return float(reads.readline())

        try:
            yield once, lambda: np.load(map_)
        finally:
            writes.close()
            child.wait()


def main() -> None:
    """Measure in turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="folder of the detector")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--before", type=Path, metavar="DIR", help="another checkout")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found, pixels = bundle.load(args.bundle), read_image(args.picture)
    made = Detector(found)
    own = made.score(pixels)
    calls = {"feature_memory alone": neighbours_run(found, pixels)}
    try:
        calls["ONNX Runtime"] = onnx_run(found, pixels)
    except ConfigError as error:
        print(f"Without ONNX Runtime: {error}")
    times: dict[str, list[float]] = {name: [] for name in ("detector", *calls)}
    maps = {name: each() for name, each in calls.items()}

    def turn() -> None:
        times["detector"].append(seconds(lambda: made.score(pixels)))
        for name, each in calls.items():
            times[name].append(seconds(each))

    if args.before is None:
        for _ in range(args.repeats):
            turn()
    else:
        with other_checkout(args.before, args.bundle, pixels, args.threads) as (once, map_of):
            once()
            times["the checkout before"], maps["the checkout before"] = [], map_of()
            for _ in range(args.repeats):
                turn()
                times["the checkout before"].append(once())
    base = statistics.median(times["detector"])
    print(f"{made}, {pixels.shape[0]}x{pixels.shape[1]} pixels, {args.threads} threads")
    for name, each in times.items():
        middle = statistics.median(each)
        apart = (
            ""
            if name not in maps or name == "feature_memory alone"
            else (f", map apart by {np.abs(maps[name] - own.map).max():.1e}")
        )
        print(f"{name}: {middle:.3f} s, {middle / base:.2f} of the detector{apart}")


if __name__ == "__main__":
    main()
