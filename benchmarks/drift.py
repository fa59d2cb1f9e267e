"""How often drift is reported where there is none, and how soon where there is one, by drawing.

    python -m benchmarks.drift [--streams 1000] [--delays 200]

Calibrations and streams are drawn from a normal distribution; the test sees ranks only, so any
other continuous one gives the same figures. Two other tests make the same bets: on ranks in the
calibration alone, and on values as a normal distribution has them (Quesenberry 1991, Q charts).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri, stdtr

from zoo.evaluation.change_point import SHIFTS, watch
from zoo.evaluation.drift import FALSE_REPORT

QUANTITIES = 8  # score, alarms and six statistics
LENGTH = 500
LATEST = 200  # pictures after a change in which it is to be told

Values = Float[np.ndarray, " _"]
Test = Callable[[Values, Values, float], int | None]


def ranks(values: Values, reference: Values, p: float) -> int | None:
    """The test of `zoo drift`."""
    return watch(values, reference, p=p).told


def in_calibration(values: Values, reference: Values, p: float) -> int | None:
    """Bet on the ranks in the calibration alone."""
    above = (reference[None] > values[:, None]).sum(axis=1)
    return _told(above / (len(reference) + 1), (above + 1) / (len(reference) + 1), p)


def normal(values: Values, reference: Values, p: float) -> int | None:
    """Bet on the place of each value in the prediction of those before it, if they are normal."""
    both = np.concatenate([reference, values])
    count = np.arange(1, len(both) + 1)
    mean = np.cumsum(both) / count
    spread = np.sqrt(
        np.maximum(np.cumsum(both**2) / count - mean**2, 0) * count / np.maximum(count - 1, 1)
    )
    n = np.arange(len(reference), len(both))
    place = 1 - stdtr(n - 1, (values - mean[n - 1]) / (spread[n - 1] * np.sqrt(1 + 1 / n)))
    place = np.clip(place, 1e-9, 1 - 1e-9)
    return _told(place - 1e-10, place + 1e-10, p)


def _told(lower: Values, upper: Values, p: float) -> int | None:
    places = np.arange(1, len(lower) + 1)
    stakes = []
    for shift in (*SHIFTS, *(-each for each in SHIFTS)):
        bets = (ndtr(ndtri(upper) + shift) - ndtr(ndtri(lower) + shift)) / (upper - lower)
        won = np.cumsum(np.log(0.05 + 0.95 * bets))
        starts = -np.log(places * (places + 1.0)) - np.concatenate([[0.0], won[:-1]])
        stakes.append(np.logaddexp.accumulate(starts) + won - np.log(2 * len(SHIFTS)))
    found = np.flatnonzero(np.logaddexp.reduce(stakes) >= -np.log(p))
    return int(found[0]) if len(found) else None


def false_reports(
    test: Test, n: int, *, p: float, streams: int, defective: float = 0.0, skewed: bool = False
) -> str:
    """Return in how many streams that do not change a change is told, of how many."""
    rng, told = np.random.default_rng(n), 0
    for _ in range(streams):
        drawn = rng.normal(size=n + LENGTH)
        drawn[n:] += 10 * (rng.random(LENGTH) < defective)
        if skewed:
            drawn = np.exp(drawn)
        told += test(drawn[n:], drawn[:n], p) is not None
    return f"{told}"


def delay(n: int, before: int, *, streams: int, shift: float = 0, spread: float = 0) -> str:
    """Return the median and the 90 % quantile of the pictures until a change is told.

    Args:
        n: Pictures of the calibration.
        before: Pictures of the stream before the change.
        streams: How many are drawn.
        shift: In standard deviations.
        spread: Standard deviation as a share of the mean, of a quantity that grows by 1 % a step.
    """
    rng, delays = np.random.default_rng(n), []
    for _ in range(streams):
        drawn = rng.normal(size=n + before + LATEST)
        if spread:
            drawn = 1 + spread * drawn
            drawn[n + before :] *= 1.01 ** np.arange(1, LATEST + 1)
        drawn[n + before :] += shift
        told = ranks(drawn[n:], drawn[:n], FALSE_REPORT / QUANTITIES)
        delays.append(np.inf if told is None else told - before + 1)
    ends = np.quantile(delays, [0.5, 0.9], method="higher")
    return " / ".join("-" if np.isinf(each) else f"{each:.0f}" for each in ends)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--delays", type=int, default=200)
    args = parser.parse_args()
    used = FALSE_REPORT / QUANTITIES
    for n in (5, 10, 20, 60):
        counts = [
            false_reports(ranks, n, p=FALSE_REPORT, streams=args.streams),
            false_reports(ranks, n, p=used, streams=args.streams),
            false_reports(ranks, n, p=used, streams=args.streams, defective=0.05),
            false_reports(ranks, n, p=used, streams=args.streams, defective=0.1),
            false_reports(in_calibration, n, p=used, streams=args.streams),
            false_reports(normal, n, p=used, streams=args.streams),
            false_reports(normal, n, p=used, streams=args.streams, skewed=True),
        ]
        print(f"| {n} | {' | '.join(counts)} |", flush=True)
    for n in (5, 10, 20, 60):
        for before in (0, 100):
            shifts = [delay(n, before, streams=args.delays, shift=each) for each in (1, 2, 4)]
            gains = [
                delay(n, before, streams=args.delays, spread=each) for each in (0.01, 0.02, 0.03)
            ]
            print(f"| {n} | {before} | {' | '.join([*shifts, *gains])} |", flush=True)


if __name__ == "__main__":
    main()
