"""What MLflow has on record of one search, as plain values."""

from __future__ import annotations

import math
from typing import get_args

from mlflow.entities import Run

from registry.runs.searches import BEST
from registry.runs.store import Store, mlflow_errors
from registry.trials import Outcome, ReportRecord, SearchRecord, TrialRecord

_USAGE = ("steps", "node", "device", "cpu_seconds", "gpu_seconds", "reason")
_VERSION = "zoo.version."


def search_record(store: Store, name: str) -> SearchRecord | None:
    """Return what the store has of a search; None if it has no such search.

    Raises:
        StorageError: The store cannot be read.
    """
    with mlflow_errors("read", store.uri):
        found = store.find({"zoo.role": "search", "zoo.search": name})
        if not found:
            return None
        runs = store.find({"zoo.role": "trial", "zoo.search": name})
        runs.sort(key=lambda run: (run.info.start_time, run.info.run_id))
        trials = tuple(_trial(store, run) for run in runs)
    parent, tags = found[0], found[0].data.tags
    return SearchRecord(
        name=name,
        texture=tags["zoo.texture"],
        trials=trials,
        run=str(parent.info.run_id),
        outcome=_outcome(parent),
        running=parent.info.status == "RUNNING",
        began=parent.info.start_time / 1000,
        ended=_ended(parent),
        params=dict(parent.data.params),
        figures=dict(parent.data.metrics),
        versions={
            tag.removeprefix(_VERSION): value
            for tag, value in sorted(tags.items())
            if tag.startswith(_VERSION)
        },
    )


def _trial(store: Store, run: Run) -> TrialRecord:
    tags = run.data.tags
    history = (
        store.client.get_metric_history(run.info.run_id, BEST) if BEST in run.data.metrics else []
    )
    reports = sorted(history, key=lambda point: point.step)
    return TrialRecord(
        trial=tags.get("zoo.trial", str(run.info.run_id)),
        params=dict(run.data.params),
        reports=tuple(
            ReportRecord(step=point.step, when=point.timestamp / 1000, value=point.value)
            for point in reports
            if math.isfinite(point.value)
        ),
        figures=dict(run.data.metrics),
        outcome=_outcome(run),
        usage={name: tags[f"zoo.{name}"] for name in _USAGE if f"zoo.{name}" in tags},
        began=run.info.start_time / 1000,
        ended=_ended(run),
    )


def _outcome(run: Run) -> Outcome | None:
    """Return how a run ended; one that goes on after an interruption still has its old tag."""
    if run.info.status == "RUNNING":
        return None
    tag = run.data.tags.get("zoo.outcome")
    return next((each for each in get_args(Outcome) if each == tag), None)


def _ended(run: Run) -> float | None:
    ended = run.info.end_time
    return None if ended is None or run.info.status == "RUNNING" else ended / 1000
