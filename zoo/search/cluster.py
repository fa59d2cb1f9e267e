"""The Ray that a search runs on: joined at an address, or started on this machine."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
import threading
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import ray

from zoo.errors import ConfigError
from zoo.home import ray_address, ray_folder
from zoo.search.config import SearchConfig

if TYPE_CHECKING:
    from collections.abc import Iterator


CONNECT_TIMEOUT_S = 10.0
LONGEST_SOCKET = 107  # bytes of the name of a socket
_SOCKET = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"  # Ray's longest
CLUSTER_SLOTS = 8  # trials at once where no node is up yet: the autoscaler starts nodes for them


@contextmanager
def cluster(address: str | None = None) -> Iterator[None]:
    """Join the Ray at `address` or `RAY_ADDRESS`, or start a local one, until the block ends.

    Raises:
        ConfigError: No Ray answers at the address, its version is another, or the token is wrong;
            or a local one cannot start.
    """
    where = address or ray_address()
    try:
        if where == "local":
            _keep_token()
        check_address(address)
        with handlers_kept(signal.SIGTERM):  # Ray's would end the process at once
            ray.init(
                address=where,
                include_dashboard=False if where == "local" else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        if where == "local":
            raise _not_started(_reason(error)) from error
        raise _not_joined(where, error) from error
    except Exception as error:
        if type(error) is not Exception:  # which Ray raises if its processes are not up in time
            raise
        raise ConfigError(
            f"The Ray at '{where}' is not up in time: {_reason(error)}. Run the command again when "
            "less runs on this machine."
        ) from error
    # Ray prints messages about lost nodes to stdout, which is for the answer of a command.
    with redirect_stdout(sys.stderr):
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def handlers_kept(*signals: signal.Signals) -> Iterator[None]:
    """Give signals the handlers back, at the end of the block, that a program had set before it.

    Where there was none, that of the block stays: Ray ends its processes in its own.
    """
    before = {each: signal.getsignal(each) for each in signals}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for each, handler in before.items():
                if callable(handler) or handler == signal.SIG_IGN:
                    signal.signal(each, handler)


def _keep_token() -> None:
    """Give a local Ray a token where it cannot keep one in the user's home, as in a container."""
    if not os.access(os.path.expanduser("~"), os.W_OK | os.X_OK):
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def check_address(address: str | None = None) -> None:
    """Refuse an address at which nothing listens, at once; Ray would try again for minutes.

    Args:
        address: As for `cluster`.

    Raises:
        ConfigError: Nothing listens there; or a Ray of this machine could not make its sockets.
    """
    where = address or ray_address()
    if where == "local" and len(os.fsencode(ray_folder() / _SOCKET)) > LONGEST_SOCKET:
        raise _not_started(f"the name of the folder {ray_folder()} is too long for a socket in it")
    try:
        place = urlsplit(where if "://" in where else f"//{where}")
        if place.hostname and place.port:
            with socket.create_connection((place.hostname, place.port), timeout=CONNECT_TIMEOUT_S):
                pass
    except (OSError, ValueError) as error:  # a ValueError if the port is no number
        raise _not_joined(where, error) from error


def _not_started(reason: str) -> ConfigError:
    return ConfigError(
        f"Cannot start a Ray on this machine: {reason}. Ray keeps its sockets and logs under "
        "RAY_TMPDIR, TMPDIR or /tmp, whichever is set first; it must be short, and writable. Set "
        "RAY_TMPDIR=/tmp, for example."
    )


def _not_joined(where: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"Cannot join the Ray at '{where}': {_reason(error)}. Check that it runs (`ray status`), "
        f"that it is Ray {ray.__version__} too, and that its token is in ~/.ray/auth_token here."
    )


def _reason(error: Exception) -> str:
    return str(error.__cause__ or error).strip().split(". ")[0].splitlines()[0]


def address() -> str:
    """Return the address at which other processes can join the Ray of this process."""
    return str(ray.get_runtime_context().gcs_address)


def trial_slots(config: SearchConfig) -> tuple[float, int]:
    """Return the share of a GPU that each trial gets, and how many trials run at once.

    A cluster that is scaled to zero has no GPU yet. A share that the configuration names is used
    all the same.
    """
    resources: dict[str, float] = ray.cluster_resources()
    gpus = resources.get("GPU", 0.0)
    share = config.gpus_per_trial
    if share is None:
        share = 0.5 if gpus else 0.0
    slots = gpus // share if share else resources.get("CPU", 0.0) // config.threads
    return share, int(slots) or CLUSTER_SLOTS


def default_threads(config: SearchConfig) -> int:
    """Return the CPUs of each trial if the user names no number.

    On CPUs it is 1. On GPUs the CPUs of a node are divided among its trials, as all but one of a
    trial's CPUs paint synthetic defects for the GPU. The node with the fewest for a trial decides;
    a cluster that is scaled to zero has none yet, so it is 1 there.
    """
    share, _ = trial_slots(config)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    with_gpus = [each for each in nodes if share and each.get("GPU", 0.0) >= share]
    parts = [each.get("CPU", 0.0) // (each["GPU"] // share) for each in with_gpus]
    return max(1, int(min(parts, default=1)))
