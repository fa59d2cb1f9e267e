"""The report of a search: what is on the page, and the page made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from registry.pointer import Entry
from registry.trials import Outcome, SearchRecord, TrialRecord
from zoo.report import charts, page
from zoo.report.charts import Level, Line
from zoo.report.pictures import Pictures, Shot
from zoo.report.tiles import Tile, Verdict

TEMPLATE = "search.html.j2"
OUTCOMES: Mapping[Outcome | None, str] = {
    "finished": "whole",
    "stopped_early": "stopped early",
    "failed": "failed",
    "interrupted": "interrupted",
    None: "not ended",
}
MOST_SETTINGS = 15  # of the chart of their importance
NAMED_CURVES = 1  # trials of a chart that are named in its legend


@dataclass(frozen=True, kw_only=True)
class Importance:
    """How much each setting decides whether a trial is among the best.

    Attributes:
        shares: Of each setting, the largest first; their sum is 1. Empty if nothing can be said.
        note: What they were measured on, or why there are none.
    """

    shares: Mapping[str, float]
    note: str


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """What the trials of one outcome used.

    Attributes:
        name: The outcome in words.
        trials: Number of trials.
        cpu_s: Seconds times CPUs.
        gpu_s: Seconds times shares of a GPU.
    """

    name: str
    trials: int
    cpu_s: float
    gpu_s: float


@dataclass(frozen=True, kw_only=True)
class SearchPage:
    """All that the report of a search shows.

    Attributes:
        record: The search and its trials.
        verdict: Whether its detector was promoted, and why.
        tiles: The figures that matter most.
        facts: What was searched, as pairs of a label and a value.
        kinds: The objective of the detector by kind of defect.
        looks: The same by size and contrast.
        untrained: The objective of the methods that learn nothing; None if it is not known.
        value: The objective of the detector that the search made; None without one.
        importance: Of the settings.
        threads: CPUs of a trial; None if they are not known.
        cost: A row for each outcome.
        seconds: How long the search took; None if it is not known.
        decisions: What was promoted or refused, the oldest first.
        shots: Validation windows with the maps of the detector.
        missing: What the report lacks, a sentence each.
    """

    record: SearchRecord
    verdict: Verdict
    tiles: tuple[Tile, ...]
    facts: tuple[tuple[str, str], ...]
    kinds: Mapping[str, float]
    looks: Mapping[str, float]
    untrained: float | None
    value: float | None
    importance: Importance
    threads: int | None
    cost: tuple[CostRow, ...]
    seconds: float | None
    decisions: tuple[Entry, ...]
    shots: tuple[Shot, ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """One trial in the table.

    Attributes:
        number: Its place in the order in which the trials began, from 1.
        trial: The trial.
        outcome: In words.
        auroc: The AUROC of its last report; None without one.
        seconds: For how long it ran; None if it is not known.
        settings: The value of each setting that differs among trials.
    """

    number: int
    trial: TrialRecord
    outcome: str
    auroc: float | None
    seconds: float | None
    settings: tuple[str, ...]


def render(report: SearchPage, *, pictures: Pictures | None = None) -> str:
    """Return the page.

    Args:
        report: What it shows.
        pictures: The budget of its pictures.
    """
    budget = pictures or Pictures()
    shown = budget.place(report.shots)
    trials = report.record.trials
    differing, same = _settings(trials)
    return page.rendered(
        TEMPLATE,
        {
            "title": f"{report.record.texture}, search {report.record.name}",
            "kind": "Report of a search",
            "report": report,
            "shown": shown,
            "left_out": budget.left_out,
            "progress": _progress(report),
            "curves": _curves(trials),
            "importance": _importance(report.importance),
            "kinds": _strata(report.kinds, "kinds"),
            "looks": _strata(report.looks, "looks"),
            "differing": differing,
            "same": same,
            "rows": _rows(report, differing),
            "gpu": any(row.gpu_s for row in report.cost),
            "drawn": charts.MOST_LINES,
        },
    )


def _settings(trials: Sequence[TrialRecord]) -> tuple[list[str], dict[str, str]]:
    """Return the settings that differ among trials, and those that are the same for all."""
    names = sorted({name for trial in trials for name in trial.params})
    values = {name: {trial.params.get(name, "") for trial in trials} for name in names}
    differing = [name for name in names if len(values[name]) > 1]
    return differing, {name: next(iter(values[name])) for name in names if name not in differing}


def _rows(report: SearchPage, differing: Sequence[str]) -> list[Row]:
    """Return a row for each trial, the best first; those without a report come last."""
    rows = []
    for number, trial in enumerate(report.record.trials, 1):
        rows.append(
            Row(
                number=number,
                trial=trial,
                outcome=OUTCOMES[trial.outcome],
                auroc=trial.figures.get("val_image_auroc"),
                seconds=_seconds(trial, report.threads),
                settings=tuple(trial.params.get(name, "-") for name in differing),
            )
        )
    return sorted(rows, key=lambda row: 1.0 if row.trial.best is None else -row.trial.best)


def _seconds(trial: TrialRecord, threads: int | None) -> float | None:
    """Return for how long a trial had its CPUs, else the time between its begin and its end."""
    held = used(trial, "cpu_seconds")
    if threads and held is not None:
        return held / threads
    return None if trial.ended is None else max(0.0, trial.ended - trial.began)


def used(trial: TrialRecord, name: str) -> float | None:
    """Return what a trial used of something; None if nobody knows."""
    try:
        found = float(trial.usage[name])
    except (KeyError, ValueError):
        return None
    return found if math.isfinite(found) and found >= 0 else None


def _progress(report: SearchPage) -> Markup | None:
    record = report.record
    points = sorted((each.when, each.value) for trial in record.trials for each in trial.reports)
    if not points:
        return None
    began = record.began if record.began is not None else record.trials[0].began
    ended = max(record.ended or points[-1][0], points[-1][0])
    unit, size = ("minutes", 60) if ended - began < 3 * 3600 else ("hours", 3600)
    x: list[float] = []
    y: list[float] = []
    for when, value in points:
        if not y or value > y[-1]:
            x.append(max(0.0, when - began) / size)
            y.append(value)
    best = Line(name="best trial so far", x=[*x, (ended - began) / size], y=[*y, y[-1]])
    reports = Line(
        name="a report of a trial",
        x=[max(0.0, when - began) / size for when, _ in points],
        y=[value for _, value in points],
    )
    known = (("without training", report.untrained, "warn"), ("the detector", report.value, "good"))
    levels = [
        Level(name=name, value=value, tone=tone) for name, value, tone in known if value is not None
    ]
    return charts.progress(best, reports, levels, unit=unit)


def _curves(trials: Sequence[TrialRecord]) -> Markup | None:
    with_reports = [trial for trial in trials if trial.reports]
    if not with_reports:
        return None
    ranked = sorted(with_reports, key=lambda trial: trial.best or 0.0, reverse=True)
    lines = [
        Line(
            name=f"best: {trial.trial}" if at < NAMED_CURVES else "",
            x=[float(each.step) for each in trial.reports],
            y=[each.value for each in trial.reports],
            stressed=at < NAMED_CURVES,
            broken=trial.outcome == "stopped_early",
        )
        for at, trial in enumerate(ranked)
    ]
    return charts.curves(lines)


def _importance(importance: Importance) -> Markup | None:
    if not importance.shares:
        return None
    shown = dict(list(importance.shares.items())[:MOST_SETTINGS])
    return charts.bars(shown, "importance", label="importance of the settings", percent=True)


def _strata(strata: Mapping[str, float], name: str) -> Markup | None:
    if not strata:
        return None
    shown = {key.replace("_", " "): value for key, value in strata.items()}
    return charts.bars(shown, name, label="validation AP of the detector")
