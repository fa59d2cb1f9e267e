"""The first minute or two of `zoo search`: the methods that learn nothing, and a first champion."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from registry import bundle
from registry.trials import FLOOR, UNTRAINED
from zoo import methods
from zoo.cli import _rates
from zoo.cli.output import say
from zoo.cli.promote import open_registry, promoted
from zoo.errors import BundleError
from zoo.training import (
    METRIC,
    ablation,
    choose,
    made,
    part_of,
    untrained,
    window_maps_of,
    with_threshold,
)

if TYPE_CHECKING:
    from registry.bundle import Bundle
    from zoo.cli._search_progress import SearchProgress
    from zoo.data.textures import Texture
    from zoo.training import Part, TrainingData


def fit_floor(
    args: argparse.Namespace,
    texture: Texture,
    data: TrainingData,
    folder: Path,
    progress: SearchProgress,
) -> list[Part]:
    """Fit the methods that learn nothing; what they reach together is the first champion.

    Args:
        args: Of the command.
        texture: The texture.
        data: Its good pictures.
        folder: Of the search.
        progress: Shows what they reach.

    Returns:
        One part for each method. A search that goes on has those that it fitted before, if it got
        so far.
    """
    known = _fitted_before(folder) if args.resume else []
    parts = [part_of(each, data) for each in known or untrained(data, say=say)]
    for part in parts if not known else ():
        bundle.save(part.bundle, folder / UNTRAINED / part.name)
    fusion = choose(parts, data)
    found = made(parts, fusion, data, rates=_rates.rates(args))
    first = not args.no_promote and texture.name not in open_registry().shelf.textures()
    if first:
        found = with_threshold(found, data, rates=_rates.rates(args))
        found = ablation.with_ablation(found, parts, fusion, data)
    bundle.save(found, folder / FLOOR)
    progress.untrained(found.metrics[METRIC])
    say(
        f"Methods that learn nothing ({', '.join(part.name for part in parts)}) have {METRIC} "
        f"{found.metrics[METRIC]:.3f} together; what is trained joins or replaces them where it is "
        "better."
    )
    if first:
        from zoo.promotion import Origin

        progress.doing("publishes them, as the first champion")
        promoted(folder / FLOOR, texture, origin=Origin(untrained=window_maps_of(parts, data)))
    return parts


def _fitted_before(folder: Path) -> list[Bundle]:
    """Return what a search has fitted; nothing if it was stopped meanwhile or one is damaged."""
    if not (folder / FLOOR).is_dir():  # written after all of them
        return []
    names = methods.names()
    try:
        found = [bundle.load(each) for each in (folder / UNTRAINED).iterdir()]
        return sorted(found, key=lambda x: (names.index(x.method), -x.preprocessing["scale"]))
    except (BundleError, OSError, ValueError):
        return []
