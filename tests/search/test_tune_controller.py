"""How the state of a search is copied to its folder, and which errors are a lost worker."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest
from pyarrow.fs import LocalFileSystem
from ray.air.execution import ResourceManager
from ray.air.execution._internal import TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    WorkerCrashedError,
)

from zoo.search.tune_controller import WholeFiles, Workers, installed


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "trial").mkdir(parents=True)
    (source / "state.json").write_text("one")
    (source / "trial" / "result.json").write_text("{}\n")
    return source, target


def send(source: Path, target: Path) -> None:
    syncer = WholeFiles(LocalFileSystem())
    assert syncer.sync_up(str(source), str(target))
    syncer.wait()


def held(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_new_and_changed_files_are_copied_and_the_others_are_not_touched(
    folders: tuple[Path, Path],
) -> None:
    source, target = folders
    send(source, target)
    assert held(target) == held(source)
    before = (target / "trial" / "result.json").stat().st_ino
    (source / "state.json").write_text("two")
    os.utime(source / "state.json", ns=(0, 1))  # as long as before, and another time
    send(source, target)
    assert held(target) == held(source)
    assert (target / "trial" / "result.json").stat().st_ino == before


def test_a_copy_that_fails_leaves_the_old_file(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = folders
    send(source, target)

    def full(_: object, coming: Path) -> None:
        Path(coming).write_text("tw")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zoo.search.tune_controller.shutil.copy2", full)
    (source / "state.json").write_text("two, and longer")
    with pytest.raises(OSError, match="No space left"):
        send(source, target)
    assert (target / "state.json").read_text() == "one"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OutOfMemoryError("The node is low on memory.\nTop 10 users:\n1 zoo"), "low on memory."),
        (NodeDiedError("The node is gone."), "The node is gone."),
        (WorkerCrashedError(), "The worker died unexpectedly"),
        (ObjectLostError("00" * 28, None, ""), "Failed to retrieve object"),
        (OutOfMemoryError(""), "OutOfMemoryError"),
    ],
)
def test_a_worker_that_ray_ended_itself_is_lost_and_the_search_goes_on(
    error: RayError, reason: str
) -> None:
    lost: list[Exception] = []
    actor = TrackedActor(1, on_error=lambda _, exception: lost.append(exception))
    task = TrackedActorTask(actor, on_error=lambda _, exception: lost.append(exception))
    resources = create_autospec(ResourceManager, instance=True)  # a real one starts a Ray
    manager: Any = Workers(resources)
    manager._live_actors_to_ray_actors_resources[actor] = None, "held"
    manager._actor_task_failed(task, error)
    resources.free_resources.assert_called_once_with(acquired_resource="held")
    assert len(lost) == 2, "the end of the worker, and of its task"
    for each in lost:
        assert isinstance(each, RayActorError)
        assert reason in str(each)
        assert "\n" not in str(each)


def test_a_search_manages_its_workers_so_and_other_runs_do_not() -> None:
    loop: Any = importlib.import_module("ray.tune.execution.tune_controller")
    before = loop.RayActorManager
    with installed():
        assert loop.RayActorManager is Workers
    assert loop.RayActorManager is before
