"""Measures the parts of the training loop, and each choice in it against its alternative.

    python benchmarks/training_loop.py [--patch 64] [--batch 16] [--width 16] [--threads 1]
        [--compile]

Prints milliseconds for one adversarial round, one round of the segmenter, and the patches for
them, each with an alternative and the ratio. The images are photographs of bricks. The networks are
untrained, which has no effect on the time. On a GPU the loop runs in bfloat16 (`--device cuda`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import skimage.data
import torch
from torch import Tensor

from zoo.data.defects.fit_pictures import FitPictures
from zoo.data.patches import Patches, augment
from zoo.methods.fcbigan import defect_patches
from zoo.methods.fcbigan.config import NetworkConfig, TrainConfig
from zoo.methods.fcbigan.defect_patches import CUTS_PER_PAINTING, DEFECT_POOL, USES, DefectPatches
from zoo.methods.fcbigan.training import Players, batches, new_networks, play, spot


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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("patch", 64), ("batch", 16), ("width", 16), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="with torch.compile; needs C++")
    args = parser.parse_args()
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

    fakes.paint()
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
    pooled = milliseconds(fakes.paint, device, repeats=3) / (uses * DEFECT_POOL) * half
    defect_patches.CUTS_PER_PAINTING = 1
    alone = milliseconds(fakes.paint, device, repeats=3) / DEFECT_POOL * half
    table(
        [
            (f"{half} defective: {cuts} a painting, each used {uses}x", pooled),
            (f"{half} defective: each painted for itself", alone),
        ]
    )


if __name__ == "__main__":
    main()
