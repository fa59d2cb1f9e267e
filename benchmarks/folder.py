"""Measures the throughput of a folder: `python -m benchmarks.folder BUNDLE`.

Writes drawn pictures, 256x256, and scores them with a detector. Prints pictures a second of single
calls of `score`, and of `score_files`, which `zoo score` uses, in turn in the same process, and
the ratio of the two.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.batch import seconds
from registry import bundle
from zoo.detectors import Detector, score_files


def main() -> None:
    """Write, score, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="folder of the detector")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    detector = Detector(bundle.load(args.bundle))
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{at}.png" for at in range(args.pictures)]
        for at, path in enumerate(paths):
            noise = np.random.default_rng(at).normal(128, 200, (256, 256)).astype(np.float32)
            cv2.imwrite(str(path), cv2.GaussianBlur(noise, (0, 0), 2).clip(0, 255))
        detector.score(paths[0])
        single, many = [], []
        for _ in range(args.turns):
            single.append(seconds(lambda: [detector.score(path) for path in paths]))
            many.append(seconds(lambda: list(score_files(detector, paths))))
    single_rate, many_rate = (args.pictures / statistics.median(each) for each in (single, many))
    print(f"{torch.get_num_threads()} threads, {detector}")
    print(f"one by one {single_rate:.1f} a second, score_files {many_rate:.1f}")
    print(f"ratio {many_rate / single_rate:.2f}")


if __name__ == "__main__":
    main()
