"""Measures the parts of the training loop, and each choice in it against its alternative.

    python benchmarks/training_loop.py [--patch 64] [--batch 16] [--width 16] [--threads 1]
        [--rounds 8] [--workers 1] [--megapixels 40] [--whole] [--compile]

Prints whole trainings as `fit` does them, painting inline and in `--workers` processes: megapixels
and patches a second, and the share of the time in which the training waits for painted patches. The
seconds until the first pool is painted are apart. Then, without `--whole`, milliseconds for one
adversarial round, one round of the segmenter, and the patches for them, each with an alternative
and the ratio. The images are photographs of bricks. The networks are untrained, which has no effect
on the time. On a GPU the loop runs in bfloat16 (`--device cuda`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from unittest.mock import patch

import numpy as np
import skimage.data
import torch
from torch import Tensor

from zoo.data.defects.fit_pictures import FitPictures
from zoo.data.patches import Patches, augment
from zoo.methods.fcbigan import painters, training
from zoo.methods.fcbigan.config import NetworkConfig, TrainConfig
from zoo.methods.fcbigan.defect_patches import DEFECT_POOL, USES, DefectPatches
from zoo.methods.fcbigan.painters import CUTS_PER_PAINTING
from zoo.methods.fcbigan.training import Players, batches, fit, new_networks, play, spot


def milliseconds(work: Callable[[], object], device: torch.device, repeats: int = 60) -> float:
    """Return the median of many runs, after a few warm-up runs."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    times = []
    for turn in range(5 + repeats):
        wait()
        began = time.perf_counter()
        work()
        wait()
        if turn >= 5:
            times.append(time.perf_counter() - began)
    return 1000 * float(np.median(times))


def photographs(device: torch.device) -> list[Tensor]:
    """Return four quarters of a photograph, in [-1, 1]."""
    whole = torch.from_numpy(skimage.data.brick()).float().to(device) / 127.5 - 1
    return [half[None] for row in whole.chunk(2) for half in row.chunk(2, dim=1)]


def one_by_one(images: Sequence[Tensor], patches: Patches, count: int) -> Tensor:
    """Cut the patches in a Python loop, the alternative to one gather."""
    side = patches.patch
    cuts = [
        images[image][:, top : top + side, left : left + side]
        for image, top, left in patches._corners(count).tolist()
    ]
    return augment(torch.stack(cuts), generator=patches.generator, rotations=True)


def whole(
    images: Sequence[Tensor],
    shape: NetworkConfig,
    config: TrainConfig,
    device: torch.device,
    workers: int,
) -> tuple[float, float, float]:
    """Train, and return the seconds to the first pool, those after it, and those of waiting."""
    waits: list[tuple[float, float]] = []
    ends: list[float] = []

    class Timed(DefectPatches):
        def _paint(self) -> None:
            began = time.perf_counter()
            super()._paint()
            waits.append((began, time.perf_counter()))

    began = time.perf_counter()
    with (
        patch.object(training, "DefectPatches", Timed),
        patch.object(training, "workers_for", lambda *_: workers),
    ):
        fit(
            images,
            new_networks(shape, channels=1, seed=0),
            config,
            generator=torch.Generator(device).manual_seed(0),
            report=lambda progress: ends.append(time.perf_counter()),
        )
    first = waits[0][1]
    return first - began, ends[0] - first, sum(end - start for start, end in waits[1:])


