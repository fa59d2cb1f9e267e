"""One trial of a search, as a Ray worker runs it: a recipe with Ray's reports and checkpoints."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import torch
from ray import tune

from zoo import bundle, recipe
from zoo.errors import ZooError
from zoo.recipe import Draft, Materials

METRIC = "val_pixel_ap"
FAILURE = "failure"  # in a report: why the trial ends here
BUNDLE = "bundle"  # folder of the detector inside a checkpoint
STATE = "state.pt"  # what training needs to go on, beside it


def run(
    params: Mapping[str, Any], *, materials: Materials, seed: int, threads: int, device: str
) -> None:
    """Make the detector that `params` describe, reporting each draft to Ray with a checkpoint.

    A trial that was interrupted, or whose worker was lost, goes on from its last checkpoint. One
    that its own settings made fail would fail again: it says so in a last report, and ends. What
    else it raises is raised, and Ray tries it again a few times.

    Args:
        params: Settings by name.
        materials: The texture; Ray hands all trials of a node the same memory.
        seed: Of everything drawn.
        threads: For torch, so that trials side by side share the cores.
        device: Where to compute; a worker that has a GPU's share but no CUDA takes its processor,
            and its reports say so.
    """
    device = settled(threads, device)
    try:
        recipe.make(
            materials,
            recipe.settings(params),
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


def settled(threads: int, device: str) -> str:
    """Keep this worker to so many threads, and return the device it asked for, or its processor."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    return device if device == "cpu" or torch.cuda.is_available() else "cpu"


def _report(draft: Draft, *, device: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bundle.save(draft.bundle, Path(folder) / BUNDLE)
        torch.save(dict(draft.state), Path(folder) / STATE)
        tune.report(
            # Our number, not Ray's count: a trial may have gone back further than Ray knows.
            {**draft.metrics, "device": device, "training_iteration": draft.report},
            checkpoint=tune.Checkpoint.from_directory(folder),
        )


def _is_lack_of_memory(error: Exception) -> bool:
    """Tell a lack of memory apart; torch has no class for that of a processor."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def _fail(reason: str) -> None:
    tune.report({METRIC: 0.0, FAILURE: " ".join(reason.split())})


def _last_state() -> dict[str, Any] | None:
    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        state: dict[str, Any] = torch.load(Path(folder) / STATE, weights_only=True)
    return state
