"""The gate, the audit and the alias: how a detector becomes the champion of its texture.

A challenger meets the champion on the challenger's own validation windows, less those whose
pixels either of the two was fitted on. If it wins it is audited on the test images and published.
If it loses it is kept all the same, under the alias `challenger` and with the reason, but never
sees a test image.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from mlflow.entities import Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from registry.audit import audit, check
from registry.pointer import CHALLENGER, CHAMPION, Act, Entry, Pointer
from registry.runs import Store, open_store, told
from registry.shelf import FILES, Shelf, checked_name, home
from zoo import bundle, metrics, recipe
from zoo.bundle import Bundle
from zoo.defects import Defective
from zoo.detector import Detector
from zoo.errors import BundleError, PromotionError, StorageError, UnknownDetectorError
from zoo.recipe import Materials
from zoo.textures import Texture, has_test, same_source

REPLICATES = 1000
# Not the customary 0.95: val holds a few dozen windows, and with so few a challenger that is
# truly better by a tenth would mostly be refused. The higher AP is asked for as well.
WIN_SHARE = 0.9
# With fewer, the bootstrap has next to nothing to draw from and every difference looks certain.
FEWEST_WINDOWS = 8
FEWEST_FAMILIES = 2
NEEDED = ("fingerprint", "split_seed", "fit", "validation", "validation_seed")

Maps = Sequence[Float[np.ndarray, "_ _"]]
Masks = Sequence[Bool[np.ndarray, "_ _"]]


@dataclass(frozen=True, kw_only=True)
class Registry:
    """What a promotion changes.

    Attributes:
        shelf: Where the champion is and the winner goes: what users see.
        tracking_uri: The MLflow store that keeps the record.
    """

    shelf: Shelf
    tracking_uri: str


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """What the gate says.

    Attributes:
        promoted: Whether the challenger passes.
        reason: Why, with the figures.
        challenger_ap: Mean over families of its pixel AP at a fixed prevalence.
        champion_ap: The champion's, on the same windows; None if they were not compared.
        win_share: Share of the bootstrap draws that the challenger wins; None likewise.
        forced: Whether it passes only because somebody said so.
    """

    promoted: bool
    reason: str
    challenger_ap: float
    champion_ap: float | None
    win_share: float | None
    forced: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a promotion ended.

    Attributes:
        promoted: Whether the challenger is the champion now.
        reason: Why, with the figures.
        challenger_ap: As in `Ruling`.
        champion_ap: As in `Ruling`.
        win_share: As in `Ruling`.
        forced: As in `Ruling`.
        version: Its version on the shelf.
        digest: Its bundle on the shelf. An audited bundle holds its test figures, so its digest
            is not that of the folder which was promoted.
        metrics: The figures of the audit; empty if there was none.
    """

    promoted: bool
    reason: str
    challenger_ap: float
    champion_ap: float | None
    win_share: float | None
    forced: bool
    version: int
    digest: str
    metrics: Mapping[str, float]


def gate(challenger: Maps, champion: Maps, *, masks: Masks, families: Sequence[str]) -> Ruling:
    """Rule on two detectors by their maps of the same windows.

    The objective is the mean over families of pixel AP at a fixed prevalence. The bootstrap
    draws windows anew within each family, the same ones for both detectors, so that what makes a
    window hard for both cancels out. The challenger passes if its AP is higher and it wins
    `WIN_SHARE` of the draws. The same maps give the same ruling.

    Args:
        challenger: Its map of each window.
        champion: Its map of each window. Only the order within one detector's maps counts.
        masks: True is defective.
        families: The family of each window.

    Raises:
        DataError: A family has no anomalous or no normal pixel, or a map is not a number.
    """
    counts = [metrics.count(maps, masks) for maps in (challenger, champion)]
    ours, theirs = (_objective(each, families) for each in counts)
    drawn = [_bootstrap(each, families, np.random.default_rng(0)) for each in counts]
    share = float(np.mean(drawn[0] > drawn[1]))
    higher, sure = ours > theirs, share >= WIN_SHARE
    reason = (
        f"The challenger's val AP of {ours:.3f} {'beats' if higher else 'does not beat'} the "
        f"champion's {theirs:.3f}; it wins {share:.1%} of {REPLICATES} paired bootstrap draws, "
        f"and {WIN_SHARE:.0%} are needed."
    )
    return Ruling(
        promoted=higher and sure,
        reason=reason,
        challenger_ap=ours,
        champion_ap=theirs,
        win_share=share,
    )


