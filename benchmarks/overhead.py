"""The time of a search that is not training, and how it grows with the number of trials.

    python benchmarks/overhead.py share [--trials 24] [--megapixels 60]
    python benchmarks/overhead.py growth [--upto 10000]

`share` runs a search with short trials on photographs of bricks, one at a time on all cores, with
MLflow runs. Then it trains the same trials in a plain loop in a new process: as long, with the same
threads. The difference, without the start of Ray, is the overhead.

`growth` runs searches with 10, 100, 1000... trials that train nothing and report once, without and
with MLflow runs. It prints the seconds of each trial, the driver's CPU time and memory, and the
size of the object store.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import ray
import torch
from ray import tune

from registry.runs.buffer import BufferedRuns
from registry.runs.search_runs import SearchRuns
from registry.runs.store import open_store
from registry.trials import Outcome, TrialUsage
from search_spaces import Field, Integer, LogUniform, Space
from zoo.data import demo, textures
from zoo.errors import SearchError
from zoo.search.cluster import cluster
from zoo.search.config import SearchConfig, TrialLog
from zoo.search.progress import Lines
from zoo.search.run import run_search
from zoo.training import METRIC, Checkpoint, TrainingData, field_names, gather, settings, train

CORES = os.cpu_count() or 1
NOTHING = Lines(lambda line: None)  # shows no progress
FIXED: dict[str, Field] = {
    "patch": 32, "scale": 1.0, "depth": 2, "discriminator_depth": 2, "segmenter_depth": 2,
    "latent_channels": 4, "discriminator_norm": "batch", "batch": 8, "fixed_patches": 0,
    "defect_rounds": 64, "output_stride": 4,
}  # fmt: skip
SPACE = Space(
    name="bench",
    path=Path("bench.yaml"),
    fields=FIXED
    | {
        "width": Integer(low=6, high=12),
        "defect_learning_rate": LogUniform(low=5e-4, high=8e-3),
    },
)


@dataclass
class LoopLog:
    """A `TrialLog` that keeps what the plain loop needs."""

    params: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)

    def started(self, trial: str, params: Mapping[str, Any]) -> None:
        """Keep the parameters."""
        self.params[trial] = dict(params)

    def reported(
        self, trial: str, step: int, metrics: Mapping[str, float], usage: TrialUsage
    ) -> None:
        """Keep the number of the last report."""
        self.steps[trial] = step

    def ended(self, trial: str, outcome: Outcome, bundle: Path | None, usage: TrialUsage) -> None:
        """Keep nothing."""


@dataclass
class SeveralLogs:
    """A `TrialLog` that passes each event on to several."""

    logs: tuple[TrialLog, ...]

    def started(self, trial: str, params: Mapping[str, Any]) -> None:
        """Pass it on."""
        for log in self.logs:
            log.started(trial, params)

    def reported(
        self, trial: str, step: int, metrics: Mapping[str, float], usage: TrialUsage
    ) -> None:
        """Pass it on."""
        for log in self.logs:
            log.reported(trial, step, metrics, usage)

    def ended(self, trial: str, outcome: Outcome, bundle: Path | None, usage: TrialUsage) -> None:
        """Pass it on."""
        for log in self.logs:
            log.ended(trial, outcome, bundle, usage)


def config(name: str, trials: int, *, threads: int, reports: int) -> SearchConfig:
    """Return the limits of a search that ends after so many trials."""
    return SearchConfig(
        name=name, texture="brick", fingerprint="", seed=0, trials=trials, time_budget_s=1e6,
        threads=threads, gpus_per_trial=0.0, reports=reports,
    )  # fmt: skip


@contextlib.contextmanager
def mlflow_runs(root: Path, name: str) -> Iterator[BufferedRuns]:
    """The MLflow runs of a search, complete at the end."""
    runs = SearchRuns(
        open_store(f"sqlite:///{root / 'mlflow.db'}"), search=name, texture="brick", params={}
    )
    log = BufferedRuns(runs, root / "searches" / name, say=print)
    yield log
    log.close({}, "finished", timeout_s=1e5)


# ------------------------------------------------------------------------------------------- share


class EnoughError(Exception):
    """The plain loop has made as many reports as the trial."""


def plain_loop(folder: Path, trials: LoopLog) -> float:
    """Train the trials of a search again, each up to its last report, and return the seconds."""
    torch.set_num_threads(CORES)
    data = gather(textures.find(folder, "brick"))
    began = time.perf_counter()
    for trial, params in trials.params.items():
        values = {k: v for k, v in params.items() if k in field_names()}

        def report(checkpoint: Checkpoint, last: int = trials.steps[trial]) -> None:
            if checkpoint.report == last:
                raise EnoughError

        with contextlib.suppress(EnoughError):
            train(data, settings(values), seed=0, report=report)
    return time.perf_counter() - began


def share(root: Path, trials: int, megapixels: float) -> None:
    """Run a search and a plain loop over the same trials, and print both times."""
    folder = demo.make(root, texture="brick").parent
    data = gather(textures.find(folder, "brick"))
    space = Space(name="b", path=Path("b.yaml"), fields={**SPACE.fields, "megapixels": megapixels})
    kept = LoopLog()
    with cluster(), mlflow_runs(root, "share") as runs:
        began = time.perf_counter()
        result = run_search(
            data, space, config("share", trials, threads=CORES, reports=4),
            storage=root / "searches", log=SeveralLogs((kept, runs)), progress=NOTHING,
        )  # fmt: skip
        searched = time.perf_counter() - began
    print(f"{sum(result.outcomes.values())} trials, {sum(kept.steps.values())} reports")
    print(f"search         {searched:8.1f} s   1.00")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        trained = pool.apply(plain_loop, (folder, kept))
    print(f"plain loop     {trained:8.1f} s   {trained / searched:.2f}")
    print(f"not training   {searched - trained:8.1f} s   {1 - trained / searched:.2f}")


# ------------------------------------------------------------------------------------------ growth


def nothing(params: Mapping[str, Any]) -> None:
    """Report once, without any training."""
    tune.report({METRIC: 1 / float(params["width"])})


def process_usage() -> tuple[float, float]:
    """Return the CPU seconds of this process, and its memory in megabytes."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    status = Path("/proc/self/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return used.ru_utime + used.ru_stime, int(line.split()[1]) / 1024


