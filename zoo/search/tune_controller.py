"""Ray Tune's loop over trials, with corrections.

- Ray reports a lost worker twice: once for the worker and once for its task. If the task was to
  start the next trial, the first report puts the trial back into the queue and the second ends it
  for good. Nor could the trial start again, as Ray counts it as starting. A node that is lost
  between two trials thus costs one trial, whatever `max_failures` is.
- Ray ends the whole search if it has killed a worker itself because the memory of the node was
  nearly full, or if a node or an object is lost: such errors are neither of the worker nor of its
  code. Here the trial has lost its worker.
- If Ray is killed after it has replaced a checkpoint by a better one and before it has saved that,
  it later asks for the deleted checkpoint, and gives the trial up.
- Ray saves the state of a search in four files, and rewrites them while it copies them to the
  search's folder. After a kill or on a full disk, some may be older than the others, or cut off.
  Here the files are copied after they are written, each in one step. When the search is resumed,
  the states of the trials decide.
- Ray pickles classes of this module by name. The names of version 0.1 are resolvable while a
  search is restored.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from pyarrow.fs import FileType, LocalFileSystem
from ray.air.execution._internal import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.train._internal.storage import _FilesystemSyncer
from ray.tune.execution.tune_controller import TuneController

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    Reconcile = Callable[[Sequence[Trial]], None]

# When a search ends while a trial runs, its worker has so long to stop before it is killed. It can
# stop at a report only, and that report is not used any more. Ray's value is 10.
STOP_TIMEOUT_S = 2


class WholeFiles(_FilesystemSyncer):
    """Copies the files that have changed to a folder, each in one step.

    Ray pickles instances into the state of a search. The names of this class and its module are
    therefore part of what is stored.
    """

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the last command, which names a function of this module."""
        return {**cast(Any, super()).__getstate__(), "_current_cmd": None}

    def _sync_up_command(
        self, local_path: str, uri: str, exclude: list[str] | None = None
    ) -> tuple[Callable[..., None], dict[str, Any]]:
        return _copy_changed, {"source": Path(local_path), "target": Path(uri)}


class Workers(RayActorManager):
    """Ray's manager of workers; one that Ray ended itself is lost, as one that was killed is."""

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        known = isinstance(exception, RayActorError | RayTaskError)
        if isinstance(exception, RayError) and not known:
            # What follows the first line is a list of processes, and advice about Ray.
            reason = next(iter(str(exception).splitlines()), "") or type(exception).__name__
            exception = RayActorError(error_msg=reason)
        cast(Any, super())._actor_task_failed(tracked_actor_task, exception)


class PatchedTuneController(TuneController):
    """Ray's controller with the corrections that the module's docstring lists.

    Attributes:
        reconcilers: Each is called with the trials of a resumed search before it goes on.
    """

    reconcilers: tuple[Reconcile, ...]
    _counted: Any = None

    def resume(self, resume_config: Any) -> None:
        """Restore the search, and correct everything that is not as its trials say."""
        with _names_of_0_1():
            super().resume(resume_config)
        trials, generator = self._trials, cast(Any, self._search_alg)
        for reconcile in self.reconcilers:
            reconcile(trials)
        generator._counter = len(trials)
        limiter = generator.searcher
        limiter.live_trials = {each.trial_id for each in trials if not each.is_finished()}
        limiter.num_unfinished_live_trials = len(limiter.live_trials)

    def save_to_dir(self) -> None:
        """Save the state of the search, after the last copy of it has ended."""
        with suppress(Exception):  # of the copy; Ray tries it again soon
            cast(Any, self._storage).syncer.wait()
        cast(Any, super()).save_to_dir()

    def _cleanup_trials(self) -> None:
        self._actor_force_cleanup_timeout = STOP_TIMEOUT_S
        cast(Any, super())._cleanup_trials()

    def _create_checkpoint_manager(self) -> Any:
        storage: Any = self._storage
        if isinstance(storage.storage_filesystem, LocalFileSystem):
            storage.syncer = WholeFiles(
                storage.storage_filesystem,
                sync_period=storage.sync_config.sync_period,
                sync_timeout=storage.sync_config.sync_timeout,
            )
        return cast(Any, super())._create_checkpoint_manager()

    def _process_trial_failure(self, trial: Trial, exception: Any) -> None:
        self._resetting_trials.discard(trial)
        if exception is not self._counted:
            self._counted = exception
            super()._process_trial_failure(trial, exception)

    def _schedule_trial_restore(self, trial: Trial) -> bool:
        manager: Any = trial.run_metadata.checkpoint_manager
        manager._checkpoint_results = [r for r in manager._checkpoint_results if _exists(r)]
        latest = manager.latest_checkpoint_result
        if latest and not _exists(latest):
            manager._latest_checkpoint_result = manager.best_checkpoint_result
        return bool(super()._schedule_trial_restore(trial))


@contextmanager
def _names_of_0_1() -> Iterator[None]:
    """Provide the module of version 0.1 that the pickles of its searches name."""
    module = ModuleType("zoo.controller")
    vars(module).update(WholeFiles=WholeFiles, _send=_copy_changed)
    sys.modules[module.__name__] = module
    try:
        yield
    finally:
        del sys.modules[module.__name__]


@contextmanager
def installed(*reconcilers: Reconcile) -> Iterator[None]:
    """Let `tune.run` use `PatchedTuneController` and `Workers`; Ray has no option for it.

    Args:
        reconcilers: See `PatchedTuneController`.
    """
    ray_tune: Any = importlib.import_module("ray.tune.tune")
    ray_loop: Any = importlib.import_module("ray.tune.execution.tune_controller")
    originals = ray_tune.TuneController, ray_loop.RayActorManager
    ray_tune.TuneController = type(
        "Controller", (PatchedTuneController,), {"reconcilers": reconcilers}
    )
    ray_loop.RayActorManager = Workers
    try:
        yield
    finally:
        ray_tune.TuneController, ray_loop.RayActorManager = originals


def _copy_changed(source: Path, target: Path) -> None:
    # `files.write_whole` would wait for the disk after each of maybe tens of thousands of files.
    for file in source.rglob("*"):
        if not file.is_file():
            continue
        copy = target / file.relative_to(source)
        if copy.exists() and _size_and_time(copy) == _size_and_time(file):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        part = copy.with_name(f"{copy.name}.part")
        shutil.copy2(file, part)
        os.replace(part, copy)


def _size_and_time(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _exists(result: Any) -> bool:
    checkpoint = result.checkpoint
    return bool(checkpoint.filesystem.get_file_info(checkpoint.path).type != FileType.NotFound)
