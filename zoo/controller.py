"""Ray Tune's loop over trials, with three mistakes of Ray mended.

Ray hands a lost worker on twice: as the worker's end, and as that of the task it was at. Where the
task was to take up the next trial, the first has put the trial back into the queue, and the second
finds it there and ends it for good; nor could it begin again, being taken for one that is about
to. So a node that goes between two trials cost one, whatever `max_failures` says.

And where Ray is stopped between replacing a checkpoint by a better one and writing that down, it
asks for the one that is gone, and gives the trial up.

And what Ray writes down of a search are four files, which it rewrites while it copies them to where
the search is kept. A search that was killed or had no space left could leave some older than the
others, or cut off. Here they are copied once they are written, in a folder each of them whole or
not at all; and on resuming, what the trials' own states say is what holds.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pyarrow.fs import FileType, LocalFileSystem
from ray.train._internal.storage import _FilesystemSyncer
from ray.tune.execution.tune_controller import TuneController

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    Settle = Callable[[Sequence[Trial]], None]


class WholeFiles(_FilesystemSyncer):
    """Copies to a folder what has changed, each file whole or not at all."""

    def _sync_up_command(
        self, local_path: str, uri: str, exclude: list[str] | None = None
    ) -> tuple[Callable[..., None], dict[str, Any]]:
        return _send, {"source": Path(local_path), "target": Path(uri)}


class Controller(TuneController):
    """Counts one loss once, and lets a trial go on from a checkpoint that is there, or anew.

    It also keeps what it writes down of a search whole.

    Attributes:
        settlers: Called with the trials of a search that is resumed, before it goes on.
    """

    settlers: tuple[Settle, ...]
    _counted: Any = None

    def resume(self, resume_config: Any) -> None:
        """Take up the search, and let its trials say what holds."""
        super().resume(resume_config)
        trials, generator = self._trials, cast(Any, self._search_alg)
        for settle in self.settlers:
            settle(trials)
        generator._counter = len(trials)
        limiter = generator.searcher
        limiter.live_trials = {each.trial_id for each in trials if not each.is_finished()}
        limiter.num_unfinished_live_trials = len(limiter.live_trials)

    def save_to_dir(self) -> None:
        """Write down the search, once nothing is being copied any more."""
        with suppress(Exception):  # of a copy that Ray tries again in a moment
            cast(Any, self._storage).syncer.wait()
        cast(Any, super()).save_to_dir()

    def _create_checkpoint_manager(self) -> Any:
        where: Any = self._storage
        if isinstance(where.storage_filesystem, LocalFileSystem):
            where.syncer = WholeFiles(
                where.storage_filesystem,
                sync_period=where.sync_config.sync_period,
                sync_timeout=where.sync_config.sync_timeout,
            )
        return cast(Any, super())._create_checkpoint_manager()

    def _process_trial_failure(self, trial: Trial, exception: Any) -> None:
        self._resetting_trials.discard(trial)
        if exception is not self._counted:
            self._counted = exception
            super()._process_trial_failure(trial, exception)

    def _schedule_trial_restore(self, trial: Trial) -> bool:
        kept: Any = trial.run_metadata.checkpoint_manager
        kept._checkpoint_results = [each for each in kept._checkpoint_results if _is_there(each)]
        latest = kept.latest_checkpoint_result
        if latest and not _is_there(latest):
            kept._latest_checkpoint_result = kept.best_checkpoint_result
        return bool(super()._schedule_trial_restore(trial))


@contextmanager
def installed(*settlers: Settle) -> Iterator[None]:
    """Let `tune.run` use our controller; Ray has no other way to choose one.

    Args:
        settlers: Of what keeps an account of trials, for `Controller.settlers`.
    """
    ray_tune: Any = importlib.import_module("ray.tune.tune")
    theirs = ray_tune.TuneController
    ray_tune.TuneController = type("Settling", (Controller,), {"settlers": settlers})
    try:
        yield
    finally:
        ray_tune.TuneController = theirs


def _send(source: Path, target: Path) -> None:
    # `bundle.write_whole` would wait for the disk at each of maybe tens of thousands of files.
    for file in source.rglob("*"):
        if not file.is_file():
            continue
        there = target / file.relative_to(source)
        if there.exists() and _stamp(there) == _stamp(file):
            continue
        there.parent.mkdir(parents=True, exist_ok=True)
        coming = there.with_name(f"{there.name}.part")
        shutil.copy2(file, coming)
        os.replace(coming, there)


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def _is_there(kept: Any) -> bool:
    where = kept.checkpoint
    return bool(where.filesystem.get_file_info(where.path).type != FileType.NotFound)
