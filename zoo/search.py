"""A search: Ray Tune with Optuna's TPE and ASHA over one texture's space.

The driver hears every trial through one callback and passes it on, to a record (`TrialLog`) and
to the terminal. Workers talk to Ray only.
"""

from __future__ import annotations

import copy
import itertools
import json
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

import optuna
import ray
from ray import tune
from ray.tune import Callback
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback, TBXLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import ConcurrencyLimiter

from search_spaces import Choice, Integer, LogUniform, Space, Uniform
from zoo import trial as trial_room
from zoo.bundle import storage_error, write_whole
from zoo.errors import BadImageError, SearchError, SpaceError
from zoo.recipe import Materials
from zoo.study import Study

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ray.tune.experiment import Trial

METRIC = "val_pixel_ap"
PACE_S = 1200.0  # seconds of a search that the `megapixels` of a space are meant for
SMALL = 512  # pixels; a picture of a material that is smaller than this was often reduced
HEARTBEAT_S = 15.0  # a line at least so often, so that a quiet terminal means a stuck search
PLAN = "search.json"
CLUSTER_SLOTS = 8  # trials asked for at once where no node is up yet: the autoscaler follows

Outcome = Literal["finished", "stopped_early", "failed", "interrupted"]


@runtime_checkable
class TrialLog(Protocol):
    """What a search needs of whatever keeps its record."""

    def started(self, trial: str, params: Mapping[str, float | int | str]) -> None:
        """Note a new trial and the parameters drawn for it."""

    def reported(self, trial: str, step: int, metrics: Mapping[str, float]) -> None:
        """Note one report, in the order the trial made them."""

    def ended(
        self, trial: str, outcome: Outcome, bundle: Path | None, cost: Mapping[str, float | str]
    ) -> None:
        """Note how the trial ended, and what it took.

        `bundle` is its detector on disk, if it saved one. `cost` has `steps` (reports made),
        `node`, and `cpu_seconds` and `gpu_seconds` (devices times the time it held them).
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


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search ended with.

    Attributes:
        best: The best checkpoint's detector on disk.
        best_trial: Whose it is.
        value: Its `val_pixel_ap`.
        outcomes: Number of trials by outcome.
        seconds: How long it took.
        interrupted: Whether it was stopped from the keyboard.
    """

    best: Path
    best_trial: str
    value: float
    outcomes: Mapping[Outcome, int]
    seconds: float
    interrupted: bool


