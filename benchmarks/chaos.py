"""Failures in the middle of a real search, made on purpose: is anything lost?

    python -m benchmarks.chaos [--only worker,driver,mlflow,...] [--away 120] [--minutes 60]

Each case is `zoo search` in a home of its own, on photographs of bricks, one trial at a time so
that the same seed makes the same trials. After each case the records are checked: every trial is
there once in MLflow, in Ray's folder and in Optuna's study, no run is left running, no report is
missing or logged twice, and the totals equal the sums. The best detector is compared with that of
an undisturbed search, which always runs first. With `--minutes`, all cases are repeated until that
time is over.

    undisturbed: nothing else
    worker   kill -9 of the worker in the middle of a trial, three times
    driver   kill -9 of `zoo search` and of its Ray, then `zoo search --resume`
    restless the same at random times, up to ten times in one search
    mlflow   kill -9 of the MLflow server during a search; it is back `--away` seconds later
    twins    two searches of the texture at once on one MLflow store
    sick     a space in which half of the trials diverge or ask for more memory than there is
    s3       the shelf is in S3 (moto), which does not answer when the best detector is promoted;
             later it does, then `zoo search --resume`
    full     the disk is full during a search; space is made, then `zoo search --resume`. A trial
             that Ray had no space to save is drawn again; its MLflow run stays, as interrupted.
    nodes    Ray's fake autoscaler: two GPU nodes start for the trials, one is killed with -9 during
             a trial, and all have stopped at the end

`full` mounts a small tmpfs and so needs root; `nodes` needs Ray's default port, 6379.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
from mlflow.tracking import MlflowClient
from moto.server import ThreadedMotoServer
from optuna.trial import TrialState

import zoo
from benchmarks.fake_autoscaler import autoscaler
from tests.processes import aws_at, descendants, free_port, mlflow_server
from zoo.data import demo

BIN = Path(sys.executable).parent
TRIALS, REPORTS, KILLS = 6, 4, 3
OFTEN, RESTLESS_S = 10, 12.0
CASES = (
    *("undisturbed", "worker", "driver", "restless", "mlflow"),
    *("twins", "sick", "s3", "full", "nodes"),
)
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
    "batch: 8", "batch: {choice: [8, 1000000000000000]}"
)


@dataclass(kw_only=True)
class Search:
    """One `zoo search` as a process, with its progress.

    Attributes:
        home: Its home.
        data: Folder of the data.
        more: Further options.
        space: Text of the search space.
        environment: Further variables, such as those of an MLflow server or a shelf.
        said: Its lines of progress.
    """

    home: Path
    data: Path
    more: tuple[str, ...] = ()
    space: str = SPACE
    environment: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def start(self) -> Search:
        """Start the search, in a session of its own."""
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
        self._reader = threading.Thread(target=self._read_progress)
        self._reader.start()
        return self

    def _read_progress(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.rstrip())

    def until(self, wanted: Callable[[list[str]], bool], seconds: float = 300.0) -> None:
        """Wait until its lines of progress meet a condition."""
        deadline = time.monotonic() + seconds
        while not wanted(self.said):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the search did not come so far:\n" + "\n".join(self.said))
            time.sleep(0.05)

    def answer(self) -> dict[str, Any]:
        """Wait for the end of the search, and return its answer."""
        assert self.process.stdout is not None
        printed = self.process.stdout.read()
        self._reader.join()
        if self.process.wait():
            raise SystemExit(f"code {self.process.returncode}:\n" + "\n".join(self.said))
        try:
            found: dict[str, Any] = json.loads(printed)
        except json.JSONDecodeError:
            raise SystemExit(f"the answer is not JSON:\n{printed}") from None
        return found

    def refusal(self) -> str:
        """Wait for the search to be refused, and return its last line."""
        self._reader.join()
        if self.process.wait() != 2:
            raise SystemExit(f"code {self.process.returncode}:\n" + "\n".join(self.said))
        return self.said[-1]

    def kill_worker(self) -> None:
        """Kill the worker that trains, with -9."""
        for process, title in descendants(self.process.pid).items():
            if "ray::Implicit" in title:
                os.kill(process, signal.SIGKILL)

    def kill(self) -> None:
        """Kill the driver with -9, and then the processes of its Ray."""
        left = descendants(self.process.pid)
        self.process.kill()
        self.process.wait()
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._reader.join()


def ended(said: list[str]) -> int:
    """Count the trials that were reported as ended."""
    endings = ("finished", "stopped early", "failed")
    return sum("| trial " in line and line.endswith(endings) for line in said)


def lost(said: list[str]) -> int:
    """Count the workers that were reported as lost."""
    return sum("lost its worker" in line for line in said)


def mismatches(home: Path, name: str, uri: str = "", *, forgotten: bool = False) -> list[str]:
    """Return where MLflow, Ray and Optuna disagree about a search; an empty list if nowhere.

    Args:
        home: Of the search.
        name: Of the search.
        uri: Of MLflow, if it is not the home's own database.
        forgotten: Whether MLflow may have interrupted trials that Ray has not saved.
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


