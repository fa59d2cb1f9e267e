"""Trains one detector from one configuration and the good pictures of a texture.

It does not use Ray, MLflow or test pictures.
"""

from __future__ import annotations

from zoo.training.data import TrainingData, gather, smallest_side
from zoo.training.fit import METRIC, Checkpoint, baseline, finish, train, train_best, with_baseline
from zoo.training.provenance import provenance, versions
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
    "Settings",
    "TrainingData",
    "baseline",
    "field_names",
    "finish",
    "gather",
    "preset",
    "provenance",
    "settings",
    "settings_of",
    "smallest_side",
    "train",
    "train_best",
    "versions",
    "with_baseline",
    "with_values",
]