def promote(
    folder: Path,
    texture: Texture,
    *,
    registry: Registry,
    run_id: str | None = None,
    because: str | None = None,
    say: Callable[[str], None],
) -> Verdict:
    """Let the detector in `folder` challenge the champion of its texture.

    It must beat the champion, if there is one, and never be below local statistics, which learn
    nothing. A champion made from other pictures is scored on the challenger's.

    What follows the gate is ordered so that a crash anywhere leaves users a working champion, the
    old or the new, and the same command finishes the job:

    1. the audit, saved under the home, where a repeat finds it;
    2. a version in MLflow, found again by the digest of the bundle, with the reason as a tag;
    3. the shelf, whose pointer is all that users see;
    4. MLflow's alias, last, as it must not name what is not served. If only this is missing, the
       challenger is the champion already, and a repeat sets the alias.

    Both detectors are scored on the CPU, so that a verdict does not depend on who has a GPU.

    Args:
        folder: The challenger's bundle.
        texture: The texture it was made from.
        registry: Where the champion is, and the winner goes.
        run_id: The run that made the challenger; without it the promotion gets a run of its own.
        because: Why the challenger becomes champion whatever the gate says; kept in the history.
        say: Receives lines of progress.

    Raises:
        PromotionError: The bundle is not of this texture or these pictures, or says too little; or
            another became champion while this one was compared.
        BundleError: The bundle is damaged.
        StorageError: The shelf or MLflow cannot be written.
    """
    challenger = Detector(bundle.load(folder))
    materials = _materials(challenger.bundle, folder, texture)
    windows = materials.validation
    shelf, store = registry.shelf, open_store(registry.tracking_uri)
    held = _champion(shelf, texture.name)
    champion = Detector(bundle.load(held)) if held else None
    say(f"Comparing on {len(windows)} validation windows.")
    ours = _maps(challenger, windows)
    if held and champion and same_detector(champion.bundle, challenger.bundle):
        reason = f"This detector is already the champion of '{texture.name}'."
        ruling = _uncompared(ours, windows, promoted=False, reason=reason)
        return _already(held, ruling, store=store, shelf=shelf)
    ruling = _ruling(ours, challenger, champion, windows)
    if ruling.promoted:
        ruling = _above_the_floor(ruling, ours, materials, scale=challenger.preprocessing.scale)
    if because and not ruling.promoted:
        reason = f"Forced, because {because.rstrip('.')}. The gate said: {ruling.reason}"
        ruling = replace(ruling, promoted=True, forced=True, reason=reason)
    if ruling.promoted and has_test(texture):
        say("Auditing the winner on the test images.")
        folder = _audited(challenger, folder, texture)
    elif ruling.promoted:
        say("There are no test images, so the winner is not audited.")
    against = bundle.digest(held) if held else None
    verdict = _published(folder, ruling, against=against, store=store, shelf=shelf, run_id=run_id)
    say(f"Published {texture.name}:{verdict.version} as {_alias(ruling)}.")
    return verdict


def roll_back(
    texture: str, *, registry: Registry, because: str, say: Callable[[str], None]
) -> Pointer:
    """Let the champion before this one be the champion again, at once; a second time undoes it.

    The shelf is what users see, and changes in one step. MLflow's alias follows; where MLflow
    cannot be reached it stays behind, which is told, and the next promotion puts it right.

    Raises:
        PromotionError: There was no champion before this one.
        StorageError: The shelf cannot be written.
    """
    pointer = registry.shelf.change(texture, lambda old: old.rolled_back(because))
    try:
        _crown(open_store(registry.tracking_uri), texture, pointer.digests()[CHAMPION])
    except StorageError as error:
        say(f"The shelf has changed; MLflow's alias has not: {error}")
    return pointer


def check_test(texture: Texture) -> None:
    """Refuse, before a search, test images that the audit of its winner would refuse after it.

    Raises:
        BadImageError: One cannot be read.
        BadMaskError: One has no mask, or one of another size.
    """
    check(texture)


def same_detector(one: Bundle, other: Bundle) -> bool:
    """Tell whether two bundles differ in nothing but their figures, as before and after audit."""
    blank = [asdict(replace(each, metrics={}, weights={})) for each in (one, other)]
    return (
        blank[0] == blank[1]
        and one.weights.keys() == other.weights.keys()
        and all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
    )


def _objective(counts: metrics.Counts, families: Sequence[str]) -> float:
    return float(np.mean(list(metrics.family_average_precision(counts, families).values())))


def _bootstrap(
    counts: metrics.Counts, families: Sequence[str], rng: np.random.Generator
) -> Float[np.ndarray, " r"]:
    """Return the objective on each of `REPLICATES` draws of windows, each family from its own.

    A family of six windows has only 462 different draws, so equal ones are measured once.
    """
    kinds = list(dict.fromkeys(families))
    total = np.zeros(REPLICATES)
    for family in kinds:
        rows = np.flatnonzero([each == family for each in families])
        anomalous, normal = counts.anomalous[rows], counts.normal[rows]
        times = rng.multinomial(rows.size, np.full(rows.size, 1 / rows.size), size=REPLICATES)
        different, which = np.unique(times, axis=0, return_inverse=True)
        found = [
            metrics.average_precision_of_counts(
                each @ anomalous, each @ normal, prevalence=metrics.PREVALENCE
            )
            for each in different
        ]
        total += np.array(found)[which.ravel()]
    return total / len(kinds)


