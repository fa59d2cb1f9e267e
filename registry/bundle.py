"""A detector on disk: `weights.safetensors` and `bundle.json`.

A bundle holds all that scoring needs: configuration, preprocessing, calibration, threshold, where
the detector came from, and the SHA-256 of its weights. The digest of a bundle is the SHA-256 of
`bundle.json`, so it identifies the whole content. No file of a bundle is code, and nothing is
unpickled.

A fused detector adds the maps of several complete detectors, its parts. Its bundle is two files as
well: the card holds the cards of the parts, and an array of part 2 has the name `2/` and its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from zoo.errors import BundleError
from zoo.files import read_regular, storage_error, write_all

FORMAT = 3
FUSION = "fusion"  # in place of the method of a fused detector
MOST_PARTS = 32  # of a fused detector; ours have less than ten
WEIGHTS = "weights.safetensors"
CARD = "bundle.json"
FILES = (WEIGHTS, CARD)  # in the order of writing: a folder with a card is complete
MOST_BYTES = {WEIGHTS: 2**31, CARD: 2**26}  # of a file; ours are a thousand times smaller

Card = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """One detector as plain values.

    A fused detector has `method` "fusion", parts and a fusion; `config`, `preprocessing`,
    `calibration` and `weights` are empty, because each part has its own. Parts are not fused.

    Attributes:
        texture: Name of the texture it was made for.
        method: Name of its method, such as `fcbigan`.
        config: The full configuration of the method as it scores, field by field.
        preprocessing: `mode` (L or RGB), `scale` (the factor applied to both sides of an image),
            `low` and `high` (the range of intensities).
        calibration: Statistics of the losses on good pixels, and how they become a score.
        threshold: `value`, `false_alarm_rate`, `set_on`, `rule` and `images` it was set from.
        metrics: Figures by split: `val_pixel_ap`, `test_pixel_ap` and so on.
        data: `fingerprint`, `licence`, `split_seed`, `fit` (keys of the pictures it was fitted on).
        made_by: Versions and seed; `settings`, the configuration that was asked for, where the
            method is trained.
        weights: Every array of the method, by name.
        parts: The detectors that a fused detector consists of.
        fusion: How their maps become one, field by field.
    """

    texture: str
    method: str
    config: dict[str, Any]
    preprocessing: dict[str, Any]
    calibration: dict[str, Any]
    threshold: dict[str, Any]
    metrics: dict[str, float]
    data: dict[str, Any]
    made_by: dict[str, Any]
    weights: dict[str, np.ndarray]
    parts: tuple[Bundle, ...] = ()
    fusion: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what is fused only by half, and parts that are fused themselves."""
        if len({bool(self.parts), bool(self.fusion), self.method == FUSION}) > 1:
            raise BundleError(
                f"The bundle of '{self.texture}' has method '{self.method}', {len(self.parts)} "
                f"parts and {'a' if self.fusion else 'no'} fusion. A fused detector has method "
                f"'{FUSION}', parts and a fusion; others have none of them. Make it again."
            )
        if self.parts and (self.config or self.preprocessing or self.calibration or self.weights):
            raise BundleError(
                f"The fused bundle of '{self.texture}' has a configuration, a preprocessing, a "
                "calibration or weights of its own; only its parts have them. Make it again."
            )
        if any(part.parts for part in self.parts) or len(self.parts) > MOST_PARTS:
            raise BundleError(
                f"The bundle of '{self.texture}' has {len(self.parts)} parts; it may have "
                f"{MOST_PARTS}, and none of them may be fused itself. Make it again."
            )


def with_metrics(bundle: Bundle, metrics: Mapping[str, float]) -> Bundle:
    """Return the same detector with these figures added to its card."""
    return replace(bundle, metrics={**bundle.metrics, **metrics})


def same_detector(one: Bundle, other: Bundle) -> bool:
    """Return whether two bundles differ in their figures only, as before and after an audit."""
    arrays, others = all_weights(one), all_weights(other)
    return (
        _without_metrics(_content_of(one)) == _without_metrics(_content_of(other))
        and arrays.keys() == others.keys()
        and all(np.array_equal(arrays[name], others[name]) for name in arrays)
    )


