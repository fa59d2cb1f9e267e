"""Measures the memory of a fit: `python -m benchmarks.fit_memory NAME=DIR`.

Each stage runs in a process of its own: the pictures alone, the methods that learn nothing, and a
short training of FCBiGAN at the full scale. Prints its peak, the same less that of an empty process
with torch, and the ratio to a fit for which all pictures are prepared as float32 beforehand, as
other libraries keep them.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import torch

from zoo import methods
from zoo.data import textures
from zoo.data.defects.fit_pictures import FitPictures
from zoo.data.patches import Canvas
from zoo.evaluation.benchmark_fit import peak_megabytes
from zoo.training import Settings, TrainingData, gather, part_of, settings, train_best

TRAINED = {"megapixels": 2.0, "patch": 64, "scale": 1.0}
STAGES = ("nothing", "pictures", *(n for n in methods.names() if methods.named(n).untrained))


def peak(root: Path, name: str, stage: str, eager: bool) -> float:
    """Run a stage and return the largest memory of this process, in megabytes."""
    torch.set_num_threads(1)
    if stage != "nothing":
        data = gather(textures.find(root, name))
        if eager:
            keep_prepared()
        if stage != "pictures":
            fit(data, stage)
    return peak_megabytes()


def fit(data: TrainingData, method: str) -> None:
    """Fit a method and measure it on good pictures and windows, as a search does."""
    wanted = settings(TRAINED) if method == "fcbigan" else Settings(method=methods.named(method)())
    part_of(train_best(data, wanted, seed=0), data)


def keep_prepared() -> None:
    """Keep every prepared picture, and a canvas of them."""
    made: Callable[..., None] = FitPictures.__init__

    def prepared(self: FitPictures, *args: object, **options: object) -> None:
        made(self, *args, **options)
        self._prepared = [self[place] for place in range(len(self))]

    FitPictures.__init__ = prepared  # type: ignore[method-assign]
    FitPictures.canvas = lambda self: Canvas.of(self._prepared)  # type: ignore[method-assign]


def main() -> None:
    """Measure and print, a line a stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texture", metavar="NAME=DIR")
    parser.add_argument("--stages", nargs="+", default=[*STAGES, "fcbigan"])
    args = parser.parse_args()
    name, _, root = args.texture.partition("=")
    context = multiprocessing.get_context("spawn")
    empty = 0.0
    for stage in args.stages:
        found = []
        for eager in (False, True):
            with context.Pool(1) as pool:
                found.append(pool.apply(peak, (Path(root), name, stage, eager)))
        empty = empty or found[0]
        own, other = (each - empty for each in found)
        ratio = f"{own / other:.2f}" if other > 1 else "-"
        print(f"{stage:20} {found[0]:6.0f} MB, own {own:6.0f} MB, {ratio} of prepared", flush=True)


if __name__ == "__main__":
    main()
