"""The thesis as printed, on NanoTWICE: pixel AUROC over patches seen.

    python benchmarks/thesis.py train --data DIR --out thesis-run [--threads 1]
    python benchmarks/thesis.py curve --data DIR --out thesis-run [--every 5]

`train` takes hours on a CPU, keeps the networks after every pass over the 12,000 patches, and goes
on where it was stopped. `curve` scores the test images with each of the networks that were kept
and prints a table; it may run while `train` does. Nothing is chosen by it: preset and rule are
those of the thesis, and the last row is the result.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo import metrics, recipe, scoring, textures, training
from zoo.patches import prepare

PASSES = 50
CPU = torch.device("cpu")


def settings(output_stride: int = 1) -> recipe.Settings:
    """Return the preset, reporting after each pass over its patches."""
    preset = recipe.thesis()
    return replace(preset, train=replace(preset.train, reports=PASSES), output_stride=output_stride)


def train(args: argparse.Namespace) -> None:
    """Train, keeping the networks of each pass and the state of the last."""
    wanted, materials = settings(), recipe.gather(textures.find(args.data, "nanofibres"))
    bench = recipe.Bench(materials, wanted.scale, CPU)
    networks = training.new_networks(wanted.networks, channels=1, seed=args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    kept = args.out / "state.pt"
    state: dict[str, Any] | None = torch.load(kept, weights_only=True) if kept.exists() else None
    began = time.monotonic()

    def keep(progress: training.Progress) -> None:
        torch.save(progress.networks.state_dict(), args.out / f"{progress.report:03}.pt")
        part = kept.with_suffix(".part")
        torch.save(dict(progress.state), part)
        part.replace(kept)
        losses = ", ".join(f"{name} {value:.3f}" for name, value in progress.losses.items())
        print(f"pass {progress.report}, {time.monotonic() - began:.0f} s: {losses}", flush=True)

    training.fit(
        bench.fit,
        networks,
        wanted.train,
        generator=torch.Generator().manual_seed(args.seed),
        report=keep,
        state=state,
    )


def curve(args: argparse.Namespace) -> None:
    """Print pixel AUROC and AP on the test images for the networks that were kept."""
    texture = textures.find(args.data, "nanofibres")
    wanted, materials = settings(args.output_stride), recipe.gather(texture)
    bench = recipe.Bench(materials, wanted.scale, CPU)
    alone = [
        replace(scoring.THESIS_RULE, aggregation="linear", weights=shares)
        for shares in ((1.0, 0.0), (0.0, 1.0))
    ]
    print("| patches seen | pixel AUROC: max(L_D, L_R) | L_R | L_D | pixel AP: max | L_R | L_D |")
    print("|---|---|---|---|---|---|---|")
    for path in sorted(args.out.glob("[0-9]*.pt"))[args.every - 1 :: args.every]:
        networks = training.new_networks(wanted.networks, channels=1, seed=0).eval()
        networks.load_state_dict(torch.load(path, weights_only=True))
        losses = partial(scoring.fcbigan_losses, networks, output_stride=wanted.output_stride)
        statistics = [losses(x) for x in bench.good]
        found, masks = [], []
        for picture in textures.read_test(texture):
            found.append(losses(prepare(picture.pixels, bench.preprocessing)))
            masks.append(picture.mask.ravel())
        labels = np.concatenate(masks)
        cells: dict[str, list[str]] = {"auroc": [], "ap": []}
        for rule in (scoring.THESIS_RULE, *alone):
            calibration = scoring.calibrate(rule, statistics)
            maps = [scoring.anomaly_map(each, calibration).numpy().ravel() for each in found]
            scores = np.concatenate(maps)
            cells["auroc"].append(f"{metrics.auroc(scores, labels):.3f}")
            cells["ap"].append(f"{metrics.average_precision(scores, labels):.3f}")
        seen = int(path.stem) * wanted.train.fixed_patches
        print(f"| {seen:,} | {' | '.join(cells['auroc'] + cells['ap'])} |", flush=True)


def main() -> None:
    """Train, or measure."""
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
