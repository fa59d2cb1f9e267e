"""A search that version 0.1 left interrupted goes on to its end.

Ray does not report a state that it cannot read: it starts the search again. So the tests check
that the trials are the stored ones.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import search_spaces
from registry import bundle
from registry.runs.buffer import BufferedRuns
from registry.runs.search_runs import SearchRuns
from registry.runs.store import open_store
from tests import textures_drawn
from tests.mlflow_runs import entries_of, runs_of
from tests.stored.placed import STORED, place
from zoo.data import textures
from zoo.search.progress import Lines
from zoo.search.run import SearchResult, run_search
from zoo.search.storage import last_config
from zoo.training import field_names, gather

# Two trials that were interrupted, and one that ASHA had stopped. A fourth was not drawn yet.
GOING_ON, STOPPED = {"30c14292", "7689138f"}, "f6d2db20"


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """The search at its end.

    Attributes:
        uri: Of its MLflow store.
        folder: Of the search.
        result: What it found.
        said: Its lines of progress.
    """

    uri: str
    folder: Path
    result: SearchResult
    said: list[str]


@pytest.fixture(scope="module")
def resumed(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    root = tmp_path_factory.mktemp("stored")
    home = place("interrupted", root)
    uri, storage, said = f"sqlite:///{home / 'mlflow.db'}", home / "searches", list[str]()
    textures_drawn.write_folder(root / "data" / "weave")
    data = gather(textures.find(root / "data", "weave"))
    config = last_config(storage, "weave")
    assert data.fingerprint == config.fingerprint
    space = search_spaces.load_file(STORED / "0.1" / "short.yaml", known=field_names())
    runs = SearchRuns(open_store(uri), search=config.name, texture="weave", params={})
    log = BufferedRuns(runs, storage / config.name, say=said.append)
    result = run_search(data, space, config, storage=storage, log=log, progress=Lines(said.append))
    log.close({}, "finished", result.trials)
    return Resumed(uri=uri, folder=storage / config.name, result=result, said=said)


@pytest.mark.cluster
def test_the_stored_trials_go_on_and_only_the_missing_one_is_new(resumed: Resumed) -> None:
    assert resumed.said[0].startswith("Resuming search weave-20261127-091132: up to 4 trials")
    trials = resumed.result.trials
    assert len(trials) == 4
    assert GOING_ON | {STOPPED} <= set(trials)
    assert len(list(resumed.folder.glob("run_*"))) == 4
    outcomes = resumed.result.outcomes
    assert outcomes["failed"] == outcomes["interrupted"] == 0
    assert outcomes["finished"] + outcomes["stopped_early"] == 4


@pytest.mark.cluster
def test_every_trial_has_one_run_with_every_report_once(resumed: Resumed) -> None:
    runs = runs_of(resumed.uri, resumed.folder.name)
    assert runs.keys() == {"", *resumed.result.trials}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    client = open_store(resumed.uri).client
    for trial in resumed.result.trials:
        history = client.get_metric_history(runs[trial].info.run_id, "val_pixel_ap")
        steps = [point.step for point in history]
        assert steps == list(range(1, int(runs[trial].data.tags["zoo.steps"]) + 1))
    for total in ("steps", "cpu_seconds"):
        each = sum(float(runs[trial].data.tags[f"zoo.{total}"]) for trial in resumed.result.trials)
        assert runs[""].data.metrics[total] == pytest.approx(each)


@pytest.mark.cluster
def test_the_best_detector_is_that_of_a_trial_and_loads(resumed: Resumed) -> None:
    best = bundle.load(resumed.result.best)
    assert best.metrics["val_pixel_ap"] == resumed.result.value
    entries = entries_of(resumed.uri, resumed.folder.name)
    values = [value for each in entries.values() for _, value in each.curves["val_pixel_ap"]]
    assert resumed.result.value == pytest.approx(max(values))


@pytest.mark.cluster
def test_the_old_names_of_modules_are_gone_afterwards(resumed: Resumed) -> None:
    assert "zoo.controller" not in sys.modules
    assert importlib.util.find_spec("zoo.controller") is None