def all_weights(bundle: Bundle) -> dict[str, np.ndarray]:
    """Return every array of a bundle as its file has it: those of parts are `0/name`, `1/name`."""
    return bundle.weights | {
        f"{at}/{name}": array
        for at, part in enumerate(bundle.parts)
        for name, array in part.weights.items()
    }


def save(bundle: Bundle, folder: Path) -> str:
    """Write a bundle, so that a reader sees the old one or the new one, and return its digest.

    Args:
        bundle: What to write.
        folder: Where; made if it is not there.

    Raises:
        StorageError: The disk is full or the folder is read-only; an older bundle there is kept.
    """
    # `asarray` and not `ascontiguousarray`, which gives an array of no dimension one.
    blob = save_arrays(
        {name: np.asarray(array, order="C") for name, array in all_weights(bundle).items()}
    )
    card = _content_of(bundle) | {"format": FORMAT}
    card["weights_sha256"] = hashlib.sha256(blob).hexdigest()
    card["card_sha256"] = _card_hash(card)
    text = _text(card)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_all({folder / WEIGHTS: blob, folder / CARD: text})
    except OSError as error:
        raise storage_error(f"Cannot write the bundle of '{bundle.texture}'", error) from error
    return hashlib.sha256(text).hexdigest()


def load(folder: Path) -> Bundle:
    """Read a bundle of this format or an older one, and check every byte against its hashes.

    The weights can be written to, so that torch takes them without a copy.

    Raises:
        BundleError: A file is missing, damaged, not JSON, or of a newer format.
    """
    card, blob, _ = _verified(folder)
    if wrong := _wrong(card, _KINDS):
        raise _unusable(folder, wrong)
    try:
        for number in range(card.pop("format"), FORMAT):
            card = _TO_NEXT[number](card)
        if wrong := _wrong_parts(card):
            raise _unusable(folder, wrong)
        weights = _arrays(blob)
        found = _made(card, weights)
    except (SafetensorError, TypeError, ValueError, KeyError) as error:
        raise BundleError(
            f"The bundle {folder} cannot be opened: {error}. Fetch or promote it again."
        ) from error
    infinite = [name for name, array in weights.items() if not np.isfinite(array).all()]
    if infinite:
        raise _unusable(folder, infinite)
    return found


def digest(folder: Path) -> str:
    """Check both files and return the SHA-256 of `bundle.json`, which identifies the bundle.

    Raises:
        BundleError: A file is missing or damaged.
    """
    return _verified(folder)[2]


def _from_format_1(card: Card) -> Card:
    """Give the settings of a training one place, and `val_pixel_ap_floor` its present name."""
    made_by, figures = dict(card["made_by"]), dict(card["metrics"])
    if "training" in made_by:
        views = {"views": made_by.pop("views", 1)}
        made_by["settings"] = made_by.pop("training") | card["config"] | views
    if "val_pixel_ap_floor" in figures:
        figures["val_pixel_ap_baseline"] = figures.pop("val_pixel_ap_floor")
    return card | {"made_by": made_by, "metrics": figures}


def _from_format_2(card: Card) -> Card:
    """Add that the detector is not fused."""
    return dict(**card, parts=[], fusion={})  # fails if the card has one of them


# By format: what makes a card of the next format of it. A new format adds one line. From 3 on a
# card has the cards of its parts, which are of the same format.
_TO_NEXT: Mapping[int, Callable[[Card], Card]] = {
    1: _from_format_1,
    2: _from_format_2,
}
_KINDS: Mapping[str, type] = {"texture": str, "method": str} | dict.fromkeys(
    ("config", "preprocessing", "calibration", "threshold", "metrics", "data", "made_by"), dict
)
_KINDS_OF_FUSION: Mapping[str, type] = {"parts": list, "fusion": dict}


def _content_of(bundle: Bundle) -> Card:
    """Return the card of a bundle without its format and hashes."""
    card = {each.name: getattr(bundle, each.name) for each in fields(Bundle)}
    del card["weights"]
    return card | {"parts": [_content_of(part) for part in bundle.parts]}


def _without_metrics(card: Card) -> Card:
    return card | {"metrics": {}, "parts": [_without_metrics(part) for part in card["parts"]]}


