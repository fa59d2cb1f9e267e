"""Measures the cost of one output for each pixel: dense, partly dense, strided, single windows.

    python benchmarks/dense_discriminator.py [--side 512] [--depth 3] [--width 16] [--threads 1]

Prints seconds per megapixel for each output stride, its ratio to the strided form, and the mean
difference of its map from the dense one after the 48-pixel mean filter of the thesis, in standard
deviations of the dense map. The network is untrained, the image is a photograph of bricks. Single
windows are timed on two rows only, because all rows would take minutes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import skimage.data
import torch
from torch import Tensor

from zoo.methods.fcbigan.networks import Windows
from zoo.scoring.maps import smooth


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Return the shortest time of a few runs, after a warm-up run."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def one_by_one(windows: Windows, x: Tensor, rows: int) -> Tensor:
    """Return the outputs of single windows in the first rows, one row at a time."""
    side = windows.side
    cuts = [x[:, :, top : top + side].unfold(3, side, 1) for top in range(rows)]
    return torch.stack([windows(cut[0].permute(2, 0, 1, 3)).flatten() for cut in cuts])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("side", 512), ("depth", 3), ("width", 16), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    windows = Windows(channels=1, width=args.width, depth=args.depth, norm="none").eval()
    photograph = torch.from_numpy(skimage.data.brick()[: args.side, : args.side])
    x = photograph[None, None].float() / 127.5 - 1
    megapixels = args.side**2 / 1e6
    with torch.no_grad():
        dense = smooth(windows.everywhere(x), 48)
        spread = float(dense.std())
        strided = 2**args.depth
        base = seconds(lambda: windows.everywhere(x, output_stride=strided)) / megapixels
        print(f"{'form':<28}{'s a megapixel':>14}{'times strided':>15}{'error / spread':>16}")
        for level in range(args.depth, -1, -1):
            stride = 2**level
            took = seconds(partial(windows.everywhere, x, output_stride=stride)) / megapixels
            error = smooth(windows.everywhere(x, output_stride=stride), 48) - dense
            off = float(error.abs().mean()) / spread
            name = "dense" if stride == 1 else f"output stride {stride}"
            print(f"{name:<28}{took:>14.3f}{took / base:>15.1f}{off:>16.4f}")
        rows = 2
        count = rows * (args.side - windows.side + 1)
        took = seconds(lambda: one_by_one(windows, x, rows), repeats=1) / (count / 1e6)
        print(f"{'window by window':<28}{took:>14.3f}{took / base:>15.1f}{0:>16.4f}")


if __name__ == "__main__":
    main()