def show(
    case: str, answer: dict[str, Any], wrong: list[str], undisturbed: dict[str, Any] | None
) -> None:
    """Print a line about a case."""
    outcomes = {key[7:]: int(value) for key, value in answer.items() if key.startswith("trials_")}
    weights = [
        Path(each["detector"], "weights.safetensors").read_bytes()
        for each in (answer, undisturbed or answer)
    ]
    equal = weights[0] == weights[1]
    same = "" if undisturbed is None else f" | same best detector, bit by bit: {equal}"
    print(
        f"{case}: {outcomes}, val_pixel_ap {answer['val_pixel_ap']:.4f}, {answer['seconds']:.0f} s"
        f"{same} | {'; '.join(wrong) or 'all records agree'}",
        flush=True,
    )


def name_of(answer: dict[str, Any]) -> str:
    """Return the name of the search that gave an answer."""
    return Path(answer["detector"]).parent.name


def worker(root: Path, data: Path, undisturbed: dict[str, Any]) -> None:
    """Kill the worker during a trial, three times."""
    search = Search(home=root / "worker", data=data).start()
    for kill in range(1, KILLS + 1):
        search.until(lambda said, kill=kill: ended(said) >= kill)  # type: ignore[misc]
        time.sleep(1.5)
        search.kill_worker()
        search.until(lambda said, kill=kill: lost(said) >= kill)  # type: ignore[misc]
    answer = search.answer()
    show(
        f"worker, killed {KILLS} times",
        answer,
        mismatches(search.home, name_of(answer)),
        undisturbed,
    )


def driver(root: Path, data: Path, undisturbed: dict[str, Any]) -> None:
    """Kill the driver and its Ray, and resume."""
    search = Search(home=root / "driver", data=data).start()
    search.until(lambda said: ended(said) >= 2)
    time.sleep(2.0)
    search.kill()
    resumed = Search(home=root / "driver", data=data, more=("--resume",)).start()
    answer = resumed.answer()
    show("driver, killed once", answer, mismatches(resumed.home, name_of(answer)), undisturbed)


def restless(root: Path, data: Path, undisturbed: dict[str, Any]) -> None:
    """Kill the driver and its Ray at random times.

    A trial that Ray had not saved yet is drawn again, so the best detector may be another.
    """
    random_times, home, more, kills = random.Random(), root / "restless", tuple[str, ...](), 0
    while True:
        search = Search(home=home, data=data, more=more).start()
        search.until(lambda said: any("ing search brick-" in line for line in said))
        try:
            search.process.wait(random_times.uniform(0.0, RESTLESS_S) if kills < OFTEN else None)
        except subprocess.TimeoutExpired:
            search.kill()
            more, kills = ("--resume",), kills + 1
            continue
        answer = search.answer()
        wrong = mismatches(home, name_of(answer), forgotten=True)
        return show(f"restless, killed {kills} times", answer, wrong, undisturbed)


def mlflow(root: Path, data: Path, undisturbed: dict[str, Any], away: float) -> None:
    """Stop the MLflow server during a search, and start it again."""
    port = free_port()
    with mlflow_server(root / "mlflow-server", port) as uri:
        environment = {"MLFLOW_TRACKING_URI": uri}
        search = Search(home=root / "mlflow", data=data, environment=environment).start()
        search.until(lambda said: ended(said) >= 2)
    time.sleep(away)
    with mlflow_server(root / "mlflow-server", port):
        answer = search.answer()
        wrong = mismatches(search.home, name_of(answer), uri)
    if not any("its record is kept in" in line for line in search.said):
        wrong.append("the search has not reported it")
    show(f"mlflow, away for {away:.0f} s", answer, wrong, undisturbed)