class Listener(Callback):
    """Hears Ray Tune in the driver, and passes on: trials to the record, news to the terminal.

    It watches the time as well. Ray's own time budget would be spent for ever: it is saved with
    the search and found used up on resuming. The listener ends a search just as Ctrl-C does, so
    that the trials under way can go on.
    """

    def __init__(
        self, log: TrialLog, plan: Plan, say: Callable[[str], None], *, gpu_share: float = 0.0
    ) -> None:
        self.log, self.plan, self.say, self.gpu_share = log, plan, say, gpu_share
        self.running: dict[str, float] = {}  # since when
        self.held: dict[str, float] = {}  # seconds that a trial held its devices before that
        self.ended: dict[str, Outcome] = {}
        self.best, self.best_trial, self.failure = -1.0, "", ""
        self.interrupted = self.over = False
        self.began = self.spoke = time.monotonic()

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
        kept = ("ended", "best", "best_trial")
        held = self.held | {trial: self._held(trial) for trial in self.running}
        return {name: copy.copy(getattr(self, name)) for name in kept} | {"held": held}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take up what the search had come to."""
        vars(self).update(state)

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Note a trial that begins or goes on."""
        self.ended.pop(trial.trial_id, None)
        self.running.setdefault(trial.trial_id, time.monotonic())
        self.log.started(trial.trial_id, trial.config)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Note one report."""
        figures = {
            name: float(value)
            for name, value in result.items()
            if name.startswith(("val_", "train_"))
        }
        self.log.reported(trial.trial_id, int(result["training_iteration"]), figures)

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
        self._tell(f"trial {trial.trial_id} lost its worker and will go on")

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Note a trial that ended by itself, or that ASHA stopped."""
        self._end(trial, "finished" if self._is_whole(trial) else "stopped_early")

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Note a trial that failed; Ray attaches the reason only afterwards."""
        self._end(trial, "failed")

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Say something now and then, and end the search when its time is over."""
        if self.seconds >= self.plan.time_budget_s and not self.over:
            self.over = True
            signal.raise_signal(signal.SIGUSR1)  # Ray Tune takes it as it takes Ctrl-C
        if time.monotonic() - self.spoke >= HEARTBEAT_S:
            self._tell("")

    def close(self, trials: list[Trial]) -> None:
        """Account for every trial that Ray left without a word."""
        short = len(trials) < self.plan.trials or any(
            trial.trial_id not in self.ended for trial in trials
        )
        self.interrupted = short and not self.over
        for trial in trials:
            if trial.trial_id in self.running:
                self._end(trial, "finished" if self._is_whole(trial) else "interrupted")
        failures = [str(error).strip() for trial in trials if (error := trial.get_error())]
        if failures:
            self.failure = failures[0].splitlines()[-1]
            self._tell(f"the first failure: {self.failure}")

    def summary(self) -> str:
        """Count the trials by outcome, in words."""
        said = [f"{n} {name.replace('_', ' ')}" for name, n in self.outcomes.items() if n]
        return ", ".join(said) or "no trial ended"

    def _held(self, trial: str) -> float:
        """Return for how many seconds a trial has held its devices until now."""
        now = time.monotonic()
        return self.held.get(trial, 0.0) + now - self.running.get(trial, now)

    def _is_whole(self, trial: Trial) -> bool:
        steps = (trial.last_result or {}).get("training_iteration", 0)
        return bool(steps >= self.plan.reports)

    def _end(self, trial: Trial, outcome: Outcome) -> None:
        seconds = self.held[trial.trial_id] = self._held(trial.trial_id)
        self.running.pop(trial.trial_id, None)
        self.ended[trial.trial_id] = outcome
        best, last = best_checkpoint(trial), trial.last_result or {}
        cost: dict[str, float | str] = {
            "steps": int(last.get("training_iteration", 0)),
            "node": str(last.get("hostname", "")),
            "cpu_seconds": round(seconds * self.plan.threads, 1),
            "gpu_seconds": round(seconds * self.gpu_share, 1),
        }
        self.log.ended(trial.trial_id, outcome, best[1] if best else None, cost)
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


def parameter_space(space: Space) -> dict[str, Any]:
    """Translate a space into Ray Tune's own distributions; fixed values stay as they are.

    Raises:
        SpaceError: All of its values are fixed.
    """
    domains = {name: _domain(field) for name, field in space.fields.items()}
    if domains == dict(space.fields):
        raise SpaceError(
            f"Space '{space.name}' ({space.path}) fixes every field, so there is nothing to search "
            "for. Give a field a range, or make this one detector with `zoo train`."
        )
    return domains


