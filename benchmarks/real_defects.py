"""Searches on textures with real defects, measured afterwards: does what was chosen find them?

    python -m benchmarks.real_defects leather=DIR wood=DIR --seeds 1 2 3

Each search has its own home. Its detector is compared with every trial, with each method that
learns nothing and with their sum; it is scored again under other light; and its false alarms on
good windows are compared with those on placebos. One row a search goes to `real_defects.csv`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from registry import bundle
from zoo.data import textures
from zoo.data.defects.validation import GOOD, PLACEBO, validation_set
from zoo.data.testset import read_test
from zoo.data.variation import GAIN, GAMMA, SHADING
from zoo.detectors import Detector
from zoo.evaluation.audit import audit
from zoo.evaluation.search_audit import audit_search, find_search
from zoo.files import write_csv
from zoo.scoring import metrics
from zoo.training import gather

LIT = 60  # most test pictures that are scored under other light


def lights() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return the changes of light, each at the end of its range, on intensities in [0, 1]."""

    def shaded(image: np.ndarray) -> np.ndarray:
        slope = np.linspace(1 - SHADING / 2, 1 + SHADING / 2, image.shape[1], dtype=np.float32)
        return image * slope[:, None]

    return {
        "darker": lambda image: image * (1 - GAIN),
        "brighter": lambda image: image * (1 + GAIN),
        "gamma_low": lambda image: image ** GAMMA[0],
        "gamma_high": lambda image: image ** GAMMA[1],
        "shaded": shaded,
    }


def relative_ap(detector: Detector, texture: textures.Texture) -> dict[str, float]:
    """Return the test AP under each light as a share of that without."""
    change = {"none": lambda image: image} | lights()
    pictures = [picture for picture in read_test(texture) if picture.mask is not None]
    pictures = pictures[:: -(-len(pictures) // LIT)]
    found = {}
    for name, act in change.items():
        scores, labels = [], []
        for picture in pictures:
            top = np.iinfo(picture.pixels.dtype).max
            image = act(picture.pixels.astype(np.float32) / top)
            pixels = np.rint(image.clip(0, 1) * top).astype(picture.pixels.dtype)
            scores.append(detector.map(pixels).ravel())
            assert picture.mask is not None
            labels.append(picture.mask.ravel())
        found[name] = metrics.average_precision(np.concatenate(scores), np.concatenate(labels))
    whole = found.pop("none")
    return {f"ap_{name}": value / whole for name, value in found.items()}


def false_alarms(detector: Detector, texture: textures.Texture) -> dict[str, float]:
    """Return the share of good windows and of placebos above the threshold of the detector."""
    data = gather(texture)
    windows = validation_set(data.splits.calibration, seed=99, optics=data.optics, per_family=20)
    found = {}
    for family in (GOOD, PLACEBO):
        own = [window for window in windows if window.family == family and not window.varied]
        alarms = [bool(detector.score(window.image).is_anomalous) for window in own]
        found[f"false_alarms_{family}"] = float(np.mean(alarms)) if alarms else float("nan")
    return found


def whole_trials(folder: Path) -> float:
    """Return how many whole trials a search has trained, counting parts of trials."""
    config = json.loads((folder / "search.json").read_text())
    reports = [
        sum(1 for line in path.read_text().splitlines() if line)
        for path in folder.glob("*/result.json")
    ]
    whole = int(config["reports"])
    return sum(min(count, whole) for count in reports) / whole


def rows(args: argparse.Namespace) -> Iterator[dict[str, str | float]]:
    """Search and measure; one row for each texture and seed."""
    for place in args.textures:
        name, _, data = place.partition("=")
        texture = textures.find(Path(data), name)
        for seed in args.seeds:
            home = args.out / f"{name}-{seed}"
            command = [
                *(sys.executable, "-m", "zoo.cli", "search", "--category", name, "--data", data),
                *("--time-budget", args.time_budget, "--seed", str(seed), "--no-promote"),
            ]
            if not list(home.glob("searches/*/best/bundle.json")):
                subprocess.run(command, check=True, env=os.environ | {"ZOO_HOME": str(home)})
            folder = find_search(home / "searches", texture)
            detector = Detector(bundle.load(folder / "best"), device=args.device)
            found = audit_search(folder, texture, say=print, device=args.device)
            row = {"texture": name, "seed": seed} | audit(detector, texture)
            row |= {"spearman": found.spearman, "regret": found.regret, "oracle": found.oracle}
            row |= relative_ap(detector, texture) | false_alarms(detector, texture)
            row["whole_trials"] = whole_trials(folder)
            yield row


def main() -> None:
    """Search, measure, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("textures", nargs="+", metavar="NAME=DIR")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--time-budget", default="20m")
    parser.add_argument("--device", default="cpu", help="of the audit; a search finds its own")
    parser.add_argument("--out", type=Path, default=Path("real_defects"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    done = []
    for row in rows(args):
        done.append(row)
        write_csv(done, args.out / "real_defects.csv")
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})


if __name__ == "__main__":
    main()
