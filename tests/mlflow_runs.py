"""MLflow stores for tests: a new one in no time, and a search read back by a client of its own."""

from __future__ import annotations

import contextlib
import io
import tempfile
from functools import cache
from pathlib import Path
from typing import get_args

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from registry.runs.store import EXPERIMENT
from registry.trials import Outcome
from tests.exams import Entry

USAGE = ("steps", "node", "device", "cpu_seconds", "gpu_seconds", "reason")


def new_store(path: Path) -> str:
    """Write an empty SQLite store and return its URI; the migrations, which take seconds, are done.

    Args:
        path: Of the database, such as `mlflow.db` under a home.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_empty_database())
    return f"sqlite:///{path}"


@cache
def _empty_database() -> bytes:
    # MLflow says what it makes, which is no line of a command that a test looks at.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        path = Path(folder) / "mlflow.db"
        MlflowClient(f"sqlite:///{path}").search_experiments()
        return path.read_bytes()


def runs_of(uri: str, search: str) -> dict[str, Run]:
    """Return the runs of a search by trial id; the id of the parent is empty."""
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f'tags.`zoo.search` = "{search}"')
    found = {run.data.tags.get("zoo.trial", ""): run for run in runs}
    assert len(found) == len(runs), "two runs of one trial"
    return found


def statuses_of(uri: str) -> list[str]:
    """Return the status of every run of a store."""
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiments = [each.experiment_id for each in client.search_experiments()]
    return [run.info.status for run in client.search_runs(experiments)]


def entries_of(uri: str, search: str) -> dict[str, Entry]:
    """Return all trials of a search."""
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    return {
        trial: Entry(
            params=run.data.params,
            curves={
                metric: [(point.step, point.value) for point in history]
                for metric in run.data.metrics
                if (history := client.get_metric_history(run.info.run_id, metric))
            },
            outcome=outcome_of(run),
            bundle=run.data.tags.get("zoo.bundle"),
            usage={
                name: run.data.tags[f"zoo.{name}"]
                for name in USAGE
                if f"zoo.{name}" in run.data.tags
            },
        )
        for trial, run in runs_of(uri, search).items()
        if trial
    }


def outcome_of(run: Run) -> Outcome | None:
    """Return how a trial ended; None if it has not."""
    tag = run.data.tags.get("zoo.outcome")
    return next((outcome for outcome in get_args(Outcome) if outcome == tag), None)
