"""Ray's fake autoscaler on this machine: its nodes are processes. `benchmarks.chaos` uses it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

FAKE = {
    "cluster_name": "fake",
    "max_workers": 2,
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 0.25,
    "provider": {
        "type": "fake_multinode",
        # A fake node has nothing to set up; an attempt would fail and stop the node.
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "use_node_id_as_ip": True,  # all of them are on this machine
    },
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "gpu": {"resources": {"CPU": 1, "GPU": 1}, "node_config": {}, "max_workers": 2},
    },
} | {name: {} for name in ("auth", "docker", "file_mounts")}
FAKE |= {
    name: []
    for name in (
        "cluster_synced_files", "head_setup_commands", "head_start_ray_commands",
        "initialization_commands", "rsync_exclude", "rsync_filter", "setup_commands",
        "worker_setup_commands", "worker_start_ray_commands",
    )
}  # fmt: skip


@contextlib.contextmanager
def autoscaler(folder: Path, access: dict[str, str]) -> Iterator[Callable[[], list[int]]]:
    """Start a Ray with an autoscaler; yield a function that lists its raylets, the head's first."""
    config = folder / "fake.json"
    config.write_text(json.dumps(FAKE))
    command = [
        str(Path(sys.executable).parent / "ray"),
        "start",
        "--head",
        f"--autoscaling-config={config}",
    ]
    command += ["--num-cpus=0", "--port=6379", f"--temp-dir={folder}", "--disable-usage-stats"]
    fake = access | {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    subprocess.run(command, env=os.environ | fake, check=True, stdout=subprocess.DEVNULL)
    place = str(folder).encode()

    def processes_with(word: bytes) -> list[int]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                title = (process / "cmdline").read_bytes()
                if place in title and word in title.split(b"\0")[0]:
                    found.append(int(process.name))
        return sorted(found)

    try:
        yield lambda: processes_with(b"raylet")
    finally:
        for process in processes_with(b""):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
