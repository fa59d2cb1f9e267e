"""A search: Ray Tune with Optuna's TPE and ASHA over one texture's space.

The driver hears every trial through `zoo.listener`; workers talk to Ray only.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import optuna
import ray
from pyarrow.fs import FileSelector, FileSystem, copy_files
from pyarrow.lib import ArrowException
from ray import tune
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback, TBXLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import ConcurrencyLimiter

from search_spaces import Choice, Integer, LogUniform, Space, Uniform
from zoo import controller
from zoo import trial as trial_room
from zoo.bundle import storage_error, write_whole
from zoo.errors import BadImageError, ConfigError, SearchError, SpaceError, StorageError
from zoo.listener import (
    FULL,
    PACE_S,
    Listener,
    Outcome,
    Plan,
    TrialLog,
    best_checkpoint,
    detector_of,
)
from zoo.recipe import Materials
from zoo.study import Study
from zoo.trial import BUNDLE, METRIC

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ray.train import Checkpoint
    from ray.tune.logger import LoggerCallback

SMALL = 512  # pixels; a picture of a material that is smaller than this was often reduced
PLAN = "search.json"
STATE_PARTS = ("experiment_state", "searcher-state", "search_gen_state", "callback-states")
JOIN_S = 10.0  # that a cluster has to answer
LOST_WORKERS = 3  # times that a trial goes on from its checkpoint after its worker was lost
CLUSTER_SLOTS = 8  # trials asked for at once where no node is up yet: the autoscaler follows


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The best detector of one trial.

    Attributes:
        trial: Its name.
        value: Its `val_pixel_ap`.
        folder: The detector on disk.
    """

    trial: str
    value: float
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search ended with.

    Attributes:
        kept: The trials that came as far as a detector, best first.
        trials: All that there were.
        outcomes: Number of trials by outcome.
        seconds: How long it took.
        interrupted: Whether it was stopped from the keyboard.
    """

    kept: tuple[Kept, ...]
    trials: tuple[str, ...]
    outcomes: Mapping[Outcome, int]
    seconds: float
    interrupted: bool

    @property
    def best(self) -> Path:
        """The best checkpoint's detector on disk."""
        return self.kept[0].folder

    @property
    def best_trial(self) -> str:
        """Whose it is."""
        return self.kept[0].trial

    @property
    def value(self) -> float:
        """Its `val_pixel_ap`."""
        return self.kept[0].value


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
    """Join the Ray at `address` or `RAY_ADDRESS`, or start one on this machine for this search.

    Raises:
        ConfigError: There is no Ray at the address, it is of another version, or lets nobody in.
    """
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    try:
        _knock(where)
        ray.init(
            address=where,
            include_dashboard=False if where == "local" else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        if where == "local":
            raise
        reason = str(error.__cause__ or error).strip().split(". ")[0].splitlines()[0]
        raise ConfigError(
            f"Cannot join the Ray at '{where}': {reason}. Check that it runs (`ray status`), that "
            f"it is Ray {ray.__version__} too, and that its token is in ~/.ray/auth_token here."
        ) from error
    # Ray tells of nodes that went, some of it in the end, on stdout, which is for answers.
    with redirect_stdout(sys.stderr):
        try:
            yield
        finally:
            ray.shutdown()


def _knock(where: str) -> None:
    """Fail at once where nothing listens; Ray would ask for minutes."""
    place = urlsplit(where if "://" in where else f"//{where}")
    if place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), timeout=JOIN_S).close()


