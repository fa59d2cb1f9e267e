"""`zoo runs`: the searches on record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from registry.runs.search_runs import SearchRuns
from registry.runs.store import open_store
from registry.trials import Outcome
from tests.cli.commands import move_in
from zoo.cli import main
from zoo.home import tracking_uri


def test_searches_are_listed_with_the_trials_by_outcome_and_the_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    move_in(tmp_path, monkeypatch)
    main(["runs"])
    assert capsys.readouterr() == (
        "",
        "No search yet. Begin one with `zoo search --category NAME --data DIR`.\n",
    )
    record = SearchRuns(open_store(tracking_uri()), search="weave-1", texture="weave", params={})
    outcomes: Mapping[str, Outcome] = {"a": "finished", "b": "stopped_early", "c": "stopped_early"}
    for trial, outcome in outcomes.items():
        record.started(trial, {})
        record.reported(trial, 1, {"val_pixel_ap": 0.5}, {})
        record.ended(trial, outcome, None, {"cpu_seconds": 1200.0, "gpu_seconds": 600.0})
    main(["runs"])
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["SEARCH", "BEGAN", "STATE", "BEST", "DEVICE", "TIME", "TRIALS"]
    name, *_, began = line.split()[:3]
    assert (name, len(began)) == ("weave-1", len("12:34"))
    shown = " ".join(line.split()[3:])
    assert shown == "running 0.500 1 h CPU, 30 min GPU 1 finished, 2 stopped early"
    assert header.index("BEST") == line.index("0.500")
    main(["runs", "--category", "weave", "--json"])
    [found] = json.loads(capsys.readouterr().out)
    assert (found["name"], found["best"], found["totals"]["steps"]) == ("weave-1", 0.5, 0)
    main(["runs", "--category", "wood", "--json"])
    assert json.loads(capsys.readouterr().out) == []
