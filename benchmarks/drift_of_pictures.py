"""Whether `zoo drift` keeps quiet on good pictures, and how soon it tells a gain that drifts.

    python -m benchmarks.drift_of_pictures leather=DIR:BUNDLE wood=DIR:BUNDLE [--orders 20]

BUNDLE is the folder of a detector. The good test pictures, which it never saw, are scored as they
are, in `--orders` random orders. Then half of them come as they are, in as many orders, and the
others follow, over and over, while the gain grows, or falls, by 1 % from each to the next. The
named alternative is the stream without the drift.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Shaped

from benchmarks.recalibration import changed, found_at
from zoo.data.testset import read_test
from zoo.detectors import Detector, Score
from zoo.evaluation import drift
from zoo.evaluation.stream import Stream

STEPS = 15
Pixels = Shaped[np.ndarray, "h w c"]


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


def in_orders(scores: Sequence[Score], count: int) -> Iterator[list[Score]]:
    """Yield the scores in random orders."""
    for seed in range(count):
        order = np.random.default_rng(seed).permutation(len(scores))
        yield [scores[at] for at in order]


def delays(
    detector: Detector, calm: Sequence[Score], rest: Sequence[Pixels], *, sign: int, orders: int
) -> list[float]:
    """Return for each order how many drifting pictures it took.

    It is infinite if nothing was told, and 0 or less if something was told before the drift.

    Args:
        detector: The detector.
        calm: Scores of the pictures that come first.
        rest: Pictures that follow, over and over.
        sign: 1 if the gain grows, -1 if it falls.
        orders: Of the first pictures.
    """
    moved = [
        detector.score(
            changed((1 + 0.01 * sign) ** (step + 1), shading=0.0)(rest[step % len(rest)])
        )
        for step in range(2 * STEPS)
    ]
    found = [told(detector, [*first, *moved]) for first in in_orders(calm, orders)]
    return [at[0] - len(calm) if at else np.inf for at in found]


def main() -> None:
    """Measure and print a line for each detector."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("detectors", nargs="+", metavar="NAME=DIR:BUNDLE")
    parser.add_argument("--orders", type=int, default=20)
    args = parser.parse_args()
    for place in args.detectors:
        texture, made = found_at(place)
        detector = Detector(made)
        good = [each.pixels for each in read_test(texture) if not each.defective]
        scores = [detector.score(each) for each in good]
        reports = [told(detector, each) for each in in_orders(scores, args.orders)]
        false = [each for each in reports if each]
        print(
            f"{texture.name}: {len(good)} good pictures, {len(false)} of {args.orders} orders told"
        )
        print(
            f"  of what: {sorted({what for _, what in false})}" if false else "  nothing",
            flush=True,
        )
        half = len(good) // 2
        for sign, word in ((1, "grows"), (-1, "falls")):
            late = delays(detector, scores[:half], good[half:], sign=sign, orders=args.orders)
            within = sum(0 < each <= STEPS for each in late)
            median = float(np.median(late))
            print(
                f"  gain {word}: {within} of {len(late)} within {STEPS}; median {median:g}; "
                f"{sum(each <= 0 for each in late)} told before it",
                flush=True,
            )


if __name__ == "__main__":
    main()
