"""`zoo search`: tune a detector for a texture, and promote the winner."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli import _answers, _rates, options
from zoo.cli.output import say
from zoo.cli.promote import open_registry

if TYPE_CHECKING:
    from zoo.cli._search_progress import SearchProgress
    from zoo.data.textures import Texture
    from zoo.training import TrainingData

HELP = "tune FCBiGAN for a texture with Ray Tune and Optuna, and promote the winner"
EXAMPLE = "zoo search --category wood --data mvtec --time-budget 40m"
ALL = "all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    options.add_data(parser, category="the texture's name; `all`: each in DIR, on one Ray")
    add(
        "--time-budget",
        type=options.seconds,
        default=1200.0,
        metavar="TIME",
        help="stop after this time, such as 30m or 2h (default: 20m)",
    )
    add(
        "--pace",
        type=options.seconds,
        metavar="TIME",
        help="train each trial as long as in a search of this time (default: the time budget; with "
        "`--category all` each texture's share of it)",
    )
    add(
        "--trials",
        type=options.positive,
        default=200,
        metavar="N",
        help="run at most N trials (default: 200)",
    )
    add("--space", type=Path, metavar="FILE", help="your own search space")
    add(
        "--threads",
        type=options.positive,
        metavar="N",
        help="CPU cores for each trial (default: 1; with GPUs an equal share of the cores)",
    )
    add(
        "--gpus-per-trial",
        type=float,
        metavar="SHARE",
        help="share of a GPU for each trial (default: 0.5 if there are GPUs)",
    )
    add(
        "--reports",
        type=options.positive,
        metavar="N",
        help="reports of a whole trial (default: 8; fewer where judging takes long)",
    )
    add(
        "--storage",
        metavar="URL",
        help="where Ray keeps running trials: s3://BUCKET/PREFIX, or a folder that all nodes of a "
        "cluster share (default: ZOO_STORAGE, or the home)",
    )
    add("--address", help="a Ray cluster, or `auto` (default: RAY_ADDRESS, or a local Ray)")
    add("--resume", action="store_true", help="continue this texture's last search")
    add(
        "--confirm",
        type=options.several,
        metavar="K",
        help="train the three best configurations again with K other seeds each, and take the one "
        "with the highest mean minus standard deviation",
    )
    add("--no-promote", action="store_true", help="do not promote the winner")
    add(
        "--progress",
        choices=("auto", "live", "lines", "json"),
        default="auto",
        help="how it is shown: live on a terminal, as lines, or as JSON lines (default: auto)",
    )
    options.add_training(parser)
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Search, promote the winner, and print where it is."""
    _rates.rates(args)  # refused now, not after the search
    if args.category == ALL:
        from zoo.cli import _search_all

        _search_all.run(args)
        return
    from zoo.cli import _search_progress

    texture = options.find_texture(args)
    if not args.no_promote:
        from zoo.promotion import check_promotion

        for line in check_promotion(texture, open_registry()):  # now, and not after hours
            say(line)
    data = options.gather_data(texture)
    with _search_progress.shown(args.progress) as progress:
        found = _search(args, texture, data, progress)
    _answers.show(texture.name, found, as_json=args.json)


def _search(
    args: argparse.Namespace, texture: Texture, data: TrainingData, progress: SearchProgress
) -> dict[str, Any]:
    from registry import bundle
    from registry.runs.buffer import BufferedRuns
    from registry.runs.search_runs import SearchRuns
    from registry.runs.store import open_store
    from registry.trials import CHAMPION
    from zoo.cli import _search_end, _search_promotion, _search_report, _search_start
    from zoo.cli._search_run import searched
    from zoo.home import home, tracking_uri

    storage = (home() / "searches").resolve()
    config, space = _search_start.prepared(args, data, storage)
    folder = storage / config.name
    saved = folder / CHAMPION
    params = _search_start.run_params(config, data, space)
    if args.threads is None:  # they are known when Ray is up; usage has the CPU time
        del params["threads"]
    store = open_store(tracking_uri())
    runs = SearchRuns(store, search=config.name, texture=config.texture, params=params)
    log = BufferedRuns(runs, folder, say=say)
    with _search_report.reported(folder, store) as result:
        with _search_end.closed_on_error(log):
            made = searched(args, texture, data, (config, space), (log, progress), storage=storage)
            found = made.result
            progress.doing("chooses what is used of it")
            best, figures = _search_end.finish_best(made, data, rates=_rates.rates(args))
            bundle.save(best, saved)
            log.champion(saved, _search_end.example_maps(best, data, folder))
            log.close(figures, "interrupted" if found.interrupted else "finished", found.trials)
        trial = made.confirmed.trial if made.confirmed else found.best_trial
        result |= {"detector": str(saved), "trial": trial, **figures}
        progress.doing("compares it with the champion")
        result |= _search_promotion.promotion(args, texture, data, made, saved, run_id=runs.run_id)
    return result
