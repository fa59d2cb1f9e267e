"""`ray up` with the cluster file, against an EC2 on the loopback address.

EC2 and IAM are moto's. An instance has no real address, so `ssh` and `rsync` are scripts. They log
the commands that Ray would run on the node, and give Ray the answers about Docker that it needs.
Whether the commands work on a real node is not tested.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.processes import aws_at

ROOT = Path(__file__).parents[2]
REGION = "eu-central-1"
# The command `ray` with shorter waits between two questions to EC2.
RAY = """
from ray.autoscaler._private import commands
from ray.autoscaler._private.aws import node_provider
from ray.scripts.scripts import main
commands.POLL_INTERVAL = node_provider.TAG_BATCH_DELAY = 0.1
main()
"""
SSH = """#!/bin/sh
printf '%s\\n' "$*" >> "$RAN"
case "$*" in
    *Config.Env*) echo '["HOME=/home/ray", "PATH=/usr/bin"]' ;;
    *"printenv HOME"*) echo /home/ray ;;
    *State.Running*) grep -q "docker run" "$RAN" && echo true ;;
esac
exit 0
"""
RSYNC = """#!/bin/sh
printf 'rsync %s\\n' "$*" >> "$RAN"
"""


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """An EC2, and the project's cluster file filled in for it.

    Attributes:
        root: Folder of the file, of the home and of the log of commands.
        environment: Of `ray`.
        ec2: A client.
        profile: ARN of the instance profile.
        image: Id of the machine image.
    """

    root: Path
    environment: dict[str, str]
    ec2: Any
    profile: str
    image: str

    def ray(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run `ray COMMAND` with the cluster file."""
        return subprocess.run(
            [sys.executable, "-c", RAY, command, "-y", str(self.root / "cluster.yaml")],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )

    def instances(self) -> list[dict[str, Any]]:
        """Return all instances, including the stopped ones."""
        reservations = self.ec2.describe_instances()["Reservations"]
        return [instance for each in reservations for instance in each["Instances"]]

    def ran(self) -> list[str]:
        """Return the commands that were run on nodes, in order."""
        return (self.root / "ran").read_text("utf-8").splitlines()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    key = {"aws_access_key_id": "drawn", "aws_secret_access_key": "drawn"}
    here: dict[str, Any] = key | {"region_name": REGION, "endpoint_url": f"http://{host}:{port}"}
    ec2, iam = boto3.client("ec2", **here), boto3.client("iam", **here)
    made = iam.create_instance_profile(InstanceProfileName="zoo")["InstanceProfile"]["Arn"]
    image = ec2.describe_images()["Images"][0]["ImageId"]
    text = (ROOT / "ray_cluster.yaml").read_text("utf-8")
    for name, value in {
        "YOUR-PROFILE": made,
        "ami-YOUR-AMI": image,
        "YOUR-BUCKET": "bucket",
    }.items():
        text = text.replace(name, value)
    (tmp_path / "cluster.yaml").write_text(text, "utf-8")
    token = tmp_path / "home" / ".ray" / "auth_token"
    token.parent.mkdir(parents=True)
    token.write_text("a token")
    for name, script in (("ssh", SSH), ("rsync", RSYNC)):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(script)
        program.chmod(0o755)
    environment = os.environ | aws_at(here["endpoint_url"], tmp_path)
    environment |= {
        "AWS_DEFAULT_REGION": REGION,
        "HOME": str(tmp_path / "home"),
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "RAN": str(tmp_path / "ran"),
        "TMPDIR": str(tmp_path),  # Ray keeps a copy of the configuration there
    }
    yield Cloud(root=tmp_path, environment=environment, ec2=ec2, profile=made, image=image)
    server.stop()


@pytest.mark.cluster
def test_ray_up_starts_a_head_and_sets_it_up_and_ray_down_stops_it(cloud: Cloud) -> None:
    up = cloud.ray("up")
    assert up.returncode == 0, up.stdout + up.stderr
    [head] = cloud.instances()
    assert (head["InstanceType"], head["ImageId"]) == ("m6i.large", cloud.image)
    assert head["IamInstanceProfile"]["Arn"] == cloud.profile
    assert head["State"]["Name"] == "running"
    tags = {tag["Key"]: tag["Value"] for tag in head["Tags"]}
    assert tags["ray-cluster-name"] == "texture-zoo"
    assert tags["ray-node-status"] == "up-to-date"
    ran = "\n".join(cloud.ran())
    wanted = [
        r"rsync .* --exclude \*\*/\.venv .* --filter dir-merge,- \.gitignore .*/texture-zoo/$",
        r"rsync .*/\.ray/auth_token .*/home/ray/\.ray/auth_token$",
        r"mkdir -p /home/ubuntu/zoo-home /home/ubuntu/mlflow",
        r"docker pull rayproject/ray:[\d.]+-py311-cpu",
        r"docker run .*zoo-home:/home/ray/zoo-home .*mlflow:/home/ray/mlflow .*-cpu bash",
        r"/texture-zoo && pip install --quiet --constraint constraints\.txt \S*\.\[cluster-serve\]",
        r"export RAY_AUTH_MODE=token$",
        r"export ZOO_STORAGE=s3://bucket/searches$",
        r"export ZOO_SHELF=s3://bucket/shelf$",
        r'\{"CPU":0\}.*ray start --head --port=6379 .*--autoscaling-config=/home/ray/ray_boot',
        r"mlflow server .*sqlite:////home/ray/mlflow/mlflow\.db .*s3://bucket/mlflow",
    ]
    at = 0
    for pattern in wanted:
        found = re.compile(pattern, re.MULTILINE).search(ran, at)
        assert found is not None, f"{pattern}\n{ran[at:]}"
        at = found.end()

    down = cloud.ray("down")
    assert down.returncode == 0, down.stdout + down.stderr
    assert [each["State"]["Name"] for each in cloud.instances()] == ["stopped"]
