"""`zoo search` as a process: Ctrl-C and --resume, and several textures at once on one Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from registry import bundle
from registry.trials import Outcome
from tests import textures_drawn
from tests.exams import Entry
from tests.mlflow_runs import entries_of, new_store, statuses_of
from tests.search.tiny_searches import ELSEWHERE, SPACE_FILE
from zoo.cli._signals import sigterm_is_ctrl_c
from zoo.errors import EmptyFolderError
from zoo.search import all_textures
from zoo.search.all_textures import textures_in
from zoo.search.cluster import address

# Where several processes want all cores, torch's threads spend most of the time waiting.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
# `zoo` without the methods of features, each of which is fitted for seconds.
BRIEF = """
import sys
from zoo import methods
for name in [each for each in methods.names() if each.startswith("feature_")]:
    del methods.METHODS[name]
from zoo.cli import main
main(sys.argv[1:])
"""
THREE_TRIALS = ("--trials", "3", "--reports", "3")


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """A user's terminal, in a home of its own."""

    root: Path

    def zoo(self, category: str, *more: str, ray: str = "") -> subprocess.Popen[str]:
        """Start a search, in a process group of its own as a shell does.

        Args:
            category: A texture, or `all`.
            more: Further options.
            ray: Address of a Ray to join; by default the search starts its own.
        """
        here = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
        zoo = ("-m", "zoo.cli") if category == "all" else ("-c", BRIEF)
        command = [sys.executable, *zoo, "search", "--category", category, "--json"]
        command += ["--time-budget", "3m"]
        command += ["--data", f"{self.root}/data", "--space", f"{self.root}/tiny.yaml"]
        return subprocess.Popen(
            [*command, *more],
            env=here | {"ZOO_HOME": str(self.root / "home"), "RAY_ADDRESS": ray} | ONE_THREAD,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    @property
    def uri(self) -> str:
        """Of the MLflow store."""
        return f"sqlite:///{self.root / 'home' / 'mlflow.db'}"

    def trials(self, search_name: str) -> dict[str, Entry]:
        """Return what MLflow has of every trial."""
        return entries_of(self.uri, search_name)


def terminal_in(root: Path, *names: str) -> Terminal:
    """Return a terminal whose data are drawn textures of these names."""
    for name in names:
        textures_drawn.write_folder(root / "data" / name)
    (root / "tiny.yaml").write_text(SPACE_FILE, "utf-8")
    new_store(root / "home" / "mlflow.db")
    return Terminal(root=root)


@dataclass(frozen=True, kw_only=True)
class Background:
    """A search that runs meanwhile."""

    terminal: Terminal
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def background(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Background]:
    """A search for two textures, and for a third that has no image."""
    terminal = terminal_in(tmp_path_factory.mktemp("all"), "carpet", "wood")
    (terminal.root / "data" / "tile" / "train" / "good").mkdir(parents=True)
    process = terminal.zoo("all", "--trials", "2", "--reports", "2", ray=address())
    yield Background(terminal=terminal, process=process)
    if process.poll() is None:  # the test that waits for it was not selected, or has failed
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.cluster
@pytest.mark.usefixtures("background")  # to start it: both wait for much of their time
def test_ctrl_c_keeps_what_was_found_and_resume_goes_on_with_the_same_trials(
    tmp_path: Path,
) -> None:
    terminal = terminal_in(tmp_path, "weave")
    running = terminal.zoo("weave", *THREE_TRIALS)
    assert running.stderr is not None
    better = next((line for line in running.stderr if "better:" in line), None)
    assert better is not None, running.wait()
    os.killpg(running.pid, signal.SIGINT)
    printed, said = running.communicate(timeout=120)
    assert running.returncode == 0, said
    answer = json.loads(printed)
    assert "Interrupted; what was found is kept." in said
    assert "--resume" in said
    assert "Traceback" not in said
    first = bundle.load(Path(answer["detector"]))
    assert first.metrics["val_pixel_ap"] == pytest.approx(answer["val_pixel_ap"])
    assert "RUNNING" not in statuses_of(terminal.uri)
    name = Path(answer["detector"]).parent.name
    before = terminal.trials(name)
    interrupted = {trial for trial, entry in before.items() if entry.outcome == "interrupted"}
    assert interrupted

    resumed = terminal.zoo("weave", *THREE_TRIALS, "--resume", ray=address())
    printed, said = resumed.communicate(timeout=240)
    assert resumed.returncode == 0, said
    assert f"Resuming search {name}" in said
    found = json.loads(printed)
    assert "promoted" in found  # whether such brief trials pass the gate is another matter
    after = terminal.trials(name)
    assert before.keys() <= after.keys()
    assert len(after) == 3
    outcomes: list[Outcome | None] = [entry.outcome for entry in after.values()]
    assert found["trials_finished"] == outcomes.count("finished") >= 1
    assert found["trials_stopped_early"] == outcomes.count("stopped_early")
    assert found["trials_finished"] + found["trials_stopped_early"] == 3
    assert set(statuses_of(terminal.uri)) == {"FINISHED"}
    values = []
    for trial, entry in after.items():
        curve = entry.curves["val_pixel_ap"]
        assert [step for step, _ in curve] == list(range(1, len(curve) + 1)), trial
        values += [value for _, value in curve]
    for trial, entry in before.items():
        old_curve = entry.curves.get("val_pixel_ap", [])
        assert after[trial].curves["val_pixel_ap"][: len(old_curve)] == old_curve
    assert found["val_pixel_ap_trial"] == pytest.approx(max(values))


# ------------------------------------------------------------------------------- several textures


PATIENT = """
import signal, sys
def stop(*_):
    print(sys.argv[1])
    sys.exit()
signal.signal(signal.SIGINT, stop)
print("ready", file=sys.stderr, flush=True)
signal.pause()
"""


def test_sigterm_is_passed_on_to_every_search_and_their_answers_are_kept() -> None:
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-c", PATIENT, name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("carpet", "wood")
    }
    for process in processes.values():
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"
    with sigterm_is_ctrl_c() as terminated:
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        answers = all_textures.answers_of(processes)
    assert terminated.is_set()
    assert answers == {"carpet": "carpet\n", "wood": "wood\n"}
    for process in processes.values():
        process.communicate()