def trainings(
    images: Sequence[Tensor], shape: NetworkConfig, args: argparse.Namespace, device: torch.device
) -> None:
    """Print whole trainings, painting inline and in other processes."""
    config = TrainConfig(
        megapixels=args.megapixels, batch=args.batch, defect_rounds=args.rounds, variation=1.0,
        placebo_share=0.5, ema=0.99, defect_ema=0.99, fixed_patches=0, reports=1,
    )  # fmt: skip
    print(f"{'a whole training':<44}{'MP/s':>9}{'patches/s':>11}{'waits':>8}{'first pool, s':>15}")
    for workers in dict.fromkeys((0, args.workers)):
        start, seconds, waited = whole(images, shape, config, device, workers)
        name = f"painting ahead in {workers}" if workers else "painting inline"
        rate = args.megapixels / seconds
        each = f"{rate:>9.2f}{1e6 * rate / args.patch**2:>11.0f}{waited / seconds:>8.1%}"
        print(f"{name:<44}{each}{start:>15.1f}")
    print()


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (
        ("patch", 64), ("batch", 16), ("width", 16), ("threads", 1), ("rounds", 8), ("workers", 1),
        ("megapixels", 40),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--whole", action="store_true", help="print whole trainings only")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="with torch.compile; needs C++")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    args = arguments()
    torch.set_num_threads(args.threads)
    device, count, half = torch.device(args.device), args.batch, args.batch // 2
    generator = torch.Generator(device).manual_seed(0)
    images = photographs(device)
    shape = NetworkConfig(
        patch=args.patch, depth=3, discriminator_depth=3, width=args.width, latent_channels=8,
        segmenter=True,
    )  # fmt: skip
    patches = Patches(images, patch=args.patch, generator=generator, rotations=True)
    pictures = FitPictures.of(images)
    fakes = DefectPatches(pictures, patch=args.patch, generator=generator)
    trainings(images, shape, args, device)
    if args.whole:
        return
    print(f"{'what':<44}{'ms':>9}{'times the first':>17}")

    def table(rows: Sequence[tuple[str, float]]) -> None:
        for name, took in rows:
            print(f"{name:<44}{took:>9.2f}{took / rows[0][1]:>17.2f}")
        print()

    def rounds(
        layout: torch.memory_format, *, half_precision: bool = False, compiled: bool = False
    ) -> tuple[float, float]:
        networks = new_networks(shape, channels=1, seed=0)
        for part in networks.children() if compiled else ():
            part.compile()
        players = Players(networks.to(device=device, memory_format=layout), TrainConfig())  # type: ignore[call-overload]
        x = patches.draw(count).contiguous(memory_format=layout)
        latent = (count, shape.latent_channels, *[args.patch // networks.cell] * 2)
        z = torch.randn(latent, generator=generator, device=device)
        both, masks = next(batches(patches, fakes, TrainConfig(batch=count, defect_rounds=1)))
        with torch.autocast(
            device.type, torch.bfloat16, enabled=half_precision, cache_enabled=False
        ):
            game = milliseconds(lambda: play(players, x, z), device)
            defects = milliseconds(lambda: spot(players, both, masks), device)
        return game, defects

    fakes.begin(0)
    forms = {
        "channels last, float32": rounds(torch.channels_last),
        "channels first": rounds(torch.contiguous_format),
        "bfloat16": rounds(torch.channels_last, half_precision=True),
    }
    if args.compile:
        forms |= {
            "torch.compile": rounds(torch.channels_last, compiled=True),
            "torch.compile, bfloat16": rounds(
                torch.channels_last, half_precision=True, compiled=True
            ),
        }
    for place, name in enumerate(("a round of the game", "a round of the segmenter")):
        table([(f"{name}: {form}", took[place]) for form, took in forms.items()])

    table(
        [
            (
                f"{count} good patches: one gather",
                milliseconds(lambda: patches.draw(count), device),
            ),
            (
                f"{count} good: cut one by one",
                milliseconds(lambda: one_by_one(images, patches, count), device),
            ),
        ]
    )

    uses, cuts = USES, CUTS_PER_PAINTING
    pooled = milliseconds(lambda: fakes.begin(0), device, repeats=3) / (uses * DEFECT_POOL) * half
    painters.CUTS_PER_PAINTING = 1
    alone = milliseconds(lambda: fakes.begin(0), device, repeats=3) / DEFECT_POOL * half
    table(
        [
            (f"{half} defective: {cuts} a painting, each used {uses}x", pooled),
            (f"{half} defective: each painted for itself", alone),
        ]
    )


if __name__ == "__main__":
    main()
