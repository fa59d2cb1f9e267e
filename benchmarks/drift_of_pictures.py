"""Whether `zoo drift` keeps quiet on good pictures, and how soon it tells a gain that drifts.

    python -m benchmarks.drift_of_pictures leather=DIR:BUNDLE wood=DIR:BUNDLE [--orders 20]

BUNDLE is the folder of a detector. The good test pictures, which it never saw, are scored as they
are, in `--orders` random orders; and in each order once more with a gain that grows, or falls, by
1 % from each picture to the next, after none or a half of them as they are. The named alternative
is the same stream without the drift.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from registry import bundle
from zoo.data import textures
from zoo.data.testset import read_test
from zoo.detectors import Detector, Score
from zoo.evaluation import drift
from zoo.evaluation.stream import Stream

STEPS = 15
Pixels = Shaped[np.ndarray, "h w c"]


def drifted(pixels: Pixels, gain: float) -> Pixels:
    """Return the pixels of a file in other light."""
    top = np.iinfo(pixels.dtype).max
    return np.asarray(np.rint(pixels * gain).clip(0, top), pixels.dtype)


def told(detector: Detector, scores: Sequence[Score]) -> tuple[int, str] | None:
    """Return the picture, from 1, at which a change is told, and of what; None if never."""
    names = scores[0].statistics
    stream = Stream(
        images=[str(number) for number in range(len(scores))],
        scores=np.array([each.score for each in scores]),
        alarms=np.array([each.is_anomalous for each in scores]),
        times=np.full(len(scores), np.nan),
        statistics={
            name: np.array([each.statistics[name] for each in scores]).round(drift.DIGITS)
            for name in names
        },
    )
    for found in drift.measure(detector, stream).changed:
        if found.change:
            return found.change.told, found.name
    return None


def delays(detector: Detector, good: Sequence[Pixels], sign: int, orders: int) -> list[float]:
    """Return for each order how many drifting pictures it took; infinite if it was not told.

    Half of the pictures come first, as they are; the others follow, over and over, as the gain
    changes.
    """
    found: list[float] = []
    first, rest = good[: len(good) // 2], good[len(good) // 2 :]
    calm = [detector.score(each) for each in first]
    moved = [
        detector.score(drifted(rest[step % len(rest)], (1 + 0.01 * sign) ** (step + 1)))
        for step in range(2 * STEPS)
    ]
    for seed in range(orders):
        order = np.random.default_rng(seed).permutation(len(calm))
        at = told(detector, [*(calm[place] for place in order), *moved])
        found.append(at[0] - len(calm) if at else np.inf)
    return found


def main() -> None:
    """Measure and print a line for each detector."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("detectors", nargs="+", metavar="NAME=DIR:BUNDLE")
    parser.add_argument("--orders", type=int, default=20)
    args = parser.parse_args()
    for place in args.detectors:
        name, _, rest = place.partition("=")
        folder, _, saved = rest.partition(":")
        texture = textures.find(Path(folder), name)
        detector = Detector(bundle.load(Path(saved)))
        good = [each.pixels for each in read_test(texture) if not each.defective]
        scores = [detector.score(each) for each in good]
        reports = []
        for seed in range(args.orders):
            order = np.random.default_rng(seed).permutation(len(scores))
            reports.append(told(detector, [scores[at] for at in order]))
        false = [each for each in reports if each]
        print(f"{name}: {len(good)} good pictures, {len(false)} of {args.orders} orders told")
        print(
            f"  of what: {sorted({what for _, what in false})}" if false else "  nothing",
            flush=True,
        )
        for sign, word in ((1, "grows"), (-1, "falls")):
            late = delays(detector, good, sign, args.orders)
            within = sum(each <= STEPS for each in late)
            median = float(np.median(late))
            print(
                f"  gain {word}: {within} of {len(late)} within {STEPS}; median {median:g}",
                flush=True,
            )


if __name__ == "__main__":
    main()
