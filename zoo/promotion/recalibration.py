"""A champion with new limits, published as a version of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from registry import bundle
from registry.gate import Decision
from registry.runs.store import open_store
from zoo.data.textures import Texture
from zoo.promotion.publication import Promotion, Registry, publish
from zoo.training import METRIC, recalibrated


def recalibrate(
    texture: Texture,
    *,
    registry: Registry,
    false_alarm_rate: float | None = None,
    say: Callable[[str], None],
) -> Promotion:
    """Set the limits of the champion of a texture on new good pictures, and publish the result.

    The history says of which version it was made and on how many pictures; a rollback undoes it.

    Args:
        texture: The new good pictures, under the name of the texture.
        registry: Where the champion is, and where the new version goes.
        false_alarm_rate: Of the threshold of a picture; None keeps that of the champion.
        say: Receives lines of progress.

    Raises:
        UnknownDetectorError: The texture has no champion.
        DataError: There are too few pictures, or some do not look good.
        StorageError: The shelf or MLflow cannot be written.
    """
    shelf = registry.shelf
    held, version = shelf.resolve(texture.name)
    old = bundle.load(held)
    say(f"Setting the limits of {texture.name}:{version} on {len(texture.pictures)} pictures.")
    made = recalibrated(old, texture, false_alarm_rate=false_alarm_rate)
    decision = Decision(
        promoted=True,
        reason=(
            f"Recalibrated from version {version} on {len(texture.pictures)} good pictures of "
            f"{texture.root}."
        ),
        challenger_ap=float(made.metrics[METRIC]),
    )
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "bundle"
        bundle.save(made, target)
        done = publish(
            target,
            decision,
            against=bundle.digest(held),
            shelf=shelf,
            store=open_store(registry.tracking_uri),
            run_id=None,
        )
    say(f"Published {texture.name}:{done.version} as {decision.alias}.")
    return done
