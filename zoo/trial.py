"""One trial of a search, as a Ray worker runs it: a recipe with Ray's reports and checkpoints."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import torch
from ray import tune

from zoo import bundle, recipe
from zoo.recipe import Draft, Materials

BUNDLE = "bundle"  # folder of the detector inside a checkpoint
STATE = "state.pt"  # what training needs to go on, beside it


def run(
    params: Mapping[str, Any], *, materials: Materials, seed: int, threads: int, device: str
) -> None:
    """Make the detector that `params` describe, reporting each draft to Ray with a checkpoint.

    A trial that was interrupted goes on from its last checkpoint.

    Args:
        params: Settings by name.
        materials: The texture; Ray hands all trials of a node the same memory.
        seed: Of everything drawn.
        threads: For torch, so that trials side by side share the cores.
        device: Where to compute.
    """
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    recipe.make(
        materials,
        recipe.settings(params),
        seed=seed,
        device=device,
        report=_report,
        state=_last_state(),
    )


def _report(draft: Draft) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bundle.save(draft.bundle, Path(folder) / BUNDLE)
        torch.save(dict(draft.state), Path(folder) / STATE)
        tune.report(dict(draft.metrics), checkpoint=tune.Checkpoint.from_directory(folder))


def _last_state() -> dict[str, Any] | None:
    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        state: dict[str, Any] = torch.load(Path(folder) / STATE, weights_only=True)
    return state
