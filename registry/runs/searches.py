"""All searches of an MLflow store."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run

from registry.runs.store import STATUS, Store, mlflow_errors

COSTS = ("steps", "cpu_seconds", "gpu_seconds")
BEST = "val_pixel_ap"


def totals(trials: Sequence[Run]) -> dict[str, float]:
    """Return the sums over trials: `trials_<outcome>`, `steps`, `cpu_seconds` and `gpu_seconds`.

    A trial that goes on after an interruption adds what it has used so far, but no outcome.
    """
    ended = [run for run in trials if run.info.status != "RUNNING"]
    outcomes = [run.data.tags.get("zoo.outcome") for run in ended]
    counts = {f"trials_{name}": float(outcomes.count(name)) for name in STATUS}
    costs = {
        name: math.fsum(float(run.data.tags.get(f"zoo.{name}", 0)) for run in trials)
        for name in COSTS
    }
    return counts | costs


@dataclass(frozen=True, kw_only=True)
class Search:
    """One search as it is in MLflow.

    Attributes:
        name: Name of the search.
        texture: The texture it was for.
        state: `running`, or how it ended.
        began: Seconds since 1970.
        best: `val_pixel_ap` of its best trial; None before the first report.
        totals: What `totals` returns for its trials.
        running: Number of trials that have not ended.
    """

    name: str
    texture: str
    state: str
    began: float
    best: float | None
    totals: Mapping[str, float]
    running: int


def searches(store: Store, texture: str | None = None) -> list[Search]:
    """Return the searches of a store, newest first; those of one texture if it is given.

    Raises:
        StorageError: The store cannot be read.
    """
    only = {"zoo.texture": texture} if texture else {}
    with mlflow_errors("read", store.uri):
        parents = store.find({"zoo.role": "search"} | only)
        trials = store.find({"zoo.role": "trial"} | only)
    of_search: dict[str, list[Run]] = {}
    for run in trials:
        of_search.setdefault(run.data.tags["zoo.search"], []).append(run)
    found = []
    for parent in parents:
        mine = of_search.get(parent.data.tags["zoo.search"], [])
        values = [run.data.metrics[BEST] for run in (parent, *mine) if BEST in run.data.metrics]
        running = parent.info.status == "RUNNING"
        found.append(
            Search(
                name=parent.data.tags["zoo.search"],
                texture=parent.data.tags["zoo.texture"],
                state="running" if running else parent.data.tags["zoo.outcome"],
                began=parent.info.start_time / 1000,
                best=max(values, default=None),
                totals=totals(mine),
                running=sum(run.info.status == "RUNNING" for run in mine),
            )
        )
    return found


def log_files(store: Store, search: str, files: Sequence[Path], *, under: str) -> None:
    """Store files with the run of a search, if the store has that run.

    Args:
        store: Where.
        search: Name of the search.
        files: The files; others of the same name are replaced.
        under: Folder of the artifacts, such as `audit`.

    Raises:
        StorageError: The store cannot be written.
    """
    with mlflow_errors("write to", store.uri):
        for run in store.find({"zoo.role": "search", "zoo.search": search})[:1]:
            for file in files:
                store.client.log_artifact(run.info.run_id, str(file), under)
