"""Ray Tune's loop over trials, with two mistakes of Ray mended.

Ray hands a lost worker on twice: as the worker's end, and as that of the task it was at. Where the
task was to take up the next trial, the first has put the trial back into the queue, and the second
finds it there and ends it for good; nor could it begin again, being taken for one that is about
to. So a node that goes between two trials cost one, whatever `max_failures` says.

And where Ray is stopped between replacing a checkpoint by a better one and writing that down, it
asks for the one that is gone, and gives the trial up.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pyarrow.fs import FileType
from ray.tune.execution.tune_controller import TuneController

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


class Controller(TuneController):
    """Counts one loss once, and lets a trial go on from a checkpoint that is there, or anew."""

    _counted: Any = None

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
def installed() -> Iterator[None]:
    """Let `tune.run` use our controller; Ray has no other way to choose one."""
    ray_tune: Any = importlib.import_module("ray.tune.tune")
    theirs = ray_tune.TuneController
    ray_tune.TuneController = Controller
    try:
        yield
    finally:
        ray_tune.TuneController = theirs


def _is_there(kept: Any) -> bool:
    where = kept.checkpoint
    return bool(where.filesystem.get_file_info(where.path).type != FileType.NotFound)
