"""Is the best trial good, or was it lucky? The best configurations are trained with other seeds.

A search trains each configuration with one seed and takes the best of many trials, so its value is
too high, by about the spread between seeds. Here the best few configurations are trained with
several other seeds. The best one has the highest mean less standard deviation.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ray

from registry import bundle
from registry.bundle import Bundle
from zoo.errors import SearchError
from zoo.search.cluster import trial_slots
from zoo.search.failures import in_words
from zoo.search.run import TrialDetector
from zoo.search.trial import train_again
from zoo.training import METRIC, settings_of

if TYPE_CHECKING:
    from zoo.search.config import SearchConfig
    from zoo.training import TrainingData


CANDIDATES = 3  # configurations that are trained again


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """One configuration, trained again.

    Attributes:
        trial: The trial that it was found by.
        found: The `val_pixel_ap` of that trial.
        values: Those of the new trainings, one for each seed.
        best: The detector with the highest of them.
    """

    trial: str
    found: float
    values: tuple[float, ...]
    best: Bundle

    @property
    def mean(self) -> float:
        """Of the new trainings."""
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float:
        """Their standard deviation."""
        return statistics.stdev(self.values)


def confirm(
    detectors: Sequence[TrialDetector],
    data: TrainingData,
    config: SearchConfig,
    *,
    seeds: int,
    say: Callable[[str], None],
) -> Confirmed:
    """Train the configurations of the best trials again, on the Ray of the search.

    Args:
        detectors: Of the trials, best first.
        data: The texture.
        config: Of the search: its seed is not used again, and each training has the CPUs and the
            share of a GPU that a trial had.
        seeds: Number of trainings of each configuration, at least 2.
        say: Receives a line for each configuration.

    Returns:
        The configuration with the highest mean less standard deviation.

    Raises:
        SearchError: A training failed.
    """
    gpu_share, _ = trial_slots(config)
    remote = ray.remote(num_cpus=config.threads, num_gpus=gpu_share, max_retries=3)(train_again)
    stored_data = ray.put(data)
    device = "cuda" if gpu_share else "cpu"
    jobs = []
    for each in detectors[:CANDIDATES]:
        settings = settings_of(bundle.load(each.folder))
        futures = [
            remote.remote(stored_data, settings, seed, config.threads, device)
            for seed in range(config.seed + 1, config.seed + seeds + 1)
        ]
        jobs.append((each, futures))
    confirmed: list[Confirmed] = []
    for each, futures in jobs:
        try:
            bundles: list[Bundle] = ray.get(futures)
        except ray.exceptions.RayError as error:
            raise SearchError(
                f"Trial {each.trial} could not be trained again: {in_words(str(error))} "
                "Its search is kept; run the same command without --confirm and with --resume."
            ) from error
        one = Confirmed(
            trial=each.trial,
            found=each.value,
            values=tuple(again.metrics[METRIC] for again in bundles),
            best=max(bundles, key=lambda again: again.metrics[METRIC]),
        )
        say(
            f"Trial {one.trial}, {seeds} other seeds: {METRIC} {one.mean:.3f} ± {one.spread:.3f}; "
            f"the search had {one.found:.3f}."
        )
        confirmed.append(one)
    return max(confirmed, key=lambda one: one.mean - one.spread)
