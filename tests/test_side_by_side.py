"""Several textures at once, on one Ray: each with its own record, champion and way to fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests import textures_drawn
from tests.test_search import SPACE_FILE
from zoo.errors import EmptyFolderError
from zoo.side_by_side import textures_in


def test_the_textures_are_those_of_mvtec_that_are_there(tmp_path: Path) -> None:
    for name in ("wood", "carpet", "bottle"):
        (tmp_path / name).mkdir()
    assert textures_in(tmp_path) == ["carpet", "wood"]


def test_a_folder_without_any_of_them_is_refused_with_the_names(tmp_path: Path) -> None:
    (tmp_path / "bottle").mkdir()
    with pytest.raises(EmptyFolderError, match=rf"carpet, .*, wood, and {tmp_path} holds no"):
        textures_in(tmp_path)


@pytest.mark.cluster
def test_two_textures_are_searched_at_once_and_a_third_fails_alone(tmp_path: Path) -> None:
    for name in ("carpet", "wood"):
        textures_drawn.write_folder(tmp_path / "data" / name)
    (tmp_path / "data" / "tile" / "train" / "good").mkdir(parents=True)
    (tmp_path / "tiny.yaml").write_text(SPACE_FILE, "utf-8")
    away = ("ZOO_SHELF", "MLFLOW_TRACKING_URI", "RAY_ADDRESS")
    here = {name: value for name, value in os.environ.items() if name not in away}
    zoo = str(Path(sys.executable).parent / "zoo")
    command = [zoo, "search", "--category", "all", "--data", str(tmp_path / "data"), "--json"]
    command += ["--space", str(tmp_path / "tiny.yaml"), "--trials", "2", "--reports", "2"]
    ended = subprocess.run(
        [*command, "--time-budget", "3m"],
        env=here | {"ZOO_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr, ended.stderr
    answers = json.loads(ended.stdout)
    assert answers["tile"] == {}
    said = ended.stderr.splitlines()
    assert "zoo: 1 of 3 searches failed: tile." in said[-1]
    assert any(line.startswith("tile: zoo: ") and "no picture" in line.lower() for line in said)
    for name in ("carpet", "wood"):
        assert "promoted" in answers[name]  # whether so brief trials pass the gate is all one
        assert Path(answers[name]["detector"]).parent.name.startswith(f"{name}-")
        assert any(line.startswith(f"{name}: Starting search {name}-") for line in said)

    client = MlflowClient(f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}")
    [experiment] = [each for each in client.search_experiments() if each.name == "texture-zoo"]
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if run.data.tags["zoo.role"] == "search"]
    assert sorted(run.data.tags["zoo.texture"] for run in parents) == ["carpet", "wood"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert max(run.info.start_time for run in parents) < min(run.info.end_time for run in parents)
    assert {run.data.params["pace_s"] for run in parents} == {"60.0"}
    trials = [run for run in runs if run.data.tags["zoo.role"] == "trial"]
    of_texture = [run.data.tags["zoo.texture"] for run in trials]
    assert sorted(of_texture) == ["carpet", "carpet", "wood", "wood"]
