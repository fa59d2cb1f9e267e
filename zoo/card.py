"""A detector's card: what its user wants to know of it before trusting it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.bundle import Bundle
from zoo.scoring import false_alarm_interval

SPLITS = ("val", "test", "train")


def of(bundle: Bundle) -> dict[str, Any]:
    """Return the card of a bundle.

    Returns:
        `texture`, `method`, `config`, `preprocessing`, `rule`; `metrics` by split; `threshold`
        with its stated false-alarm rate and, where it was set by rank, the interval in which the
        real one lies (95 %); `data` with licence and fingerprint; `made_by`; `megabytes`; and
        `seconds_per_image` if it was audited.
    """
    figures = {
        split: {
            name.removeprefix(f"{split}_"): value
            for name, value in sorted(bundle.metrics.items())
            if name.startswith(f"{split}_")
        }
        for split in SPLITS
    }
    card = {
        "texture": bundle.texture,
        "method": bundle.method,
        "metrics": {split: each for split, each in figures.items() if each},
        "threshold": _threshold(bundle.threshold),
        "config": bundle.config,
        "preprocessing": bundle.preprocessing,
        "rule": bundle.calibration["rule"],
        "data": {name: value for name, value in bundle.data.items() if name != "fit"}
        | {"fit": f"{len(bundle.data.get('fit', ()))} pictures or regions"},
        "made_by": bundle.made_by,
        "megabytes": round(sum(tensor.nbytes for tensor in bundle.weights.values()) / 1e6, 2),
    }
    if "test_seconds_per_image" in bundle.metrics:
        card["seconds_per_image"] = bundle.metrics["test_seconds_per_image"]
    return card


def _threshold(known: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: value for name, value in known.items() if name != "scores"}
    if known["rule"] == "conformal":
        interval = false_alarm_interval(known["images"], known["false_alarm_rate"])
        said["false_alarm_interval"] = interval and [round(end, 4) for end in interval]
    return said
