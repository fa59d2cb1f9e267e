"""The provenance of a detector: its data and the versions of the software."""

from __future__ import annotations

import platform
import re
from importlib import metadata
from typing import Any

from zoo.data.defects.validation import fingerprint
from zoo.training.data import TrainingData


def provenance(data: TrainingData) -> dict[str, Any]:
    """Return which pictures a detector was made from, for its card and for promotion."""
    return {
        "fingerprint": data.fingerprint,
        "camera": str(data.optics),
        "licence": data.licence,
        "non_commercial": bool(re.search(r"-NC\b|non-?commercial", data.licence, re.IGNORECASE)),
        "split_seed": data.splits.seed,
        "split": data.splits.note,
        "fit": [picture.key for picture in data.splits.fit],
        "validation": fingerprint(data.validation),
        "validation_seed": data.validation_seed,
    }


def versions() -> dict[str, Any]:
    """Return the versions of the software that makes a detector."""
    names = {"texture_zoo": "texture-zoo", "torch": "torch", "numpy": "numpy"}
    found = {name: metadata.version(package) for name, package in names.items()}
    return found | {"python": platform.python_version()}
