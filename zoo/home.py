"""Where things are kept. Every environment variable of the project is read here, once."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote


def home() -> Path:
    """Return the folder that everything is kept under: `ZOO_HOME`, else `./zoo-home`."""
    return Path(os.environ.get("ZOO_HOME") or "zoo-home")


def shelf_address() -> str:
    """Return `ZOO_SHELF`, else the folder `shelf` under the home."""
    return os.environ.get("ZOO_SHELF") or str(home() / "shelf")


def tracking_uri() -> str:
    """Return `MLFLOW_TRACKING_URI`, else the SQLite store `mlflow.db` under the home."""
    path = str(home().resolve() / "mlflow.db")
    if {"%", "?"} & set(path):  # signs of an address; MLflow makes the folders of what is no `/`
        path = quote(path, safe="")
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{path}"


def ray_address() -> str:
    """Return `RAY_ADDRESS`, else `local`, which starts a Ray on this machine."""
    return os.environ.get("RAY_ADDRESS") or "local"


def trial_storage() -> str | None:
    """Return `ZOO_STORAGE`, where Ray keeps the trials of a cluster; None is the home."""
    return os.environ.get("ZOO_STORAGE") or None
