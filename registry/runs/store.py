"""An open MLflow store, and its errors."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from mlflow.entities import Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from registry.trials import Outcome, Scalar
from zoo.errors import StorageError

EXPERIMENT = "texture-zoo"
HTTP_RETRIES = "1"  # of one request; `BufferedRuns` repeats what must not be lost
STATUS: Mapping[Outcome, str] = {
    "finished": "FINISHED",
    "stopped_early": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}


@dataclass(frozen=True, kw_only=True)
class Store:
    """An open MLflow store.

    Attributes:
        uri: Its address, for messages.
        client: A client of it.
        experiment: The id of the experiment `EXPERIMENT`.
    """

    uri: str
    client: MlflowClient
    experiment: str

    def find(self, tags: Mapping[str, str]) -> list[Run]:
        """Return all runs with these tags, newest first."""
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
        self.client.log_batch(run_id, tags=run_tags(values))

    def end(self, run_id: str, outcome: Outcome) -> None:
        """End a run, with a status that follows from the outcome."""
        self.client.set_tag(run_id, "zoo.outcome", outcome)
        self.client.set_terminated(run_id, status=STATUS[outcome])


def open_store(uri: str) -> Store:
    """Open an MLflow store, made or migrated if need be, with the experiment `EXPERIMENT` in it.

    The artifacts of an SQLite store are in the folder `mlartifacts` beside the database; otherwise
    the server chooses their place.

    Args:
        uri: `sqlite:///PATH`, or a server's address.

    Raises:
        StorageError: The store cannot be opened.
    """
    for name in ("mlflow", "alembic"):  # both log each step of a migration at level INFO
        logging.getLogger(name).setLevel(logging.WARNING)
    # MLflow's default of seven attempts, each twice as long, delays the end of a search by minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", HTTP_RETRIES)
    # Over HTTP, MLflow prints the address of each run that ends to stdout, which is for answers.
    # Redirecting stdout here is no way: the thread of the buffer would redirect the search's too.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # MLflow also logs the traceback of every error that it raises.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    with mlflow_errors("open", uri), _locked(uri):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            experiment = client.create_experiment(EXPERIMENT, artifact_location=_artifacts(uri))
        else:
            experiment = found.experiment_id
    return Store(uri=uri, client=client, experiment=experiment)


@contextmanager
def mlflow_errors(verb: str, uri: str) -> Iterator[None]:
    """Turn an error of MLflow into one that says which store failed, how, and what to do.

    Raises:
        StorageError: MLflow, its database or its disk raised an error, or the driver is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise StorageError(
            f"Cannot {verb} the MLflow store {uri}: the Python package '{error.name}', which "
            f"drives such a database, is not installed. Install it (pip install {error.name}), or "
            "set MLFLOW_TRACKING_URI to another store."
        ) from error
    except (MlflowException, SQLAlchemyError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise StorageError(
            f"Cannot {verb} the MLflow store {uri}: {first}. Check that it is there and can be "
            "written, or set MLFLOW_TRACKING_URI to another."
        ) from error


def run_tags(values: Mapping[str, Scalar | Path]) -> list[RunTag]:
    """Return tags `zoo.<name>`."""
    return [RunTag(f"zoo.{name}", str(value)) for name, value in values.items()]


@contextmanager
def _locked(uri: str) -> Iterator[None]:
    """Lock an SQLite store against other processes that open it.

    A new store is made by migrations, which fail if two processes run them at once. A server takes
    care of that itself.
    """
    path = database(uri)
    if path is None or (path.is_file() and not _may_write(path.parent)):
        yield  # where nothing can be written, nothing is made either: the store is only read
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        yield


def _artifacts(uri: str) -> str | None:
    """Return the folder beside an SQLite database; MLflow's default is the current folder."""
    path = database(uri)
    return (path.resolve().parent / "mlartifacts").as_uri() if path else None


def database(uri: str) -> Path | None:
    """Return the file of an SQLite store; None for another store."""
    path = make_url(uri).database if uri.startswith("sqlite:///") else None
    return Path(path) if path else None


def _may_write(folder: Path) -> bool:
    return os.access(folder, os.W_OK, effective_ids=True)


def _quoted(value: str) -> str:
    """Quote a value for a filter of MLflow, which has no escapes."""
    return f'"{value}"' if "'" in value else f"'{value}'"
