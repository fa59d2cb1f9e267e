"""Detectors that are ready to use: `Detector`, `Score`, the card, fusion, the export to ONNX."""

from __future__ import annotations

from zoo.detectors.card import fuse, fusion_of, tensors_of
from zoo.detectors.detector import Detector, Source
from zoo.detectors.devices import available
from zoo.detectors.good_scores import GoodScores, good_scores
from zoo.detectors.many import score_files
from zoo.detectors.score import Score, calibrated

__all__ = [
    "Detector",
    "GoodScores",
    "Score",
    "Source",
    "available",
    "calibrated",
    "card",
    "card_words",
    "export",
    "fuse",
    "fusion_of",
    "good_scores",
    "score_files",
    "tensors_of",
]
