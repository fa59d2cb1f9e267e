"""One search: Ray Tune with Optuna's TPE and ASHA over the space of one texture.

The driver logs every event through `SearchCallback`; the workers report to Ray only.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import optuna
from ray import tune
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback, TBXLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import ConcurrencyLimiter

from registry.trials import Outcome
from search_spaces import Space
from zoo.errors import SearchError
from zoo.search import tune_controller
from zoo.search.callback import SearchCallback, best_checkpoint
from zoo.search.cluster import handlers_kept, trial_slots
from zoo.search.config import SearchConfig, TrialLog
from zoo.search.earlier import earlier_settings
from zoo.search.importance import save_ranges
from zoo.search.progress import Progress
from zoo.search.space import first_trials, parameter_space
from zoo.search.storage import (
    has_begun,
    local_detector,
    stopped_error,
    storage_errors,
    write_config,
)
from zoo.search.study import Study
from zoo.search.trial import trainable
from zoo.training import METRIC, TrainingData

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ray.tune.experiment import Trial
    from ray.tune.logger import LoggerCallback

MAX_FAILURES = 3  # times that a trial goes on from its checkpoint after it has lost its worker


@dataclass(frozen=True, kw_only=True)
class TrialDetector:
    """The best detector of one trial.

    Attributes:
        trial: Id of the trial.
        value: The `val_pixel_ap` of the detector.
        folder: The bundle on disk.
    """

    trial: str
    value: float
    folder: Path


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search has found.

    Attributes:
        detectors: Of the trials that made at least one report, best first.
        trials: Ids of all trials.
        outcomes: Number of trials by outcome.
        seconds: How long the search took, since its start or its resumption.
        interrupted: Whether the user stopped it.
    """

    detectors: tuple[TrialDetector, ...]
    trials: tuple[str, ...]
    outcomes: Mapping[Outcome, int]
    seconds: float
    interrupted: bool

    @property
    def best(self) -> Path:
        """The best detector on disk."""
        return self.detectors[0].folder

    @property
    def best_trial(self) -> str:
        """The id of its trial."""
        return self.detectors[0].trial

    @property
    def value(self) -> float:
        """Its `val_pixel_ap`."""
        return self.detectors[0].value


def run_search(
    data: TrainingData,
    space: Space,
    config: SearchConfig,
    *,
    storage: Path,
    log: TrialLog,
    progress: Progress,
) -> SearchResult:
    """Run a search, or resume it if it has begun already, and return its detectors.

    The best detector of each trial is in the search's folder afterwards, wherever Ray keeps the
    trials. Call this from the main thread: Ctrl-C and the end of the time are signals.

    Args:
        data: The texture; it goes into Ray's object store once.
        space: The fields that may vary.
        config: The limits of the search.
        storage: Folder of all searches.
        log: Receives every event of every trial.
        progress: Shows the search to the user.

    Raises:
        SpaceError: Every field of the space is fixed.
        SearchError: No trial made a report.
        KeyboardInterrupt: The user stopped the search before the first report.
        StorageError: A disk is full or cannot be written, or S3 fails.
    """
    domains = parameter_space(space)
    storage = storage.resolve()
    folder = storage / config.name
    write_config(config, folder)
    save_ranges(domains, folder)
    with storage_errors(config, storage):
        resume = has_begun(config, storage)
    gpu_share, slots = trial_slots(config)
    progress(
        f"{'Resuming' if resume else 'Starting'} search {config.name}: up to {config.trials} "
        f"trials, {slots} at once with {config.threads} thread(s) and {gpu_share:g} GPU each, "
        f"space '{space.name}'."
    )
    callback = SearchCallback(log, config, progress, folder=folder, gpu_share=gpu_share)
    # Those that Tune adds itself; passed in, as Tune does not close them for interrupted trials.
    loggers = (CSVLoggerCallback(), JsonLoggerCallback(), TBXLoggerCallback())
    first = first_trials(space, earlier_settings(storage, config.texture))
    study = Study(seed=config.seed, reports=config.reports, first=first)
    errors, closing = storage_errors(config, storage), _closing(loggers, callback)
    kept = handlers_kept(signal.SIGINT)  # Tune's stays after a whole search, and only notes Ctrl-C
    installed = tune_controller.installed(study.reconcile, callback.reconcile)
    with errors, installed, closing, kept, _quiet():
        analysis = tune.run(
            trainable(data, config, gpu_share=gpu_share),
            name=config.name,
            storage_path=config.storage or str(storage),
            config=domains | {"reports": config.reports},
            metric=METRIC,
            mode="max",
            num_samples=config.trials,
            search_alg=ConcurrencyLimiter(study, max_concurrent=slots),
            scheduler=ASHAScheduler(
                max_t=config.reports, grace_period=max(1, config.reports // 4), reduction_factor=2
            ),
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=1, checkpoint_score_attribute=METRIC, checkpoint_score_order="max"
            ),
            callbacks=[callback, *loggers],
            reuse_actors=True,
            raise_on_failed_trial=False,
            max_failures=MAX_FAILURES,
            resume=resume,
            verbose=0,
        )
    callback.close(analysis.trials)
    if callback.storage_failure:
        raise stopped_error(config, storage, callback.storage_failure)
    with storage_errors(config, storage):
        detectors = _detectors(analysis.trials, folder, say=progress)
    if not detectors:
        _raise_without_detector(callback)
    return SearchResult(
        detectors=tuple(sorted(detectors, key=lambda each: -each.value)),
        trials=tuple(trial.trial_id for trial in analysis.trials),
        outcomes=callback.outcomes,
        seconds=callback.seconds,
        interrupted=callback.interrupted,
    )


def _detectors(
    trials: Sequence[Trial], folder: Path, *, say: Callable[[str], None]
) -> list[TrialDetector]:
    found: list[TrialDetector] = []
    for trial in trials:
        if best := best_checkpoint(trial):
            value, checkpoint = best
            if path := local_detector(checkpoint, folder):
                found.append(TrialDetector(trial=trial.trial_id, value=value, folder=path))
            else:
                say(f"The detector of trial {trial.trial_id} was lost when the search was stopped.")
    return found


def _raise_without_detector(callback: SearchCallback) -> NoReturn:
    if callback.interrupted:
        callback.progress(
            "Interrupted before there was a detector. Go on with the same command and --resume."
        )
        raise KeyboardInterrupt
    raise SearchError(
        f"Search {callback.config.name} ended after {callback.seconds:.0f} s without any detector: "
        f"{callback.standing.counts}. "
        + (f"The first failure: {callback.failure} " if callback.failure else "")
        + "Give it a longer --time-budget, or another space."
    )


@contextmanager
def _closing(loggers: Sequence[LoggerCallback], callback: SearchCallback) -> Iterator[None]:
    """Close the files of every trial, however the search ends."""
    try:
        yield
    finally:
        for logger, trial in itertools.product(loggers, callback.seen.values()):
            logger.log_trial_end(trial)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress Tune's tables on stdout, which is for the answer, and tracebacks on stderr."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the callback reports failures
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield
