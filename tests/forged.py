"""Bundles whose author wishes us ill: hashes do not protect from an author, so all of them fit.

And values that nobody thinks of, to be put into what is read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import load as load_tensors

from registry.bundle import CARD, WEIGHTS

EDGES = (
    0, -0.0, 1e12, -1e12, 1.1e12, 1e300, -1e300, 3.4028235677973366e38, 1e38, 2**63, 10**400,
    -(10**400), 5e-324, 2.3e-308, 1e-45, -1e-40, 1e-19, 1e-21,
)  # fmt: skip
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
)
VALUES = ANYTHING | st.sampled_from((*EDGES, float("nan"), float("inf"), "\x1b[2J\n", "a" * 300))
Place = tuple[str | int, ...]


def signed(
    folder: Path, change: Callable[[dict[str, Any]], None], blob: bytes | None = None
) -> None:
    """Change a card, or the weights, and make all hashes fit."""
    card = json.loads((folder / CARD).read_bytes())
    if blob is not None:
        (folder / WEIGHTS).write_bytes(blob)
        card["weights_sha256"] = hashlib.sha256(blob).hexdigest()
    card.pop("card_sha256")
    change(card)
    text = json.dumps(card, indent=1, sort_keys=True).encode()
    card["card_sha256"] = hashlib.sha256(text).hexdigest()
    (folder / CARD).write_bytes(json.dumps(card, indent=1, sort_keys=True).encode())


def with_value(path: str, value: Any) -> Callable[[Path], None]:
    """Return what puts a value into a card, at `a.b.c`, and signs it."""

    def change(card: dict[str, Any]) -> None:
        *before, last = path.split(".")
        place = card
        for name in before:
            place = place[name]
        place[last] = value

    return lambda folder: signed(folder, change)


def with_values(values: Mapping[str, Any]) -> Callable[[Path], None]:
    """Return what puts several values into a card, one after the other."""

    def change(folder: Path) -> None:
        for path, value in values.items():
            with_value(path, value)(folder)

    return change


def in_part(at: int, path: str, value: Any) -> Callable[[Path], None]:
    """Return what puts a value into the card of a part of a fused bundle."""

    def change(folder: Path) -> None:
        parts = json.loads((folder / CARD).read_bytes())["parts"]
        *before, last = path.split(".")
        place = parts[at]
        for name in before:
            place = place[name]
        place[last] = value
        with_value("parts", parts)(folder)

    return change


def in_tail(**values: Any) -> Callable[[Path], None]:
    """Return what puts values into the first tail of a fused bundle."""

    def change(folder: Path) -> None:
        tails = json.loads((folder / CARD).read_bytes())["fusion"]["tails"]
        tails[0] |= values
        with_value("fusion.tails", tails)(folder)

    return change


def with_card(card: Mapping[str, Any]) -> Callable[[Path], None]:
    """Return what puts another card in its place, and signs it with the hash of the weights."""

    def change(old: dict[str, Any]) -> None:
        weights = old["weights_sha256"]
        old.clear()
        old.update(deepcopy(dict(card)), weights_sha256=weights)

    return lambda folder: signed(folder, change)


def with_weights(made: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Return what puts other weights into a bundle, and signs them."""
    return lambda folder: signed(folder, lambda card: None, made((folder / WEIGHTS).read_bytes()))


def torch_weights(blob: bytes) -> dict[str, torch.Tensor]:
    """Read weights."""
    return dict(load_tensors(blob))


def afresh(sound: Path, name: str) -> Path:
    """Return a copy of the good bundle in place of the last one of this name."""
    return Path(shutil.copytree(sound, sound.with_name(name), dirs_exist_ok=True))


def mutated(document: Any) -> st.SearchStrategy[Any]:
    """Draw a document of JSON with up to three of its values changed, removed, doubled or moved."""
    places = sorted(_places(document), key=str)
    change = st.tuples(st.sampled_from(places), st.sampled_from(sorted(WAYS)), VALUES)
    return st.lists(change, min_size=1, max_size=3).map(partial(_changed, document))


def _places(document: Any, at: Place = ()) -> Iterator[Place]:
    inner = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in inner:
        yield (*at, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*at, key))


def _remove(inside: Any, key: Any, value: Any) -> None:
    del inside[key]


def _replace(inside: Any, key: Any, value: Any) -> None:
    inside[key] = value


def _wrap(inside: Any, key: Any, value: Any) -> None:
    inside[key] = [inside[key], value]


def _double(inside: Any, key: Any, value: Any) -> None:
    if isinstance(inside, list):
        inside.insert(key, inside[key])
    else:
        inside[str(value)] = inside[key]


def _as_text(inside: Any, key: Any, value: Any) -> None:
    inside[key] = str(inside[key])


WAYS = {
    "removed": _remove,
    "replaced": _replace,
    "wrapped": _wrap,
    "doubled": _double,
    "as text": _as_text,
}


def _changed(document: Any, changes: list[tuple[Place, str, Any]]) -> Any:
    changed = deepcopy(document)
    for place, way, value in changes:
        inside = changed
        try:
            for key in place[:-1]:
                inside = inside[key]
            WAYS[way](inside, place[-1], value)
        except (LookupError, TypeError):  # an earlier change took the place away
            continue
    return changed
