"""The trials of a search by the files that Ray left in its folder, for want of a better record."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from registry.trials import SEARCH_CONFIG, Outcome, ReportRecord, SearchRecord, TrialRecord
from zoo.files import read_object, read_objects
from zoo.search.config import REPORTS
from zoo.search.trial import FAILURE, TRAINABLE
from zoo.training import METRIC

MOST = 2**26  # bytes of the reports of a trial; a report has some three thousand
LARGEST = 1e15  # of a number in it
_FOLDER = re.compile(rf"{TRAINABLE}_(?P<trial>[^_]+)_(?P<number>\d+)_")


def record_of(folder: Path) -> SearchRecord:
    """Return what the folder of a search says of it; a file that cannot be read is left out.

    How a trial ended that has made not all of its reports is not known from these files.

    Args:
        folder: Of the search.
    """
    config = read_object(folder / SEARCH_CONFIG)
    reports = config.get("reports")
    whole = reports if isinstance(reports, int) else REPORTS[0]
    threads = config.get("threads")
    cpus = threads if isinstance(threads, int) else 1
    named = [(match, path) for path in folder.iterdir() if (match := _FOLDER.match(path.name))]
    named.sort(key=lambda each: int(each[0]["number"]))
    trials = [_trial(match["trial"], path, whole, cpus) for match, path in named]
    found = tuple(trial for trial in trials if trial.params or trial.reports)
    ends = [trial.ended for trial in found if trial.ended is not None]
    return SearchRecord(
        name=folder.name,
        texture=str(config.get("texture", "unknown")),
        trials=found,
        began=min((trial.began for trial in found if trial.reports), default=None),
        ended=max(ends, default=None),
        params={name: str(value) for name, value in config.items()},
    )


def _trial(name: str, folder: Path, whole: int, cpus: int) -> TrialRecord:
    lines = list(_lines(folder / "result.json"))
    reports = tuple(
        ReportRecord(
            step=int(line["training_iteration"]),
            when=float(line["timestamp"]),
            value=float(line[METRIC]),
        )
        for line in lines
        if FAILURE not in line
    )
    last: Mapping[str, Any] = lines[-1] if lines else {}
    outcome: Outcome | None = None
    if FAILURE in last:
        outcome = "failed"
    elif any(report.step >= whole for report in reports):
        outcome = "finished"
    began = float(lines[0]["timestamp"] - lines[0]["time_total_s"]) if lines else 0.0
    usage = {"cpu_seconds": str(last["time_total_s"] * cpus)} if last else {}
    if FAILURE in last:
        usage["reason"] = str(last[FAILURE])
    return TrialRecord(
        trial=name,
        params={key: str(value) for key, value in read_object(folder / "params.json").items()},
        reports=reports,
        figures={
            key: float(value)
            for key, value in last.items()
            if key.startswith(("val_", "train_")) and _is_number(value)
        },
        outcome=outcome,
        usage=usage,
        began=began,
        ended=float(last["timestamp"]) if last else None,
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the reports of a trial that have all that is needed."""
    needed = ("training_iteration", "timestamp", "time_total_s", METRIC)
    for line in read_objects(path, most=MOST):
        if all(_is_number(line.get(name)) for name in needed):
            yield line


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < LARGEST
