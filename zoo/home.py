"""Where things are kept. Every environment variable of the project is read here, once."""

from __future__ import annotations

import math
import os
from pathlib import Path
from urllib.parse import quote

from zoo.errors import ConfigError

MEGAPIXELS = 512.0  # of the largest picture that is read
STARTERS = Path(__file__).parent / "starters"  # the folder of a shelf, made by `make starters`


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


def ray_folder() -> Path:
    """Return `RAY_TMPDIR`, else `TMPDIR`, else `/tmp`: where a local Ray keeps its sockets."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp")


def trial_storage() -> str | None:
    """Return `ZOO_STORAGE`, where Ray keeps the trials of a cluster; None is the home."""
    return os.environ.get("ZOO_STORAGE") or None


def signing_key() -> Path | None:
    """Return `ZOO_SIGNING_KEY`, the private key that signs what is promoted; None signs nothing."""
    return _path("ZOO_SIGNING_KEY")


def trusted_keys() -> Path | None:
    """Return `ZOO_TRUSTED_KEYS`, a file or folder of public keys; None trusts every shelf."""
    return _path("ZOO_TRUSTED_KEYS")


def starters() -> Path | None:
    """Return the folder of the starters, the detectors in this package; None if they are off.

    `ZOO_STARTERS` is `on` or `off`. Without it they are on, unless `ZOO_TRUSTED_KEYS` is set: then
    they would be loaded in place of a detector that somebody has removed from the shelf.

    Raises:
        ConfigError: It is neither.
    """
    usual = "off" if trusted_keys() else "on"
    wanted = os.environ.get("ZOO_STARTERS") or usual
    if wanted not in ("on", "off"):
        raise ConfigError(f"ZOO_STARTERS must be on or off, not '{wanted}'. Correct it.")
    return STARTERS if wanted == "on" else None


def is_dumb_terminal() -> bool:
    """Return whether `TERM` says that what was written to the terminal cannot be changed."""
    return os.environ.get("TERM", "dumb") == "dumb"


def wants_no_colours() -> bool:
    """Return whether `NO_COLOR` is set to anything, or the terminal has no colours."""
    return bool(os.environ.get("NO_COLOR")) or is_dumb_terminal()


def service_keys() -> Path:
    """Return where `zoo serve` keeps the digests of its keys: `service-keys` under the home."""
    return home() / "service-keys"


def service_key() -> str | None:
    """Return `ZOO_SERVER_KEY`, the key that `zoo score --server` sends; None sends none."""
    return os.environ.get("ZOO_SERVER_KEY") or None


def _path(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None


def most_megapixels() -> float:
    """Return `ZOO_MAX_MEGAPIXELS`, the size of the largest picture that is read; 512 by default.

    Raises:
        ConfigError: It is no number above 0.
    """
    text = os.environ.get("ZOO_MAX_MEGAPIXELS") or str(MEGAPIXELS)
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise ConfigError(
            f"ZOO_MAX_MEGAPIXELS must be a number above 0, not '{text}'. Correct it, or leave it "
            "out for the default."
        )
    return found
