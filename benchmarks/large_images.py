"""Measures seconds and memory for a large image, in pieces and as a whole.

    python -m benchmarks.large_images [--sides 1024,2048,4096] [--methods fcbigan,local_statistics]

FCBiGAN is untrained, of width 16, with the segmenter, all three losses and one view; the others are
fitted on small pictures of noise. Each run is in its own process. Memory is the peak without torch
and the weights. The last column is the largest difference of a loss.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from typing import Any

import torch
from torch import Tensor

from zoo import methods
from zoo.evaluation.benchmark_fit import peak_megabytes
from zoo.methods import pieces
from zoo.methods.fcbigan.config import NetworkConfig
from zoo.methods.fcbigan.scorer import fcbigan_losses
from zoo.methods.fcbigan.training import new_networks
from zoo.methods.protocol import Losses


def made(name: str) -> Losses:
    """Return the loss function of a method."""
    if name == "fcbigan":
        config = NetworkConfig(
            patch=64, depth=3, discriminator_depth=3, width=16, latent_channels=8, segmenter=True
        )
        networks = new_networks(config, channels=1, seed=0).eval()
        networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return lambda x: fcbigan_losses(networks, x, output_stride=4)
    method, found = methods.named(name)(), list[Losses]()
    generator = torch.Generator().manual_seed(0)
    method.fit(
        [torch.rand(1, 128, 128, generator=generator) for _ in range(4)],
        generator=generator,
        report=lambda progress: found.append(method.scorer(progress.weights)),
    )
    return found[-1]


@torch.no_grad()
def score(name: str, side: int, whole: bool, threads: int) -> tuple[float, float, Tensor]:
    """Return seconds, megabytes and every 97th loss of a random image."""
    torch.set_num_threads(threads)
    losses_of = made(name)
    if whole:
        pieces.SIDE = side + 1
    losses_of(torch.rand(1, 1, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    x = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1
    before, began = peak_megabytes(), time.perf_counter()
    losses = losses_of(x)
    return time.perf_counter() - began, peak_megabytes() - before, losses.flatten()[::97].clone()


def main() -> None:
    """Compare both at each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", default="1024,2048,4096,8192")
    parser.add_argument("--methods", default="fcbigan")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    print(f"{'method':>20}{'side':>6}{'pieces s':>10}{'whole s':>10}{'ratio':>8}"
          f"{'pieces MB':>11}{'whole MB':>10}{'ratio':>8}{'differ by':>12}")  # fmt: skip
    context = multiprocessing.get_context("spawn")
    for name in args.methods.split(","):
        for side in map(int, args.sides.split(",")):
            found: list[Any] = []
            for whole in (False, True):
                with context.Pool(1) as pool:
                    found.append(pool.apply(score, (name, side, whole, args.threads)))
            (seconds, memory, losses), (whole_s, whole_mb, others) = found
            print(f"{name:>20}{side:>6}{seconds:>10.2f}{whole_s:>10.2f}{seconds / whole_s:>8.2f}"
                  f"{memory:>11.0f}{whole_mb:>10.0f}{memory / max(whole_mb, 1):>8.2f}"
                  f"{float((losses - others).abs().max()):>12.1e}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
