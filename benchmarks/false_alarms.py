"""Compares the expected false-alarm rate with the rate on good pictures that were held out.

    python -m benchmarks.false_alarms --data DIR --category grid [--splits 10]
        [--like NAME] [--megapixels 10]

For each split a third of the good training pictures is held out, a detector is made from the others
and finished as in `zoo search`, and the held-out pictures are scored. `local_statistics` is always
used. With `--like` the settings of a detector on the shelf are trained again for each split, with
`--megapixels` of patches; the rate does not depend on the quality of a detector. The expected rate
is compared with a common alternative: a threshold at the mean + 3 standard deviations of the
calibration scores. Test pictures are not read.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy import stats

import zoo
from registry.bundle import Bundle
from zoo.data import textures
from zoo.detectors import Detector
from zoo.scoring.thresholds import conformal_rank
from zoo.training import (
    TrainingData,
    finish,
    gather,
    settings,
    settings_of,
    train_best,
    with_values,
)

SMALL = 0.1  # the share of p-values up to this should be at most this


@dataclass(frozen=True, kw_only=True)
class Found:
    """The results of one method on the held-out good pictures of all splits."""

    rates: list[float] = field(default_factory=list)
    alarms: list[bool] = field(default_factory=list)
    three_deviations: list[bool] = field(default_factory=list)
    small: list[bool] = field(default_factory=list)


def look(made: Bundle, held: Sequence[textures.Picture], found: Found) -> None:
    """Score the held-out pictures."""
    detector, known = Detector(made), made.threshold
    scores = [detector.score(picture.pixels) for picture in held]
    good = np.array(known["scores"]) / detector.threshold
    alarms = [each.is_anomalous for each in scores]
    found.alarms.extend(alarms)
    found.rates.append(float(np.mean(alarms)))
    limit = good.mean() + 3 * good.std(ddof=1)
    found.three_deviations.extend(each.score > limit for each in scores)
    found.small.extend(each.p_value <= SMALL for each in scores if each.p_value is not None)


def report(name: str, found: Found, *, apart: int, images: int, above: int) -> None:
    """Print the results of one method; the `above` highest ranks of calibration are alarms."""
    rate, three = np.mean(found.alarms), np.mean(found.three_deviations)
    ratio = f"{rate / three:.2f}" if three else "-"
    print(f"{name}: false alarms {rate:.3f} of {len(found.alarms)}", end="")
    print(f", at mean + 3 deviations {three:.3f}, ratio {ratio}")
    if above < 1:
        print("  too few pictures for a rank: no interval, no p-values")
        return
    law, expected = stats.betabinom(apart, above, images + 1 - above), above / (images + 1)
    low, high = (float(law.ppf(tail)) / apart for tail in (0.025, 0.975))
    inside = sum(low <= one <= high for one in found.rates)
    print(f"  {expected:.3f} are expected; between {low:.3f} and {high:.3f} (19 of 20) ", end="")
    print(f"were {inside} of {len(found.rates)} splits")
    print(f"  p at most {SMALL}: {np.mean(found.small):.3f}")


def main() -> None:
    """Measure the rates of each method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--category", required=True)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--like", help="a detector on the shelf")
    parser.add_argument("--megapixels", type=float, default=10.0, help="of training (10)")
    args = parser.parse_args()
    texture = textures.find(args.data, args.category)
    scale, ways = 1.0, dict[str, Callable[[TrainingData, int], Bundle]]()
    if args.like:
        like = zoo.load(args.like).bundle
        values = {"megapixels": args.megapixels, "reports": 1}
        wanted = with_values(settings_of(like), values)
        scale = wanted.scale
        ways[like.method] = lambda data, seed: train_best(data, wanted, seed=seed)
    simple = settings({"scale": scale}, method="local_statistics")
    ways["local_statistics"] = lambda data, seed: train_best(data, simple, seed=seed)
    found: dict[str, Found] = {name: Found() for name in ways}
    for seed in range(args.splits):
        pictures = sorted(texture.pictures, key=lambda picture: picture.key)
        random.Random(seed).shuffle(pictures)
        third = len(pictures) // 3
        data = gather(replace(texture, pictures=tuple(pictures[third:])), split_seed=seed)
        for name, make in ways.items():
            made = finish(make(data, seed), data)
            look(made, pictures[:third], found[name])
            print(f"split {seed}, {name}: {found[name].rates[-1]:.3f}", flush=True)
    images, rate = made.threshold["images"], made.threshold["false_alarm_rate"]
    above = images + 1 - conformal_rank(images, rate)
    print(f"{args.category}: {third} pictures held out, {images} of calibration, rate {rate:.3f}")
    for name, each in found.items():
        report(name, each, apart=third, images=images, above=above)


if __name__ == "__main__":
    main()