def _wrong(card: Mapping[str, Any], kinds: Mapping[str, type]) -> list[str]:
    return [name for name, kind in kinds.items() if not isinstance(card.get(name), kind)]


def _wrong_parts(card: Card) -> list[str]:
    """Return what is wrong with the parts in a card, before anything is made of it."""
    if wrong := _wrong(card, _KINDS_OF_FUSION):
        return wrong
    if len(card["parts"]) > MOST_PARTS:
        return ["parts"]
    for at, part in enumerate(card["parts"]):
        if not isinstance(part, dict) or part.get("parts") != [] or part.get("fusion") != {}:
            return [f"parts.{at}"]
        wrong += [f"parts.{at}.{name}" for name in _wrong(part, _KINDS)]
    return wrong


def _made(card: Card, weights: Mapping[str, np.ndarray]) -> Bundle:
    """Make a bundle of a card of today and of the arrays of its file."""
    if not card["parts"]:
        return Bundle(**(card | {"parts": ()}), weights=dict(weights))
    own: list[dict[str, np.ndarray]] = [{} for _ in card["parts"]]
    places = {str(at): arrays for at, arrays in enumerate(own)}
    for name, array in weights.items():
        place, slash, rest = name.partition("/")
        if place not in places or not slash:
            raise ValueError(f"its array '{name}' belongs to none of its {len(own)} parts")
        places[place][rest] = array
    parts = tuple(
        Bundle(**(part | {"parts": ()}), weights=arrays)
        for part, arrays in zip(card["parts"], own, strict=True)
    )
    return Bundle(**(card | {"parts": parts}), weights={})


def _text(card: Card) -> bytes:
    return json.dumps(card, indent=1, sort_keys=True, allow_nan=False).encode()


def _card_hash(card: Card) -> str:
    return hashlib.sha256(_text(card)).hexdigest()


def _arrays(blob: bytes) -> dict[str, np.ndarray]:
    try:
        found = load_arrays(blob)
    except KeyError as error:
        raise ValueError(f"it has weights of type {error}, which NumPy does not have") from error
    return {name: np.require(array, requirements="W") for name, array in found.items()}


def _unusable(folder: Path, wrong: list[str]) -> BundleError:
    return BundleError(
        f"The bundle {folder} cannot be used: {', '.join(wrong[:3])} is not what it should be "
        "(a weight must be a finite number). Fetch or promote it again."
    )


def _verified(folder: Path) -> tuple[Card, bytes, str]:
    """Return the card with its format but without its hashes, the weights, and the digest."""
    try:
        text = read_regular(folder / CARD, most=MOST_BYTES[CARD])
        blob = read_regular(folder / WEIGHTS, most=MOST_BYTES[WEIGHTS])
        card = json.loads(text)
        card = card if isinstance(card, dict) else {}
        # The text is compared too: several spellings of a number or a letter are one value.
        same_text = text == _text(card)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(
            f"{folder} is no bundle: {Path(error.filename).name} is missing. A bundle is a folder "
            f"with {WEIGHTS} and {CARD}."
        ) from error
    except OSError as error:
        name = Path(error.filename or folder).name
        raise BundleError(
            f"{name} of the bundle {folder} cannot be read: {error.strerror}. Fetch or promote the "
            "detector again."
        ) from error
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"{folder / CARD} is damaged: {error}. Fetch or promote the detector again."
        ) from error
    found, stated = card.get("format"), card.pop("card_sha256", None)
    if type(found) is not int or not 1 <= found <= FORMAT:
        raise BundleError(
            f"The bundle {folder} has format {found}; this version reads 1 to {FORMAT}. "
            "Update texture-zoo."
        )
    if not same_text or stated != _card_hash(card):
        raise BundleError(
            f"{folder / CARD} is damaged: its own SHA-256 does not fit its content. "
            "Fetch or promote the detector again."
        )
    wanted, real = card.pop("weights_sha256", None), hashlib.sha256(blob).hexdigest()
    if wanted != real:
        raise BundleError(
            f"{folder / WEIGHTS} is damaged: its SHA-256 should be {wanted} and is {real}. "
            "Fetch or promote the detector again."
        )
    return card, blob, hashlib.sha256(text).hexdigest()