def fitting(space: Space, smallest_side: int, *, widen: bool = False) -> tuple[Space, str]:
    """Leave out of a space what the smallest picture is too small for, and say so.

    A scale stays if the middle one of the patches fits into the picture at that scale; a patch
    stays if it fits at every scale that stayed. Where no scale would stay, the largest does.

    Args:
        space: With `scale` and `patch` as choices or fixed values; other kinds are left alone.
        smallest_side: Of all good pictures, in pixels.
        widen: Add full size to the scales if the pictures are small: the scales of a known texture
            are meant for pictures of about 1000 pixels, and these may have been reduced already.

    Raises:
        BadImageError: Not even the smallest patch fits at the largest scale.
    """
    scales, patches = (_options(space.fields.get(name)) for name in ("scale", "patch"))
    if not scales or not patches:
        return space, ""
    small = widen and smallest_side < SMALL
    wide = [*scales, 1.0] if small and 1.0 not in scales else scales
    middle = sorted(patches)[len(patches) // 2]
    kept = [each for each in wide if round(smallest_side * each) >= middle] or [max(wide)]
    room = round(smallest_side * min(kept))
    fit = [each for each in patches if each <= room]
    if not fit:
        raise BadImageError(
            f"The smallest good picture (or region of one) has a side of {smallest_side} pixels; "
            f"space '{space.name}' needs {min(patches) / max(wide):.0f} for its smallest patch. "
            "Use larger pictures, or a space of your own with --space."
        )
    if kept == scales and fit == patches:
        return space, ""
    chosen = {"scale": Choice(values=tuple(kept)), "patch": Choice(values=tuple(map(int, fit)))}
    note = (
        f"The smallest good picture has a side of {smallest_side} pixels, so scale is one of "
        f"{kept} and patch one of {fit}."
    )
    return replace(space, fields={**space.fields, **chosen}), note


def paced(space: Space, time_budget_s: float) -> tuple[Space, str]:
    """Let trials train the longer, the more time a search has, and say so.

    What a longer training finds, no choice of settings makes up for; so more time goes into longer
    trials, not into more of them. A space says what is right for `PACE_S`.

    Args:
        space: Its `megapixels`, if a fixed number, is scaled.
        time_budget_s: Of the search.
    """
    megapixels = space.fields.get("megapixels")
    if isinstance(megapixels, bool) or not isinstance(megapixels, int | float):
        return space, ""
    mine = round(megapixels * time_budget_s / PACE_S, 1)
    if mine == megapixels:
        return space, ""
    note = (
        f"Trials train on {mine:g} megapixels: space '{space.name}' has {megapixels:g} for a "
        f"search of {PACE_S / 60:g} minutes, and this one has {time_budget_s / 60:.3g}."
    )
    return replace(space, fields={**space.fields, "megapixels": mine}), note


def first_trial(space: Space) -> dict[str, Any]:
    """Return what a search tries first: the middle of every range, the first of every choice."""
    start: dict[str, Any] = {}
    for name, field in space.fields.items():
        match field:
            case Choice():
                start[name] = field.values[0]
            case Integer():
                start[name] = (field.low + field.high) // 2
            case LogUniform():
                start[name] = math.sqrt(field.low * field.high)
            case Uniform():
                start[name] = (field.low + field.high) / 2
    return start


@contextmanager
def cluster(address: str | None = None) -> Iterator[None]:
    """Join the Ray at `address` or `RAY_ADDRESS`, or start one on this machine for this search."""
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    ray.init(
        address=where,
        include_dashboard=False if where == "local" else None,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        yield
    finally:
        ray.shutdown()


def run(
    materials: Materials,
    space: Space,
    plan: Plan,
    *,
    storage: Path,
    log: TrialLog,
    say: Callable[[str], None],
) -> Found:
    """Search, and return the best detector found; go on if the plan's search has begun already.

    Only the main thread may search: Ctrl-C and the end of the time reach it as signals.

    Args:
        materials: The texture; put into Ray's object store once.
        space: What may vary.
        plan: What bounds the search.
        storage: Folder (or mounted share) of all searches.
        log: Keeps the record.
        say: Receives one line at a time for the person who waits.

    Raises:
        SpaceError: The space leaves nothing to search for.
        SearchError: Not one trial came as far as a detector.
        KeyboardInterrupt: Nor had one when the search was stopped from the keyboard.
        StorageError: The plan cannot be written.
    """
    domains = parameter_space(space)
    folder = storage / plan.name
    resume = any(folder.glob("experiment_state-*.json"))
    write_plan(plan, folder)
    share, slots = room_for_trials(plan)
    say(
        f"{'Resuming' if resume else 'Starting'} search {plan.name}: up to {plan.trials} trials, "
        f"{slots} at once with {plan.threads} thread(s) and {share:g} GPU each, "
        f"space '{space.name}'."
    )
    listener = Listener(log, plan, say, gpu_share=share)
    # Tune's own, but ours to close: it leaves the files of trials open that were interrupted.
    loggers = (CSVLoggerCallback(), JsonLoggerCallback(), TBXLoggerCallback())
    with _quiet():
        analysis = tune.run(
            _trainable(materials, plan, share),
            name=plan.name,
            storage_path=str(storage.resolve()),
            config=domains | {"reports": plan.reports},
            metric=METRIC,
            mode="max",
            num_samples=plan.trials,
            search_alg=ConcurrencyLimiter(
                Study(seed=plan.seed, reports=plan.reports, first=first_trial(space)),
                max_concurrent=slots,
            ),
            scheduler=ASHAScheduler(
                max_t=plan.reports, grace_period=max(1, plan.reports // 4), reduction_factor=2
            ),
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=1, checkpoint_score_attribute=METRIC, checkpoint_score_order="max"
            ),
            callbacks=[listener, *loggers],
            reuse_actors=True,
            raise_on_failed_trial=False,
            resume=resume,
            verbose=0,
        )
    for logger, trial in itertools.product(loggers, analysis.trials):
        logger.log_trial_end(trial)
    listener.close(analysis.trials)
    found = [(each, best) for each in analysis.trials if (best := best_checkpoint(each))]
    if not found and listener.interrupted:
        say("Interrupted before there was a detector. Go on with the same command and --resume.")
        raise KeyboardInterrupt
    if not found:
        raise SearchError(
            f"Search {plan.name} ended after {listener.seconds:.0f} s without any detector: "
            f"{listener.summary()}. "
            + (f"The first failure: {listener.failure} " if listener.failure else "")
            + "Give it a longer --time-budget, or another space."
        )
    winner, (value, where) = max(found, key=lambda pair: pair[1][0])
    return Found(
        best=where,
        best_trial=winner.trial_id,
        value=value,
        outcomes=listener.outcomes,
        seconds=listener.seconds,
        interrupted=listener.interrupted,
    )


def _trainable(materials: Materials, plan: Plan, gpu_share: float) -> Any:
    """Bind a trial to the materials, which go into the object store here, once."""
    bound = tune.with_parameters(
        trial_room.run,
        materials=materials,
        seed=plan.seed,
        threads=plan.threads,
        device="cuda" if gpu_share else "cpu",
    )
    return tune.with_resources(bound, {"cpu": plan.threads, "gpu": gpu_share})


def room_for_trials(plan: Plan) -> tuple[float, int]:
    """Return the share of a GPU that a trial gets, and how many trials fit at once.

    A cluster that is scaled to zero shows no GPUs yet; a share that was asked for is kept.
    """
    resources: dict[str, float] = ray.cluster_resources()
    gpus = resources.get("GPU", 0.0)
    share = plan.gpus_per_trial
    if share is None:
        share = 0.5 if gpus else 0.0
    slots = gpus // share if share else resources.get("CPU", 0.0) // plan.threads
    return share, int(slots) or CLUSTER_SLOTS


def best_checkpoint(trial: Trial) -> tuple[float, Path] | None:
    """Return the value and the detector of a trial's best report, if it made one."""
    manager = trial.run_metadata.checkpoint_manager
    kept = manager.best_checkpoint_results if manager else []
    scored = [
        (result.metrics[METRIC], Path(result.checkpoint.path))
        for result in kept
        if result.checkpoint
    ]
    if not scored:
        return None
    value, where = max(scored)
    return float(value), where / trial_room.BUNDLE


def write_plan(plan: Plan, folder: Path) -> None:
    """Keep the plan beside its search."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / PLAN, json.dumps(asdict(plan), indent=1).encode())
    except OSError as error:
        raise storage_error(f"Cannot begin the search {plan.name}", error) from error


def last_plan(storage: Path, texture: str) -> Plan:
    """Return the plan of the newest search of a texture.

    Raises:
        SearchError: There is none.
    """
    known = {field.name for field in fields(Plan)}
    plans = [json.loads(path.read_text()) for path in sorted(storage.glob(f"*/{PLAN}"))]
    mine = [plan for plan in plans if plan["texture"] == texture]
    if not mine:
        others = sorted({plan["texture"] for plan in plans})
        raise SearchError(
            f"There is no search of '{texture}' under {storage} to resume; "
            f"{'there are searches of ' + ', '.join(others) if others else 'there is none at all'}"
            ". Start one without --resume."
        )
    return Plan(**{name: value for name, value in mine[-1].items() if name in known})


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Tune's tables off stdout, which is for answers, and tracebacks of trials off stderr."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the listener tells of failures
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


def _domain(field: Any) -> Any:
    match field:
        case Uniform(low=low, high=high):
            return tune.uniform(low, high)
        case LogUniform(low=low, high=high):
            return tune.loguniform(low, high)
        case Integer(low=low, high=high):
            return tune.randint(low, high + 1)
        case Choice(values=values):
            return tune.choice(list(values))
        case _:
            return field


def _options(field: Any) -> list[float | int]:
    if isinstance(field, Choice):
        return [value for value in field.values if isinstance(value, int | float)]
    return [field] if isinstance(field, int | float) else []


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