def address() -> str:
    """Return where other processes join the Ray that this one has joined."""
    return str(ray.get_runtime_context().gcs_address)


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

    The best detector of each trial is in the search's folder afterwards, wherever Ray kept it.
    Only the main thread may search: Ctrl-C and the end of the time reach it as signals.

    Args:
        materials: The texture; put into Ray's object store once.
        space: What may vary.
        plan: What bounds the search.
        storage: Folder of all searches.
        log: Keeps the record.
        say: Receives one line at a time for the person who waits.

    Raises:
        SpaceError: The space leaves nothing to search for.
        SearchError: Not one trial came as far as a detector.
        KeyboardInterrupt: Nor had one when the search was stopped from the keyboard.
        StorageError: A disk is full or cannot be written, or S3 refuses.
    """
    domains = parameter_space(space)
    storage = storage.resolve()
    folder = storage / plan.name
    write_plan(plan, folder)
    with _told_of_storage(plan, storage):
        resume = _has_begun(plan, storage)
    share, slots = room_for_trials(plan)
    say(
        f"{'Resuming' if resume else 'Starting'} search {plan.name}: up to {plan.trials} trials, "
        f"{slots} at once with {plan.threads} thread(s) and {share:g} GPU each, "
        f"space '{space.name}'."
    )
    listener = Listener(log, plan, say, folder=folder, gpu_share=share)
    # Tune's own, but ours to close: it leaves the files of trials open that were interrupted.
    loggers = (CSVLoggerCallback(), JsonLoggerCallback(), TBXLoggerCallback())
    study = Study(seed=plan.seed, reports=plan.reports, first=first_trial(space))
    told, closing = _told_of_storage(plan, storage), _closing(loggers, listener)
    with told, controller.installed(study.settle, listener.settle), closing, _quiet():
        analysis = tune.run(
            _trainable(materials, plan, share),
            name=plan.name,
            storage_path=plan.storage or str(storage),
            config=domains | {"reports": plan.reports},
            metric=METRIC,
            mode="max",
            num_samples=plan.trials,
            search_alg=ConcurrencyLimiter(study, max_concurrent=slots),
            scheduler=ASHAScheduler(
                max_t=plan.reports, grace_period=max(1, plan.reports // 4), reduction_factor=2
            ),
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=1, checkpoint_score_attribute=METRIC, checkpoint_score_order="max"
            ),
            callbacks=[listener, *loggers],
            reuse_actors=True,
            raise_on_failed_trial=False,
            max_failures=LOST_WORKERS,
            resume=resume,
            verbose=0,
        )
    listener.close(analysis.trials)
    if listener.unwritable:
        raise _stopped(plan, storage, listener.unwritable)
    found: list[Kept] = []
    for trial in analysis.trials:
        if best := best_checkpoint(trial):
            value, checkpoint = best
            with _told_of_storage(plan, storage):
                where = _brought_home(checkpoint, folder)
            if where:
                found.append(Kept(trial=trial.trial_id, value=value, folder=where))
            else:
                say(f"The detector of trial {trial.trial_id} was lost when the search was stopped.")
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
    return Found(
        kept=tuple(sorted(found, key=lambda each: -each.value)),
        trials=tuple(trial.trial_id for trial in analysis.trials),
        outcomes=listener.outcomes,
        seconds=listener.seconds,
        interrupted=listener.interrupted,
    )


def place_of(storage: str | Path) -> tuple[FileSystem, str]:
    """Return what reads and writes there, and the path in it.

    Raises:
        ConfigError: It is neither an address that is known nor a whole path.
        StorageError: S3 cannot be asked for the bucket's region.
    """
    try:
        where: tuple[FileSystem, str] = FileSystem.from_uri(storage)
    except OSError as error:
        raise StorageError(
            f"Cannot reach {storage}: {error}. Check the network, the credentials and the bucket, "
            "then run the same command again."
        ) from error
    except ArrowException as error:
        raise ConfigError(
            f"'{storage}' is no place for trials: write s3://BUCKET/PREFIX, or the whole path of a "
            "folder that all nodes share."
        ) from error
    return where


def _has_begun(plan: Plan, storage: Path) -> bool:
    """Return whether Ray has written down a state of this search, to the last file of it."""
    where, path = place_of(plan.storage or storage)
    files = where.get_file_info(FileSelector(f"{path}/{plan.name}", allow_not_found=True))
    whole = [file.base_name for file in files if file.extension in ("json", "pkl")]
    return all(any(name.startswith(f"{part}-") for name in whole) for part in STATE_PARTS)


def _brought_home(checkpoint: Checkpoint, folder: Path) -> Path | None:
    """Return a checkpoint's detector in the search's folder, copied there if Ray has it elsewhere.

    Resuming needs the rest of the checkpoint, where Ray has it; whoever reads a search afterwards
    finds its detectors beside its plan. None if it is gone: a better one took its place, which Ray
    could not write down any more.
    """
    home = detector_of(checkpoint, folder)
    if not home.is_dir():
        coming = home.with_name(f"{BUNDLE}.part")
        coming.mkdir(parents=True, exist_ok=True)
        there = f"{checkpoint.path}/{BUNDLE}"
        try:
            copy_files(there, str(coming), source_filesystem=checkpoint.filesystem)
        except FileNotFoundError:
            return None
        coming.rename(home)
    return home


def _stopped(plan: Plan, storage: Path, reason: str) -> StorageError:
    where = plan.storage or storage
    full = f"the disk that holds {where} is full. Free some space"
    refused = f"{where} cannot be read or written: {reason.rstrip('.')}. When that is mended"
    return StorageError(
        f"The search {plan.name} was stopped: {full if FULL in reason else refused}, then go on "
        "with the same command and --resume."
    )


@contextmanager
def _closing(loggers: Sequence[LoggerCallback], listener: Listener) -> Iterator[None]:
    """Close the files of every trial, however the search ends."""
    try:
        yield
    finally:
        for logger, trial in itertools.product(loggers, listener.seen.values()):
            logger.log_trial_end(trial)


@contextmanager
def _told_of_storage(plan: Plan, storage: Path) -> Iterator[None]:
    """Say what stopped the search if its disk or S3 did.

    Raises:
        StorageError: In place of an error of the operating system.
    """
    try:
        yield
    except OSError as error:
        raise _stopped(plan, storage, str(error)) from error


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


def new_name(storage: Path, wanted: str) -> str:
    """Return the name, numbered if it is taken, and take it: two searches may begin at once.

    Raises:
        StorageError: The folder of that name cannot be made.
    """
    for number in itertools.count(1):
        name = wanted if number == 1 else f"{wanted}-{number}"
        try:
            (storage / name).mkdir(parents=True)
            return name
        except FileExistsError as error:
            if not (storage / name).is_dir():  # something in the way of `storage` itself
                raise storage_error(f"Cannot begin a search in {storage}", error) from error
        except OSError as error:
            raise storage_error(f"Cannot begin a search in {storage}", error) from error
    raise AssertionError("numbers do not end")


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
