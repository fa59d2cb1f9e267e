"""The service on a local Ray: the file of the project, deployed as a user does it."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import ray
import yaml
from ray import serve
from ray.serve.schema import ServeDeploySchema
from ray.util.state import list_actors

from tests.processes import free_port, until
from tests.serve.services import pictures, promote
from zoo.errors import ConfigError
from zoo.serve.ray_app import Args, app

if TYPE_CHECKING:
    from registry.bundle import Bundle

FILE = Path(__file__).parents[2] / "ray_serve.yaml"
CONTENT: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
SECONDS = 120.0  # for what takes some seconds, on a slow machine
CLIENTS = 6


def test_the_file_is_what_ray_and_the_application_accept() -> None:
    schema = ServeDeploySchema.model_validate(CONTENT)
    (application,) = schema.applications
    assert [each.name for each in application.deployments] == ["Ingress", "Scorer"]
    assert Args.model_validate(application.args).settings().most_megapixels == 50
    wrong = Args.model_validate(application.args | {"keys": None})
    with pytest.raises(ConfigError, match="asks for keys, and `args` names no file of them"):
        wrong.settings()


def test_a_word_that_the_application_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="nmaes"):
        app({"nmaes": ["wood"], "open": True})


@dataclass(frozen=True)
class Cluster:
    """A local Ray with the application.

    Attributes:
        address: Of the HTTP proxy.
        root: Folder of the shelf.
        first: Digest of the first champion.
    """

    address: str
    root: Path
    first: str

    def score(self, picture: bytes, *, name: str = "weave") -> tuple[int, dict[str, Any]]:
        """Post a picture, and return the status and the answer."""
        request = urllib.request.Request(
            f"{self.address}/v1/detectors/{name}/score", data=picture, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def is_ready(self) -> bool:
        """Return whether the application answers, by both of its replicas that score."""
        try:
            with urllib.request.urlopen(f"{self.address}/readyz", timeout=5) as response:
                return bool(response.status == 200) and len(self.scorers()) == 2
        except OSError:
            return False

    def scorers(self) -> list[int]:
        """Return the process ids of the replicas that score."""
        alive: list[tuple[str, str, str | bool | int | float]] = [
            ("class_name", "=", "ServeReplica:zoo:Scorer"),
            ("state", "=", "ALIVE"),
        ]
        return [each.pid for each in list_actors(filters=alive, detail=True) if each.pid]


@pytest.fixture(scope="module")
def cluster(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The file of the project, with two replicas that score, deployed by Ray's own command."""
    root = tmp_path_factory.mktemp("served")
    first = promote(root, replace(tiny_bundle, texture="weave"), version=1)
    port, dashboard = free_port(), free_port()
    content = yaml.safe_load(FILE.read_text("utf-8"))
    content["http_options"] |= {"host": "127.0.0.1", "port": port}
    (application,) = content["applications"]
    application["args"] = {"shelf": str(root / "shelf"), "open": True, "refresh_s": 0.2}
    for each in application["deployments"]:
        each["ray_actor_options"] = {"num_cpus": 1}
    ingress, scorer = application["deployments"]
    ingress["num_replicas"] = 1
    scorer["autoscaling_config"] |= {"min_replicas": 2, "max_replicas": 2}
    file = root / "ray_serve.yaml"
    file.write_text(yaml.safe_dump(content))
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=True,
        dashboard_port=dashboard,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        subprocess.run(
            [sys.executable, "-m", "ray.serve.scripts", "deploy", str(file)],
            env=os.environ | {"RAY_DASHBOARD_ADDRESS": f"http://127.0.0.1:{dashboard}"},
            check=True,
            capture_output=True,
        )
        found = Cluster(f"http://127.0.0.1:{port}", root, first)
        until(found.is_ready, what="the application is not ready")
        yield found
    finally:
        serve.shutdown()
        ray.shutdown()


@contextmanager
def load(cluster: Cluster) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """Let clients score pictures one after the other, and yield the growing list of answers."""
    answers: list[tuple[int, dict[str, Any]]] = []
    stop, sent = threading.Event(), pictures(4)

    def ask() -> None:
        while not stop.is_set():
            answers.extend(cluster.score(each) for each in sent)

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(ask) for _ in range(CLIENTS)]
        try:
            yield answers
        finally:
            stop.set()
    for each in clients:
        each.result()


def more(answers: list[Any], *, than: int) -> None:
    until(lambda: len(answers) > than, what="the clients get no answers")


@pytest.mark.cluster
def test_the_routes_are_those_of_one_machine(cluster: Cluster) -> None:
    good, bad = pictures(2)
    (_, one), (status, other) = cluster.score(good), cluster.score(bad)
    assert status == 200
    assert (one["digest"], one["version"], one["name"]) == (cluster.first, 1, "weave")
    assert other["score"] > one["score"]
    with urllib.request.urlopen(f"{cluster.address}/v1/detectors/weave") as response:
        assert json.load(response)["digest"] == cluster.first
    status, told = cluster.score(b"no picture")
    assert (status, told["error"]) == (422, "bad_image")
    status, told = cluster.score(good, name="wevae")
    assert (status, told["error"]) == (404, "unknown_detector")
    assert "Did you mean 'weave'?" in told["message"]


@pytest.mark.cluster
def test_a_promotion_under_load_is_followed_and_no_answer_is_of_another_digest(
    cluster: Cluster, tiny_bundle: Bundle
) -> None:
    with load(cluster) as answers:
        more(answers, than=20)
        changed = replace(
            tiny_bundle, texture="weave", metrics=tiny_bundle.metrics | {"val_pixel_ap": 0.5}
        )
        second = promote(cluster.root, changed, version=2)
        assert second != cluster.first
        until(
            lambda: bool(answers) and answers[-1][1].get("version") == 2,
            what="the promotion is not followed",
        )
        more(answers, than=len(answers) + 20)
    assert {status for status, _ in answers} == {200}
    known = {(1, cluster.first), (2, second)}
    assert {(line["version"], line["digest"]) for _, line in answers} == known


@pytest.mark.cluster
def test_a_replica_that_is_killed_under_load_loses_no_picture(cluster: Cluster) -> None:
    before = cluster.scorers()
    with load(cluster) as answers:
        more(answers, than=20)
        os.kill(before[0], signal.SIGKILL)
        more(answers, than=len(answers) + 40)
        until(
            lambda: len(set(cluster.scorers()) - set(before)) == 1,
            what="there is no new replica",
        )
    assert Counter(status for status, _ in answers) == {200: len(answers)}
