"""The search itself: the methods that learn nothing, short trials, then longer trainings."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli._search_floor import fit_floor
from zoo.cli.output import say
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
    log: TrialLog,
    *,
    storage: Path,
) -> Searched:
    """Run a search within its time budget.

    Args:
        args: Of the command.
        texture: The texture.
        data: Its good pictures.
        prepared: The configuration and the space.
        log: Receives every event of every trial.
        storage: Folder of all searches.
    """
    began = time.monotonic()
    config, space = prepared
    check_address(args.address)
    untrained = fit_floor(args, texture, data, storage / config.name)
    with cluster(args.address):
        if args.threads is None and not args.resume:
            config = replace(config, threads=default_threads(config))
            write_config(config, storage / config.name)
        pace = None
        if args.space is None and config.megapixels is None and not args.resume:
            spent = time.monotonic() - began
            allowed = (args.reports,) if args.reports else REPORTS
            pace = measured(space, data, config, say=say, spent_s=spent, reports=allowed)
            if pace:
                config = replace(config, megapixels=pace.megapixels, reports=pace.reports)
                write_config(config, storage / config.name)
        space = with_megapixels(space, config.megapixels)
        left = config.time_budget_s - (time.monotonic() - began)
        explore_s = exploring_s(left, finish_s=FINISH * config.time_budget_s, pace=pace)
        exploring = replace(config, time_budget_s=explore_s)
        found = run_search(data, space, exploring, storage=storage, log=log, say=say)
        longer, sure = [], None
        left = (1 - FINISH) * config.time_budget_s - (time.monotonic() - began)
        # With as many trials as were asked for, the search has ended; the time was a limit only.
        if len(found.trials) < config.trials and left > 0 and not found.interrupted:
            longer = train_longer(found.detectors, data, config, seconds=left, say=say)
        if args.confirm and not found.interrupted:
            sure = confirm(found.detectors, data, config, seeds=args.confirm, say=say)
    return Searched(result=found, untrained=untrained, longer=longer, confirmed=sure)
