"""An S3 without a network, and an MLflow store for each module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.mlflow_runs import new_store
from tests.processes import aws_at


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in aws_at(endpoint, tmp_path).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(aws: None) -> Iterator[str]:
    client = boto3.client("s3")
    client.create_bucket(Bucket="zoo")
    yield "zoo"
    for entry in client.list_objects_v2(Bucket="zoo").get("Contents", []):
        client.delete_object(Bucket="zoo", Key=entry["Key"])
    client.delete_bucket(Bucket="zoo")


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One MLflow store for all tests of a module; each search has a name of its own."""
    return new_store(tmp_path_factory.mktemp("mlflow store") / "mlflow.db")
