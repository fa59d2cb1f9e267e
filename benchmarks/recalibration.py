"""What recalibration gives back after the light of a line has changed.

    python -m benchmarks.recalibration leather=DIR:BUNDLE wood=DIR:BUNDLE [--good 10]

BUNDLE is the folder of a detector. Its test pictures are darkened or brightened by 30 % and shaded
by 20 % from left to right. The detector is measured on them as it is, and after a recalibration on
`--good` of the good pictures that it was not trained on, under the same change. The named
alternative is the detector on the unchanged pictures: the ratios are to its F1.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from registry import bundle
from registry.bundle import Bundle
from zoo.data import textures
from zoo.data.splits import same_source
from zoo.data.testset import read_test
from zoo.detectors import Detector
from zoo.files import write_csv
from zoo.scoring import metrics
from zoo.training import recalibrated

SHADING = 0.2
MOST = 60  # test pictures

Change = Callable[[np.ndarray], np.ndarray]


def changed(gain: float, *, shading: float = SHADING) -> Change:
    """Return the change of light, on the pixels of a file."""

    def act(pixels: np.ndarray) -> np.ndarray:
        top = np.iinfo(pixels.dtype).max
        slope = np.linspace(1 - shading / 2, 1 + shading / 2, pixels.shape[1])[:, None]
        return np.asarray(np.rint((pixels * slope * gain).clip(0, top)), pixels.dtype)

    return act


def found_at(place: str) -> tuple[textures.Texture, Bundle]:
    """Return the texture and the detector of NAME=DIR:BUNDLE."""
    name, _, rest = place.partition("=")
    folder, _, saved = rest.partition(":")
    return textures.find(Path(folder), name), bundle.load(Path(saved))


def measured(detector: Detector, texture: textures.Texture, act: Change) -> dict[str, float]:
    """Return found, false alarms, and F1 of the mask beside the best one, on changed pictures."""
    pictures = list(read_test(texture))
    values, labels, outlined, calls = [], [], [], []
    for picture in pictures[:: -(-len(pictures) // MOST)]:
        score = detector.score(act(picture.pixels))
        calls.append((picture.defective, score.is_anomalous, bool(score.warnings)))
        if picture.mask is not None:
            values.append(score.map.ravel())
            labels.append(picture.mask.ravel())
            outlined.append(score.mask.ravel())
    scores, truth = np.concatenate(values), np.concatenate(labels)
    bad = [alarm for defective, alarm, _ in calls if defective]
    good = [alarm for defective, alarm, _ in calls if not defective]
    own, best = metrics.f1(np.concatenate(outlined), truth), metrics.best_f1(scores, truth)
    return {
        "found": float(np.mean(bad)),
        "false_alarms": float(np.mean(good)) if good else float("nan"),
        "warned": float(np.mean([warned for _, _, warned in calls])),
        "f1": own,
        "f1_ratio": own / best,
    }


def main() -> None:
    """Measure, print and write a row for each detector and change."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("detectors", nargs="+", metavar="NAME=DIR:BUNDLE")
    parser.add_argument("--good", type=int, default=10, metavar="N")
    parser.add_argument("--out", type=Path, default=Path("recalibration.csv"))
    args = parser.parse_args()
    rows: list[dict[str, str | float]] = []
    for place in args.detectors:
        texture, made = found_at(place)
        unseen = [
            each
            for each in texture.pictures
            if not any(same_source(each.key, key) for key in made.data["fit"])
        ]
        # Spread over the names: neighbours are often of one piece, as no user would choose them.
        spread = np.linspace(0, len(unseen) - 1, min(args.good, len(unseen))).round()
        chosen = [unseen[int(at)] for at in spread]
        before = measured(Detector(made), texture, lambda pixels: pixels)
        rows.append(
            {"texture": texture.name, "gain": 1.0, "detector": "as it is", **before, "ratio": 1.0}
        )
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()})
        for gain in (0.7, 1.3):
            act = changed(gain)
            line = tuple(replace(each, pixels=act(each.pixels)) for each in chosen)
            new = recalibrated(made, replace(texture, pictures=line, found=len(line)), say=print)
            for what, one in (("as it is", made), ("recalibrated", new)):
                found = measured(Detector(one), texture, act)
                ratio = {"ratio": found["f1"] / before["f1"]}
                rows.append(
                    {"texture": texture.name, "gain": gain, "detector": what, **found, **ratio}
                )
                print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()})
                write_csv(rows, args.out)


if __name__ == "__main__":
    main()
