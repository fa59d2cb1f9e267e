"""New limits for a detector, from a few good pictures of a new line, camera or batch.

Nothing is trained. The intensities are normalised by the new pictures, which undoes other light,
and tails and thresholds are set on them; defects are painted on them for the threshold of pixels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from registry.bundle import Bundle
from zoo.data.splits import Splits
from zoo.data.textures import Texture
from zoo.detectors import Detector, fusion_of
from zoo.errors import DataError
from zoo.scoring.maps import image_score
from zoo.training.data import TrainingData, data_of
from zoo.training.fusing import made, part_of

FEWEST = 5  # good pictures
SUSPECT = 6.0  # deviations, by the median: a picture beyond it does not look good


def recalibrated(
    bundle: Bundle, texture: Texture, *, false_alarm_rate: float | None = None, seed: int = 0
) -> Bundle:
    """Return the detector with new limits.

    Args:
        bundle: The detector.
        texture: The new good pictures.
        false_alarm_rate: Of the threshold of a picture; None keeps that of the detector.
        seed: Of the painted defects.

    Raises:
        DataError: There are fewer than five pictures, or some do not look good.
        BadImageError: A picture is too small for the detector.
    """
    if len(texture.pictures) < FEWEST:
        raise DataError(
            f"A recalibration takes {FEWEST} good pictures or more; {texture.root} has "
            f"{len(texture.pictures)}. Add some."
        )
    data = _data(texture, seed)
    rate = false_alarm_rate or float(bundle.threshold["false_alarm_rate"])
    parts = [
        part_of(_normalised(each, data), data, false_alarm_rate=rate)
        for each in bundle.parts or (bundle,)
    ]
    if bundle.parts:
        fusion = replace(fusion_of(bundle), tails=tuple(part.tail for part in parts))
        found = made(parts, fusion, data, false_alarm_rate=rate)
    else:
        found = parts[0].bundle
    _refuse_suspects(Detector(found), texture)
    kept = {name: value for name, value in bundle.metrics.items() if not name.startswith("test_")}
    return replace(
        found,
        metrics=kept,
        data=bundle.data | {"recalibrated_on": [picture.key for picture in texture.pictures]},
        made_by=bundle.made_by,
    )


def _data(texture: Texture, seed: int) -> TrainingData:
    """Return the new pictures with windows painted on them; nothing is fitted, so none is apart."""
    splits = Splits(
        fit=texture.pictures,
        val=texture.pictures,
        calibration=(),
        seed=seed,
        note=f"{len(texture.pictures)} pictures to recalibrate",
        independent=len(texture.pictures),
    )
    return data_of(texture, splits, validation_seed=seed)


def _normalised(bundle: Bundle, data: TrainingData) -> Bundle:
    low, high = data.intensities
    return replace(bundle, preprocessing=bundle.preprocessing | {"low": low, "high": high})


def _refuse_suspects(detector: Detector, texture: Texture) -> None:
    """Refuse pictures whose scores are far above those of the others."""
    scores = np.array(
        [
            float(
                image_score(
                    torch.from_numpy(detector.score_map(picture.pixels)), detector.top_fraction
                )
            )
            for picture in texture.pictures
        ]
    )
    middle = np.median(scores)
    spread = max(1.4826 * float(np.median(np.abs(scores - middle))), 0.02 * abs(float(middle)))
    suspects = [
        f"{picture.name} ({(score - middle) / spread:.0f} deviations)"
        for picture, score in zip(texture.pictures, scores, strict=True)
        if score > middle + SUSPECT * spread
    ]
    if suspects:
        raise DataError(
            f"{len(suspects)} of {len(scores)} pictures in {texture.root} do not look good: "
            f"{', '.join(suspects)}. Look at them; remove those with defects, then run again."
        )
