"""Measures seconds and memory for a large image, in pieces and as a whole.

    python -m benchmarks.large_images [--sides 1024,2048,4096] [--width 16] [--threads 2]

An untrained FCBiGAN with the segmenter, all three losses, one view; each run in its own process.
Memory is the peak without torch and the networks. The last column is the largest difference of a
loss.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from typing import Any

import torch
from torch import Tensor

from zoo.evaluation.benchmark_fit import peak_megabytes
from zoo.methods.fcbigan import scorer
from zoo.methods.fcbigan.config import NetworkConfig
from zoo.methods.fcbigan.scorer import fcbigan_losses
from zoo.methods.fcbigan.training import new_networks


def score(side: int, whole: bool, width: int, threads: int) -> tuple[float, float, Tensor]:
    """Return seconds, megabytes and every 97th loss of a random image."""
    torch.set_num_threads(threads)
    config = NetworkConfig(
        patch=64, depth=3, discriminator_depth=3, width=width, latent_channels=8, segmenter=True
    )
    networks = new_networks(config, channels=1, seed=0).eval()
    networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if whole:
        scorer.TILE = side + 1
    small = torch.rand(1, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    fcbigan_losses(networks, small, output_stride=4)
    x = torch.rand(1, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1
    before, began = peak_megabytes(), time.perf_counter()
    losses = fcbigan_losses(networks, x, output_stride=4)
    return time.perf_counter() - began, peak_megabytes() - before, losses.flatten()[::97].clone()


def main() -> None:
    """Compare both at each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", default="1024,2048,4096,8192")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    print(f"{'side':>6}{'pieces s':>10}{'whole s':>10}{'ratio':>8}"
          f"{'pieces MB':>11}{'whole MB':>10}{'ratio':>8}{'differ by':>12}")  # fmt: skip
    context = multiprocessing.get_context("spawn")
    for side in map(int, args.sides.split(",")):
        found: list[Any] = []
        for whole in (False, True):
            with context.Pool(1) as pool:
                found.append(pool.apply(score, (side, whole, args.width, args.threads)))
        (seconds, memory, losses), (whole_s, whole_mb, others) = found
        print(f"{side:>6}{seconds:>10.2f}{whole_s:>10.2f}{seconds / whole_s:>8.2f}"
              f"{memory:>11.0f}{whole_mb:>10.0f}{memory / max(whole_mb, 1):>8.2f}"
              f"{float((losses - others).abs().max()):>12.1e}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
