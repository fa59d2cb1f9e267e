"""The configuration of a method as flat values by name: read, built, changed and checked.

A method may group its fields in dataclasses. Outside of the method they are one flat mapping, with
the names of the search space and of the bundle.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from zoo.errors import BundleError, ConfigError, did_you_mean
from zoo.methods.protocol import Method

LARGEST = 10**15  # whole number that a field may have
LARGEST_PATCH = 4096  # pixels, of a bundle; the sizes of layers grow with its square
DERIVED = "derived"  # metadata of a field that depends on others and that users cannot set
_Part = TypeVar("_Part")


def flat(part: object) -> dict[str, Any]:
    """Return the fields of a method by name, with the fields of its nested dataclasses."""
    found: dict[str, Any] = {}
    for field in _fields(part):
        value = getattr(part, field.name)
        found |= flat(value) if is_dataclass(value) else {field.name: value}
    return found


def built(cls: type[_Part], values: Mapping[str, Any]) -> _Part:
    """Build a method from a full or partial configuration; missing fields have their default.

    Raises:
        ConfigError: A value is out of its range.
        TypeError: A name is unknown.
    """
    rest, own = dict(values), {}
    for field in _fields(cls):
        part = _part(field)
        if part is not None:
            names = flat(part())
            own[field.name] = built(part, {k: rest.pop(k) for k in names if k in rest})
        elif field.name in rest:
            own[field.name] = rest.pop(field.name)
    return cls(**own, **rest)


def settable(method: Method | type[Method]) -> list[str]:
    """Return the names of the fields that a search or a user may set."""
    return [name for name, field in _leaves(method) if not field.metadata.get(DERIVED)]


def changed(method: Method, values: Mapping[str, Any]) -> Method:
    """Return the method with these fields changed, and dependent fields adapted.

    Raises:
        ConfigError: A value does not have the type of its field, or is out of its range.
    """
    now = flat(method)
    new = now | {name: alike(name, value, now[name]) for name, value in values.items()}
    return built(type(method), type(method).adapted(new))


def check_fields(config: object, checks: Iterable[tuple[str, bool, str]]) -> None:
    """Refuse the first field whose value is not allowed.

    Args:
        config: The object with the fields.
        checks: For each field its name, whether its value is allowed, and the allowed values.

    Raises:
        ConfigError: A value is not allowed.
    """
    for name, allowed, rule in checks:
        if not allowed:
            raise ConfigError(f"{name} must be {rule}, not {getattr(config, name)}. Change it.")


def check_names(asked: Mapping[str, Any], known: list[str], *, of: str = "") -> None:
    """Refuse an unknown field.

    Args:
        asked: Values by name.
        known: The known names.
        of: Name of the method, for the message.

    Raises:
        ConfigError: A name is unknown; a similar name is suggested.
    """
    for name in asked:
        if name not in known:
            raise ConfigError(
                f"{of or 'The configuration'} has no setting '{name}'.{did_you_mean(name, known)} "
                f"It has {', '.join(known)}."
            )


def alike(name: str, value: Any, usual: Any) -> Any:
    """Return a value with the type of its field; an int is converted to a float.

    Raises:
        ConfigError: The value has another type.
    """
    kind = type(usual)
    takes = (int, float) if kind is float else kind
    right = isinstance(value, takes) and isinstance(value, bool) == (kind is bool)
    if right and isinstance(value, int):
        right = abs(value) <= LARGEST
    if not right or (kind is float and not math.isfinite(value)):
        kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
        raise ConfigError(
            f"{name} takes {kinds[kind]}, such as {json.dumps(usual)}, not {value!r:.40}. "
            "Change it."
        )
    return kind(value)


def check_weights(method: Method, weights: Mapping[str, Tensor], *, channels: int) -> None:
    """Check the tensors of a bundle against the shapes that the configuration implies.

    Raises:
        BundleError: The patch is larger than that of any picture, or a tensor is missing, unknown,
            empty, or of another shape or type.
    """
    if method.patch > LARGEST_PATCH:
        raise BundleError(f"its patch has {method.patch} pixels a side; {LARGEST_PATCH} may be")
    sizes: dict[str, int] = {}
    wanted = method.shapes(channels)
    if odd := sorted(wanted.keys() ^ weights.keys()):
        raise BundleError(
            f"{'it has no' if odd[0] in wanted else 'it has an unknown'} tensor '{odd[0]}'"
        )
    for name, shape in wanted.items():
        found = tuple(weights[name].shape)
        fits = len(found) == len(shape) and all(
            (sizes.setdefault(side, size) if isinstance(side, str) else side) == size
            for side, size in zip(shape, found, strict=True)
        )
        if not fits or 0 in found:
            implied = "x".join(str(sizes.get(str(side), side)) for side in shape)
            raise BundleError(
                f"tensor '{name}' has shape {'x'.join(map(str, found))}, and its configuration "
                f"implies {implied}"
            )
        # A batch norm counts; all other tensors are of real numbers.
        wanted_type = torch.int64 if name.endswith("num_batches_tracked") else torch.float32
        if weights[name].dtype != wanted_type:
            raise BundleError(
                f"tensor '{name}' is of type {weights[name].dtype}, and should be {wanted_type}"
            )


def _fields(part: object) -> tuple[Field[Any], ...]:
    return fields(part)  # type: ignore[arg-type]  # every method is a dataclass


def _part(field: Field[Any]) -> type[Any] | None:
    """Return the dataclass of a nested field; None for a plain field."""
    made = field.default_factory
    return made if isinstance(made, type) and is_dataclass(made) else None


def _leaves(part: object) -> Iterator[tuple[str, Field[Any]]]:
    for field in _fields(part):
        inner = _part(field)
        if inner is None:
            yield field.name, field
        else:
            yield from _leaves(inner)
