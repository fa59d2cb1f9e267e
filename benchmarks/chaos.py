"""What a night brings, done to a real search on purpose: does anything go missing?

    python -m benchmarks.chaos [--only worker,driver,mlflow,...] [--away 120]

Each case is `zoo search` in a home of its own, on photographs of bricks, one trial at a time so
that the same seed makes the same trials. The books are checked after each: every trial once in
MLflow, in Ray's folder and in Optuna's study, none left running, no report missing or told twice,
the totals equal to the sums. The champion is compared with that of the undisturbed search.

    worker   kill -9 of the worker in the middle of a trial, three times
    driver   kill -9 of `zoo search` and of its Ray, then `zoo search --resume`
    restless the same at drawn moments, ten times in one search or as often as it lasts
    mlflow   kill -9 of the MLflow server in mid-search; it comes back `--away` seconds later
    twins    two searches of the texture at once on one MLflow store
    sick     a space in which half of the trials diverge or ask for more memory than there is
    s3       the shelf is in S3 (moto), which is away when the winner is to be promoted; it comes
             back, then `zoo search --resume`
    full     the disk is full in mid-search; space is made, then `zoo search --resume`. A trial that
             Ray had no space to write down is drawn anew; in MLflow it stays, as interrupted.
    nodes    Ray's fake autoscaler: two GPU nodes come up for the trials, one is killed with -9 in
             mid-trial, and all have gone again at the end

`full` mounts a small tmpfs and so needs root; `nodes` needs Ray's default port, 6379.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pickle
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
from mlflow.tracking import MlflowClient
from moto.server import ThreadedMotoServer
from optuna.trial import TrialState

import zoo
from tests.processes import aws_at, descendants, free_port, mlflow_server
from zoo import demo

BIN = Path(sys.executable).parent
TRIALS, REPORTS, KILLS = 6, 4, 3
OFTEN, RESTLESS_S = 10, 12.0
CASES = ("worker", "driver", "restless", "mlflow", "twins", "sick", "s3", "full", "nodes")
SPACE = """
patch: 32
scale: 0.5
depth: 2
discriminator_depth: 2
segmenter_depth: 2
width: {integer: [4, 8]}
latent_channels: 4
discriminator_norm: batch
batch: 8
fixed_patches: 0
defect_rounds: 32
defect_learning_rate: {log_uniform: [5.0e-4, 8.0e-3]}
output_stride: 4
megapixels: 10.0
"""
SICK = SPACE.replace("{log_uniform: [5.0e-4, 8.0e-3]}", "{choice: [0.002, 1.0e30]}").replace(
    "batch: 8", "batch: {choice: [8, 50000000]}"
)


@dataclass(kw_only=True)
class Search:
    """One `zoo search` as a process, with what it says.

    Attributes:
        home: Its home.
        data: Folder of the data.
        more: Further options.
        space: What it varies.
        environment: Further variables, as of an MLflow server or a shelf.
        said: Its lines, as they come.
    """

    home: Path
    data: Path
    more: tuple[str, ...] = ()
    space: str = SPACE
    environment: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def start(self) -> Search:
        """Start it, in a session of its own."""
        space = self.data / "space.yaml"
        space.write_text(self.space)
        command = [str(BIN / "zoo"), "search", "--category", "brick", "--data", str(self.data)]
        command += ["--space", str(space), "--trials", str(TRIALS), "--reports", str(REPORTS)]
        command += ["--threads", str(os.cpu_count() or 1), "--time-budget", "1h", "--json"]
        here = {"ZOO_HOME": str(self.home)} | self.environment
        gone = ("ZOO_SHELF", "MLFLOW_TRACKING_URI", "RAY_ADDRESS")
        self.process = subprocess.Popen(
            [*command, *self.more],
            env={name: value for name, value in os.environ.items() if name not in gone} | here,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()
        return self

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.rstrip())

    def until(self, wanted: Callable[[list[str]], bool], seconds: float = 300.0) -> None:
        """Wait until it has said something."""
        deadline = time.monotonic() + seconds
        while not wanted(self.said):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("it did not come so far:\n" + "\n".join(self.said))
            time.sleep(0.05)

    def answer(self) -> dict[str, Any]:
        """Wait for its end, and return its answer."""
        assert self.process.stdout is not None
        printed = self.process.stdout.read()
        self._listener.join()
        if self.process.wait():
            raise SystemExit(f"code {self.process.returncode}:\n" + "\n".join(self.said))
        try:
            found: dict[str, Any] = json.loads(printed)
        except json.JSONDecodeError:
            raise SystemExit(f"this is no answer:\n{printed}") from None
        return found

    def refusal(self) -> str:
        """Wait for its end, and return the line with which it gave up."""
        self._listener.join()
        if self.process.wait() != 2:
            raise SystemExit(f"code {self.process.returncode}:\n" + "\n".join(self.said))
        return self.said[-1]

    def kill_worker(self) -> None:
        """Kill -9 the worker that trains."""
        for process, title in descendants(self.process.pid).items():
            if "ray::Implicit" in title:
                os.kill(process, signal.SIGKILL)

    def kill(self) -> None:
        """Kill -9 the driver, and then whatever it leaves of its Ray."""
        left = descendants(self.process.pid)
        self.process.kill()
        self.process.wait()
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._listener.join()


def ended(said: list[str]) -> int:
    """Count the trials that were told of as ended."""
    endings = ("finished", "stopped early", "failed")
    return sum("| trial " in line and line.endswith(endings) for line in said)


def lost(said: list[str]) -> int:
    """Count the workers that were told of as lost."""
    return sum("lost its worker" in line for line in said)


def books(home: Path, name: str, uri: str = "", *, forgotten: bool = False) -> list[str]:
    """Return what does not balance in the record of a search; nothing if all is well.

    Args:
        home: Of the search.
        name: Of the search.
        uri: Of MLflow, if it is not the home's own database.
        forgotten: MLflow may have interrupted trials of which Ray knows no more.
    """
    wrong: list[str] = []
    client = MlflowClient(uri or f"sqlite:///{home / 'mlflow.db'}")
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`zoo.search` = '{name}'", max_results=1000)
    trials = [run for run in runs if run.data.tags["zoo.role"] == "trial"]
    [parent] = [run for run in runs if run.data.tags["zoo.role"] == "search"]
    interrupted = [run for run in trials if run.data.tags["zoo.outcome"] == "interrupted"]
    names = [
        run.data.tags["zoo.trial"] for run in trials if not forgotten or run not in interrupted
    ]
    if len(names) != TRIALS or len(set(names)) != TRIALS:
        wrong.append(f"MLflow has {len(names)} runs of {len(set(names))} trials")
    wrong += [f"run {run.info.run_name} is RUNNING" for run in runs if run.info.status == "RUNNING"]
    for run in trials:
        history = client.get_metric_history(run.info.run_id, "val_pixel_ap")
        steps = [point.step for point in history]
        if steps != list(range(1, int(run.data.tags.get("zoo.steps", 0)) + 1)):
            wrong.append(f"trial {run.info.run_name} has steps {steps}")
    for total in ("steps", "cpu_seconds", "gpu_seconds"):
        each = sum(float(run.data.tags.get(f"zoo.{total}", 0)) for run in trials)
        if abs(parent.data.metrics[total] - each) > 1e-6:
            wrong.append(f"{total}: {parent.data.metrics[total]} is not {each}")
    if parent.data.metrics["trials_interrupted"] != len(interrupted):
        wrong.append(f"{len(interrupted)} trials are interrupted")
    folders = list((home / "searches" / name).glob("run_*"))
    if len(folders) != TRIALS and not forgotten:
        wrong.append(f"Ray has {len(folders)} trials")
    state = max((home / "searches" / name).glob("searcher-state-*.pkl"))  # as Ray chooses
    study = pickle.loads(state.read_bytes())["_ot_study"]  # made just now
    states = [trial.state for trial in study.trials]
    if len(states) != TRIALS or TrialState.RUNNING in states:
        wrong.append(f"Optuna has {[each.name for each in states]}")
    return wrong


def told(case: str, answer: dict[str, Any], wrong: list[str], calm: dict[str, Any] | None) -> None:
    """Print a line on a case."""
    outcomes = {key[7:]: int(value) for key, value in answer.items() if key.startswith("trials_")}
    weights = [
        Path(each["detector"], "weights.safetensors").read_bytes()
        for each in (answer, calm or answer)
    ]
    same = "" if calm is None else f" | same champion, bit by bit: {weights[0] == weights[1]}"
    print(
        f"{case}: {outcomes}, val_pixel_ap {answer['val_pixel_ap']:.4f}, {answer['seconds']:.0f} s"
        f"{same} | {'; '.join(wrong) or 'the books balance'}",
        flush=True,
    )


def name_of(answer: dict[str, Any]) -> str:
    """Return the name of the search that gave an answer."""
    return Path(answer["detector"]).parent.name


def worker(root: Path, data: Path, calm: dict[str, Any]) -> None:
    """Kill the worker three times in mid-trial."""
    search = Search(home=root / "worker", data=data).start()
    for kill in range(1, KILLS + 1):
        search.until(lambda said, kill=kill: ended(said) >= kill)  # type: ignore[misc]
        time.sleep(1.5)
        search.kill_worker()
        search.until(lambda said, kill=kill: lost(said) >= kill)  # type: ignore[misc]
    answer = search.answer()
    told(f"worker, killed {KILLS} times", answer, books(search.home, name_of(answer)), calm)


def driver(root: Path, data: Path, calm: dict[str, Any]) -> None:
    """Kill the driver and its Ray, and resume."""
    search = Search(home=root / "driver", data=data).start()
    search.until(lambda said: ended(said) >= 2)
    time.sleep(2.0)
    search.kill()
    resumed = Search(home=root / "driver", data=data, more=("--resume",)).start()
    answer = resumed.answer()
    told("driver, killed once", answer, books(resumed.home, name_of(answer)), calm)


def restless(root: Path, data: Path, calm: dict[str, Any]) -> None:
    """Kill the driver and its Ray at whatever moment, again and again.

    A trial of which Ray had written down nothing yet is drawn anew, so the champion may be another.
    """
    drawn, home, more, kills = random.Random(), root / "restless", tuple[str, ...](), 0
    while True:
        search = Search(home=home, data=data, more=more).start()
        search.until(lambda said: any("ing search brick-" in line for line in said))
        try:
            search.process.wait(drawn.uniform(0.0, RESTLESS_S) if kills < OFTEN else None)
        except subprocess.TimeoutExpired:
            search.kill()
            more, kills = ("--resume",), kills + 1
            continue
        answer = search.answer()
        wrong = books(home, name_of(answer), forgotten=True)
        return told(f"restless, killed {kills} times", answer, wrong, calm)


def mlflow(root: Path, data: Path, calm: dict[str, Any], away: float) -> None:
    """Take the MLflow server away in mid-search, and bring it back."""
    port = free_port()
    with mlflow_server(root / "mlflow-server", port) as uri:
        environment = {"MLFLOW_TRACKING_URI": uri}
        search = Search(home=root / "mlflow", data=data, environment=environment).start()
        search.until(lambda said: ended(said) >= 2)
    time.sleep(away)
    with mlflow_server(root / "mlflow-server", port):
        answer = search.answer()
        wrong = books(search.home, name_of(answer), uri)
    if not any("its record waits in" in line for line in search.said):
        wrong.append("nobody noticed")
    told(f"mlflow, away for {away:.0f} s", answer, wrong, calm)


def twins(root: Path, data: Path) -> None:
    """Search twice at once, on one record; on all cores each would take twenty times as long."""
    home, one = root / "twins", ("--threads=1",)
    first = Search(home=home, data=data, more=one).start()
    first.until(lambda said: any("Starting search" in line for line in said))
    time.sleep(1.0)  # the name of a search is the second in which it began
    second = Search(home=home, data=data, more=one).start()
    for number, search in enumerate((first, second), start=1):
        answer = search.answer()
        told(f"twins, {number} of 2", answer, books(home, name_of(answer)), None)


def sick(root: Path, data: Path) -> None:
    """Search where half of the settings cannot work."""
    search = Search(home=root / "sick", data=data, space=SICK).start()
    answer = search.answer()
    wrong = books(search.home, name_of(answer))
    wrong += [] if answer["trials_failed"] else ["no trial failed"]
    told("sick", answer, wrong, None)
    print(f"sick, told: {next(line for line in search.said if 'the first failure' in line)}")


def s3(root: Path, data: Path, calm: dict[str, Any]) -> None:
    """Promote into a bucket that is away, then into the same one when it is there."""
    port = free_port()
    environment = aws_at(f"http://127.0.0.1:{port}", root) | {"ZOO_SHELF": "s3://zoo/shelf"}
    search = Search(home=root / "s3", data=data, environment=environment).start()
    print(f"s3, told: {search.refusal()}")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    with mock.patch.dict(os.environ, environment):
        boto3.client("s3").create_bucket(Bucket="zoo")
        again = Search(home=root / "s3", data=data, environment=environment, more=("--resume",))
        answer = again.start().answer()
        wrong = books(again.home, name_of(answer))
        wrong += [] if answer["promoted"] else ["it was not promoted"]
        loaded = zoo.load("brick").bundle.metrics["val_pixel_ap"]
        wrong += [] if loaded == answer["val_pixel_ap"] else [f"the shelf serves {loaded}"]
    server.stop()
    told("s3, away at the promotion", answer, wrong, calm)


def full(root: Path, data: Path, calm: dict[str, Any]) -> None:
    """Fill the disk in mid-search, make space, and resume."""
    home = root / "full"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(home)], check=True)
    try:
        search = Search(home=home, data=data).start()
        search.until(lambda said: ended(said) >= 2)
        ballast = home / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(2**16)):
                continue
        print(f"full, told: {search.refusal()}")
        ballast.unlink()
        answer = Search(home=home, data=data, more=("--resume",)).start().answer()
        told("full, once", answer, books(home, name_of(answer), forgotten=True), calm)
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=True)


FAKE = {
    "cluster_name": "fake",
    "max_workers": 2,
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 0.25,
    "provider": {
        "type": "fake_multinode",
        # A fake node has nothing to be set up; trying to would fail, and end the node.
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
    """A Ray whose GPU nodes come and go; gives its raylets, the head's first."""
    config = folder / "fake.json"
    config.write_text(json.dumps(FAKE))
    command = [str(BIN / "ray"), "start", "--head", f"--autoscaling-config={config}"]
    command += ["--num-cpus=0", "--port=6379", f"--temp-dir={folder}", "--disable-usage-stats"]
    fake = access | {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    subprocess.run(command, env=os.environ | fake, check=True, stdout=subprocess.DEVNULL)
    place = str(folder).encode()

    def belonging(word: bytes) -> list[int]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                title = (process / "cmdline").read_bytes()
                if place in title and word in title.split(b"\0")[0]:
                    found.append(int(process.name))
        return sorted(found)

    try:
        yield lambda: belonging(b"raylet")
    finally:
        for process in belonging(b""):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def nodes(root: Path, data: Path) -> None:
    """Let nodes come and go, and kill one of them."""
    folder = root / "nodes-ray"
    folder.mkdir()
    token = folder / "token"
    token.write_text(secrets.token_hex(16))
    access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    with autoscaler(folder, access) as raylets:
        options = ("--address=127.0.0.1:6379", "--gpus-per-trial=1", "--threads=1")
        search = Search(home=root / "nodes", data=data, more=options, environment=access).start()
        search.until(lambda said: ended(said) >= 1)
        time.sleep(1.5)
        most = len(raylets())
        os.kill(raylets()[-1], signal.SIGKILL)
        search.until(lambda said: lost(said) >= 1)
        answer = search.answer()
        wrong = books(search.home, name_of(answer))
        deadline = time.monotonic() + 120
        while len(raylets()) > 1 and time.monotonic() < deadline:
            time.sleep(1.0)
        left = len(raylets())
    wrong += [line for line in search.said if "the first failure" in line]
    wrong += [] if most >= 3 else [f"{most - 1} nodes came up"]
    wrong += [] if left == 1 else [f"{left - 1} nodes stayed"]
    told(f"nodes, {most - 1} came up, one was killed, {left - 1} stayed", answer, wrong, None)


def main() -> None:
    """Search undisturbed, then in every case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(CASES), help=f"some of {', '.join(CASES)}")
    parser.add_argument("--away", type=float, default=120.0, help="seconds without MLflow (120)")
    args = parser.parse_args()
    alone = {"twins": twins, "sick": sick, "nodes": nodes}
    compared = {
        "worker": worker,
        "driver": driver,
        "restless": restless,
        "s3": s3,
        "full": full,
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = demo.make(root / "data", texture="brick").parent
        search = Search(home=root / "calm", data=data).start()
        calm = search.answer()
        told("undisturbed", calm, books(search.home, name_of(calm)), None)
        for case in args.only.split(","):
            if case == "mlflow":
                mlflow(root, data, calm, args.away)
            elif case in alone:
                alone[case](root, data)
            else:
                compared[case](root, data, calm)


if __name__ == "__main__":
    main()
