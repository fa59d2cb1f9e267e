"""A detector on disk: `weights.safetensors` and `bundle.json`, and nothing that runs.

A bundle carries all that scoring needs: configuration, preprocessing, calibration, threshold,
where it came from, and the SHA-256 of its weights. Its digest, the SHA-256 of `bundle.json`,
therefore names the whole content. Nothing is ever unpickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from zoo.errors import BundleError, StorageError

FORMAT = 1
WEIGHTS = "weights.safetensors"
CARD = "bundle.json"
MOST_BYTES = {WEIGHTS: 2**31, CARD: 2**26}  # of a file; a bundle of ours has a thousandth of it


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """One detector as plain values.

    Attributes:
        texture: Name of the texture it was made for.
        method: Which system it is, `fcbigan` or a baseline's name.
        config: The method's configuration, field by field.
        preprocessing: `mode` (L or RGB) and `scale` (the factor applied to both sides of an image).
        calibration: Statistics of the losses on good pixels, and the score made of them.
        threshold: `value`, `false_alarm_rate`, `set_on`, `rule` and `images` it was set from.
        metrics: Figures by split: `val_pixel_ap`, `test_pixel_ap` and so on.
        data: `fingerprint`, `licence`, `split_seed`, `fit` (keys of the pictures it has seen).
        made_by: Versions, seed and seconds.
        weights: Every tensor of the method, by name.
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
    weights: dict[str, Tensor]


def with_metrics(bundle: Bundle, metrics: Mapping[str, float]) -> Bundle:
    """Return the same detector with these figures added to its card."""
    return replace(bundle, metrics={**bundle.metrics, **metrics})


def save(bundle: Bundle, folder: Path) -> str:
    """Write a bundle so that a reader sees the old one or the new one, and return its digest.

    Args:
        bundle: What to write.
        folder: Where; made if it is not there.

    Raises:
        StorageError: The disk is full or the folder is read-only; an older bundle there is kept.
    """
    blob = save_tensors({name: tensor.contiguous() for name, tensor in bundle.weights.items()})
    card = {"format": FORMAT} | {
        field.name: getattr(bundle, field.name)
        for field in fields(Bundle)
        if field.name != "weights"
    }
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
    """Read a bundle and check every byte of it against its hashes.

    Raises:
        BundleError: A file is missing, damaged, not JSON, or of a newer format.
    """
    card, blob = _verified(folder)
    try:
        found = Bundle(**card, weights=load_tensors(blob))
    except (SafetensorError, TypeError, ValueError, KeyError) as error:
        raise BundleError(
            f"The bundle {folder} cannot be opened: {error}. Fetch or promote it again."
        ) from error
    kinds = {"texture": str, "method": str} | dict.fromkeys(_DICTS, dict)
    wrong = [name for name, kind in kinds.items() if not isinstance(getattr(found, name), kind)]
    wrong += [name for name, tensor in found.weights.items() if not tensor.isfinite().all()]
    if wrong:
        raise BundleError(
            f"The bundle {folder} cannot be used: {', '.join(wrong[:3])} is not what it should be "
            "(a weight must be a finite number). Fetch or promote it again."
        )
    return found


def digest(folder: Path) -> str:
    """Check both files and return the SHA-256 of `bundle.json`, which names the whole bundle.

    Raises:
        BundleError: A file is missing or damaged.
    """
    _verified(folder)
    return hashlib.sha256((folder / CARD).read_bytes()).hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file in one step, through a neighbour that is flushed to the disk first."""
    write_all({path: content})


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Replace files, each in one step, and none of them before all are flushed to the disk."""
    parts = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in contents}
    try:
        for path, content in contents.items():
            with parts[path].open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, part in parts.items():
            part.replace(path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def storage_error(what: str, error: OSError) -> StorageError:
    """Say in the user's words why something could not be written, and what to do."""
    where = error.filename or "the disk"
    advice = {
        errno.ENOSPC: "the disk is full; free some space, then run the same command again",
        errno.EROFS: "the file system is read-only; set ZOO_HOME to a folder that can be written",
        errno.EACCES: "permission denied; set ZOO_HOME to a folder that can be written",
        errno.EPERM: "permission denied; set ZOO_HOME to a folder that can be written",
        errno.EFBIG: "the file grew beyond the limit set for files; raise it (ulimit -f)",
        errno.ENOTDIR: "a file is in the way of a folder; set ZOO_HOME to another folder",
    }.get(error.errno or 0, f"{error.strerror or error}; see to it, then run the command again")
    return StorageError(f"{what}: {where}: {advice}.")


_DICTS = ("config", "preprocessing", "calibration", "threshold", "metrics", "data", "made_by")


def _text(card: Mapping[str, Any]) -> bytes:
    return json.dumps(card, indent=1, sort_keys=True, allow_nan=False).encode()


def _card_hash(card: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(card)).hexdigest()


def _verified(folder: Path) -> tuple[dict[str, Any], bytes]:
    try:
        text, blob = (_content(folder / name) for name in (CARD, WEIGHTS))
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
        raise BundleError(f"The bundle {folder} cannot be read: {error}.") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"{folder / CARD} is damaged: {error}. Fetch or promote the detector again."
        ) from error
    found, said = card.get("format"), card.pop("card_sha256", None)
    if found == FORMAT and not (same_text and said == _card_hash(card)):
        raise BundleError(
            f"{folder / CARD} is damaged: its own SHA-256 does not fit its content. "
            "Fetch or promote the detector again."
        )
    card.pop("format", None)
    if found != FORMAT:
        raise BundleError(
            f"The bundle {folder} has format {found}; this version reads {FORMAT}. "
            "Update texture-zoo."
        )
    asked, real = card.pop("weights_sha256", None), hashlib.sha256(blob).hexdigest()
    if asked != real:
        raise BundleError(
            f"{folder / WEIGHTS} is damaged: its SHA-256 should be {asked} and is {real}. "
            "Fetch or promote the detector again."
        )
    return card, blob


def _content(path: Path) -> bytes:
    """Read a file that is one, and not too large to be of a bundle."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES[path.name]:
        raise BundleError(
            f"{path} is no file of a bundle: it should be a plain file of at most "
            f"{MOST_BYTES[path.name] / 1e6:.0f} MB. Fetch or promote the detector again."
        )
    return path.read_bytes()
