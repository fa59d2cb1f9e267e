"""How a detector becomes the champion of its texture: comparison, gate, audit, publication.

A challenger is compared with the champion on the validation windows of the challenger, without
those that show a pixel which one of the two was fitted on, and with the methods that learn nothing.
If it wins, it is audited on the test images and published. If it loses, it is published under the
alias `challenger` with the reason, and the test images are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from registry import bundle, gate, signing
from registry.bundle import Bundle
from registry.gate import Decision
from registry.names import checked_name, file_name, normal
from registry.runs.store import open_store
from registry.shelf import Shelf
from registry.starters import starter_names
from registry.trials import AUDIT_LOG
from zoo.data.splits import same_source
from zoo.data.testset import has_test
from zoo.data.textures import Texture
from zoo.detectors import Detector
from zoo.errors import BundleError, PromotionError, UnknownDetectorError
from zoo.evaluation import audit_log, audit_pictures
from zoo.evaluation.audit import check, doubts, figures, score_test
from zoo.files import check_writable
from zoo.home import home, signing_key
from zoo.promotion.comparison import Maps, judged, window_maps
from zoo.promotion.publication import Promotion, Registry, publish, published_before
from zoo.scoring.objective import Judged, paired_maps
from zoo.training import TrainingData, gather, part_of, provenance, untrained, window_maps_of

NEEDED = {  # of the data of a challenger
    "fingerprint": str,
    "split_seed": int,
    "fit": list,
    "validation": str,
    "validation_seed": int,
}


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The search that made a challenger.

    Attributes:
        untrained: For each method that learns nothing, its map of each validation window. Only the
            order of the pixels counts.
        run_id: Its MLflow run; None if it has none.
    """

    untrained: Mapping[str, Maps]
    run_id: str | None = None


