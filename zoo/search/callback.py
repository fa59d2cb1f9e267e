"""What a search does at each event of its trials: log it, report it, and enforce the limits.

`SearchCallback` runs in the driver. It ends the search when its time is over, kills trials that
hang, and counts what each trial has used.
"""

from __future__ import annotations

import copy
import math
import re
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, get_args

import ray
from ray.tune import Callback

from registry.trials import Outcome, Scalar
from zoo.errors import without_secrets
from zoo.search.config import SearchConfig, TrialLog
from zoo.search.failures import in_words
from zoo.search.progress import Progress, Standing
from zoo.search.trial import BUNDLE, FAILURE
from zoo.training import METRIC

if TYPE_CHECKING:
    from ray.train import Checkpoint
    from ray.tune.experiment import Trial

CHECK_S = 1.0  # between two looks at trials that may hang, and at the clock
# Texts in the errors of a full disk, and of S3 through Arrow, with which Ray writes to S3.
DISK_FULL, S3_ERROR = "No space left on device", "AWS Error"


def best_checkpoint(trial: Trial) -> tuple[float, Checkpoint] | None:
    """Return the objective and the checkpoint of a trial's best report; None without a report."""
    manager = trial.run_metadata.checkpoint_manager
    results = manager.best_checkpoint_results if manager else []
    scored = [
        (result.metrics[METRIC], result.checkpoint) for result in results if result.checkpoint
    ]
    if not scored:
        return None
    value, checkpoint = max(scored, key=lambda pair: pair[0])
    return float(value), checkpoint


def detector_of(checkpoint: Checkpoint, folder: Path) -> Path:
    """Return the path of a checkpoint's detector in the folder of its search.

    Where Ray keeps the trials elsewhere, `storage.local_detector` copies the detector there.
    """
    return folder.joinpath(*PurePath(checkpoint.path).parts[-2:], BUNDLE)


