"""Words that a search, its MLflow runs and its audit share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

# Folders in that of a search: its detector, its first champion, the methods that learn nothing.
CHAMPION, FLOOR, UNTRAINED = "best", "floor", "untrained"
AUDIT_LOG = "test_pictures.jsonl"  # beside a bundle: what it says of each test picture

Outcome = Literal["finished", "stopped_early", "failed", "interrupted"]
Scalar = float | int | str
TrialUsage = Mapping[str, Scalar]  # what a trial used, by name: `steps`, `cpu_seconds`, ...
