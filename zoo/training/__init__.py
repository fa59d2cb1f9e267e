"""Trains one detector from one configuration and the good pictures of a texture.

It does not use Ray, MLflow or test pictures.
"""

from __future__ import annotations

from zoo.training.data import PreparedData, TrainingData, gather, smallest_side, studied
from zoo.training.fit import (
    METRIC,
    Checkpoint,
    finish,
    in_final_form,
    train,
    train_best,
    with_threshold,
)
from zoo.training.fusing import Part, choose, floor, made, part_of, untrained, window_maps_of
from zoo.training.provenance import provenance, versions
from zoo.training.recalibrating import at_rates, rates_of, recalibrated
from zoo.training.settings import (
    Settings,
    field_names,
    preset,
    settings,
    settings_of,
    with_values,
)

__all__ = [
    "METRIC",
    "Checkpoint",
    "Part",
    "PreparedData",
    "Settings",
    "TrainingData",
    "ablation",
    "at_rates",
    "choose",
    "field_names",
    "finish",
    "floor",
    "gather",
    "in_final_form",
    "made",
    "part_of",
    "preset",
    "provenance",
    "rates_of",
    "recalibrated",
    "settings",
    "settings_of",
    "smallest_side",
    "studied",
    "train",
    "train_best",
    "untrained",
    "versions",
    "window_maps_of",
    "with_threshold",
    "with_values",
]
