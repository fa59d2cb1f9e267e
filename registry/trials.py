"""Words that a search, its MLflow runs and its audit share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

# Folders in that of a search: its detector, its first champion, the methods that learn nothing.
CHAMPION, FLOOR, UNTRAINED = "best", "floor", "untrained"
SEARCH_CONFIG = "search.json"  # in the folder of a search: its limits
AUDIT_LOG = "test_pictures.jsonl"  # beside a bundle: what it says of each test picture
AUDIT_SHOWN = "test_pictures"  # beside it, a folder: those that were nearest to a wrong verdict
AUDIT_CURVES = "test_curves.json"  # beside it: precision and false alarms of the pixels

Outcome = Literal["finished", "stopped_early", "failed", "interrupted"]
Scalar = float | int | str
TrialUsage = Mapping[str, Scalar]  # what a trial used, by name: `steps`, `cpu_seconds`, ...


@dataclass(frozen=True, kw_only=True)
class ReportRecord:
    """One report of a trial.

    Attributes:
        step: Number of the report, from 1.
        when: Seconds since 1970.
        value: The objective of the search.
    """

    step: int
    when: float
    value: float


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """What is on record of one trial.

    Attributes:
        trial: Its name.
        params: Its settings, by name.
        reports: In the order in which they were made.
        figures: The figures of its last report, by name.
        outcome: How it ended; None if it has not ended, or if nobody knows.
        usage: What it used, as `TrialLog.ended` has it; `reason` if it failed.
        began: Seconds since 1970.
        ended: Seconds since 1970; None if it has not ended.
    """

    trial: str
    params: Mapping[str, str]
    reports: tuple[ReportRecord, ...]
    figures: Mapping[str, float]
    outcome: Outcome | None
    usage: Mapping[str, str]
    began: float
    ended: float | None

    @property
    def best(self) -> float | None:
        """The highest objective of its reports; None without a report."""
        return max((each.value for each in self.reports), default=None)


@dataclass(frozen=True, kw_only=True)
class SearchRecord:
    """What is on record of one search.

    Attributes:
        name: Its name.
        texture: The texture that it was for.
        trials: In the order in which they began.
        run: Its MLflow run; None if the record is not from MLflow.
        outcome: How it ended; None if it runs, or if nobody knows.
        running: Whether it has not ended.
        began: Seconds since 1970; None if nobody knows.
        ended: Seconds since 1970; None if it has not ended, or if nobody knows.
        params: What was asked for, by name.
        figures: Its figures, by name.
        versions: The version of each package that it used.
    """

    name: str
    texture: str
    trials: tuple[TrialRecord, ...]
    run: str | None = None
    outcome: Outcome | None = None
    running: bool = False
    began: float | None = None
    ended: float | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
