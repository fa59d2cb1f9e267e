"""Where things are kept. Every environment variable of the project is read here, once."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """Return the folder that everything is kept under: `ZOO_HOME`, else `./zoo-home`."""
    return Path(os.environ.get("ZOO_HOME") or "zoo-home")


def shelf_address() -> str:
    """Return `ZOO_SHELF`, else the folder `shelf` under the home."""
    return os.environ.get("ZOO_SHELF") or str(home() / "shelf")


def tracking_uri() -> str:
    """Return `MLFLOW_TRACKING_URI`, else the SQLite store `mlflow.db` under the home."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home().resolve() / 'mlflow.db'}"


def ray_address() -> str:
    """Return `RAY_ADDRESS`, else `local`, which starts a Ray on this machine."""
    return os.environ.get("RAY_ADDRESS") or "local"


def trial_storage() -> str | None:
    """Return `ZOO_STORAGE`, where Ray keeps the trials of a cluster; None is the home."""
    return os.environ.get("ZOO_STORAGE") or None


def signing_key() -> Path | None:
    """Return `ZOO_SIGNING_KEY`, the private key that signs what is promoted; None signs nothing."""
    return _path("ZOO_SIGNING_KEY")


def trusted_keys() -> Path | None:
    """Return `ZOO_TRUSTED_KEYS`, a file or folder of public keys; None trusts every shelf."""
    return _path("ZOO_TRUSTED_KEYS")


def _path(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None
