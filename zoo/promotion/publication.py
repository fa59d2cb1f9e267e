"""Publication of a decision in MLflow and on the shelf, in an order that is safe for crashes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from registry import bundle, signing
from registry.bundle import Bundle
from registry.gate import Decision
from registry.pointer import CHAMPION, Entry, Pointer
from registry.runs import model_versions
from registry.runs.store import Store, open_store
from registry.shelf import Shelf
from zoo.errors import StorageError
from zoo.home import signing_key


@dataclass(frozen=True, kw_only=True)
class Registry:
    """What a promotion changes.

    Attributes:
        shelf: Where the champion is and the winner goes: what users see.
        tracking_uri: The MLflow store that keeps every decision.
    """

    shelf: Shelf
    tracking_uri: str


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """How a promotion ended.

    Attributes:
        decision: What the gate decided.
        version: The version of the challenger on the shelf.
        digest: Of its bundle on the shelf. An audited bundle holds its test figures, so its digest
            is another than that of the folder which was promoted.
        metrics: The figures of the audit; empty if there was none.
    """

    decision: Decision
    version: int
    digest: str
    metrics: Mapping[str, float]


def publish(
    folder: Path,
    decision: Decision,
    *,
    against: str | None,
    shelf: Shelf,
    store: Store,
    run_id: str | None,
) -> Promotion:
    """Register a bundle, publish it, and move MLflow's alias; each step may be repeated.

    Args:
        folder: The bundle.
        decision: What the gate decided on it.
        against: Digest of the champion that it was compared with; None if there was none.
        shelf: Where to publish it.
        store: Where to register it.
        run_id: The run that made it; without it, the promotion gets a run of its own.

    Raises:
        PromotionError: The champion is another one now.
        StorageError: The shelf or MLflow cannot be written.
        ConfigError: `ZOO_SIGNING_KEY` names no key.
    """
    card, digest = bundle.load(folder), bundle.digest(folder)
    key, figures = signing_key(), _test_figures(card)
    signature = signing.sign(card.texture, digest, key) if key else None
    registered = model_versions.register(store, folder, decision, metrics=figures, run=run_id)
    # MLflow's number, unless the shelf used it for another bundle beside an older MLflow store.
    version = shelf.pointer(card.texture).version_for(digest, preferred=registered.version)
    model_versions.tag_shelf_version(store, registered, version)
    entry = Entry(
        act=decision.act,
        version=version,
        reason=decision.reason,
        figures=decision.figures | figures,
        run=registered.run,
    )

    def edit(old: Pointer) -> Pointer:
        if decision.promoted:
            new = old.with_champion(digest, entry, against=against)
        else:
            new = old.with_version(digest, decision.alias, entry)
        return new.with_signature(digest, signature) if signature else new

    shelf.change(card.texture, edit, folder=folder)
    model_versions.set_alias(store, registered, decision.alias)
    return Promotion(decision=decision, version=version, digest=digest, metrics=figures)


def published_before(
    champion: Path, decision: Decision, *, shelf: Shelf, store: Store
) -> Promotion:
    """Return the promotion of what is the champion already, with MLflow's alias set.

    The alias is missing if the promotion before ended after the shelf was changed.
    """
    card, digest = bundle.load(champion), bundle.digest(champion)
    model_versions.set_champion(store, card.texture, digest)
    version = shelf.pointer(card.texture).version_of(digest)
    assert version is not None  # it was fetched by its name just now
    return Promotion(decision=decision, version=version, digest=digest, metrics=_test_figures(card))


def roll_back(
    texture: str, *, registry: Registry, because: str, say: Callable[[str], None]
) -> Pointer:
    """Make the previous champion the champion again, at once; a second rollback undoes the first.

    The shelf is what users see, and it changes in one step. MLflow's alias is set afterwards. If
    MLflow cannot be reached, the alias keeps its version, which is reported, and the next promotion
    corrects it.

    Args:
        texture: Which one.
        registry: What to change.
        because: Why; kept in the history.
        say: Receives lines of progress.

    Returns:
        The new pointer of the texture.

    Raises:
        PromotionError: There was no champion before this one.
        StorageError: The shelf cannot be written.
    """
    pointer = registry.shelf.change(texture, lambda old: old.rolled_back(because))
    try:
        store = open_store(registry.tracking_uri)
        model_versions.set_champion(store, texture, pointer.digests()[CHAMPION])
    except StorageError as error:
        say(f"The shelf has changed; MLflow's alias has not: {error}")
    return pointer


def _test_figures(card: Bundle) -> dict[str, float]:
    return {key: value for key, value in card.metrics.items() if key.startswith("test_")}
