"""A method's configuration as flat values by name: out, in, changed and checked.

A method's fields may be grouped in dataclasses of their own. Outside of the method they are one
flat mapping, as a search space names them and a bundle carries them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from typing import Any, TypeVar

from torch import Tensor

from zoo.errors import BundleError, ConfigError, did_you_mean
from zoo.methods.protocol import Method

DERIVED = "derived"  # metadata of a field that follows from others and is not for users to set
_Part = TypeVar("_Part")


def flat(part: object) -> dict[str, Any]:
    """Return the fields of a method by name, those of its parts among them."""
    found: dict[str, Any] = {}
    for field in _fields(part):
        value = getattr(part, field.name)
        found |= flat(value) if is_dataclass(value) else {field.name: value}
    return found


def built(cls: type[_Part], values: Mapping[str, Any]) -> _Part:
    """Make a method of a full or partial configuration; what is missing has its default.

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
    """List the fields that a search or a user may set."""
    return [name for name, field in _leaves(method) if not field.metadata.get(DERIVED)]


def changed(method: Method, values: Mapping[str, Any]) -> Method:
    """Return the method with these fields changed, and what depends on them brought into line.

    Raises:
        ConfigError: A value is of another kind than its field, or out of its range.
    """
    now = flat(method)
    new = now | {name: alike(name, value, now[name]) for name, value in values.items()}
    return built(type(method), type(method).adapted(new))


def check_names(asked: Mapping[str, Any], known: list[str], *, of: str = "") -> None:
    """Refuse a field that there is not.

    Args:
        asked: Values by name.
        known: The names that there are.
        of: What they belong to, for the message.

    Raises:
        ConfigError: A name is unknown; near names are offered.
    """
    for name in asked:
        if name not in known:
            raise ConfigError(
                f"{of or 'The configuration'} has no setting '{name}'.{did_you_mean(name, known)} "
                f"It has {', '.join(known)}."
            )


def alike(name: str, value: Any, usual: Any) -> Any:
    """Return a value as the kind that its field has; a whole number will do for a float.

    Raises:
        ConfigError: It is of another kind.
    """
    kind = type(usual)
    takes = (int, float) if kind is float else kind
    right = isinstance(value, takes) and isinstance(value, bool) == (kind is bool)
    if not right or (kind is float and not math.isfinite(value)):
        said = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
        raise ConfigError(
            f"{name} takes {said[kind]}, such as {json.dumps(usual)}, not {value!r}. Change it."
        )
    return kind(value)


def check_weights(method: Method, weights: Mapping[str, Tensor], *, channels: int) -> None:
    """Compare the tensors of a bundle with the shapes that the configuration implies.

    Raises:
        BundleError: A tensor is missing, too many, of another shape, or not of numbers that the
            method computes with.
    """
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
            said = "x".join(str(sizes.get(str(side), side)) for side in shape)
            raise BundleError(
                f"tensor '{name}' has shape {'x'.join(map(str, found))}, and its configuration "
                f"implies {said}"
            )


def _fields(part: object) -> tuple[Field[Any], ...]:
    return fields(part)  # type: ignore[arg-type]  # every method is a dataclass


def _part(field: Field[Any]) -> type[Any] | None:
    """Return the dataclass that a field holds, if it holds one."""
    made = field.default_factory
    return made if isinstance(made, type) and is_dataclass(made) else None


def _leaves(part: object) -> Iterator[tuple[str, Field[Any]]]:
    for field in _fields(part):
        inner = _part(field)
        if inner is None:
            yield field.name, field
        else:
            yield from _leaves(inner)
