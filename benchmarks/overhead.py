"""What a search costs beside the training, and how that grows with the number of trials.

    python benchmarks/overhead.py share [--trials 24] [--megapixels 60]
    python benchmarks/overhead.py growth [--upto 10000]

`share` searches with so many short trials on photographs of bricks, one at a time on all cores,
with MLflow's record, and then trains the same trials in a bare loop in a fresh process: as far,
with the same threads. What the search takes longer, Ray's start apart, is its overhead.

`growth` searches with 10, 100, 1000... trials that train nothing and report once, without and with
the record, and prints seconds a trial, the driver's processor time and memory, and what the object
store holds.
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
from search_spaces import Field, Integer, LogUniform, Space
from zoo.data import demo, textures
from zoo.errors import SearchError
from zoo.search.cluster import cluster
from zoo.search.config import Outcome, SearchConfig, TrialLog, TrialUsage
from zoo.search.run import run_search
from zoo.search.trial import METRIC
from zoo.training.data import TrainingData, gather
from zoo.training.fit import Checkpoint, train
from zoo.training.settings import field_names, settings

CORES = os.cpu_count() or 1
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
class Heard:
    """A `TrialLog` that keeps what the bare loop needs."""

    params: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)

    def started(self, trial: str, params: Mapping[str, Any]) -> None:
        """Note the parameters."""
        self.params[trial] = dict(params)

    def reported(
        self, trial: str, step: int, metrics: Mapping[str, float], facts: TrialUsage
    ) -> None:
        """Note how far the trial came."""
        self.steps[trial] = step

    def ended(self, trial: str, outcome: Outcome, bundle: Path | None, facts: TrialUsage) -> None:
        """Note nothing."""


@dataclass
class Both:
    """A `TrialLog` that is two."""

    logs: tuple[TrialLog, ...]

    def started(self, trial: str, params: Mapping[str, Any]) -> None:
        """Tell both."""
        for log in self.logs:
            log.started(trial, params)

    def reported(
        self, trial: str, step: int, metrics: Mapping[str, float], facts: TrialUsage
    ) -> None:
        """Tell both."""
        for log in self.logs:
            log.reported(trial, step, metrics, facts)

    def ended(self, trial: str, outcome: Outcome, bundle: Path | None, facts: TrialUsage) -> None:
        """Tell both."""
        for log in self.logs:
            log.ended(trial, outcome, bundle, facts)


def plan(name: str, trials: int, *, threads: int, reports: int) -> SearchConfig:
    """Return a plan that only the number of trials bounds."""
    return SearchConfig(
        name=name, texture="brick", fingerprint="", seed=0, trials=trials, time_budget_s=1e6,
        threads=threads, gpus_per_trial=0.0, reports=reports,
    )  # fmt: skip


@contextlib.contextmanager
def record(root: Path, name: str) -> Iterator[BufferedRuns]:
    """MLflow's record of a search, delivered at the end."""
    runs = SearchRuns(
        open_store(f"sqlite:///{root / 'mlflow.db'}"), search=name, texture="brick", params={}
    )
    box = BufferedRuns(runs, root / "searches" / name, say=print)
    yield box
    box.close({}, "finished", timeout_s=1e5)


# ------------------------------------------------------------------------------------------- share


class EnoughError(Exception):
    """The bare loop has come as far as the trial did."""


def bare(data: Path, heard: Heard) -> float:
    """Train the trials of a search again, each as far as it came, and return the seconds."""
    torch.set_num_threads(CORES)
    materials = gather(textures.find(data, "brick"))
    began = time.perf_counter()
    for trial, params in heard.params.items():
        values = {k: v for k, v in params.items() if k in field_names()}

        def report(draft: Checkpoint, last: int = heard.steps[trial]) -> None:
            if draft.report == last:
                raise EnoughError

        with contextlib.suppress(EnoughError):
            train(materials, settings(values), seed=0, report=report)
    return time.perf_counter() - began


def share(root: Path, trials: int, megapixels: float) -> None:
    """Search, train the same in a bare loop, and print the two."""
    data = demo.make(root, texture="brick").parent
    materials = gather(textures.find(data, "brick"))
    space = Space(name="b", path=Path("b.yaml"), fields={**SPACE.fields, "megapixels": megapixels})
    heard = Heard()
    with cluster(), record(root, "share") as box:
        began = time.perf_counter()
        found = run_search(
            materials, space, plan("share", trials, threads=CORES, reports=4),
            storage=root / "searches", log=Both((heard, box)), say=lambda line: None,
        )  # fmt: skip
        searched = time.perf_counter() - began
    print(f"{sum(found.outcomes.values())} trials, {sum(heard.steps.values())} reports")
    print(f"search         {searched:8.1f} s   1.00")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        trained = pool.apply(bare, (data, heard))
    print(f"bare loop      {trained:8.1f} s   {trained / searched:.2f}")
    print(f"not training   {searched - trained:8.1f} s   {1 - trained / searched:.2f}")


# ------------------------------------------------------------------------------------------ growth


def nothing(params: Mapping[str, Any]) -> None:
    """Report once, and have trained nothing."""
    tune.report({METRIC: 1 / float(params["width"])})


def usage() -> tuple[float, float]:
    """Return this process's processor seconds, and its memory in megabytes."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    status = Path("/proc/self/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return used.ru_utime + used.ru_stime, int(line.split()[1]) / 1024


def stored() -> float:
    """Return what the object store holds, in megabytes."""
    name = "object_store_memory"
    return float(ray.cluster_resources()[name] - ray.available_resources()[name]) / 2**20


def growth(root: Path, upto: int) -> None:
    """Search with more and more trials that train nothing."""
    materials = gather(textures.find(demo.make(root, texture="brick").parent, "brick"))
    print(f"{'trials':>8}{'record':>8}{'seconds':>9}{'ms a trial':>12}{'driver cpu s':>14}"
          f"{'driver MB':>11}{'store MB':>10}")  # fmt: skip
    trivial = tune.with_resources(nothing, {"cpu": 1})
    trials = 10
    while trials <= upto:
        for recorded in (False, True):
            name = f"growth-{trials}-{recorded}"
            with cluster(), mock.patch.object(search, "_trainable", return_value=trivial):
                cpu, _ = usage()
                began = time.perf_counter()
                log = Heard()
                if recorded:
                    with record(root, name) as box:
                        run_without_detector(materials, name, trials, root, box)
                else:
                    run_without_detector(materials, name, trials, root, log)
                seconds, (after, memory) = time.perf_counter() - began, usage()
                print(f"{trials:>8}{'yes' if recorded else 'no':>8}{seconds:>9.1f}"
                      f"{1000 * seconds / trials:>12.0f}{after - cpu:>14.1f}{memory:>11.0f}"
                      f"{stored():>10.1f}", flush=True)  # fmt: skip
        trials *= 10


def run_without_detector(materials: TrainingData, name: str, trials: int, root: Path, log: TrialLog) -> None:
    """Search with trials that leave no detector, which is an error to any other."""
    try:
        run_search(
            materials, SPACE, plan(name, trials, threads=1, reports=1),
            storage=root / "searches", log=log, say=lambda line: None,
        )  # fmt: skip
    except SearchError as error:
        if f"{trials} finished" not in str(error):
            raise


def main() -> None:
    """Measure one of the two."""
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
