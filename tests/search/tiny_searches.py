"""Searches that take seconds: their space and limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from search_spaces import Field, LogUniform, Space
from tests import textures_drawn
from zoo.search.config import SearchConfig, TrialLog
from zoo.search.progress import Lines
from zoo.search.run import SearchResult, run_search
from zoo.training import TrainingData

FIXED = textures_drawn.TINY | {"scale": 0.5, "output_stride": 4}
SPACE_FILE = "".join(f"{name}: {value}\n" for name, value in FIXED.items()).replace(
    "learning_rate: 0.002", "learning_rate: {log_uniform: [5.0e-4, 4.0e-3]}"
)
RATES = LogUniform(low=5e-4, high=4e-3)
# Without these, `zoo` keeps everything under ZOO_HOME.
ELSEWHERE = ("ZOO_SHELF", "ZOO_STORAGE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS")


def space(**fields: Any) -> Space:
    return Space(name="tiny", path=Path("tiny.yaml"), fields=FIXED | fields)


def config(name: str, **changes: Any) -> SearchConfig:
    standard = SearchConfig(
        name=name,
        texture="weave",
        fingerprint="sha256:00",
        seed=0,
        trials=2,
        time_budget_s=120.0,
        threads=1,
        gpus_per_trial=None,
        reports=2,
    )
    return replace(standard, **changes)


def search(
    log: TrialLog, data: TrainingData, storage: Path, limits: SearchConfig, **fields: Field
) -> tuple[SearchResult, list[str]]:
    """Search over the learning rate and `fields`; return the result and the lines of progress."""
    said: list[str] = []
    varied = space(**{"learning_rate": RATES, **fields})
    result = run_search(data, varied, limits, storage=storage, log=log, progress=Lines(said.append))
    return result, said
