"""One trial of a search, as a Ray worker runs it: a training that reports to Ray."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import torch
from ray import tune

from registry import bundle
from registry.bundle import Bundle
from zoo.errors import ZooError, one_line
from zoo.search.config import SearchConfig
from zoo.training import METRIC, Checkpoint, Settings, TrainingData, settings, train, train_best

FAILURE = "failure"  # in a report: why the trial ends here
BUNDLE = "bundle"  # folder of the detector in a checkpoint
STATE = "state.pt"  # state of the training in a checkpoint, to go on from
# Ray names the folder of each trial after this, and a resumed search looks its trials up by it.
TRAINABLE = "run"


def run_trial(
    params: Mapping[str, Any], *, data: TrainingData, seed: int, threads: int, device: str
) -> None:
    """Train a detector with the settings `params`, and report each checkpoint to Ray.

    A trial that was interrupted, or that lost its worker, goes on from its last checkpoint. An
    error that the settings cause would come again, so it is reported as `FAILURE` and the trial
    ends. Any other error is raised, and Ray runs the trial again a few times.

    Args:
        params: Settings by name.
        data: The texture; the trials of one node share one copy in memory.
        seed: Of everything that is drawn.
        threads: Of torch and OpenCV, as several trials share the cores.
        device: Where to compute. A worker with a share of a GPU but without CUDA computes on its
            CPU; the reports say so.
    """
    device = use_device(threads, device)
    try:
        train(
            data,
            settings(params),
            seed=seed,
            device=device,
            report=partial(_report, device=device),
            state=_last_state(),
        )
    except ZooError as error:
        _fail(f"{type(error).__name__}: {error}")
    except (MemoryError, RuntimeError) as error:
        if not _is_lack_of_memory(error):
            raise
        _fail(f"out of memory on {device}: {error}")


def train_again(
    data: TrainingData, wanted: Settings, seed: int, threads: int, device: str
) -> Bundle:
    """Train settings outside of a trial, in a worker, and return the best checkpoint on *val*."""
    return train_best(data, wanted, seed=seed, device=use_device(threads, device))


def trainable(data: TrainingData, config: SearchConfig, *, gpu_share: float) -> Any:
    """Return `run_trial` with its data and resources, for Ray Tune.

    The data go into Ray's object store once, here.
    """
    bound = tune.with_parameters(
        run_trial,
        data=data,
        seed=config.seed,
        threads=config.threads,
        device="cuda" if gpu_share else "cpu",
    )
    bound.__name__ = TRAINABLE
    return tune.with_resources(bound, {"cpu": config.threads, "gpu": gpu_share})


def use_device(threads: int, device: str) -> str:
    """Limit the threads of this process, and return the device, or `cpu` if there is no CUDA."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    return device if device == "cpu" or torch.cuda.is_available() else "cpu"


def _report(checkpoint: Checkpoint, *, device: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bundle.save(checkpoint.bundle, Path(folder) / BUNDLE)
        torch.save(dict(checkpoint.state), Path(folder) / STATE)
        tune.report(
            # The number of the report and not Ray's own count, which is wrong after a trial has
            # gone back to an earlier checkpoint.
            {**checkpoint.metrics, "device": device, "training_iteration": checkpoint.report},
            checkpoint=tune.Checkpoint.from_directory(folder),
        )


def _is_lack_of_memory(error: Exception) -> bool:
    """Return whether memory ran out; for a CPU, torch raises a plain RuntimeError."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def _fail(reason: str) -> None:
    tune.report({METRIC: 0.0, FAILURE: one_line(reason)})


def _last_state() -> dict[str, Any] | None:
    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        state: dict[str, Any] = torch.load(Path(folder) / STATE, weights_only=True)
    return state