def test_the_textures_are_those_of_mvtec_that_are_there(tmp_path: Path) -> None:
    for name in ("wood", "carpet", "bottle"):
        (tmp_path / name).mkdir()
    assert textures_in(tmp_path) == ["carpet", "wood"]


def test_a_folder_without_any_of_them_is_refused_with_the_names(tmp_path: Path) -> None:
    (tmp_path / "bottle").mkdir()
    with pytest.raises(EmptyFolderError, match=rf"carpet, .*, wood, and {tmp_path} holds no"):
        textures_in(tmp_path)


@pytest.mark.cluster
def test_two_textures_are_searched_at_once_and_a_third_fails_alone(
    background: Background,
) -> None:
    printed, progress = background.process.communicate(timeout=240)
    assert background.process.returncode == 2, progress
    assert "Traceback" not in progress, progress
    answers = json.loads(printed)
    assert answers["tile"] == {}
    said = progress.splitlines()
    assert "zoo: 1 of 3 searches failed: tile." in said[-1]
    assert any(line.startswith("tile: zoo: ") and "no picture" in line.lower() for line in said)
    for name in ("carpet", "wood"):
        assert "promoted" in answers[name]  # such brief trials may not pass the gate
        assert Path(answers[name]["detector"]).parent.name.startswith(f"{name}-")
        assert any(line.startswith(f"{name}: Starting search {name}-") for line in said)

    client = MlflowClient(background.terminal.uri)
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
