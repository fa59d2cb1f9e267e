"""One search in MLflow: a parent run, and a child run for each trial."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal

from mlflow.entities import Metric, Param, RunTag

from registry.runs.searches import totals
from registry.runs.store import Store, mlflow_errors, run_tags
from registry.trials import Outcome, Scalar, TrialUsage

FORGOTTEN = "the search could not write down that it ended, and has made another in its place"
PACKAGES = ("texture-zoo", "torch", "ray", "optuna", "mlflow")


class SearchRuns:
    """A `TrialLog` that writes to MLflow.

    Every method raises `StorageError` when the store fails.
    """

    def __init__(
        self, store: Store, *, search: str, texture: str, params: Mapping[str, Scalar]
    ) -> None:
        """Find the parent run of this search, or make it.

        Args:
            store: Where to write.
            search: Name of the search; a resumed search has the same.
            texture: The texture searched for.
            params: Values of the whole search: seed, fingerprint of the data, budget. Those of the
                first start stay; what a resumption changes is kept in the tag `zoo.resumed_with`.
        """
        self._store, self._search, self._texture = store, search, texture
        self._trials: dict[str, str] = {}
        self._steps: dict[str, int] = {}  # the last report of each trial that is in MLflow
        with mlflow_errors("write to", store.uri):
            self.run_id = store.resume(self._tags("search"), name=search)
            self._log_params(self.run_id, params)
            store.tag(self.run_id, {f"version.{each}": _version(each) for each in PACKAGES})

    def started(self, trial: str, params: Mapping[str, Scalar]) -> None:
        """Log a new trial, or one that goes on, and its parameters."""
        with mlflow_errors("write to", self._store.uri):
            self._log_params(self._run(trial), params)

    def reported(
        self, trial: str, step: int, metrics: Mapping[str, float], usage: TrialUsage
    ) -> None:
        """Log one report of a trial, and what the trial has used until then.

        The usage becomes tags `zoo.<name>` at each report, so that a trial which never ends has
        them. A trial that was stopped before its checkpoint was stored repeats a report when it
        goes on; a report that is in MLflow is not logged again.
        """
        with mlflow_errors("write to", self._store.uri):
            run_id = self._run(trial)
            if trial not in self._steps:
                name = next(iter(metrics))
                history = self._store.client.get_metric_history(run_id, name)
                self._steps[trial] = max((point.step for point in history), default=-1)
            if step > self._steps[trial]:
                self._log_metrics(run_id, metrics, step=step, tags=run_tags(usage))
                self._steps[trial] = step

    def ended(self, trial: str, outcome: Outcome, bundle: Path | None, usage: TrialUsage) -> None:
        """Log how a trial ended, and what it used as tags `zoo.<name>`.

        `bundle` is its detector on disk, if it saved one.
        """
        with mlflow_errors("write to", self._store.uri):
            run_id = self._run(trial)
            tags = {"bundle": bundle} if bundle else {}
            self._store.tag(run_id, {**tags, **usage})
            self._store.end(run_id, outcome)
            del self._trials[trial]  # if it goes on, `resume` sets its run running again

    def champion(self, bundle: Path, pictures: Sequence[Path]) -> None:
        """Store the best detector of the search and pictures of its maps with the parent run."""
        with mlflow_errors("write to", self._store.uri):
            self._store.client.log_artifacts(self.run_id, str(bundle), "champion")
            for picture in pictures:
                self._store.client.log_artifact(self.run_id, str(picture), "maps")

    def close(
        self,
        summary: Mapping[str, float],
        outcome: Outcome,
        known: Collection[str] | None = None,
    ) -> None:
        """End the parent run, and log the sums over its trials.

        A trial whose run is still running has been killed. A trial that ended but is not among the
        `known` ones was forgotten by the search, which could not store it (a full disk) and made
        another in its place. Both count as interrupted, with what they used.
        """
        with mlflow_errors("write to", self._store.uri):
            for run in self._store.find(self._tags("trial")):
                tags = run.data.tags
                forgotten = known is not None and tags["zoo.trial"] not in known
                if run.info.status == "RUNNING":
                    self._store.end(run.info.run_id, "interrupted")
                elif forgotten and tags["zoo.outcome"] != "interrupted":
                    self._store.tag(run.info.run_id, {"reason": FORGOTTEN})
                    self._store.end(run.info.run_id, "interrupted")
            sums = totals(self._store.find(self._tags("trial")))
            self._log_metrics(self.run_id, {**summary, **sums}, step=0)
            self._store.end(self.run_id, outcome)

    def _tags(self, role: Literal["search", "trial"]) -> dict[str, str]:
        return {"zoo.role": role, "zoo.search": self._search, "zoo.texture": self._texture}

    def _run(self, trial: str) -> str:
        if trial not in self._trials:
            tags = self._tags("trial") | {"zoo.trial": trial}
            self._trials[trial] = self._store.resume(tags, name=trial, parent=self.run_id)
        return self._trials[trial]

    def _log_params(self, run_id: str, params: Mapping[str, Scalar]) -> None:
        known = self._store.client.get_run(run_id).data.params  # MLflow does not change a parameter
        asked = {key: str(value) for key, value in params.items()}
        new = [Param(key, value) for key, value in asked.items() if key not in known]
        changed = {key: value for key, value in asked.items() if known.get(key, value) != value}
        tags = [RunTag("zoo.resumed_with", json.dumps(changed))] if changed else []
        self._store.client.log_batch(run_id, params=new, tags=tags)

    def _log_metrics(
        self,
        run_id: str,
        metrics: Mapping[str, float],
        *,
        step: int,
        tags: Sequence[RunTag] = (),
    ) -> None:
        now = int(time.time() * 1000)
        points = [Metric(key, float(value), now, step) for key, value in metrics.items()]
        self._store.client.log_batch(run_id, metrics=points, tags=tags)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
