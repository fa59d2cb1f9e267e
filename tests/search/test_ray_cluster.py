"""The cluster file, checked by Ray's schema and without a network."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from zoo.search.cluster_file import PLACEHOLDER

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "ray_cluster.yaml").read_text("utf-8")
TOP, _, BODY = TEXT.partition("cluster_name:")


def cluster() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(TEXT)
    return content


def test_ray_accepts_the_cluster_file_as_it_stands() -> None:
    prepared = prepare_config(cluster())
    validate_config(prepared)
    assert prepared["max_workers"] == 8


def test_ray_refuses_the_cluster_file_with_one_word_misspelt() -> None:
    misspelt = cluster()
    misspelt["idle_timeout_minuets"] = misspelt.pop("idle_timeout_minutes")
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minuets"):
        validate_config(prepare_config(misspelt))


def test_the_first_lines_are_the_commands_that_use_the_file() -> None:
    commands = re.findall(r"^#   ray (\S+) ", TOP, re.MULTILINE)
    assert TOP.startswith("# ")
    assert commands == ["get-auth-token", "up", "rsync-up", "exec", "attach", "attach", "down"]


def test_every_placeholder_is_named_at_the_top_and_used_below() -> None:
    used = set(PLACEHOLDER.findall(BODY))
    named = set(re.findall(rf"^#   ({PLACEHOLDER.pattern}) ", TOP, re.MULTILINE))
    assert used == named == {"YOUR-BUCKET", "YOUR-PROFILE", "ami-YOUR-AMI"}


@pytest.mark.parametrize("image", ["head_image", "worker_image"])
def test_the_nodes_run_the_ray_of_the_constraints_and_a_python_we_support(image: str) -> None:
    tag = re.fullmatch(r"rayproject/ray:([\d.]+)-py3(\d+)-[cg]pu", cluster()["docker"][image])
    assert tag is not None
    constraints = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert f"ray=={tag[1]}" in constraints
    assert tag[1] == ray.__version__
    supported = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert f"Programming Language :: Python :: 3.{tag[2]}" in supported["classifiers"]


def test_no_trial_runs_on_the_head_and_workers_are_spot_instances_with_gpus() -> None:
    nodes = prepare_config(cluster())["available_node_types"]
    assert nodes["head"]["resources"] == {"CPU": 0}
    assert nodes["head"]["max_workers"] == 0
    assert nodes["gpu"]["resources"]["GPU"] == 1
    assert (nodes["gpu"]["min_workers"], nodes["gpu"]["max_workers"]) == (0, 8)
    assert nodes["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_every_node_gets_the_project_by_its_constraints_and_the_token() -> None:
    mounts = cluster()["file_mounts"]
    prepared = prepare_config(cluster())
    assert mounts == {
        "/home/ray/texture-zoo": ".",
        "/home/ray/.ray/auth_token": "~/.ray/auth_token",
    }
    for node in ("head", "worker"):
        commands = prepared[f"{node}_setup_commands"]
        assert any("texture-zoo && pip install" in command for command in commands)
        assert any(
            "--constraint constraints.txt '.[cluster-serve]'" in command for command in commands
        )
        assert any("RAY_AUTH_MODE=token" in command for command in commands)


def test_trials_and_shelf_are_in_s3_and_the_home_is_on_the_heads_own_disk() -> None:
    prepared = prepare_config(cluster())
    assert prepared["docker"]["head_run_options"] == [
        "--volume /home/ubuntu/zoo-home:/home/ray/zoo-home",
        "--volume /home/ubuntu/mlflow:/home/ray/mlflow",
    ]
    assert re.findall(r"export (?:ZOO|MLFLOW)_\S+", BODY) == [
        "export ZOO_HOME=/home/ray/zoo-home",
        "export ZOO_STORAGE=s3://YOUR-BUCKET/searches",
        "export ZOO_SHELF=s3://YOUR-BUCKET/shelf",
        "export MLFLOW_TRACKING_URI=http://127.0.0.1:5000",
    ]
