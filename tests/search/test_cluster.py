"""A Ray that does not answer, and how many trials run at once on one that does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from tests.search.tiny_searches import config
from zoo.errors import ConfigError
from zoo.search.cluster import (
    CLUSTER_SLOTS,
    check_address,
    cluster,
    default_threads,
    trial_slots,
)


@pytest.mark.parametrize("where", ["127.0.0.1:9", "ray://127.0.0.1:9"])
def test_an_address_without_a_ray_is_refused_with_what_to_check(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = f"Cannot join the Ray at '{where}': .*refused"
    with pytest.raises(ConfigError, match=said) as caught, cluster(where):
        pytest.fail("there is none")
    assert "Check that it runs (`ray status`)" in str(caught.value)
    monkeypatch.setenv("RAY_ADDRESS", where)
    with pytest.raises(ConfigError, match=said), cluster():
        pytest.fail("there is none")


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", "TMPDIR"])
def test_a_folder_too_long_for_the_sockets_of_ray_is_refused_with_what_to_set(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("long" * 30)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(variable, str(folder))
    said = f"Cannot start a Ray on this machine: .*{folder} is too long .*Set RAY_TMPDIR=/tmp"
    with pytest.raises(ConfigError, match=said):
        check_address()  # before the methods that learn nothing are fitted
    with pytest.raises(ConfigError, match=said), cluster("local"):
        pytest.fail("it started")


@pytest.mark.cluster
def test_a_local_ray_starts_where_the_home_of_the_user_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    environment = os.environ | {"HOME": str(tmp_path / "file")}
    code = "from zoo.search.cluster import cluster\nwith cluster('local'): print('started')"
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.stderr.endswith("started\n"), ended.stderr


def test_a_ray_that_does_not_come_up_in_time_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def init(**_: object) -> None:
        raise error  # Ray raises a plain Exception after 30 seconds of waiting for its processes

    monkeypatch.setattr(ray, "init", init)
    error: Exception = Exception("The current node timed out during startup. This could happen")
    said = "The Ray at 'local' is not up in time: The current node timed out .* less runs on this"
    with pytest.raises(ConfigError, match=said), cluster("local"):
        pytest.fail("it started")
    error = KeyError("a bug")
    with pytest.raises(KeyError), cluster("local"):
        pytest.fail("it started")


@pytest.mark.parametrize(
    ("resources", "limits", "expected"),
    [
        ({"CPU": 2.0}, {"threads": 1}, (0.0, 2)),
        ({"CPU": 2.0}, {"threads": 2}, (0.0, 1)),
        ({"CPU": 7.0}, {"threads": 2}, (0.0, 3)),
        ({"CPU": 8.0, "GPU": 2.0}, {}, (0.5, 4)),
        ({"CPU": 8.0, "GPU": 2.0}, {"gpus_per_trial": 0.0}, (0.0, 8)),
        ({"CPU": 8.0, "GPU": 2.0}, {"gpus_per_trial": 1.0}, (1.0, 2)),
        # No GPU is up yet: the share that was asked for is kept, and the autoscaler follows.
        ({"CPU": 2.0}, {"gpus_per_trial": 0.25}, (0.25, CLUSTER_SLOTS)),
        ({}, {}, (0.0, CLUSTER_SLOTS)),
    ],
)
def test_trials_at_once_share_the_gpus_or_else_the_cpus(
    resources: dict[str, float],
    limits: dict[str, float],
    expected: tuple[float, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: resources)
    assert trial_slots(config("p", **limits)) == expected


@pytest.mark.parametrize(
    ("nodes", "limits", "expected"),
    [
        ([{"CPU": 16.0}], {}, 1),
        ([{"CPU": 16.0, "GPU": 1.0}], {}, 8),
        ([{"CPU": 16.0, "GPU": 1.0}], {"gpus_per_trial": 1.0}, 16),
        ([{"CPU": 16.0, "GPU": 1.0}], {"gpus_per_trial": 0.0}, 1),
        ([{"CPU": 2.0}, {"CPU": 64.0, "GPU": 4.0}, {"CPU": 4.0, "GPU": 1.0}], {}, 2),
        ([{"CPU": 1.0, "GPU": 2.0}], {}, 1),
        ([{"CPU": 2.0}], {"gpus_per_trial": 0.5}, 1),
    ],
)
def test_trials_on_gpus_share_the_cpus_of_their_node(
    nodes: list[dict[str, float]],
    limits: dict[str, float],
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    total = {kind: sum(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU")}
    monkeypatch.setattr(ray, "cluster_resources", lambda: total)
    gone = {"Alive": False, "Resources": {"CPU": 1.0, "GPU": 8.0}}
    alive = [{"Alive": True, "Resources": node} for node in nodes]
    monkeypatch.setattr(ray, "nodes", lambda: [gone, *alive])
    assert default_threads(config("p", **limits)) == expected
