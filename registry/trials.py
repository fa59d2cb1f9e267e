"""How a trial ended and what it used: words that a search and its MLflow runs share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Outcome = Literal["finished", "stopped_early", "failed", "interrupted"]
Scalar = float | int | str
TrialUsage = Mapping[str, Scalar]  # what a trial used, by name: `steps`, `cpu_seconds`, ...
