"""Published bundles in MLflow's Model Registry: one model a texture, one version a bundle."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from registry import bundle
from registry.gate import Decision
from registry.names import checked_name, file_name
from registry.pointer import CHAMPION
from registry.runs.store import Store, mlflow_errors
from registry.trials import AUDIT_LOG


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A bundle in the Model Registry.

    Attributes:
        texture: The texture of the model.
        version: Number of the version in MLflow, which may be another than on the shelf.
        run: The run that the version belongs to.
    """

    texture: str
    version: int
    run: str


def register(
    store: Store,
    folder: Path,
    decision: Decision,
    *,
    metrics: Mapping[str, float],
    run: str | None = None,
) -> Registered:
    """Log a decision at a run, and make a model version of the bundle; repeating it adds nothing.

    A version is found again by the digest of the bundle. If the bundle was audited, what it says of
    each test picture is an artifact of the run.

    Args:
        store: Where.
        folder: The bundle.
        decision: Why it is published.
        metrics: Figures of the audit.
        run: The run that made the bundle; without it, the promotion gets a run of its own.

    Raises:
        StorageError: The store cannot be written, or does not have the run.
    """
    texture, digest = checked_name(bundle.load(folder).texture), bundle.digest(folder)
    tags = {
        "zoo.digest": digest,
        "zoo.texture": texture,
        "zoo.verdict": decision.act,
        "zoo.reason": decision.reason,
    }
    with mlflow_errors("write to", store.uri):
        run = run or _promotion_run(store, texture, digest)
        _log_decision(store, run, tags, metrics)
        if (folder / AUDIT_LOG).is_file():
            store.client.log_artifact(run, str(folder / AUDIT_LOG), "audit")
        version = _version_of(store, texture, digest)
        if version is None:
            version = _new_version(store, texture, folder, run, tags)
        for key, value in tags.items():
            store.client.set_model_version_tag(_model(texture), str(version.version), key, value)
    return Registered(texture=texture, version=int(version.version), run=run)


def tag_shelf_version(store: Store, registered: Registered, version: int) -> None:
    """Note the version of a bundle on the shelf.

    Raises:
        StorageError: The store cannot be written.
    """
    with mlflow_errors("write to", store.uri):
        store.client.set_model_version_tag(
            _model(registered.texture),
            str(registered.version),
            "zoo.shelf_version",
            str(version),
        )


def set_alias(store: Store, registered: Registered, alias: str) -> None:
    """Move an alias of the model to a version.

    Raises:
        StorageError: The store cannot be written.
    """
    with mlflow_errors("write to", store.uri):
        store.client.set_registered_model_alias(
            _model(registered.texture), alias, str(registered.version)
        )


def set_champion(store: Store, texture: str, digest: str) -> None:
    """Move the alias `champion` to the version of a bundle, if MLflow has one.

    Raises:
        StorageError: The store cannot be written.
    """
    with mlflow_errors("write to", store.uri):
        known = _version_of(store, texture, digest)
        if known is not None:
            store.client.set_registered_model_alias(_model(texture), CHAMPION, str(known.version))


def _model(texture: str) -> str:
    return f"texture-{file_name(texture)}"


def _promotion_run(store: Store, texture: str, digest: str) -> str:
    tags = {"zoo.role": "promotion", "zoo.texture": texture, "zoo.digest": digest}
    run = store.resume(tags, name=f"promotion of {texture}")
    store.end(run, "finished")
    return run


def _log_decision(
    store: Store, run: str, tags: Mapping[str, str], metrics: Mapping[str, float]
) -> None:
    now = int(time.time() * 1000)
    store.client.log_batch(run, metrics=[Metric(k, v, now, 0) for k, v in metrics.items()])
    for key in ("zoo.verdict", "zoo.reason"):
        store.client.set_tag(run, key, tags[key])


def _version_of(store: Store, texture: str, digest: str) -> ModelVersion | None:
    found = store.client.search_model_versions(
        f"name = '{_model(texture)}' and tags.`zoo.digest` = '{digest}'"
    )
    return found[0] if found else None


def _new_version(
    store: Store, texture: str, folder: Path, run: str, tags: Mapping[str, str]
) -> ModelVersion:
    """Make a model version of a bundle: its two files as they are, nothing pickled."""
    client, name = store.client, _model(texture)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    model = client.create_logged_model(
        store.experiment,
        name=re.sub(r"[.%]", "-", name),  # MLflow refuses both here
        source_run_id=run,
        tags={**tags},
    )
    for file in bundle.FILES:
        client.log_model_artifact(model.model_id, str(folder / file))
    client.finalize_logged_model(model.model_id, "READY")
    # Not `models:/<id>`, which MLflow 3.17 looks up in the store of MLFLOW_TRACKING_URI, whatever
    # store this client uses.
    return client.create_model_version(
        name,
        source=model.artifact_location,
        run_id=run,
        model_id=model.model_id,
        tags={**tags},
    )
