"""Do pictures of 12 bits in files of 16 train and score as those of 8 bits?

    python -m benchmarks.twelve_bits leather=DIR [--megapixels 40]

The same settings are trained twice, on the pictures of 8 bits and on the same times 16 in files of
16 bits, which then use a sixteenth of their range. The ratio is that of the test AP of the second
to that of the first, each on its own test pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from zoo.data import textures
from zoo.data.testset import read_test
from zoo.detectors import Detector
from zoo.scoring import metrics
from zoo.training import finish, gather, settings, train_best

Act = Callable[[np.ndarray], np.ndarray]
SETTINGS = {  # the middle of the space `default`
    **{"patch": 64, "scale": 0.5, "depth": 3, "width": 16, "latent_channels": 8, "batch": 16},
    **{"defect_rounds": 64, "defect_learning_rate": 2e-3, "defect_ema": 0.995, "ema": 0.9},
    **{"variation": 1.0, "placebo_share": 0.5, "fixed_patches": 0, "output_stride": 4},
}


def twelve(pixels: np.ndarray) -> np.ndarray:
    """Return pixels of 8 bits as 12 bits in 16."""
    return pixels.astype(np.uint16) * 16


def test_ap(texture: textures.Texture, act: Act, megapixels: float) -> float:
    """Train on changed pictures, and return the average precision on changed test pictures."""
    pictures = tuple(replace(each, pixels=act(each.pixels)) for each in texture.pictures)
    data = gather(replace(texture, pictures=pictures))
    wanted = settings(SETTINGS | {"megapixels": megapixels, "reports": 1}, method="fcbigan")
    detector = Detector(finish(train_best(data, wanted, seed=1), data))
    pairs = [
        (detector.map(act(each.pixels)).ravel(), each.mask.ravel())
        for each in read_test(texture)
        if each.mask is not None
    ]
    return metrics.average_precision(
        np.concatenate([values for values, _ in pairs]),
        np.concatenate([labels for _, labels in pairs]),
    )


def main() -> None:
    """Print both figures and their ratio for each texture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("textures", nargs="+", metavar="NAME=DIR")
    parser.add_argument("--megapixels", type=float, default=40.0)
    args = parser.parse_args()
    for place in args.textures:
        name, _, folder = place.partition("=")
        texture = textures.find(Path(folder), name)
        eight, more = (test_ap(texture, act, args.megapixels) for act in (np.asarray, twelve))
        print(f"{name}: 8 bits {eight:.3f}, 12 in 16 bits {more:.3f}, ratio {more / eight:.3f}")


if __name__ == "__main__":
    main()