def stored() -> float:
    """Return the size of what is in the object store, in megabytes."""
    name = "object_store_memory"
    return float(ray.cluster_resources()[name] - ray.available_resources()[name]) / 2**20


def growth(root: Path, upto: int) -> None:
    """Run searches with more and more trials that train nothing."""
    data = gather(textures.find(demo.make(root, texture="brick").parent, "brick"))
    print(f"{'trials':>8}{'MLflow':>8}{'seconds':>9}{'ms a trial':>12}{'driver cpu s':>14}"
          f"{'driver MB':>11}{'store MB':>10}")  # fmt: skip
    trivial = tune.with_resources(nothing, {"cpu": 1})
    trials = 10
    while trials <= upto:
        for logged in (False, True):
            name = f"growth-{trials}-{logged}"
            with cluster(), mock.patch("zoo.search.run.trainable", return_value=trivial):
                before, _ = process_usage()
                began = time.perf_counter()
                if logged:
                    with mlflow_runs(root, name) as runs:
                        search_without_detector(data, name, trials, root, runs)
                else:
                    search_without_detector(data, name, trials, root, LoopLog())
                seconds, (after, memory) = time.perf_counter() - began, process_usage()
                print(f"{trials:>8}{'yes' if logged else 'no':>8}{seconds:>9.1f}"
                      f"{1000 * seconds / trials:>12.0f}{after - before:>14.1f}{memory:>11.0f}"
                      f"{stored():>10.1f}", flush=True)  # fmt: skip
        trials *= 10


def search_without_detector(
    data: TrainingData, name: str, trials: int, root: Path, log: TrialLog
) -> None:
    """Run a search whose trials leave no detector, which `run_search` reports as an error."""
    try:
        run_search(
            data, SPACE, config(name, trials, threads=1, reports=1),
            storage=root / "searches", log=log, progress=NOTHING,
        )  # fmt: skip
    except SearchError as error:
        if f"{trials} finished" not in str(error):
            raise


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("share", "growth"))
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--megapixels", type=float, default=60.0, help="of each trial (60)")
    parser.add_argument("--upto", type=int, default=1000, help="trials of the last row (1000)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.what == "share":
            share(Path(folder), args.trials, args.megapixels)
        else:
            growth(Path(folder), args.upto)


if __name__ == "__main__":
    main()