def _materials(challenger: Bundle, folder: Path, texture: Texture) -> Materials:
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
    made = recipe.gather(
        texture,
        split_seed=challenger.data["split_seed"],
        validation_seed=challenger.data["validation_seed"],
    )
    found = recipe.provenance(made)["validation"]
    if found != challenger.data["validation"]:
        raise PromotionError(
            f"The validation windows of {folder} ({challenger.data['validation'][:19]}) cannot be "
            f"painted again: this version paints others ({found[:19]}). Search again with it."
        )
    return made


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


def _ruling(
    maps: Maps, challenger: Detector, champion: Detector | None, windows: Sequence[Defective]
) -> Ruling:
    """Rule on a challenger, whose maps of the windows are given."""
    if champion is None:
        reason = f"'{challenger.name}' has no champion yet, so the challenger becomes the first."
        return _uncompared(maps, windows, promoted=True, reason=reason)
    fitted = {*challenger.bundle.data["fit"], *champion.bundle.data.get("fit", ())}
    fair = [
        (map_, window)
        for map_, window in zip(maps, windows, strict=True)
        if not any(same_source(window.source, key) for key in fitted)
    ]
    unseen = [window for _, window in fair]
    families = [window.family for window in unseen]
    kinds = len(set(families))
    if len(unseen) < FEWEST_WINDOWS or kinds < FEWEST_FAMILIES:
        reason = (
            f"Of {len(windows)} validation windows, {len(unseen)} in {kinds} families show no "
            "pixel that challenger or champion was fitted on; a comparison takes "
            f"{FEWEST_WINDOWS} in {FEWEST_FAMILIES}. Add good pictures and search again."
        )
        return _uncompared(maps, windows, promoted=False, reason=reason)
    ours, theirs = [map_ for map_, _ in fair], _maps(champion, unseen)
    return gate(ours, theirs, masks=[window.mask for window in unseen], families=families)


def _above_the_floor(ruling: Ruling, maps: Maps, materials: Materials, *, scale: float) -> Ruling:
    """Refuse what local statistics, which learn nothing, would do better on the same windows."""
    windows = materials.validation
    floor = Detector(recipe.floor(materials, scale=scale))
    ours, least = (_merit(each, windows) for each in (maps, _maps(floor, windows)))
    if ours >= least:
        return ruling
    reason = (
        f"The challenger's val AP of {ours:.3f} is below that of local statistics, which learn "
        f"nothing ({least:.3f}). Search for longer, or with another space."
    )
    return replace(ruling, promoted=False, reason=reason)


def _maps(detector: Detector, windows: Sequence[Defective]) -> Maps:
    return [detector.map(window.image) for window in windows]


def _merit(maps: Maps, windows: Sequence[Defective]) -> float:
    counts = metrics.count(maps, [window.mask for window in windows])
    return _objective(counts, [window.family for window in windows])


def _uncompared(maps: Maps, windows: Sequence[Defective], *, promoted: bool, reason: str) -> Ruling:
    return Ruling(
        promoted=promoted,
        reason=reason,
        challenger_ap=_merit(maps, windows),
        champion_ap=None,
        win_share=None,
    )


def _audited(detector: Detector, folder: Path, texture: Texture) -> Path:
    """Audit a detector and return its bundle with the figures; one audited before is not again."""
    target = home() / "audited" / bundle.digest(folder)
    try:
        if same_detector(bundle.load(target), detector.bundle):
            return target
    except BundleError:
        pass  # not audited yet, or interrupted while it was saved
    bundle.save(bundle.with_metrics(detector.bundle, audit(detector, texture)), target)
    return target


def _alias(ruling: Ruling) -> str:
    return CHAMPION if ruling.promoted else CHALLENGER


def _act(ruling: Ruling) -> Act:
    if ruling.forced:
        return "forced"
    return "promoted" if ruling.promoted else "refused"


def _numbers_of(ruling: Ruling) -> dict[str, float]:
    known = {
        "val_pixel_ap": ruling.challenger_ap,
        "champion_val_pixel_ap": ruling.champion_ap,
        "win_share": ruling.win_share,
    }
    return {name: value for name, value in known.items() if value is not None}


