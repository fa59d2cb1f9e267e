"""Is the false-alarm rate on the card the rate on later good pictures?

    python -m benchmarks.false_alarms grid=DIR wood=DIR [--good 5 10 20 0] [--splits 10]
        [--like NAME] [--megapixels 10]

For each split a third of the good training pictures is held out, relatives together. A detector is
made from `--good` of the others (0: all) and finished as in `zoo search`; the held-out pictures are
scored. The method is `local_statistics`, or with `--like` that of a detector on the shelf, whose
settings are trained again for each split with `--megapixels` of patches; the rate does not depend
on the quality of a detector. A split is within its interval if the number of its alarms has a
probability of 95 % for a rate in the interval on the card. The named alternative is a threshold at
the mean + 3 standard deviations of the same scores. Test pictures are not read.
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
from zoo.data import relatives, textures
from zoo.detectors import Detector
from zoo.errors import BadImageError
from zoo.files import write_csv
from zoo.scoring.thresholds import false_alarm_interval
from zoo.training import (
    TrainingData,
    finish,
    gather,
    settings,
    settings_of,
    train_best,
    with_values,
)

Make = Callable[[TrainingData, int], Bundle]


@dataclass(kw_only=True)
class Found:
    """What was found in all splits of one texture with one number of good pictures."""

    held: int = 0
    alarms: int = 0
    three_deviations: int = 0
    inside: int = 0
    independent: list[int] = field(default_factory=list)
    rules: set[str] = field(default_factory=set)


def divided(
    texture: textures.Texture, seed: int, good: int
) -> tuple[list[textures.Picture], list[textures.Picture]]:
    """Return pictures to make a detector from, and held-out ones, none of them relatives."""
    groups = relatives.groups(texture.pictures)
    random.Random(seed).shuffle(groups)
    held: list[int] = []
    while len(groups) > 1 and len(held) < len(texture.pictures) // 3:
        held += groups.pop()
    rest = [place for group in groups for place in group]
    random.Random(seed).shuffle(rest)
    return [texture.pictures[p] for p in rest[: good or None]], [texture.pictures[p] for p in held]


def look(made: Bundle, held: Sequence[textures.Picture], found: Found) -> None:
    """Score the held-out pictures."""
    detector, known = Detector(made), made.threshold
    scores = [detector.score(picture.pixels) for picture in held]
    alarms = sum(each.is_anomalous for each in scores)
    good = np.array(known["scores"]) / detector.threshold
    limit = good.mean() + 3 * good.std(ddof=1)
    low, high = false_alarm_interval(known["independent"], known["false_alarm_rate"])
    least, most = stats.binom.ppf(0.025, len(held), low), stats.binom.ppf(0.975, len(held), high)
    found.held += len(held)
    found.alarms += alarms
    found.three_deviations += sum(each.score > limit for each in scores)
    found.inside += bool(least <= alarms <= most)
    found.independent.append(known["independent"])
    found.rules.add(known["rule"])


def measured(texture: textures.Texture, make: Make, good: int, splits: int) -> Found:
    """Make and look at a detector for each split."""
    found = Found()
    for seed in range(splits):
        known, held = divided(texture, seed, good)
        data = gather(replace(texture, pictures=tuple(known)), split_seed=seed)
        look(finish(make(data, seed), data), held, found)
    return found


def ways(args: argparse.Namespace) -> Make:
    """Return how a detector is made."""
    if args.like:
        values = {"megapixels": args.megapixels, "reports": 1}
        wanted = with_values(settings_of(zoo.load(args.like).bundle), values)
    else:
        wanted = settings({}, method="local_statistics")
    return lambda data, seed: train_best(data, wanted, seed=seed)


def main() -> None:
    """Measure, print and write a row for each texture and number of good pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("textures", nargs="+", metavar="NAME=DIR")
    parser.add_argument("--good", type=int, nargs="+", default=[5, 10, 20, 0], metavar="N")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--like", help="a detector on the shelf")
    parser.add_argument("--megapixels", type=float, default=10.0, help="of training (10)")
    parser.add_argument("--out", type=Path, default=Path("false_alarms.csv"))
    args = parser.parse_args()
    rows: list[dict[str, str | float]] = []
    for place in args.textures:
        name, _, folder = place.partition("=")
        texture = textures.find(Path(folder), name)
        for good in args.good:
            if len(texture.pictures) * 2 // 3 < good:
                continue
            try:
                found = measured(texture, ways(args), good, args.splits)
            except BadImageError as error:
                print(f"{name}, {good}: {error}")
                continue
            rows.append(
                {
                    "texture": name,
                    "good": good or "all",
                    "independent": float(np.median(found.independent)),
                    "rule": "/".join(sorted(found.rules)),
                    "held_out": found.held,
                    "false_alarms": float(found.alarms / found.held),
                    "at_three_deviations": float(found.three_deviations / found.held),
                    "ratio": float(found.alarms / max(found.three_deviations, 1)),
                    "splits_inside": found.inside,
                    "splits": args.splits,
                }
            )
            write_csv(rows, args.out)
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()})


if __name__ == "__main__":
    main()
