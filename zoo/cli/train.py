"""`zoo train`: train one detector without a search."""

from __future__ import annotations

import argparse
from pathlib import Path

from zoo.cli import _rates, options
from zoo.cli.output import put, put_json, say, sections
from zoo.methods import DEFAULT, METHODS, PRESETS

HELP = "train one detector with the configuration that you give, without a search"
EXAMPLE = "zoo train --category wood --data mvtec --preset thesis --out wood-thesis"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_data(parser)
    method = parser.add_mutually_exclusive_group()
    method.add_argument(
        "--method",
        choices=METHODS,
        default=DEFAULT,
        metavar="NAME",
        help=f"the method: {', '.join(METHODS)} (default: {DEFAULT})",
    )
    method.add_argument(
        "--preset", choices=PRESETS, help="start from a named configuration, with its own method"
    )
    options.add_settings(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the detector"
    )
    options.add_device(parser)
    parser.add_argument(
        "--threads", type=options.positive, metavar="N", help="CPU threads (default: all cores)"
    )
    options.add_training(parser)
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Train, save the detector, and print its figures."""
    import torch

    from registry import bundle
    from zoo.training import (
        Checkpoint,
        finish,
        preset,
        settings,
        train,
        with_values,
    )

    rates = _rates.rates(args)  # refused now, not after the training
    data = options.gather_data(options.find_texture(args))
    values = dict(map(options.setting, args.set))
    if args.preset:
        wanted = with_values(preset(args.preset), values)
    else:
        wanted = settings(values, method=args.method)
    if args.threads:
        torch.set_num_threads(args.threads)
    checkpoints: list[Checkpoint] = []

    def report(checkpoint: Checkpoint) -> None:
        checkpoints[:] = [checkpoint]
        figures = checkpoint.metrics
        losses = [f"{k} {v:.3g}" for k, v in figures.items() if k.startswith("train_")]
        value = f"val_pixel_ap {figures['val_pixel_ap']:.3f}"
        say(f"report {checkpoint.report}: {', '.join([value, *losses])}")

    train(data, wanted, seed=args.seed, device=args.device, report=report)
    made = finish(checkpoints[0].bundle, data, rates=rates)
    bundle.save(made, args.out)
    say(f"Promote it with `zoo promote {args.out} --data {args.data}`.")
    if args.json:
        put_json({"detector": str(args.out), **made.metrics})
    else:
        from zoo.detectors import card, card_words

        sections([(each.title, each.lines) for each in card_words.sections(card.of(made))])
        put()
        put(f"The detector is in {args.out}.")
