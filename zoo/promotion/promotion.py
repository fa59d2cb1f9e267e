"""How a detector becomes the champion of its texture: comparison, gate, audit, publication.

A challenger is compared with the champion on the validation windows of the challenger, without
those that show a pixel which one of the two was fitted on. If it wins, it is audited on the test
images and published. If it loses, it is published under the alias `challenger` with the reason, and
the test images are not read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from registry import bundle, gate
from registry.bundle import Bundle
from registry.gate import Decision
from registry.names import checked_name
from registry.runs.store import open_store
from registry.shelf import Shelf
from zoo.data.splits import same_source
from zoo.data.testset import has_test
from zoo.data.textures import Texture
from zoo.detectors import Detector
from zoo.errors import BundleError, PromotionError, UnknownDetectorError
from zoo.evaluation.audit import audit, check
from zoo.home import home
from zoo.promotion.comparison import Maps, compare, window_ap, window_maps
from zoo.promotion.publication import Promotion, Registry, publish, published_before
from zoo.training import TrainingData, baseline, gather, provenance

NEEDED = ("fingerprint", "split_seed", "fit", "validation", "validation_seed")


def promote(
    folder: Path,
    texture: Texture,
    *,
    registry: Registry,
    run_id: str | None = None,
    because: str | None = None,
    say: Callable[[str], None],
) -> Promotion:
    """Let the detector in `folder` challenge the champion of its texture.

    It must win against the champion, if there is one, and must not be below local statistics, which
    learn nothing. A champion made from other pictures is scored on the challenger's windows.

    What follows the gate has an order in which a crash at any point leaves users a working
    champion, the old or the new one, and the same command completes the promotion:

    1. the audit, saved under the home, where a repetition finds it;
    2. a version in MLflow, found again by the digest of the bundle, with the reason as a tag;
    3. the shelf, whose pointer is all that users see;
    4. MLflow's alias, last, so that it never names a bundle that is not served. If only this step
       is missing, the challenger is the champion already, and a repetition sets the alias.

    Both detectors are scored on the CPU, so that a decision does not depend on a GPU.

    Args:
        folder: The challenger's bundle.
        texture: The texture it was made from.
        registry: Where the champion is, and where the winner goes.
        run_id: The run that made the challenger; without it, the promotion gets a run of its own.
        because: Why the challenger becomes champion even if the gate refuses it; kept in the
            history.
        say: Receives lines of progress.

    Raises:
        PromotionError: The bundle is not of this texture or these pictures, or its card is
            incomplete; or another detector became champion during the comparison.
        BundleError: The bundle is damaged.
        StorageError: The shelf or MLflow cannot be written.
    """
    challenger = Detector(bundle.load(folder))
    data = _training_data(challenger.bundle, folder, texture)
    shelf, store = registry.shelf, open_store(registry.tracking_uri)
    held = _champion(shelf, texture.name)
    champion = Detector(bundle.load(held)) if held else None
    say(f"Comparing on {len(data.validation)} validation windows.")
    maps = window_maps(challenger, data.validation)
    if held and champion and bundle.same_detector(champion.bundle, challenger.bundle):
        ap = window_ap(maps, data.validation)
        decision = gate.already_champion(texture.name, challenger_ap=ap)
        return published_before(held, decision, shelf=shelf, store=store)
    decision = _decision(maps, challenger, champion, data)
    if because:
        decision = gate.forced(decision, because=because)
    if decision.promoted and has_test(texture):
        say("Auditing the winner on the test images.")
        folder = _audited(challenger, folder, texture)
    elif decision.promoted:
        say("There are no test images, so the winner is not audited.")
    against = bundle.digest(held) if held else None
    done = publish(folder, decision, against=against, shelf=shelf, store=store, run_id=run_id)
    say(f"Published {texture.name}:{done.version} as {decision.alias}.")
    return done


def check_test(texture: Texture) -> None:
    """Refuse, before a search, test images that the audit of its winner would refuse.

    Raises:
        BadImageError: One cannot be read.
        BadMaskError: One has no mask, or one of another size.
    """
    check(texture)


def _training_data(challenger: Bundle, folder: Path, texture: Texture) -> TrainingData:
    """Gather what the challenger was made from again: the same pictures, the same windows."""
    checked_name(texture.name)
    missing = [name for name in NEEDED if name not in challenger.data]
    if missing:
        raise PromotionError(
            f"The card of {folder} does not say {', '.join(missing)} of its data, so it cannot be "
            "compared with a champion. Promote a detector that `zoo search` or `zoo train` made."
        )
    if challenger.texture != texture.name:
        raise PromotionError(
            f"{folder} is a detector for '{challenger.texture}', not for '{texture.name}'. "
            f"Give the pictures of '{challenger.texture}'."
        )
    if challenger.data["fingerprint"] != texture.fingerprint:
        raise PromotionError(
            f"{folder} was made from other pictures of '{texture.name}' "
            f"({challenger.data['fingerprint'][:19]}) than those in {texture.root} "
            f"({texture.fingerprint[:19]}). Give the pictures it was made from, or search again."
        )
    data = gather(
        texture,
        split_seed=challenger.data["split_seed"],
        validation_seed=challenger.data["validation_seed"],
    )
    found = provenance(data)["validation"]
    if found != challenger.data["validation"]:
        raise PromotionError(
            f"The validation windows of {folder} ({challenger.data['validation'][:19]}) cannot be "
            f"painted again: this version paints others ({found[:19]}). Search again with it."
        )
    return data


def _champion(shelf: Shelf, texture: str) -> Path | None:
    try:
        return shelf.fetch(texture)
    except UnknownDetectorError:
        return None
    except BundleError as error:
        raise PromotionError(
            f"The champion of '{texture}' cannot be opened, so nothing can be compared with it: "
            f"{error} If it is lost, remove textures/{texture}.json from the shelf and promote "
            "again."
        ) from error


def _decision(
    maps: Maps, challenger: Detector, champion: Detector | None, data: TrainingData
) -> Decision:
    """Decide on a challenger by its maps of all windows, first against the champion."""
    windows = data.validation
    ap = window_ap(maps, windows)
    if champion is None:
        decision = gate.first_champion(challenger.name, challenger_ap=ap)
    else:
        decision = _against_champion(maps, challenger, champion, data)
    if not decision.promoted:
        return decision
    reference = Detector(baseline(data, scale=challenger.preprocessing.scale))
    baseline_ap = window_ap(window_maps(reference, windows), windows)
    return gate.above_baseline(decision, challenger_ap=ap, baseline_ap=baseline_ap)


def _against_champion(
    maps: Maps, challenger: Detector, champion: Detector, data: TrainingData
) -> Decision:
    """Compare on the windows without a pixel that one of the two was fitted on."""
    windows = data.validation
    fitted = {*challenger.bundle.data["fit"], *champion.bundle.data.get("fit", ())}
    unseen = [
        (map_, window)
        for map_, window in zip(maps, windows, strict=True)
        if not any(same_source(window.source, key) for key in fitted)
    ]
    families = [window.family for _, window in unseen]
    if not gate.comparable(windows=len(unseen), families=len(set(families))):
        return gate.too_few_windows(
            windows=len(windows),
            unseen=len(unseen),
            families=len(set(families)),
            challenger_ap=window_ap(maps, windows),
        )
    found = compare(
        [map_ for map_, _ in unseen],
        window_maps(champion, [window for _, window in unseen]),
        masks=[window.mask for _, window in unseen],
        families=families,
    )
    return gate.against_champion(
        challenger_ap=found.challenger_ap,
        champion_ap=found.champion_ap,
        win_share=found.win_share,
        draws=found.draws,
    )


def _audited(detector: Detector, folder: Path, texture: Texture) -> Path:
    """Return a bundle with the figures of its audit; a bundle is audited once."""
    target = home() / "audited" / bundle.digest(folder)
    try:
        if bundle.same_detector(bundle.load(target), detector.bundle):
            return target
    except BundleError:
        pass  # not audited yet, or the audit was interrupted before it was saved
    bundle.save(bundle.with_metrics(detector.bundle, audit(detector, texture)), target)
    return target
