"""Reproduces the thesis on NanoTWICE: pixel AUROC against the number of patches.

    python benchmarks/thesis.py train --data DIR --out thesis-run [--threads 1]
    python benchmarks/thesis.py curve --data DIR --out thesis-run [--every 5]

`train` takes hours on a CPU. It saves the networks after every pass over the 12,000 patches, and
continues after an interruption. `curve` scores the test images with the saved networks and prints
a table; it may run during `train`. The table is not used to choose anything: preset and rule are
those of the thesis, and the last row is the result.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo import methods
from zoo.data import textures
from zoo.data.preprocessing import prepare
from zoo.data.testset import read_test
from zoo.methods import Progress
from zoo.scoring import metrics
from zoo.scoring.aggregation import THESIS_RULE, anomaly_map, calibrate
from zoo.training import Settings, gather, preset, with_values
from zoo.training.data import PreparedData

PASSES = 50
CPU = torch.device("cpu")


def settings(output_stride: int = 1) -> Settings:
    """Return the preset, with a report after each pass over its patches."""
    return with_values(preset("thesis"), {"reports": PASSES, "output_stride": output_stride})


def train(args: argparse.Namespace) -> None:
    """Train, and save the networks of each pass and the last state."""
    wanted, data = settings(), gather(textures.find(args.data, "nanofibres"))
    prepared = PreparedData(data, wanted.scale, CPU)
    args.out.mkdir(parents=True, exist_ok=True)
    saved = args.out / "state.pt"
    state: dict[str, Any] | None = torch.load(saved, weights_only=True) if saved.exists() else None
    began = time.monotonic()

    def keep(progress: Progress) -> None:
        torch.save(dict(progress.weights), args.out / f"{progress.report:03}.pt")
        part = saved.with_suffix(".part")
        torch.save(dict(progress.state), part)
        part.replace(saved)
        losses = ", ".join(f"{name} {value:.3f}" for name, value in progress.metrics.items())
        print(f"pass {progress.report}, {time.monotonic() - began:.0f} s: {losses}", flush=True)

    wanted.method.fit(
        prepared.fit,
        generator=torch.Generator().manual_seed(args.seed),
        report=keep,
        state=state,
    )


def curve(args: argparse.Namespace) -> None:
    """Print pixel AUROC and AP on the test images for the saved networks."""
    texture = textures.find(args.data, "nanofibres")
    wanted = settings(args.output_stride)
    prepared = PreparedData(gather(texture), wanted.scale, CPU)
    alone = [
        replace(THESIS_RULE, aggregation="linear", weights=shares)
        for shares in ((1.0, 0.0), (0.0, 1.0))
    ]
    print("| patches seen | pixel AUROC: max(L_D, L_R) | L_R | L_D | pixel AP: max | L_R | L_D |")
    print("|---|---|---|---|---|---|---|")
    for path in sorted(args.out.glob("[0-9]*.pt"))[args.every - 1 :: args.every]:
        losses = wanted.method.scorer(torch.load(path, weights_only=True))
        statistics = [losses(x[None])[0] for x in prepared.good]
        found, masks = [], []
        for picture in read_test(texture):
            x = prepare(picture.pixels, prepared.preprocessing)
            found.append(losses(x[None])[0])
            assert picture.mask is not None
            masks.append(picture.mask.ravel())
        labels = np.concatenate(masks)
        cells: dict[str, list[str]] = {"auroc": [], "ap": []}
        for rule in (THESIS_RULE, *alone):
            calibration = calibrate(rule, statistics)
            maps = [anomaly_map(each, calibration).numpy().ravel() for each in found]
            scores = np.concatenate(maps)
            cells["auroc"].append(f"{metrics.auroc(scores, labels):.3f}")
            cells["ap"].append(f"{metrics.average_precision(scores, labels):.3f}")
        seen = int(path.stem) * int(methods.flat(wanted.method)["fixed_patches"])
        print(f"| {seen:,} | {' | '.join(cells['auroc'] + cells['ap'])} |", flush=True)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    for run in (train, curve):
        it = commands.add_parser(run.__name__)
        it.set_defaults(run=run)
        it.add_argument("--data", type=Path, required=True)
        it.add_argument("--out", type=Path, required=True)
        it.add_argument("--threads", type=int, default=1)
        it.add_argument("--seed", type=int, default=0)
        if run is curve:
            it.add_argument("--every", type=int, default=5)
            it.add_argument("--output-stride", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.run(args)


if __name__ == "__main__":
    main()
