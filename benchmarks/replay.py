"""Compares ways of searching on recorded trials: random search, ASHA, TPE.

    python benchmarks/replay.py record [--megapixels 4]   # trains a grid of settings: 20 minutes
    python benchmarks/replay.py replay [--seeds 30]       # searches in that table: a minute

`record` trains 288 settings on photographs of bricks and writes the curve and the seconds of each
to `benchmarks/trials.csv`. `replay` then searches in this table as `zoo search` does, with the same
searcher and scheduler but with simulated time, and with many seeds. It prints the best
`val_pixel_ap` at several shares of a time budget, and when each way reaches the final value of
random search.
"""

from __future__ import annotations

import argparse
import csv
import heapq
import itertools
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import torch
from optuna.samplers import RandomSampler, TPESampler
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from zoo.data import demo, textures
from zoo.search.study import STARTUP, Study
from zoo.training import METRIC, gather, settings, train

TABLE = Path(__file__).parent / "trials.csv"
GRID: Mapping[str, tuple[Any, ...]] = {
    "defect_learning_rate": (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3),
    "width": (4, 8, 16, 24),
    "segmenter_depth": (2, 3, 4),
    "batch": (8, 16),
    "scale": (0.5, 1.0),
}
FIXED = {
    "patch": 32, "depth": 2, "discriminator_depth": 2, "latent_channels": 4, "fixed_patches": 0,
    "discriminator_norm": "batch", "output_stride": 4, "defect_rounds": 128, "defect_ema": 0.99,
    "rotations": False, "reports": 8,
}  # fmt: skip
REPORTS, WORKERS, BUDGET = 8, 2, 24  # trials at once; the budget in whole trials of average length
SHARES = (0.125, 0.25, 0.5, 1.0)

Setting = tuple[Any, ...]
Curve = tuple[float, tuple[float, ...]]  # seconds of a whole trial, and its reports


# ------------------------------------------------------------------------------------------ record


def train_one(job: tuple[Path, Setting, float]) -> tuple[Setting, Curve]:
    """Train one setting, on one thread."""
    folder, setting, megapixels = job
    torch.set_num_threads(1)
    data = gather(textures.find(folder, "brick"))
    values = FIXED | dict(zip(GRID, setting, strict=True)) | {"megapixels": megapixels}
    reports: list[float] = []
    began = time.perf_counter()
    train(
        data,
        settings(values),
        seed=0,
        report=lambda checkpoint: reports.append(checkpoint.metrics[METRIC]),
    )
    return setting, (time.perf_counter() - began, tuple(reports))


def record(megapixels: float) -> None:
    """Train the whole grid and write the table."""
    grid = list(itertools.product(*GRID.values()))
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, context.Pool(WORKERS) as pool:
        demo.make(Path(folder), texture="brick")
        jobs = [(Path(folder), setting, megapixels) for setting in grid]
        rows = []
        for setting, (seconds, curve) in pool.imap_unordered(train_one, jobs):
            rows.append([*setting, round(seconds, 2), *(round(value, 5) for value in curve)])
            print(f"{len(rows)} of {len(jobs)}: {rows[-1]}", flush=True)
    with TABLE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*GRID, "seconds", *(f"report_{n}" for n in range(1, REPORTS + 1))])
        writer.writerows(sorted(rows))


def read() -> dict[Setting, Curve]:
    """Return the table, a curve for each setting.

    The time of a training does not depend on its learning rate, so it is the median over the
    learning rates: other load on the machine during one of the trainings then has no effect.
    """
    with TABLE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = [type(values[0]) for values in GRID.values()]
    seconds: dict[Setting, list[float]] = {}
    curves: dict[Setting, tuple[float, ...]] = {}
    for row in rows:
        setting = tuple(kind(row[name]) for kind, name in zip(kinds, GRID, strict=True))
        seconds.setdefault(setting[1:], []).append(float(row["seconds"]))
        curves[setting] = tuple(float(row[f"report_{n}"]) for n in range(1, REPORTS + 1))
    return {
        setting: (statistics.median(seconds[setting[1:]]), curve)
        for setting, curve in curves.items()
    }


# ------------------------------------------------------------------------------------------ replay


def random_search(seed: int) -> tuple[Searcher, TrialScheduler]:
    """Random search in which every trial is trained to its end."""
    return OptunaSearch(sampler=RandomSampler(seed=seed)), FIFOScheduler()


def random_asha(seed: int) -> tuple[Searcher, TrialScheduler]:
    """Random search in which ASHA stops trials."""
    return OptunaSearch(sampler=RandomSampler(seed=seed)), asha()


def tpe_of_ray(seed: int) -> tuple[Searcher, TrialScheduler]:
    """TPE and ASHA with Ray's `OptunaSearch`: stopped trials count as complete."""
    return OptunaSearch(sampler=TPESampler(seed=seed, n_startup_trials=STARTUP)), asha()


