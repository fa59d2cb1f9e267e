"""What a search hears of its trials: every report and every end, passed on to record and terminal.

The listener is also what bounds a search in time, ends trials that hang, and counts what they took.
"""

from __future__ import annotations

import copy
import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

import ray
from ray.tune import Callback

from zoo.trial import BUNDLE, FAILURE, METRIC

if TYPE_CHECKING:
    from ray.train import Checkpoint
    from ray.tune.experiment import Trial

PACE_S = 1200.0  # seconds of a search that the `megapixels` of a space are meant for
HEARTBEAT_S = 15.0  # a line at least so often, so that a quiet terminal means a stuck search
HUNG_AFTER_S = 600.0  # least silence of a trial that is taken for a hang
# What every error of a full disk says, and every one of S3 that Arrow, which writes there, raises.
FULL, REFUSED = "No space left on device", "AWS Error"

Outcome = Literal["finished", "stopped_early", "failed", "interrupted"]
Facts = Mapping[str, float | str]  # what a trial took; `TrialLog.reported` has the names


@runtime_checkable
class TrialLog(Protocol):
    """What a search needs of whatever keeps its record."""

    def started(self, trial: str, params: Mapping[str, float | int | str]) -> None:
        """Note a new trial and the parameters drawn for it."""

    def reported(self, trial: str, step: int, metrics: Mapping[str, float], facts: Facts) -> None:
        """Note one report, in the order the trial made them, and what it took until then.

        `facts` has `steps` (reports made), `node`, `device`, `cpu_seconds` and `gpu_seconds` (what
        the trial held times how long).
        """

    def ended(self, trial: str, outcome: Outcome, bundle: Path | None, facts: Facts) -> None:
        """Note how the trial ended, and what it took in all.

        `bundle` is its detector on disk, if it saved one. `facts` are those of `reported`, and the
        `reason` if it failed.
        """


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What bounds a search, kept beside it so that it can be resumed.

    Attributes:
        name: Of the search; its folder under the storage has this name.
        texture: What it is for.
        fingerprint: Of the data.
        seed: Of the search, and of each trial.
        trials: At most so many.
        time_budget_s: At most so long, from its start or its resumption.
        pace_s: The time budget that the length of its trials was set for, which resuming keeps.
        threads: For each trial; trials at once times threads are the cores.
        gpus_per_trial: Share of a GPU for each trial; None is a half where there are GPUs now.
        reports: How often each trial reports, and so how finely ASHA cuts.
        hung_after_s: A trial that reports nothing for so long is killed, and has failed.
        storage: Where Ray keeps the trials: an `s3://` address, or a folder that all nodes share;
            None is the folder of all searches.
    """

    name: str
    texture: str
    fingerprint: str
    seed: int
    trials: int
    time_budget_s: float
    threads: int
    gpus_per_trial: float | None
    reports: int
    pace_s: float = PACE_S
    hung_after_s: float = HUNG_AFTER_S
    storage: str | None = None


def best_checkpoint(trial: Trial) -> tuple[float, Checkpoint] | None:
    """Return the value and the checkpoint of a trial's best report, if it made one."""
    manager = trial.run_metadata.checkpoint_manager
    kept = manager.best_checkpoint_results if manager else []
    scored = [(result.metrics[METRIC], result.checkpoint) for result in kept if result.checkpoint]
    if not scored:
        return None
    value, checkpoint = max(scored, key=lambda pair: pair[0])
    return float(value), checkpoint


def detector_of(checkpoint: Checkpoint, folder: Path) -> Path:
    """Return where in the folder of its search a checkpoint's detector is, or is to be brought."""
    return folder.joinpath(*PurePath(checkpoint.path).parts[-2:], BUNDLE)


def _last_line(trial: Trial) -> str:
    """Return the last line of what Ray wrote down of an error."""
    path = Path(trial.error_file or "")
    lines = path.read_text("utf-8").split("\n") if path.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "its worker was lost")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


def _stop_tune() -> None:
    signal.raise_signal(signal.SIGUSR1)  # Ray Tune takes it as it takes Ctrl-C