def twins(root: Path, data: Path) -> None:
    """Run two searches at once on one MLflow store, each with one thread to save time."""
    home, one = root / "twins", ("--threads=1",)
    first = Search(home=home, data=data, more=one).start()
    first.until(lambda said: any("Starting search" in line for line in said))
    time.sleep(1.0)  # the name of a search has the second of its start
    second = Search(home=home, data=data, more=one).start()
    for number, search in enumerate((first, second), start=1):
        answer = search.answer()
        show(f"twins, {number} of 2", answer, mismatches(home, name_of(answer)), None)


def sick(root: Path, data: Path) -> None:
    """Run a search in which half of the settings cannot work."""
    search = Search(home=root / "sick", data=data, space=SICK).start()
    answer = search.answer()
    wrong = mismatches(search.home, name_of(answer))
    wrong += [] if answer["trials_failed"] else ["no trial failed"]
    show("sick", answer, wrong, None)
    print(f"sick: {next(line for line in search.said if 'the first failure' in line)}")


def s3(root: Path, data: Path, undisturbed: dict[str, Any]) -> None:
    """Promote to a bucket that does not answer, then to the same one when it does."""
    port = free_port()
    environment = aws_at(f"http://127.0.0.1:{port}", root) | {"ZOO_SHELF": "s3://zoo/shelf"}
    search = Search(home=root / "s3", data=data, environment=environment).start()
    print(f"s3: {search.refusal()}")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    with mock.patch.dict(os.environ, environment):
        boto3.client("s3").create_bucket(Bucket="zoo")
        again = Search(home=root / "s3", data=data, environment=environment, more=("--resume",))
        answer = again.start().answer()
        wrong = mismatches(again.home, name_of(answer))
        wrong += [] if answer["promoted"] else ["it was not promoted"]
        loaded = zoo.load("brick").bundle.metrics["val_pixel_ap"]
        wrong += [] if loaded == answer["val_pixel_ap"] else [f"the shelf serves {loaded}"]
    server.stop()
    show("s3, away at the promotion", answer, wrong, undisturbed)


def full(root: Path, data: Path, undisturbed: dict[str, Any]) -> None:
    """Fill the disk during a search, make space, and resume."""
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
        print(f"full: {search.refusal()}")
        ballast.unlink()
        answer = Search(home=home, data=data, more=("--resume",)).start().answer()
        show("full, once", answer, mismatches(home, name_of(answer), forgotten=True), undisturbed)
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=True)


def nodes(root: Path, data: Path) -> None:
    """Let the autoscaler start and stop nodes, and kill one of them."""
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
        wrong = mismatches(search.home, name_of(answer))
        deadline = time.monotonic() + 120
        while len(raylets()) > 1 and time.monotonic() < deadline:
            time.sleep(1.0)
        left = len(raylets())
    wrong += [line for line in search.said if "the first failure" in line]
    wrong += [] if most >= 3 else [f"{most - 1} nodes started"]
    wrong += [] if left == 1 else [f"{left - 1} nodes still run"]
    show(f"nodes, {most - 1} started, one was killed, {left - 1} still run", answer, wrong, None)


def main() -> None:
    """Run an undisturbed search, then every case, again and again if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(CASES), help=f"some of {', '.join(CASES)}")
    parser.add_argument("--away", type=float, default=120.0, help="seconds without MLflow (120)")
    parser.add_argument("--minutes", type=float, default=0.0, help="then no round starts (0: one)")
    args = parser.parse_args()
    ends = time.monotonic() + 60 * args.minutes
    for number in itertools.count(1):
        print(f"round {number}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            one_round(Path(folder), args.only.split(","), args.away)
        if time.monotonic() > ends:
            return


def one_round(root: Path, cases: Sequence[str], away: float) -> None:
    """Run an undisturbed search, then each of the cases."""
    alone = {"twins": twins, "sick": sick, "nodes": nodes}
    compared = {"worker": worker, "driver": driver, "restless": restless, "s3": s3, "full": full}
    data = demo.make(root / "data", texture="brick").parent
    search = Search(home=root / "undisturbed", data=data).start()
    undisturbed = search.answer()
    show("undisturbed", undisturbed, mismatches(search.home, name_of(undisturbed)), None)
    for case in cases:
        if case == "mlflow":
            mlflow(root, data, undisturbed, away)
        elif case in alone:
            alone[case](root, data)
        elif case != "undisturbed":
            compared[case](root, data, undisturbed)


if __name__ == "__main__":
    main()
