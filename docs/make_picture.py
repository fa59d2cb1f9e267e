"""Make the README's picture from what `make demo` left: `python docs/make_picture.py`.

Run where `make demo` ran: it needs the demo's pictures and the detector on the shelf.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import zoo
from zoo.data.images import read_image
from zoo.report import overlays

SHOWN = ("crack/001", "smear/002", "stain/004", "good/003")


def main() -> None:
    """Lay four test pictures and their maps out, two by two."""
    root, detector = Path("demo-data/brick"), zoo.load("brick")
    pairs = []
    for name in SHOWN:
        pixels = read_image(root / "test" / f"{name}.png")
        mask = root / "ground_truth" / f"{name}_mask.png"
        truth = read_image(mask)[:, :, 0] > 0 if mask.exists() else None
        pairs.append(overlays.picture_and_map(pixels, detector.score(pixels), truth))
    rows = [np.concatenate(pairs[k : k + 2], axis=1) for k in (0, 2)]
    overlays.save(overlays.stacked(rows), Path("docs/maps.png"))


if __name__ == "__main__":
    main()
