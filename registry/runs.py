"""What a search did, in MLflow: one parent run a search, one child run a trial.

Everything goes through a client of ours, never through MLflow's process-wide state, and one
process writes. A run carries the name of its search and its trial as tags and is looked up
before it is made, so a resumed search goes on in the same runs.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from filelock import FileLock
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from registry.shelf import home
from zoo.errors import StorageError

Outcome = Literal["finished", "stopped_early", "failed", "interrupted"]
Scalar = float | int | str
Facts = Mapping[str, Scalar]  # what a trial took, by name

EXPERIMENT = "texture-zoo"
HTTP_RETRIES = "1"  # of one request; who must not lose anything has the outbox
STATUS: Mapping[Outcome, str] = {
    "finished": "FINISHED",
    "stopped_early": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
COSTS = ("steps", "cpu_seconds", "gpu_seconds")
BEST = "val_pixel_ap"
FORGOTTEN = "the search could not write down that it ended, and has made another in its place"
PACKAGES = ("texture-zoo", "torch", "ray", "optuna", "mlflow")


def tracking_uri() -> str:
    """Return `MLFLOW_TRACKING_URI`, else the SQLite store `mlflow.db` under the home."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home().resolve() / 'mlflow.db'}"


@dataclass(frozen=True, kw_only=True)
class Store:
    """An open MLflow store.

    Attributes:
        uri: Its address, for messages.
        client: Talks to it.
        experiment: The id of our experiment.
    """

    uri: str
    client: MlflowClient
    experiment: str

    def find(self, tags: Mapping[str, str]) -> list[Run]:
        """Return all runs that carry these tags, newest first."""
        clauses = [f"tags.`{key}` = {_quoted(value)}" for key, value in tags.items()]
        found: list[Run] = []
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment], filter_string=" and ".join(clauses), page_token=token
            )
            found, token = [*found, *page], page.token
            if not token:
                return found

    def resume(self, tags: Mapping[str, str], *, name: str, parent: str | None = None) -> str:
        """Return the id of the run with these tags, made if there is none, and set it running."""
        found = self.find(tags)
        if found:
            self.client.update_run(found[0].info.run_id, status="RUNNING")
            return str(found[0].info.run_id)
        nested = {"mlflow.parentRunId": parent} if parent else {}
        run = self.client.create_run(self.experiment, tags={**tags, **nested}, run_name=name)
        return str(run.info.run_id)

    def tag(self, run_id: str, values: Mapping[str, Scalar | Path]) -> None:
        """Set tags `zoo.<name>` of a run."""
        self.client.log_batch(run_id, tags=_run_tags(values))

    def end(self, run_id: str, outcome: Outcome) -> None:
        """End a run, with a status that follows from the outcome."""
        self.client.set_tag(run_id, "zoo.outcome", outcome)
        self.client.set_terminated(run_id, status=STATUS[outcome])


def open_store(uri: str) -> Store:
    """Open an MLflow store, made or migrated if need be, with our experiment in it.

    The artifacts of an SQLite store are kept in `mlartifacts` beside the database; elsewhere the
    server decides.

    Args:
        uri: `sqlite:///PATH`, or a server's address.

    Raises:
        StorageError: The store cannot be opened.
    """
    for name in ("mlflow", "alembic"):  # both report each migration step, at level INFO
        logging.getLogger(name).setLevel(logging.WARNING)
    # Its own seven tries, each twice as long, would hold a search's end up for four minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", HTTP_RETRIES)
    # Over HTTP it invites to look at each run that ends, on stdout, which is for answers. That must
    # not be redirected here: the outbox's thread would do it while the search does.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # It also prints the trace of every error that it raises; ours say what there is to do.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    with told("open", uri), _alone_at(uri):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            experiment = client.create_experiment(EXPERIMENT, artifact_location=_artifacts(uri))
        else:
            experiment = found.experiment_id
    return Store(uri=uri, client=client, experiment=experiment)


@contextmanager
def told(verb: str, uri: str) -> Iterator[None]:
    """Say which store failed, how, and what to do.

    Raises:
        StorageError: MLflow, its database or its disk raised something.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise StorageError(
            f"Cannot {verb} the MLflow store {uri}: {first}. Check that it is there and can be "
            "written, or set MLFLOW_TRACKING_URI to another."
        ) from error


def totals(trials: Sequence[Run]) -> dict[str, float]:
    """Sum up trials: `trials_<outcome>`, `steps`, `cpu_` and `gpu_seconds`.

    One that goes on after an interruption has what it took until then counted, but no outcome.
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
    """One search, as the record has it.

    Attributes:
        name: Of the search.
        texture: What it was for.
        state: `running`, or how it ended.
        began: In seconds since 1970.
        best: `val_pixel_ap` of its best trial; None before the first report.
        totals: As `totals` has them, of the trials that have ended.
        running: Trials that have not.
    """

    name: str
    texture: str
    state: str
    began: float
    best: float | None
    totals: Mapping[str, float]
    running: int