def _already(held: Path, ruling: Ruling, *, store: Store, shelf: Shelf) -> Verdict:
    """Refuse the champion as its own challenger, and set MLflow's alias if a crash left it."""
    card, digest = bundle.load(held), bundle.digest(held)
    _crown(store, card.texture, digest)
    version = shelf.pointer(card.texture).version_of(digest)
    assert version is not None  # it was fetched by its name just now
    return Verdict(**asdict(ruling), version=version, digest=digest, metrics=_test_figures(card))


def _crown(store: Store, texture: str, digest: str) -> None:
    """Let MLflow's alias follow the shelf, if MLflow knows the bundle."""
    name = f"texture-{texture}"
    with told("write to", store.uri):
        known = _version_of(store, name, digest)
        if known is not None:
            store.client.set_registered_model_alias(name, CHAMPION, str(known.version))


def _published(
    folder: Path,
    ruling: Ruling,
    *,
    against: str | None,
    store: Store,
    shelf: Shelf,
    run_id: str | None,
) -> Verdict:
    """Register, publish and alias a bundle, in this order; each step may be repeated.

    `against` is the digest of the champion that the ruling is about.
    """
    card, digest, alias = bundle.load(folder), bundle.digest(folder), _alias(ruling)
    name = f"texture-{card.texture}"
    tags = {
        "zoo.digest": digest,
        "zoo.texture": card.texture,
        "zoo.verdict": _act(ruling),
        "zoo.reason": ruling.reason,
    }
    figures = _test_figures(card)
    with told("write to", store.uri):
        run = run_id or _promotion_run(store, card.texture, digest)
        _note(store, run, tags, figures)
        registered = _version_of(store, name, digest)
        if registered is None:
            registered = _registered(store, name, folder, run, tags)
        number = _number(shelf, card.texture, int(registered.version), digest)
        for key, value in (tags | {"zoo.shelf_version": str(number)}).items():
            store.client.set_model_version_tag(name, str(registered.version), key, value)
    entry = Entry(
        act=_act(ruling),
        version=number,
        reason=ruling.reason,
        figures=_numbers_of(ruling) | figures,
        run=run,
    )

    def edit(old: Pointer) -> Pointer:
        if ruling.promoted:
            return old.with_champion(digest, entry, against=against)
        return old.with_version(digest, alias, entry)

    shelf.change(card.texture, edit, folder=folder)
    with told("write to", store.uri):
        store.client.set_registered_model_alias(name, alias, str(registered.version))
    return Verdict(**asdict(ruling), version=number, digest=digest, metrics=figures)


def _test_figures(card: Bundle) -> dict[str, float]:
    return {key: value for key, value in card.metrics.items() if key.startswith("test_")}


def _promotion_run(store: Store, texture: str, digest: str) -> str:
    tags = {"zoo.role": "promotion", "zoo.texture": texture, "zoo.digest": digest}
    run_id = store.resume(tags, name=f"promotion of {texture}")
    store.end(run_id, "finished")
    return run_id


def _note(store: Store, run: str, tags: Mapping[str, str], figures: Mapping[str, float]) -> None:
    now = int(time.time() * 1000)
    store.client.log_batch(run, metrics=[Metric(k, v, now, 0) for k, v in figures.items()])
    for key in ("zoo.verdict", "zoo.reason"):
        store.client.set_tag(run, key, tags[key])


def _version_of(store: Store, name: str, digest: str) -> ModelVersion | None:
    found = store.client.search_model_versions(
        f"name = '{name}' and tags.`zoo.digest` = '{digest}'"
    )
    return found[0] if found else None


def _registered(
    store: Store, name: str, folder: Path, run: str, tags: Mapping[str, str]
) -> ModelVersion:
    """Make a model version of a bundle, its two files as they are and nothing pickled."""
    client = store.client
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    model = client.create_logged_model(
        store.experiment, name=name, source_run_id=run, tags={**tags}
    )
    for file in FILES:
        client.log_model_artifact(model.model_id, str(folder / file))
    client.finalize_logged_model(model.model_id, "READY")
    # Not `models:/<id>`, which mlflow 3.17 would look up in the store of MLFLOW_TRACKING_URI,
    # whatever store this client talks to.
    return client.create_model_version(
        name,
        source=model.artifact_location,
        run_id=run,
        model_id=model.model_id,
        tags={**tags},
    )


def _number(shelf: Shelf, texture: str, version: int, digest: str) -> int:
    """Return the version on the shelf: MLflow's, unless an older store left it to another bundle.

    A bundle that is on the shelf keeps its number; otherwise it takes MLflow's, or the next free
    one if MLflow counts from the start again beside a shelf that does not.
    """
    held = shelf.pointer(texture)
    own = held.version_of(digest)
    if own is not None:
        return own
    taken = version in held.versions or version in held.gone()
    return held.next_version() if taken else version