def tpe_of_zoo(seed: int) -> tuple[Searcher, TrialScheduler]:
    """TPE and ASHA as in `zoo search`, except that the first trial is drawn at random."""
    generator = random.Random(seed)
    first = {name: generator.choice(values) for name, values in GRID.items()}
    return Study(seed=seed, reports=REPORTS, first=[first]), asha()


def asha() -> TrialScheduler:
    """Return the scheduler of `zoo.search`."""
    return ASHAScheduler(max_t=REPORTS, grace_period=REPORTS // 4, reduction_factor=2)


WAYS: Mapping[str, Callable[[int], tuple[Searcher, TrialScheduler]]] = {
    "random search": random_search,
    "random search, ASHA": random_asha,
    "TPE, ASHA, Ray's OptunaSearch": tpe_of_ray,
    "TPE, ASHA, zoo.search.study": tpe_of_zoo,
}


def search(
    table: Mapping[Setting, Curve], searcher: Searcher, scheduler: Any, budget: float
) -> list[tuple[float, float]]:
    """Search for `budget` simulated seconds; return the time and the value of each improvement."""
    space = {name: tune.choice(list(values)) for name, values in GRID.items()}
    searcher.set_search_properties(METRIC, "max", space)
    scheduler.set_search_properties(METRIC, "max")
    numbers, found, best = itertools.count(), list[tuple[float, float]](), -1.0
    events: list[tuple[float, int, Any, int, Curve]] = []

    def start(now: float) -> None:
        trial = SimpleNamespace(trial_id=str(next(numbers)))
        parameters = searcher.suggest(trial.trial_id)
        assert parameters is not None
        curve = table[tuple(parameters[name] for name in GRID)]
        scheduler.on_trial_add(None, trial)
        heapq.heappush(events, (now + curve[0] / REPORTS, next(numbers), trial, 1, curve))

    for _ in range(WORKERS):
        start(0.0)
    while events[0][0] <= budget:
        now, _, trial, step, (seconds, values) = heapq.heappop(events)
        result = {METRIC: values[step - 1], "training_iteration": step, "done": step == REPORTS}
        if values[step - 1] > best:
            best = values[step - 1]
            found.append((now, best))
        ended = step == REPORTS
        if ended or scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP:
            scheduler.on_trial_complete(None, trial, result) if ended else None
            searcher.on_trial_complete(trial.trial_id, result)
            start(now)
        else:
            searcher.on_trial_result(trial.trial_id, result)
            again = (now + seconds / REPORTS, next(numbers), trial, step + 1, (seconds, values))
            heapq.heappush(events, again)
    return found


def best_at(found: list[tuple[float, float]], when: float) -> float:
    """Return the best value up to a time."""
    return max((value for now, value in found if now <= when), default=0.0)


def replay(seeds: int) -> None:
    """Search in the table in every way, with every seed, and print the results."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    table = read()
    budget = BUDGET * statistics.fmean(seconds for seconds, _ in table.values()) / WORKERS
    optimum = max(max(values) for _, values in table.values())
    print(
        f"{len(table)} settings, the best of them {optimum:.3f}; {WORKERS} at once for the time of "
        f"{BUDGET} whole trials; {seeds} seeds: mean ± standard deviation\n"
    )
    runs = {
        name: [search(table, *way(seed), budget) for seed in range(seeds)]
        for name, way in WAYS.items()
    }
    goal = statistics.fmean(best_at(found, budget) for found in runs["random search"])
    shares = "".join(f"{f'{share:.1%}':>16}" for share in SHARES)
    print(f"{'way':<32}{shares}{'reaches':>10}")
    for name, each in runs.items():
        cells = ""
        for share in SHARES:
            values = [best_at(found, share * budget) for found in each]
            cells += f"{f'{statistics.fmean(values):.3f} ± {statistics.stdev(values):.3f}':>16}"
        print(f"{name:<32}{cells}{_reaches(each, goal, budget):>10}")
    print(
        "\nreaches: the share of the budget after which the mean is that of random search at the "
        f"end, {goal:.3f}"
    )


def _reaches(runs: list[list[tuple[float, float]]], goal: float, budget: float) -> str:
    for percent in range(1, 101):
        when = budget * percent / 100
        if statistics.fmean(best_at(found, when) for found in runs) >= goal:
            return f"{percent} %"
    return "never"


def main() -> None:
    """Record or replay."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("record", "replay"))
    parser.add_argument("--megapixels", type=float, default=4.0, help="of each trial (4)")
    parser.add_argument("--seeds", type=int, default=30)
    args = parser.parse_args()
    record(args.megapixels) if args.what == "record" else replay(args.seeds)


if __name__ == "__main__":
    main()