class SearchCallback(Callback):
    """Logs every event of every trial, shows the progress, and enforces the time limits.

    Ray's own time budget is saved with the search, so that a search that is resumed would find it
    used up. This class ends the search itself, as Ctrl-C does: trials that run then can go on when
    the search is resumed.
    """

    def __init__(
        self,
        log: TrialLog,
        config: SearchConfig,
        progress: Progress,
        *,
        folder: Path,
        gpu_share: float = 0.0,
    ) -> None:
        """Start counting the time.

        Args:
            log: Receives every event.
            config: The limits.
            progress: Shows the search to the user.
            folder: Of the search.
            gpu_share: Share of a GPU of each trial.
        """
        self.log, self.config, self.progress = log, config, progress
        self.folder, self.gpu_share = folder, gpu_share
        self.seen: dict[str, Trial] = {}  # trials that ran in this process
        self.running: dict[str, float] = {}  # trial: when it started to run
        self.held: dict[str, float] = {}  # trial: seconds on its CPUs and GPU, up to its last stop
        self.last_report: dict[str, float] = {}  # trial: when it last reported or started
        self.ended: dict[str, Outcome] = {}
        self.best, self.best_trial = -1.0, ""
        self.failure = ""  # reason of the first trial that failed
        self.hung = set[str]()
        self.storage_failure = ""
        self.interrupted = self.out_of_time = self.warned_of_cpu = False
        self.started_at = self.checked_at = time.monotonic()

    @property
    def seconds(self) -> float:
        """For how long this process has run the search."""
        return time.monotonic() - self.started_at

    @property
    def outcomes(self) -> dict[Outcome, int]:
        """Number of trials by outcome, including those before a resumption."""
        ends = list(self.ended.values())
        return {outcome: ends.count(outcome) for outcome in get_args(Outcome)}

    def get_state(self) -> dict[str, Any]:
        """Return what Ray saves with the search, and passes to `set_state` when it is resumed."""
        saved = ("ended", "best", "best_trial", "failure")
        held = self.held | {trial: self._seconds_held(trial) for trial in self.running}
        return {name: copy.copy(getattr(self, name)) for name in saved} | {"held": held}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` returned."""
        vars(self).update(state)

    def reconcile(self, trials: Sequence[Trial]) -> None:
        """Correct the restored state by the trials of a resumed search.

        Ray saves its files one after the other, so this state may be older than the trials.
        """
        done = {trial.trial_id: trial for trial in trials if trial.is_finished()}
        self.ended = {trial: outcome for trial, outcome in self.ended.items() if trial in done}
        for name, trial in done.items():
            if name in self.ended:
                continue
            seconds = float((trial.last_result or {}).get("time_total_s", 0.0))
            self.held[name] = max(self.held.get(name, 0.0), seconds)
            on_end = self.on_trial_error if trial.status == trial.ERROR else self.on_trial_complete
            on_end(0, list(trials), trial)

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Log a trial that starts or goes on."""
        self.seen[trial.trial_id] = trial
        self.ended.pop(trial.trial_id, None)
        self.running.setdefault(trial.trial_id, time.monotonic())
        self.last_report[trial.trial_id] = time.monotonic()
        self.log.started(trial.trial_id, trial.config)
        self._show()

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Log one report."""
        self.last_report[trial.trial_id] = time.monotonic()
        if FAILURE in result:
            return
        if self.gpu_share and result.get("device") == "cpu" and not self.warned_of_cpu:
            self.warned_of_cpu = True
            slow = "a worker has a share of a GPU but no CUDA: it computes on its CPU"
            self._show(slow, lasting=True)
        metrics = {
            name: float(value)
            for name, value in result.items()
            if name.startswith(("val_", "train_"))
        }
        step = int(result["training_iteration"])
        self.log.reported(trial.trial_id, step, metrics, self._usage(trial, result))

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Any, **info: Any
    ) -> None:
        """Report a better detector, after Ray has saved it: Ctrl-C cannot lose it any more."""
        value = (trial.last_result or {}).get(METRIC, self.best)
        if value > self.best:
            self.best, self.best_trial = float(value), trial.trial_id
            self._show(f"better: {METRIC} {self.best:.3f}")

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Report a trial that lost its worker and goes on from its last checkpoint.

        If the storage failed, every further trial would fail too: the search ends.
        """
        self.held[trial.trial_id] = self._seconds_held(trial.trial_id)
        self.running.pop(trial.trial_id, None)
        reason = reason_of(trial)
        if not self.storage_failure and (DISK_FULL in reason or S3_ERROR in reason):
            self.storage_failure = reason
            _stop_tune()
        else:
            self._show(f"trial {trial.trial_id} lost its worker and will go on", lasting=True)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Log a trial that ended by itself, or that ASHA stopped."""
        reason = str((trial.last_result or {}).get(FAILURE, ""))
        outcome: Outcome = "finished" if self._is_whole(trial) else "stopped_early"
        self._end(trial, "failed" if reason else outcome, reason)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Log a trial that hung, lost its worker too often, or raised an unexpected error."""
        hung = f"hung: no report for {self.config.hung_after_s:.0f} s"
        self._end(trial, "failed", hung if trial.trial_id in self.hung else reason_of(trial))

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Show how the search stands, kill trials that hang, and end the search on time."""
        if self.seconds >= self.config.time_budget_s and not self.out_of_time:
            self.out_of_time = True
            _stop_tune()
        if time.monotonic() - self.checked_at >= CHECK_S:
            self.checked_at = time.monotonic()
            for trial in trials:
                self._kill_if_hung(trial)
            self._show()

    def close(self, trials: list[Trial]) -> None:
        """Log the end of every trial for which Ray has not called back."""
        incomplete = len(trials) < self.config.trials or any(
            trial.trial_id not in self.ended for trial in trials
        )
        self.interrupted = incomplete and not self.out_of_time
        left = (self.running | self.held).keys() - self.ended.keys()
        for trial in trials:
            if trial.trial_id in left:
                self._end(trial, "finished" if self._is_whole(trial) else "interrupted")
        if self.failure:
            self._show(f"the first failure: {self.failure}", lasting=True)

    @property
    def standing(self) -> Standing:
        """How the trials stand now."""
        return Standing(
            best=self.best if self.best_trial else None,
            best_trial=self.best_trial,
            running=len(self.running),
            outcomes=self.outcomes,
            trials=self.config.trials,
            seconds=self.seconds,
            left_s=max(0.0, self.config.time_budget_s - self.seconds),
        )

    def _seconds_held(self, trial: str) -> float:
        """Return for how many seconds a trial has had its CPUs and GPU until now."""
        now = time.monotonic()
        return self.held.get(trial, 0.0) + now - self.running.get(trial, now)

    def _usage(self, trial: Trial, result: Mapping[str, Any]) -> dict[str, Scalar]:
        """Return what a trial has used until now; `result` is its last report."""
        seconds = self._seconds_held(trial.trial_id)
        return {
            "steps": int(result.get("training_iteration", 0)) - (FAILURE in result),
            "node": str(result.get("hostname", "")),
            "device": str(result.get("device", "")),
            "cpu_seconds": round(seconds * self.config.threads, 1),
            "gpu_seconds": round(seconds * self.gpu_share, 1),
        }

    def _is_whole(self, trial: Trial) -> bool:
        steps = (trial.last_result or {}).get("training_iteration", 0)
        return bool(steps >= self.config.reports)

    def _kill_if_hung(self, trial: Trial) -> None:
        """Kill the worker of a trial that does not report; Ray then ends the trial as failed."""
        name, actor = trial.trial_id, trial.temporary_state.ray_actor
        silent_s = time.monotonic() - self.last_report.get(name, math.inf)
        if not actor or name not in self.running or name in self.hung:
            return
        if silent_s > self.config.hung_after_s:
            self.hung.add(name)
            trial.max_failures = trial.num_failures  # no second try: it would hang again
            ray.kill(actor)

    def _end(self, trial: Trial, outcome: Outcome, reason: str = "") -> None:
        self.held[trial.trial_id] = self._seconds_held(trial.trial_id)
        self.running.pop(trial.trial_id, None)
        self.ended[trial.trial_id] = outcome
        best, usage = best_checkpoint(trial), self._usage(trial, trial.last_result or {})
        if reason:
            reason = without_secrets(reason)
            usage["reason"] = reason
            self.failure = self.failure or reason
        bundle = detector_of(best[1], self.folder) if best else None
        self.log.ended(trial.trial_id, outcome, bundle, usage)
        news = f"trial {trial.trial_id} {outcome.replace('_', ' ')}"
        self._show(news, lasting=outcome == "failed")

    def _show(self, news: str = "", *, lasting: bool = False) -> None:
        self.progress.stands(self.standing, news, lasting=lasting)


def reason_of(trial: Trial) -> str:
    """Return in one line the last error that Ray saved for a trial."""
    path = Path(trial.error_file or "")
    text = path.read_text("utf-8") if path.is_file() else ""
    last = re.split("^Failure # .*$", text, flags=re.MULTILINE)[-1]
    return in_words(last)


def _stop_tune() -> None:
    """End the search as Ctrl-C does; Ray Tune handles this signal the same way."""
    signal.raise_signal(signal.SIGUSR1)
