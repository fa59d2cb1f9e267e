"""What `zoo search` does with its detector: promote it, or say how to."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli.output import say
from zoo.cli.promote import promoted
from zoo.errors import ZooError
from zoo.training import window_maps_of

if TYPE_CHECKING:
    from zoo.cli._search_run import Searched
    from zoo.data.textures import Texture
    from zoo.training import TrainingData


def promotion(
    args: argparse.Namespace,
    texture: Texture,
    data: TrainingData,
    searched: Searched,
    saved: Path,
    *,
    run_id: str,
) -> dict[str, Any]:
    """Promote the detector of a search, unless the search was interrupted or it is not wanted.

    Args:
        args: Of the command.
        texture: The texture.
        data: Its good pictures.
        searched: What the search has made.
        saved: Its detector.
        run_id: Its MLflow run.

    Returns:
        What is added to the answer.
    """
    from zoo.promotion import Origin

    command = f"`zoo promote {saved} --data {args.data}`"
    if searched.result.interrupted:
        later = f"Promote it with {command}, or continue with the same command and --resume."
        say(f"Interrupted; what was found is kept. {later}")
        return {}
    if args.no_promote:
        say(f"Not promoted. Promote it with {command}.")
        return {}
    try:
        known = window_maps_of(searched.untrained, data)
        return promoted(saved, texture, origin=Origin(untrained=known, run_id=run_id))
    except ZooError as error:
        raise type(error)(
            f"{error} What was found is kept; when this is repaired, promote it with {command}."
        ) from error
