"""Measures how much faster a batch is than single pictures: `python -m benchmarks.batch`.

Eight pictures of 256x256 and a small untrained FCBiGAN with the segmenter, as a search makes it
(scale 0.5, depth 3, 16 channels, one view and four), with one thread per core. Prints the ratio
of the seconds of `score(batch)` to those of eight single calls in the same process, for the loss
that a champion mostly uses (the segmenter) and for all three losses.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch

from registry.bundle import Bundle
from zoo import methods
from zoo.data.preprocessing import Preprocessing, prepare
from zoo.detectors import Detector
from zoo.scoring.aggregation import Rule, calibrate
from zoo.scoring.thresholds import Rates, fit_threshold
from zoo.training import settings

RULES = {
    "segmenter alone": Rule(aggregation="linear", weights=(0.0, 0.0, 1.0), mean_filter=3),
    "all three losses": Rule(aggregation="mahalanobis", mean_filter=3),
}


def detector(rule: Rule, views: int, pictures: np.ndarray) -> Detector:
    """Build an untrained detector, calibrated on the pictures."""
    values = {
        "patch": 64, "depth": 3, "discriminator_depth": 3, "segmenter_depth": 4, "width": 16,
        "latent_channels": 8, "defect_rounds": 1, "output_stride": 4, "views": views,
        "megapixels": 0.01, "reports": 1, "batch": 2, "fixed_patches": 0,
    }  # fmt: skip
    method = settings(values).method
    preprocessing = Preprocessing(mode="L", scale=0.5)
    images = [prepare(pixels, preprocessing) for pixels in pictures]
    weights: dict[str, torch.Tensor] = {}
    method.fit(
        images,
        generator=torch.Generator().manual_seed(0),
        report=lambda progress: weights.update(progress.weights),
    )
    losses = method.scorer(weights)
    calibration = calibrate(rule, [losses(x[None])[0] for x in images])
    return Detector(
        Bundle(
            texture="drawn",
            method=methods.name_of(method),
            config=methods.flat(method),
            preprocessing=asdict(preprocessing),
            calibration=asdict(calibration),
            threshold=asdict(fit_threshold([0.9, 1.0, 1.1], Rates(false_alarms=0.05))),
            metrics={},
            data={},
            made_by={},
            weights={name: each.numpy().copy() for name, each in weights.items()},
        )
    )


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Compare a batch with single pictures, in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--side", type=int, default=256)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (8, args.side, args.side, 1), np.uint8)
    for name, rule in RULES.items():
        for views in (1, 4):
            made = detector(rule, views, pictures)
            made.score(pictures)
            single, batch = [], []
            for _ in range(args.repeats):
                single.append(seconds(lambda: [made.score(pixels) for pixels in pictures]))  # noqa: B023
                batch.append(seconds(lambda: made.score(pictures)))  # noqa: B023
            ratio = statistics.median(b / s for b, s in zip(batch, single, strict=True))
            print(
                f"{name}, {views} view(s): batch {statistics.median(batch):.4f} s, "
                f"single {statistics.median(single):.4f} s, ratio {ratio:.2f}"
            )


if __name__ == "__main__":
    main()