def searches(store: Store, texture: str | None = None) -> list[Search]:
    """List all searches on record, newest first; those of one texture if it is named.

    Raises:
        StorageError: The store cannot be read.
    """
    only = {"zoo.texture": texture} if texture else {}
    with told("read", store.uri):
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
            params: Facts of the whole search: seed, fingerprint of the data, budget. Those of
                the first start stay; what a resume changed is kept in the tag `zoo.resumed_with`.
        """
        self._store, self._search, self._texture = store, search, texture
        self._trials: dict[str, str] = {}
        self._steps: dict[str, int] = {}  # the last report of each trial that is noted
        with told("write to", store.uri):
            self.run_id = store.resume(self._tags("search"), name=search)
            self._note_params(self.run_id, params)
            store.tag(self.run_id, {f"version.{each}": _version(each) for each in PACKAGES})

    def started(self, trial: str, params: Mapping[str, Scalar]) -> None:
        """Note a new trial, or one that goes on, and the parameters drawn for it."""
        with told("write to", self._store.uri):
            self._note_params(self._run(trial), params)

    def reported(self, trial: str, step: int, metrics: Mapping[str, float], facts: Facts) -> None:
        """Note one report, in the order the trial made them, and what it took until then.

        The facts become tags `zoo.<name>`, so that a trial that is never heard of again has them.
        A trial that was stopped before its checkpoint was kept makes a report again when it goes
        on; the curve has it already.
        """
        with told("write to", self._store.uri):
            run_id = self._run(trial)
            if trial not in self._steps:
                name = next(iter(metrics))
                history = self._store.client.get_metric_history(run_id, name)
                self._steps[trial] = max((point.step for point in history), default=-1)
            if step > self._steps[trial]:
                self._note_metrics(run_id, metrics, step=step, tags=_run_tags(facts))
                self._steps[trial] = step

    def ended(self, trial: str, outcome: Outcome, bundle: Path | None, facts: Facts) -> None:
        """Note how the trial ended, and what it took, as tags `zoo.<name>`.

        `bundle` is its detector on disk, if it saved one.
        """
        with told("write to", self._store.uri):
            run_id = self._run(trial)
            tags = {"bundle": bundle} if bundle else {}
            self._store.tag(run_id, {**tags, **facts})
            self._store.end(run_id, outcome)
            del self._trials[trial]  # should it go on, its run is set running again

    def champion(self, bundle: Path, pictures: Sequence[Path]) -> None:
        """Keep the search's best detector and pictures of its maps with the parent run."""
        with told("write to", self._store.uri):
            self._store.client.log_artifacts(self.run_id, str(bundle), "champion")
            for picture in pictures:
                self._store.client.log_artifact(self.run_id, str(picture), "maps")

    def close(
        self,
        summary: Mapping[str, float],
        outcome: Outcome,
        known: Collection[str] | None = None,
    ) -> None:
        """End the parent run, with the sums over its trials.

        A trial that still counts as running has been killed. One that is not `known` ended, but
        the search could not write it down (a full disk) and made another in its place: it counts
        as interrupted, with what it took.
        """
        with told("write to", self._store.uri):
            for run in self._store.find(self._tags("trial")):
                tags = run.data.tags
                forgotten = known is not None and tags["zoo.trial"] not in known
                if run.info.status == "RUNNING":
                    self._store.end(run.info.run_id, "interrupted")
                elif forgotten and tags["zoo.outcome"] != "interrupted":
                    self._store.tag(run.info.run_id, {"reason": FORGOTTEN})
                    self._store.end(run.info.run_id, "interrupted")
            sums = totals(self._store.find(self._tags("trial")))
            self._note_metrics(self.run_id, {**summary, **sums}, step=0)
            self._store.end(self.run_id, outcome)

    def _tags(self, role: Literal["search", "trial"]) -> dict[str, str]:
        return {"zoo.role": role, "zoo.search": self._search, "zoo.texture": self._texture}

    def _run(self, trial: str) -> str:
        if trial not in self._trials:
            tags = self._tags("trial") | {"zoo.trial": trial}
            self._trials[trial] = self._store.resume(tags, name=trial, parent=self.run_id)
        return self._trials[trial]

    def _note_params(self, run_id: str, params: Mapping[str, Scalar]) -> None:
        known = self._store.client.get_run(run_id).data.params  # MLflow lets none be changed
        asked = {key: str(value) for key, value in params.items()}
        new = [Param(key, value) for key, value in asked.items() if key not in known]
        changed = {key: value for key, value in asked.items() if known.get(key, value) != value}
        tags = [RunTag("zoo.resumed_with", json.dumps(changed))] if changed else []
        self._store.client.log_batch(run_id, params=new, tags=tags)

    def _note_metrics(
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


def _run_tags(values: Mapping[str, Scalar | Path]) -> list[RunTag]:
    return [RunTag(f"zoo.{name}", str(value)) for name, value in values.items()]


@contextmanager
def _alone_at(uri: str) -> Iterator[None]:
    """Keep others from opening an SQLite store meanwhile: a fresh one is made by migrations.

    Those fail where two processes run them at once. A server sees to that itself.
    """
    database = _database(uri)
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock"):
        yield


def _artifacts(uri: str) -> str | None:
    """Place artifacts beside an SQLite database; MLflow's own choice is the current folder."""
    database = _database(uri)
    return (database.resolve().parent / "mlartifacts").as_uri() if database else None


def _database(uri: str) -> Path | None:
    path = uri.removeprefix("sqlite:///")
    return Path(path) if path != uri else None


def _quoted(value: str) -> str:
    """Quote a value for MLflow's filters, which know no escapes."""
    return f'"{value}"' if "'" in value else f"'{value}'"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
