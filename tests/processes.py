"""Starts and finds processes for tests and benchmarks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    """Return a free port of the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def until(is_so: Callable[[], bool], *, what: str, seconds: float = 120.0) -> None:
    """Wait until something is so, and fail if it does not become so."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def same_imports() -> dict[str, str]:
    """Return the environment variable with which a new Python imports what this one does."""
    return {"PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}


def aws_at(endpoint: str, nowhere: Path) -> dict[str, str]:
    """Return environment variables for AWS clients with this endpoint.

    Args:
        endpoint: An address, such as that of moto.
        nowhere: A folder without a configuration of AWS.
    """
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "drawn",
        "AWS_SECRET_ACCESS_KEY": "drawn",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(nowhere / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(nowhere / "no-credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
    }


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[str]:
    """Run an MLflow server with its store in `folder`; at the end kill all of its processes."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    # The processes for MLflow jobs would double the time to start.
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env=environment
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not _answers(f"{uri}/health"):
            assert process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def descendants(ancestor: int) -> dict[int, str]:
    """Return the titles of a process and of all its descendants, with the workers of Ray."""
    titles, parents = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes().decode("utf-8", "replace")
            stat = (folder / "stat").read_text()
        except OSError:  # it has ended meanwhile
            continue
        titles[int(folder.name)] = title
        parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])

    def comes_from(process: int) -> bool:
        while process in parents and process != ancestor:
            process = parents[process]
        return process == ancestor

    return {process: title for process, title in titles.items() if comes_from(process)}
