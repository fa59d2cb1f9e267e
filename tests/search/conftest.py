"""One local Ray for all tests of this folder, as each start of one takes seconds."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import ray

from tests.processes import aws_at, free_port


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of an S3 on the loopback address, which a test starts."""
    return aws_at(f"http://127.0.0.1:{free_port()}", tmp_path_factory.mktemp("aws"))


@pytest.fixture(scope="module")
def local_ray(aws: dict[str, str]) -> None:
    """A local Ray with one CPU, so one trial at a time. Its workers have the environment `aws`."""
    if not ray.is_initialized():
        with pytest.MonkeyPatch.context() as environment:
            for name, value in aws.items():
                environment.setenv(name, value)
            ray.init(
                address="local",
                num_cpus=1,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Stop the Ray after the last test of this folder."""
    if nextitem is None or not nextitem.path.is_relative_to(Path(__file__).parent):
        ray.shutdown()
