"""How long the trials of a search are: it measures its own speed first, on whatever machine.

The first part of the time is for many short trials. In the rest the best configurations are trained
once more, as long as there is time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
import torch

from registry import bundle
from search_spaces import Space
from zoo.search.cluster import trial_slots
from zoo.search.config import REPORTS
from zoo.search.failures import in_words
from zoo.search.space import first_trials
from zoo.search.trial import train_again, use_device
from zoo.training import METRIC, PreparedData, settings, settings_of, with_values

if TYPE_CHECKING:
    from registry.bundle import Bundle
    from zoo.methods import Progress, Weights
    from zoo.search.config import SearchConfig
    from zoo.search.run import TrialDetector
    from zoo.training import Settings, TrainingData

EXPLORE = 0.65  # of the time, for short trials
WHOLE_TRIALS = 12  # that fit into this part of the time if none is stopped early,
FEWEST_TRIALS = 5  # or fewer, but not below this, on a slow machine,
ENOUGH_MEGAPIXELS = 100.0  # so that each has as many; with a third of it, on grid, none was of use
JUDGING = 0.15  # of a trial, at most, for its reports
OVERHEAD = 1.2  # times as long as measured: Ray's start of a trial, its files, other trials beside
FINISH = 0.08  # of the time, for the choice at the end
WORTH = 1.3  # times the length of a trial, for a longer training
NEAR = 0.9  # of the best value: what a trial needs for a longer training
FEWEST_MEGAPIXELS = 20.0  # of a trial; a shorter training has learned nothing
SHORTEST_MEGAPIXELS = 1e-3  # so it is one step
PROBE_S = 4.0  # shortest time of the training that is timed


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The trials of a search.

    Attributes:
        megapixels: Of a whole trial.
        reports: Of a whole trial.
        seconds: That a whole trial takes, about.
    """

    megapixels: float
    reports: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The speed of one trial among as many as run at once.

    Attributes:
        megapixels_s: Megapixels of patches in a second, once a training has begun.
        start_s: Seconds until it has begun.
        report_s: Seconds to judge a detector on *val*.
    """

    megapixels_s: float
    start_s: float
    report_s: float


def measured(
    space: Space,
    data: TrainingData,
    config: SearchConfig,
    *,
    say: Callable[[str], None],
    spent_s: float = 0.0,
    reports: Sequence[int] = REPORTS,
) -> Pace | None:
    """Return trials of which `WHOLE_TRIALS` fit into the time of the search, or as many as can.

    As many trainings as run at once are timed at once, on the Ray of the search, for some seconds.

    Args:
        space: Its first configuration is timed. A space whose `megapixels` are no fixed number is
            the user's choice: then there is nothing to measure, and the result is None. It is None
            too if the workers that measure were lost.
        data: The texture.
        config: Of the search.
        say: Receives one line.
        spent_s: Seconds that the search has spent already.
        reports: Numbers of reports to choose from, the preferred one first.
    """
    fixed = space.fields.get("megapixels")
    if isinstance(fixed, bool) or not isinstance(fixed, int | float):
        return None
    values = {k: v for k, v in space.fields.items() if isinstance(v, bool | int | float | str)}
    wanted = settings(values | first_trials(space)[0])
    gpu_share, slots = trial_slots(config)
    remote = ray.remote(num_cpus=config.threads, num_gpus=gpu_share)(_speed)
    stored, device = ray.put(data), "cuda" if gpu_share else "cpu"
    jobs = [remote.remote(stored, wanted, config.threads, device, PROBE_S) for _ in range(slots)]
    try:
        speeds: list[Speed] = ray.get(jobs)
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        say(f"The speed of this machine could not be measured: {in_words(str(error))}")
        return None
    slowest = min(speeds, key=lambda speed: speed.megapixels_s)
    left = max(config.pace_s - spent_s, 0.5 * config.pace_s)
    pace = paced(slowest, left * EXPLORE * slots, reports)
    say(
        f"This machine trains on {slots * slowest.megapixels_s:.2g} megapixels a second in "
        f"{slots} trials at once; each whole trial has {pace.megapixels:g}, about "
        f"{pace.seconds:.0f} s, and is judged {pace.reports} times."
    )
    return pace


def paced(speed: Speed, seconds: float, reports: Sequence[int] = REPORTS) -> Pace:
    """Return the trials for so many seconds, if they run one after the other.

    A trial that is too short learns nothing, and then there is nothing to choose from. So a slow
    machine gets fewer of them.

    Args:
        speed: Of a trial.
        seconds: For all trials.
        reports: Numbers of reports to choose from, the preferred one first.
    """
    most = JUDGING * seconds / WHOLE_TRIALS
    chosen = next((each for each in reports if each * speed.report_s <= most), reports[-1])
    other_s = speed.start_s + chosen * speed.report_s

    def megapixels(trials: int) -> float:
        training_s = max(seconds / trials / OVERHEAD - other_s, 0.4 * seconds / trials)
        return training_s * speed.megapixels_s

    enough = min(ENOUGH_MEGAPIXELS, megapixels(FEWEST_TRIALS))
    length = round(max(megapixels(WHOLE_TRIALS), enough, FEWEST_MEGAPIXELS), 1)
    return Pace(
        megapixels=length,
        reports=chosen,
        seconds=OVERHEAD * (length / speed.megapixels_s + other_s),
    )


def exploring_s(left: float, *, finish_s: float, pace: Pace | None) -> float:
    """Return how long to explore: all the time, where no longer training would fit after it.

    Args:
        left: Seconds that are left.
        finish_s: Seconds of them for the choice at the end.
        pace: The trials; None if their length is the user's.
    """
    short = EXPLORE * left
    if pace and left - finish_s - short < WORTH * pace.seconds:
        return max(left - finish_s, 1.0)
    return max(short, 1.0)


def with_megapixels(space: Space, megapixels: float | None) -> Space:
    """Return the space with trials of this length; None changes nothing."""
    if megapixels is None:
        return space
    return replace(space, fields={**space.fields, "megapixels": megapixels})


def train_longer(
    detectors: Sequence[TrialDetector],
    data: TrainingData,
    config: SearchConfig,
    *,
    seconds: float,
    say: Callable[[str], None],
) -> list[Bundle]:
    """Train the best configurations once more, for the given time, with another seed.

    One for which the time is not `WORTH` its length makes way for the next, if that is `NEAR`.

    Args:
        detectors: Of the trials, best first.
        data: The texture.
        config: Of the search: each training has the CPUs and the share of a GPU that a trial had.
        seconds: The time that is left.
        say: Receives a line for each training.

    Returns:
        The detectors; none if there is too little time, or if a training failed.
    """
    gpu_share, slots = trial_slots(config)
    remote = ray.remote(num_cpus=config.threads, num_gpus=gpu_share)(train_again)
    stored, device = ray.put(data), "cuda" if gpu_share else "cpu"
    jobs: list[tuple[TrialDetector, Any]] = []
    for each in detectors:
        if len(jobs) == slots or each.value < NEAR * detectors[0].value:
            break
        made = bundle.load(each.folder)
        asked = made.made_by["settings"]
        # The best report of a trial may be an early one.
        done = made.metrics.get("train_report", asked["reports"]) / asked["reports"]
        longer = seconds * done / max(float(made.metrics["train_seconds"]), 1e-3)
        if longer >= WORTH:
            megapixels = round(float(asked["megapixels"]) * longer, 1)
            wanted = with_values(settings_of(made), {"megapixels": megapixels})
            again = remote.remote(stored, wanted, config.seed + 1, config.threads, device)
            jobs.append((each, again))
    found: list[Bundle] = []
    for each, job in jobs:
        try:
            found.append(ray.get(job))
        except ray.exceptions.RayError as error:
            say(f"Trial {each.trial} could not be trained longer: {in_words(str(error))}")
            continue
        say(
            f"Trial {each.trial}, trained longer: {METRIC} {found[-1].metrics[METRIC]:.3f}; the "
            f"trial had {each.value:.3f}."
        )
    return found


def _speed(
    data: TrainingData, wanted: Settings, threads: int, device: str, probe_s: float
) -> Speed:
    """Time a training of at least so many seconds, in a worker."""
    place = torch.device(use_device(threads, device))
    prepared = PreparedData(data, wanted.scale, place)
    weights: list[Weights] = []

    def train(megapixels: float, reports: int, report: Callable[[float], None]) -> None:
        def reported(made: Progress) -> None:
            weights[:] = [made.weights]
            report(made.metrics["train_megapixels"])

        method = with_values(wanted, {"megapixels": megapixels, "reports": reports}).method
        generator = torch.Generator(place).manual_seed(0)
        method.fit(prepared.fit, generator=generator, report=reported)

    speed, start_s = rate(train, probe_s=probe_s)
    began = time.monotonic()
    prepared.measure(wanted.method.in_training.scorer(weights[0]))
    return Speed(megapixels_s=speed, start_s=start_s, report_s=time.monotonic() - began)


def rate(
    train: Callable[[float, int, Callable[[float], None]], None],
    *,
    probe_s: float = PROBE_S,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[float, float]:
    """Return the megapixels a second of a training, and the seconds until it has begun.

    A training begins with painting, which may take longer than the probe. So the time between two
    reports counts. The first, shortest training tells the smallest step, and warms up.

    Args:
        train: Trains for so many megapixels with so many reports, and passes to the function, at
            each report, how many it has trained for.
        probe_s: Shortest time between the two reports.
        clock: The time in seconds.
    """
    seen: list[tuple[float, float]] = []
    train(SHORTEST_MEGAPIXELS, 1, lambda megapixels: seen.append((clock(), megapixels)))
    part = seen[0][1]
    while True:
        seen.clear()
        began = clock()
        train(2 * part, 2, lambda megapixels: seen.append((clock(), megapixels)))
        (first_s, first), (last_s, last) = seen
        if last_s - first_s >= probe_s:
            break
        part *= float(np.clip(1.2 * probe_s / max(last_s - first_s, 1e-3), 2, 64))
    speed = (last - first) / (last_s - first_s)
    return speed, max(0.0, first_s - began - first / speed)
