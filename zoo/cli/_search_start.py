"""What `zoo search` does before the search: its configuration, its space, its parameters."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import search_spaces
from registry.names import folder_name
from zoo.cli.output import say
from zoo.data.defects.placebo import donors_of, material
from zoo.errors import SearchError
from zoo.home import trial_storage
from zoo.search.config import HUNG_AFTER_S, REPORTS, SearchConfig
from zoo.search.space import fitting, starting_with
from zoo.search.storage import last_config, new_name, place_of
from zoo.training import field_names, smallest_side

if TYPE_CHECKING:
    from search_spaces import Space
    from zoo.training import TrainingData


def prepared(
    args: argparse.Namespace, data: TrainingData, storage: Path
) -> tuple[SearchConfig, Space]:
    """Return the configuration and the space of a new search, or of the one that is resumed.

    Raises:
        SearchError: There is no search to resume, or it was started on other images.
        SpaceError: The space file is wrong.
        BadImageError: The images are too small for the space.
    """
    known = field_names()
    if args.space:
        space = search_spaces.load_file(args.space, known=known)
    else:
        space = search_spaces.load(args.category, known=known)
    space, note = fitting(space, smallest_side(data), widen=args.space is None)
    notes = [note]
    pixels = [picture.pixels for picture in data.splits.fit]
    if args.space is None and donors_of(material(pixels, data.optics)).arranged:
        space = starting_with(space, "placebo_share", 0.0)
        notes.append(
            "Good material fits only its own place here, so the first trial is taught without "
            "placebos."
        )
    config = _resumed(args, data, storage) if args.resume else _new(args, data, storage)
    for note in filter(None, notes):
        say(note)
    return config, space


def _new(args: argparse.Namespace, data: TrainingData, storage: Path) -> SearchConfig:
    trials_at = args.storage or trial_storage()
    if trials_at:
        place_of(trials_at)  # refuses an address that cannot be used
    return SearchConfig(
        name=new_name(storage, f"{folder_name(data.texture)}-{time.strftime('%Y%m%d-%H%M%S')}"),
        texture=data.texture,
        fingerprint=data.fingerprint,
        seed=args.seed,
        trials=args.trials,
        time_budget_s=args.time_budget,
        threads=args.threads or 1,  # with GPUs more, when Ray is up
        gpus_per_trial=args.gpus_per_trial,
        reports=args.reports or REPORTS[0],
        pace_s=args.pace or args.time_budget,
        hung_after_s=max(HUNG_AFTER_S, args.time_budget / 4),  # trials grow with the budget
        storage=trials_at,
    )


def _resumed(args: argparse.Namespace, data: TrainingData, storage: Path) -> SearchConfig:
    """Return the configuration of the last search, with the time budget that is given now."""
    config = last_config(storage, data.texture)
    if config.fingerprint != data.fingerprint:
        raise SearchError(
            f"The search {config.name} was started on other images ({config.fingerprint[:19]}...) "
            f"than {args.data} contains now ({data.fingerprint[:19]}...). Start a new one without "
            "--resume."
        )
    return replace(config, time_budget_s=args.time_budget)


def run_params(
    config: SearchConfig, data: TrainingData, space: Space
) -> dict[str, float | int | str]:
    """Return the parameters of the search's parent run in MLflow."""
    return {
        **asdict(config),
        "space": space.name,
        "licence": data.licence,
        "fit": len(data.splits.fit),
        "val": len(data.splits.val),
        "calibration": len(data.splits.calibration),
        "validation_windows": len(data.validation),
    }
