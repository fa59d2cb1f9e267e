"""`zoo promote`: compare a detector with the champion, and publish the winner."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli import _answers, options
from zoo.cli.output import say
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from zoo.data.textures import Texture
    from zoo.promotion import Origin, Registry

HELP = "compare a detector with the champion; a winner is audited on the test images and published"
EXAMPLE = "zoo promote wood-thesis --data mvtec"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder of the detector")
    options.add_data_folder(parser)
    parser.add_argument(
        "--force",
        action="store_true",
        help="make it the champion whatever the comparison says; needs --because",
    )
    options.add_reason(parser)
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Promote, and exit with 2 if the detector is refused.

    Raises:
        ConfigError: Only one of --force and --because is given.
    """
    from registry import bundle

    if args.force and not args.because:
        raise ConfigError(
            "--force needs --because: whoever loads the detector later must be able to see why it "
            'is there. Add --because "...".'
        )
    if args.because and not args.force:
        raise ConfigError("--because says why the gate is overruled: add --force, or leave it out.")
    texture = options.find_texture(args, name=bundle.load(args.bundle).texture)
    result = promoted(args.bundle, texture, because=args.because)
    _answers.show(texture.name, result, as_json=args.json)
    if not result["promoted"]:
        sys.exit(2)


def promoted(
    folder: Path,
    texture: Texture,
    *,
    because: str | None = None,
    origin: Origin | None = None,
) -> dict[str, Any]:
    """Promote a detector with the shelf and the MLflow store of the environment.

    Args:
        folder: Its bundle.
        texture: The data that it was made from.
        because: Why it becomes champion whatever the gate says.
        origin: The search that made it, if there is one.

    Returns:
        The promotion, as the command prints it.
    """
    from zoo.promotion import promote

    promotion = promote(
        folder,
        texture,
        registry=open_registry(),
        origin=origin,
        because=because,
        say=say,
    )
    decision = promotion.decision
    say(f"{'Promoted' if decision.promoted else 'Not promoted'}: {decision.reason}")
    return {"promoted": decision.promoted, "reason": decision.reason, **promotion.metrics}


def open_registry() -> Registry:
    """Return the shelf and the MLflow store that the environment names."""
    from registry.shelf import open_shelf
    from zoo.home import tracking_uri
    from zoo.promotion import Registry

    return Registry(shelf=open_shelf(), tracking_uri=tracking_uri())
