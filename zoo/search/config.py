"""The limits of a search, and the protocol of the log that it reports its trials to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from registry.trials import Outcome, Scalar, TrialUsage

PACE_S = 1200.0  # time budget of a search that the `megapixels` of the search spaces are set for
REPORTS = (8, 4, 2)  # numbers of reports of a whole trial, the preferred one first
HUNG_AFTER_S = 600.0  # a trial is never taken for hung before so many seconds without a report


@runtime_checkable
class TrialLog(Protocol):
    """Where a search logs its trials, such as MLflow."""

    def started(self, trial: str, params: Mapping[str, Scalar]) -> None:
        """Log a trial that starts or goes on, with its parameters."""

    def reported(
        self, trial: str, step: int, metrics: Mapping[str, float], usage: TrialUsage
    ) -> None:
        """Log one report of a trial, in the order the trial made them.

        `usage` is what the trial has used until then: `steps` (reports made), `node`, `device`,
        `cpu_seconds` and `gpu_seconds` (CPUs and share of a GPU, times seconds).
        """

    def ended(self, trial: str, outcome: Outcome, bundle: Path | None, usage: TrialUsage) -> None:
        """Log how a trial ended, and what it has used in total.

        `bundle` is its best detector on disk, None if it saved none. `usage` has the names of
        `reported`, and `reason` if the trial failed.
        """


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """The limits of a search; saved in the search's folder, so that the search can be resumed.

    Attributes:
        name: Of the search; its folder has this name.
        texture: Name of the texture.
        fingerprint: Of the data.
        seed: Of the search, and of each trial.
        trials: Largest number of trials.
        time_budget_s: Longest duration, counted from the start or from a resumption.
        pace_s: The time budget that the length of the trials was set for; it stays the same when
            the search is resumed.
        threads: CPUs of each trial; trials at once times threads are the cores. On a GPU all but
            one of them paint synthetic defects.
        gpus_per_trial: Share of a GPU of each trial; None is 0.5 where there are GPUs now.
        reports: Number of reports of a whole trial; ASHA may stop a trial at each of them.
        hung_after_s: A trial without a report for so many seconds is killed, and has failed.
        storage: Where Ray keeps the trials: an `s3://` address, or a folder that all nodes share;
            None is the folder of all searches.
        megapixels: Length of a whole trial, as it was measured at the start; None is that of the
            search space.
    """

    name: str
    texture: str
    fingerprint: str
    seed: int
    trials: int
    time_budget_s: float
    threads: int
    gpus_per_trial: float | None
    reports: int
    pace_s: float = PACE_S
    hung_after_s: float = HUNG_AFTER_S
    storage: str | None = None
    megapixels: float | None = None