def promote(
    folder: Path,
    texture: Texture,
    *,
    registry: Registry,
    origin: Origin | None = None,
    because: str | None = None,
    say: Callable[[str], None],
) -> Promotion:
    """Let the detector in `folder` challenge the champion of its texture.

    It must win against the champion, if there is one, and no method that learns nothing, nor the
    sum of the best of them, may win against it. A champion made from other pictures is scored on
    the challenger's windows. If the audit shows more false alarms than stated, or that nothing is
    found, it is refused, unless the texture has no champion yet.

    What follows the gate has an order in which a crash at any point leaves users a working
    champion, the old or the new one, and the same command completes the promotion:

    1. the audit, saved with a line for each test picture under the home, where a repetition finds
       it;
    2. a version in MLflow, found again by the digest of the bundle, with the reason as a tag;
    3. the shelf, whose pointer is all that users see;
    4. MLflow's alias, last, so that it never names a bundle that is not served. If only this step
       is missing, the challenger is the champion already, and a repetition sets the alias.

    Both detectors are scored on the CPU, so that a decision does not depend on a GPU.

    Args:
        folder: The challenger's bundle.
        texture: The texture it was made from.
        registry: Where the champion is, and where the winner goes.
        origin: The search that made the challenger; without it, the promotion gets a run of its
            own, and the methods that learn nothing are fitted again.
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
    own = judged(maps, data.validation)
    if held and champion and bundle.same_detector(champion.bundle, challenger.bundle):
        decision = gate.already_champion(texture.name, challenger_ap=own.objective)
        return published_before(held, decision, shelf=shelf, store=store)
    decision = _against_champion(maps, challenger, champion, data)
    if decision.promoted:
        known = _untrained(data, say=say) if origin is None else origin.untrained.items()
        decision = _against_untrained(decision, own, known, data)
    if because:
        decision = gate.forced(decision, because=because)
    if decision.promoted and has_test(texture):
        say("Auditing the winner on the test images.")
        folder = _audited(challenger, folder, texture)
        for line in audit_log.nearest(folder / AUDIT_LOG):
            say(line)
        found = doubts(bundle.load(folder).metrics, challenger.bundle.threshold)
        for doubt in found:
            say(f"Warning: {doubt}")
        decision = gate.doubted(decision, found)
        if because:
            decision = gate.forced(decision, because=because)
    elif decision.promoted:
        say("There are no test images, so the winner is not audited.")
    against = bundle.digest(held) if held else None
    done = publish(
        folder,
        decision,
        against=against,
        shelf=shelf,
        store=store,
        run_id=origin.run_id if origin else None,
    )
    say(f"Published {texture.name}:{done.version} as {decision.alias}.")
    if held is None and texture.name in starter_names():
        say(
            f"From now on '{texture.name}' and its versions are those of this shelf. The starter "
            "of that name is hidden."
        )
    return done


def check_promotion(texture: Texture, registry: Registry) -> list[str]:
    """Refuse, before a search, what the promotion of its winner would fail at.

    Nothing is made or changed.

    Returns:
        Lines for the user about masks that may be wrong.

    Raises:
        BadImageError: A test image cannot be read.
        BadMaskError: One has no mask, or one of another size.
        ConfigError: The texture has a name that cannot be published, or `ZOO_SIGNING_KEY` names
            no key.
        PromotionError: The present champion is damaged, so nothing can be compared with it.
        SignatureError: No trusted key has signed the present champion.
        StorageError: The shelf or the home cannot be written, or a disk is nearly full.
    """
    doubtful = check_test(texture)
    _champion(registry.shelf, texture.name)
    if key := signing_key():
        signing.sign(texture.name, "", key)
    registry.shelf.check_writable(texture.name)
    check_writable(home() / "audited", "audits")
    return doubtful


def check_test(texture: Texture) -> list[str]:
    """Refuse test images that the audit of a winner would refuse.

    Returns:
        Lines for the user about masks that may be wrong.

    Raises:
        BadImageError: One cannot be read.
        BadMaskError: One has no mask, or one of another size.
    """
    return check(texture)


def _training_data(challenger: Bundle, folder: Path, texture: Texture) -> TrainingData:
    """Gather what the challenger was made from again: the same pictures, the same windows."""
    checked_name(texture.name)
    known = challenger.data
    missing = [name for name, kind in NEEDED.items() if not isinstance(known.get(name), kind)]
    if missing:
        raise PromotionError(
            f"The card of {folder} does not say {', '.join(missing)} of its data, so it cannot be "
            "compared with a champion. Promote a detector that `zoo search` or `zoo train` made."
        )
    if normal(challenger.texture) != texture.name:
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
            f"{error} If it is lost, remove textures/{file_name(texture)}.json from the shelf and "
            "promote again."
        ) from error


def _against_untrained(
    decision: Decision, own: Judged, references: Iterable[tuple[str, Maps]], data: TrainingData
) -> Decision:
    """Refuse a challenger that a method which learns nothing beats on all windows."""
    for name, reference in references:
        found = paired_maps(judged(reference, data.validation), own)
        decision = gate.above_untrained(
            decision, name, challenger_ap=found.other, untrained_ap=found.one, loss=found.win_share
        )
    return decision


def _untrained(data: TrainingData, *, say: Callable[[str], None]) -> Iterator[tuple[str, Maps]]:
    """Yield the sum of the best methods that learn nothing, and each of them."""
    parts = [part_of(each, data) for each in untrained(data, say=say)]
    yield from window_maps_of(parts, data).items()


def _against_champion(
    maps: Maps, challenger: Detector, champion: Detector | None, data: TrainingData
) -> Decision:
    """Compare on the windows without a pixel that one of the two was fitted on."""
    if champion is None:
        ap = judged(maps, data.validation).objective
        return gate.first_champion(challenger.name, challenger_ap=ap)
    windows = data.validation
    fitted = {*challenger.bundle.data["fit"], *champion.bundle.data.get("fit", ())}
    unseen = [
        (map_, window)
        for map_, window in zip(maps, windows, strict=True)
        if not any(same_source(window.source, key) for key in fitted)
    ]
    defective = [window for _, window in unseen if window.strata]
    families = {window.family for window in defective}
    if not gate.comparable(windows=len(defective), families=len(families)):
        return gate.too_few_windows(
            windows=sum(bool(window.strata) for window in windows),
            unseen=len(defective),
            families=len(families),
            challenger_ap=judged(maps, windows).objective,
        )
    shown = [window for _, window in unseen]
    found = paired_maps(
        judged([map_ for map_, _ in unseen], shown), judged(window_maps(champion, shown), shown)
    )
    return gate.against_champion(
        challenger_ap=found.one,
        champion_ap=found.other,
        win_share=found.win_share,
        draws=found.draws,
    )


def _audited(detector: Detector, folder: Path, texture: Texture) -> Path:
    """Return a bundle with the figures of its audit, and its log; a bundle is audited once."""
    target = home() / "audited" / bundle.digest(folder)
    try:
        if bundle.same_detector(bundle.load(target), detector.bundle):
            return target
    except BundleError:
        pass  # not audited yet, or the audit was interrupted before it was saved
    scored = score_test(detector, texture)
    audit_log.write(scored, target / AUDIT_LOG)
    audit_pictures.write(scored, texture, target)
    bundle.save(bundle.with_metrics(detector.bundle, figures(scored)), target)
    return target
