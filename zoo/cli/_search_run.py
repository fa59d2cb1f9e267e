"""The search itself: the methods that learn nothing, short trials, then longer trainings."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli._search_floor import fit_floor
from zoo.search.cluster import check_address, cluster, default_threads
from zoo.search.config import REPORTS
from zoo.search.confirm import confirm
from zoo.search.pacing import FINISH, exploring_s, measured, train_longer, with_megapixels
from zoo.search.run import run_search
from zoo.search.storage import write_config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.bundle import Bundle
    from search_spaces import Space
    from zoo.cli._search_progress import SearchProgress
    from zoo.data.textures import Texture
    from zoo.search.config import SearchConfig, TrialLog
    from zoo.search.confirm import Confirmed
    from zoo.search.run import SearchResult
    from zoo.training import Part, TrainingData


@dataclass(frozen=True, kw_only=True)
class Searched:
    """All that a search has made.

    Attributes:
        result: The trials.
        untrained: The methods that learn nothing.
        longer: The best configurations, trained longer.
        confirmed: The best configuration after other seeds; None if that was not asked for.
    """

    result: SearchResult
    untrained: Sequence[Part]
    longer: Sequence[Bundle]
    confirmed: Confirmed | None


def searched(
    args: argparse.Namespace,
    texture: Texture,
    data: TrainingData,
    prepared: tuple[SearchConfig, Space],
    to: tuple[TrialLog, SearchProgress],
    *,
    storage: Path,
) -> Searched:
    """Run a search within its time budget.

    Args:
        args: Of the command.
        texture: The texture.
        data: Its good pictures.
        prepared: The configuration and the space.
        to: What logs every event of every trial, and what shows the search.
        storage: Folder of all searches.
    """
    began = time.monotonic()
    (config, space), (log, progress) = prepared, to
    progress.begins(config.name, config.time_budget_s)
    check_address(args.address)
    progress.doing("fits the methods that learn nothing")
    untrained = fit_floor(args, texture, data, storage / config.name, progress)
    progress.doing("starts Ray")
    with cluster(args.address):
        if args.threads is None and not args.resume:
            config = replace(config, threads=default_threads(config))
            write_config(config, storage / config.name)
        pace = None
        if args.space is None and config.megapixels is None and not args.resume:
            progress.doing("measures the speed of this machine")
            spent = time.monotonic() - began
            allowed = (args.reports,) if args.reports else REPORTS
            pace = measured(space, data, config, say=progress, spent_s=spent, reports=allowed)
            if pace:
                config = replace(config, megapixels=pace.megapixels, reports=pace.reports)
                write_config(config, storage / config.name)
        space = with_megapixels(space, config.megapixels)
        left = config.time_budget_s - (time.monotonic() - began)
        explore_s = exploring_s(left, finish_s=FINISH * config.time_budget_s, pace=pace)
        exploring = replace(config, time_budget_s=explore_s)
        progress.doing("runs trials")
        found = run_search(data, space, exploring, storage=storage, log=log, progress=progress)
        longer, sure = [], None
        left = (1 - FINISH) * config.time_budget_s - (time.monotonic() - began)
        # With as many trials as were asked for, the search has ended; the time was a limit only.
        if len(found.trials) < config.trials and left > 0 and not found.interrupted:
            progress.doing("trains the best longer")
            longer = train_longer(found.detectors, data, config, seconds=left, say=progress)
        if args.confirm and not found.interrupted:
            progress.doing("trains the best again, with other seeds")
            sure = confirm(found.detectors, data, config, seeds=args.confirm, say=progress)
        progress.doing("stops Ray")
    return Searched(result=found, untrained=untrained, longer=longer, confirmed=sure)
