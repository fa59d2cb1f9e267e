"""A champion with new limits, published as a version of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from registry import bundle
from registry.gate import Decision
from registry.runs.store import open_store
from zoo.data.textures import Texture
from zoo.errors import ConfigError
from zoo.promotion.publication import Promotion, Registry, publish
from zoo.scoring.thresholds import Rates
from zoo.training import METRIC, at_rates, rates_of, recalibrated


def recalibrate(
    name: str,
    *,
    registry: Registry,
    good: Texture | None = None,
    false_alarms: float | None = None,
    look_again: float | None = None,
    say: Callable[[str], None],
) -> Promotion:
    """Set the limits of the champion of a texture, and publish the result.

    The history says of which version it was made, and how; a rollback undoes it.

    Args:
        name: The texture.
        registry: Where the champion is, and where the new version goes.
        good: New good pictures; without them the limits are set by the stored scores.
        false_alarms: Share of good pictures that may be called defective; None keeps that of the
            champion.
        look_again: Share of good pictures that may get "look again" or more; 0 is no such answer,
            None keeps that of the champion.
        say: Receives lines of progress.

    Raises:
        UnknownDetectorError: The texture has no champion.
        ConfigError: Nothing is asked for, a rate is none, or the champion carries no scores.
        DataError: There are too few pictures, or some do not look good.
        StorageError: The shelf or MLflow cannot be written.
    """
    if good is None and false_alarms is None and look_again is None:
        raise ConfigError(
            "Nothing to change: give good pictures with --good DIR, or another operating point "
            "with --false-alarms RATE or --look-again RATE."
        )
    shelf = registry.shelf
    held, version = shelf.resolve(name)
    old = bundle.load(held)
    known = rates_of(old)
    rates = Rates(
        false_alarms=known.false_alarms if false_alarms is None else false_alarms,
        look_again=known.look_again if look_again is None else look_again or None,
    )
    if good is None:
        how = "the stored scores"
        made = at_rates(old, rates)
    else:
        how = f"{len(good.pictures)} good pictures of {good.root}"
        say(f"Setting the limits of {name}:{version} on {len(good.pictures)} pictures.")
        made = recalibrated(old, good, rates=rates, say=say)
    second = f", look again {rates.look_again:.2%}" if rates.look_again else ""
    decision = Decision(
        promoted=True,
        reason=(
            f"Recalibrated from version {version} on {how}: false alarms "
            f"{rates.false_alarms:.2%}{second}."
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
    say(f"Published {name}:{done.version} as {decision.alias}.")
    return done