class Listener(Callback):
    """Hears Ray Tune in the driver, and passes on: trials to the record, news to the terminal.

    It watches the time as well. Ray's own time budget would be spent for ever: it is saved with
    the search and found used up on resuming. The listener ends a search just as Ctrl-C does, so
    that the trials under way can go on.
    """

    def __init__(
        self,
        log: TrialLog,
        plan: Plan,
        say: Callable[[str], None],
        *,
        folder: Path,
        gpu_share: float = 0.0,
    ) -> None:
        self.log, self.plan, self.say, self.gpu_share = log, plan, say, gpu_share
        self.folder = folder
        self.seen: dict[str, Trial] = {}  # that began here
        self.running: dict[str, float] = {}  # since when
        self.held: dict[str, float] = {}  # seconds that a trial held its devices before that
        self.heard: dict[str, float] = {}  # when a running trial last said something
        self.ended: dict[str, Outcome] = {}
        self.best, self.best_trial = -1.0, ""
        self.failure, self.hung, self.unwritable = "", set[str](), ""
        self.interrupted = self.over = self.told_of_cpus = False
        self.began = self.spoke = self.looked = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long this search has been running, in this process."""
        return time.monotonic() - self.began

    @property
    def outcomes(self) -> dict[Outcome, int]:
        """The number of trials by outcome, those before a resumption included."""
        ends = list(self.ended.values())
        return {outcome: ends.count(outcome) for outcome in get_args(Outcome)}

    def get_state(self) -> dict[str, Any]:
        """Return what Ray keeps with the search for `set_state`, when it is resumed."""
        kept = ("ended", "best", "best_trial", "failure")
        held = self.held | {trial: self._held(trial) for trial in self.running}
        return {name: copy.copy(getattr(self, name)) for name in kept} | {"held": held}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take up what the search had come to."""
        vars(self).update(state)

    def settle(self, trials: Sequence[Trial]) -> None:
        """Take from the trials of a resumed search what was written down of it here too early."""
        done = {trial.trial_id: trial for trial in trials if trial.is_finished()}
        self.ended = {trial: how for trial, how in self.ended.items() if trial in done}
        for name, trial in done.items():
            if name in self.ended:
                continue
            taken = float((trial.last_result or {}).get("time_total_s", 0.0))
            self.held[name] = max(self.held.get(name, 0.0), taken)
            ends = self.on_trial_error if trial.status == trial.ERROR else self.on_trial_complete
            ends(0, list(trials), trial)

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Note a trial that begins or goes on."""
        self.seen[trial.trial_id] = trial
        self.ended.pop(trial.trial_id, None)
        self.running.setdefault(trial.trial_id, time.monotonic())
        self.heard[trial.trial_id] = time.monotonic()
        self.log.started(trial.trial_id, trial.config)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Note one report."""
        self.heard[trial.trial_id] = time.monotonic()
        if FAILURE in result:
            return
        if self.gpu_share and result.get("device") == "cpu" and not self.told_of_cpus:
            self.told_of_cpus = True
            self._tell("a worker has a GPU's share but no CUDA, so it computes on its processor")
        figures = {
            name: float(value)
            for name, value in result.items()
            if name.startswith(("val_", "train_"))
        }
        step = int(result["training_iteration"])
        self.log.reported(trial.trial_id, step, figures, self._facts(trial, result))

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Any, **info: Any
    ) -> None:
        """Tell of a better detector, now that it is kept and no Ctrl-C can lose it."""
        value = (trial.last_result or {}).get(METRIC, self.best)
        if value > self.best:
            self.best, self.best_trial = float(value), trial.trial_id
            self._tell(f"better: {METRIC} {self.best:.3f}")

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Tell of a trial that lost its worker, and goes on from its last checkpoint."""
        self.held[trial.trial_id] = self._held(trial.trial_id)
        self.running.pop(trial.trial_id, None)
        reason = _last_line(trial)
        if not self.unwritable and (FULL in reason or REFUSED in reason):
            self.unwritable = reason  # every further trial would fail, and this one once too often
            _stop_tune()
        else:
            self._tell(f"trial {trial.trial_id} lost its worker and will go on")

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Note a trial that ended by itself, or that ASHA stopped."""
        reason = str((trial.last_result or {}).get(FAILURE, ""))
        ended: Outcome = "finished" if self._is_whole(trial) else "stopped_early"
        self._end(trial, "failed" if reason else ended, reason)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Note a trial that lost its worker once too often, hung, or met a mistake of ours."""
        hung = f"hung: no report for {self.plan.hung_after_s:.0f} s"
        self._end(trial, "failed", hung if trial.trial_id in self.hung else _last_line(trial))

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Say something now and then, and end the search when its time is over."""
        if self.seconds >= self.plan.time_budget_s and not self.over:
            self.over = True
            _stop_tune()
        if time.monotonic() - self.looked >= 1.0:
            self.looked = time.monotonic()
            for trial in trials:
                self._end_a_hang(trial)
        if time.monotonic() - self.spoke >= HEARTBEAT_S:
            self._tell("")

    def close(self, trials: list[Trial]) -> None:
        """Account for every trial that Ray left without a word."""
        short = len(trials) < self.plan.trials or any(
            trial.trial_id not in self.ended for trial in trials
        )
        self.interrupted = short and not self.over
        left = (self.running | self.held).keys() - self.ended.keys()
        for trial in trials:
            if trial.trial_id in left:
                self._end(trial, "finished" if self._is_whole(trial) else "interrupted")
        if self.failure:
            self._tell(f"the first failure: {self.failure}")

    def summary(self) -> str:
        """Count the trials by outcome, in words."""
        said = [f"{n} {name.replace('_', ' ')}" for name, n in self.outcomes.items() if n]
        return ", ".join(said) or "no trial ended"

    def _held(self, trial: str) -> float:
        """Return for how many seconds a trial has held its devices until now."""
        now = time.monotonic()
        return self.held.get(trial, 0.0) + now - self.running.get(trial, now)

    def _facts(self, trial: Trial, last: Mapping[str, Any]) -> dict[str, float | int | str]:
        """Return what a trial took until now, as of its last report."""
        seconds = self._held(trial.trial_id)
        return {
            "steps": int(last.get("training_iteration", 0)) - (FAILURE in last),
            "node": str(last.get("hostname", "")),
            "device": str(last.get("device", "")),
            "cpu_seconds": round(seconds * self.plan.threads, 1),
            "gpu_seconds": round(seconds * self.gpu_share, 1),
        }

    def _is_whole(self, trial: Trial) -> bool:
        steps = (trial.last_result or {}).get("training_iteration", 0)
        return bool(steps >= self.plan.reports)

    def _end_a_hang(self, trial: Trial) -> None:
        """Kill the worker of a trial that says nothing; Ray then ends the trial as failed."""
        name, actor = trial.trial_id, trial.temporary_state.ray_actor
        silent = time.monotonic() - self.heard.get(name, math.inf)
        if actor and name in self.running.keys() - self.hung and silent > self.plan.hung_after_s:
            self.hung.add(name)
            trial.max_failures = trial.num_failures  # it would hang again
            ray.kill(actor)

    def _end(self, trial: Trial, outcome: Outcome, reason: str = "") -> None:
        self.held[trial.trial_id] = self._held(trial.trial_id)
        self.running.pop(trial.trial_id, None)
        self.ended[trial.trial_id] = outcome
        best, facts = best_checkpoint(trial), self._facts(trial, trial.last_result or {})
        if reason:
            facts["reason"] = reason
            self.failure = self.failure or reason
        bundle = detector_of(best[1], self.folder) if best else None
        self.log.ended(trial.trial_id, outcome, bundle, facts)
        self._tell(f"trial {trial.trial_id} {outcome.replace('_', ' ')}")

    def _tell(self, news: str) -> None:
        self.spoke = time.monotonic()
        best = f"best {self.best:.3f} ({self.best_trial})" if self.best_trial else "no result yet"
        left = max(0.0, self.plan.time_budget_s - self.seconds)
        line = (
            f"[{_clock(self.seconds)}] {len(self.running)} running, {self.summary()} | {best} | "
            f"{_clock(left)} left"
        )
        self.say(f"{line} | {news}" if news else line)
