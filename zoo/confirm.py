"""Is the winner good, or was it lucky? The best configurations trained again, with other seeds.

A search tries one seed a configuration and takes the best of many, so its value is too good by as
much as seeds differ. Here each of the best few is trained with several seeds; what counts is the
mean less the spread.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ray

from zoo import bundle, recipe
from zoo.bundle import Bundle
from zoo.errors import SearchError
from zoo.search import Kept, room_for_trials
from zoo.trial import METRIC, settled

if TYPE_CHECKING:
    from zoo.listener import Plan
    from zoo.recipe import Materials, Settings

CANDIDATES = 3  # configurations that are trained again


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """One configuration, trained again.

    Attributes:
        trial: Whose configuration it is.
        found: The `val_pixel_ap` that the search had seen of it.
        values: Those of the refits, one a seed.
        best: The refit with the highest of them.
    """

    trial: str
    found: float
    values: tuple[float, ...]
    best: Bundle

    @property
    def mean(self) -> float:
        """Of the refits."""
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float:
        """Their standard deviation."""
        return statistics.stdev(self.values)


def confirm(
    kept: Sequence[Kept],
    materials: Materials,
    plan: Plan,
    *,
    seeds: int,
    say: Callable[[str], None],
) -> Confirmed:
    """Train the configurations of the best trials again, on the Ray of the search; return the best.

    Args:
        kept: The trials, best first.
        materials: The texture.
        plan: Of the search: its seed is not used again, and a refit has what a trial had.
        seeds: How many for each, at least 2.
        say: Receives a line for each configuration.

    Raises:
        SearchError: A refit failed.
    """
    share, _ = room_for_trials(plan)
    refit = ray.remote(num_cpus=plan.threads, num_gpus=share, max_retries=3)(_refit)
    here = ray.put(materials)
    device = "cuda" if share else "cpu"
    jobs = []
    for each in kept[:CANDIDATES]:
        settings = recipe.settings_of(bundle.load(each.folder))
        others = range(plan.seed + 1, plan.seed + seeds + 1)
        jobs.append(
            (each, [refit.remote(here, settings, seed, plan.threads, device) for seed in others])
        )
    found: list[Confirmed] = []
    for each, futures in jobs:
        try:
            made: list[Bundle] = ray.get(futures)
        except ray.exceptions.RayError as error:
            raise SearchError(
                f"Trial {each.trial} could not be trained again: {str(error).splitlines()[-1]} "
                "Its search is kept; run the same command without --confirm and with --resume."
            ) from error
        one = Confirmed(
            trial=each.trial,
            found=each.value,
            values=tuple(again.metrics[METRIC] for again in made),
            best=max(made, key=lambda again: again.metrics[METRIC]),
        )
        say(
            f"Trial {one.trial}, {seeds} other seeds: {METRIC} {one.mean:.3f} ± {one.spread:.3f}; "
            f"the search had {one.found:.3f}."
        )
        found.append(one)
    return max(found, key=lambda one: one.mean - one.spread)


def _refit(
    materials: Materials, settings: Settings, seed: int, threads: int, device: str
) -> Bundle:
    """Train a configuration with another seed, in a worker of its own."""
    return recipe.trained(materials, settings, seed=seed, device=settled(threads, device))
