"""What each part of a sum adds, and each loss of a part: the objective with and without it.

Nothing is chosen by these figures. They are stored with the parts of a bundle, for its report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from registry.bundle import Bundle
from zoo.detectors import card, tensors_of
from zoo.scoring import objective
from zoo.scoring.aggregation import Calibration, anomaly_map
from zoo.scoring.fusion import Fusion
from zoo.scoring.maps import enlarge
from zoo.training.data import PreparedData, TrainingData
from zoo.training.fit import METRIC, window_counts
from zoo.training.fusing import Part, Sum

ADDS = f"{METRIC}_adds"  # of a part: the objective of the sum, minus that of the sum without it
LOSS = f"{METRIC}_loss_"  # of a part: the objective of a loss alone; its name follows
LOSS_ADDS = f"{METRIC}_adds_loss_"  # of a part: its objective, minus that without a loss


def with_ablation(
    made: Bundle, parts: Sequence[Part], fusion: Fusion, data: TrainingData
) -> Bundle:
    """Return a sum whose parts say what they add to the objective, and what their losses do.

    A part has `val_pixel_ap_adds` if it is in the sum of the map with others. If it was trained
    too and has several losses, it has `val_pixel_ap_loss_<name>` for each of them alone, and
    `val_pixel_ap_adds_loss_<name>` for each that its map depends on beside others.

    Args:
        made: What `fusing.made` made of these parts.
        parts: All parts that there were.
        fusion: The sum that was chosen.
        data: The texture.
    """
    used = [at for at, each in enumerate(fusion.used) if each]
    whole = Sum(parts=parts, weights=fusion.map_weights, data=data)
    found = []
    for at, bundle in zip(used, made.parts, strict=True):
        figures: dict[str, float] = {}
        weights = np.array(fusion.map_weights)
        if weights[at] and np.count_nonzero(weights) > 1:
            weights[at] = 0
            rest = Sum(parts=parts, weights=tuple(map(float, weights)), data=data)
            figures[ADDS] = whole.objective - rest.objective
        if fusion.map_weights[at] and parts[at].trained:  # scoring every window takes seconds
            figures |= _by_loss(bundle, data)
        found.append(replace(bundle, metrics=bundle.metrics | figures))
    return replace(made, parts=tuple(found))


def _by_loss(bundle: Bundle, data: TrainingData) -> dict[str, float]:
    """Return the objective of each loss of a detector alone, and what it adds to the others."""
    pipeline, device = card.read(bundle).pipelines[0], torch.device("cpu")
    names, calibration = pipeline.method.loss_names, pipeline.calibration
    if len(names) < 2:
        return {}
    losses = pipeline.method.scorer(tensors_of(bundle, device))
    prepared = PreparedData(data, bundle.preprocessing["scale"], device)
    windows = [losses(each[None])[0] for each in prepared.windows]

    def reached(kept: Sequence[int], calibration: Calibration) -> float:
        maps = [
            enlarge(anomaly_map(each[kept], calibration), *mask.shape).numpy()
            for each, mask in zip(windows, prepared.masks, strict=True)
        ]
        counts = window_counts(maps, data)
        return objective.of_map(objective.stratum_average_precision(counts, data.strata))

    found = {}
    whole = reached(list(range(len(names))), calibration)
    used = [at for at, each in enumerate(calibration.rule.uses(len(names))) if each]
    for at, name in enumerate(names):
        alone = replace(calibration.rule, aggregation="linear", weights=(1.0,) * len(names))
        found[LOSS + name] = reached([at], _only(replace(calibration, rule=alone), [at]))
        rest = [other for other in used if other != at]
        if at in used and rest:
            found[LOSS_ADDS + name] = whole - reached(rest, _only(calibration, rest))
    return found


def _only(calibration: Calibration, kept: Sequence[int]) -> Calibration:
    """Return the calibration of these losses among all."""
    rule = calibration.rule
    weights = tuple(rule.weights[at] for at in kept) if rule.weights else ()
    return Calibration(
        rule=replace(rule, weights=weights),
        mean=tuple(calibration.mean[at] for at in kept),
        covariance=tuple(tuple(calibration.covariance[a][b] for b in kept) for a in kept),
    )
