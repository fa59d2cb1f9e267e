"""The search spaces: one YAML file for each known texture, and `default.yaml` for any other.

This package reads and checks the files. The caller says which names a space may have. A search
turns the distributions into those of Ray Tune.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import Repr
from types import MappingProxyType

import yaml
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError, model_validator

from zoo.errors import SpaceError, did_you_mean, one_line
from zoo.files import TEXT, read_regular

__all__ = [
    "BUNDLED",
    "DEFAULT",
    "Choice",
    "Field",
    "Integer",
    "LogUniform",
    "Space",
    "Uniform",
    "Value",
    "load",
    "load_file",
    "names",
]

BUNDLED = Path(__file__).parent
DEFAULT = "default"
MOST_LETTERS = 80  # of a name that is compared with known ones
_BRIEF = Repr()  # of what a file holds, for a message
_BRIEF.maxlevel = 2

Value = bool | int | float | str | None


class _Distribution(BaseModel):
    """A distribution. Strict: neither `true` nor `"3"` is read as a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Uniform(_Distribution):
    """A number between `low` and `high`."""

    low: FiniteFloat
    high: FiniteFloat

    @model_validator(mode="after")
    def _is_not_empty(self) -> Uniform:
        _refuse_empty(self.low, self.high)
        return self


class LogUniform(_Distribution):
    """A positive number between `low` and `high`, whose logarithm is distributed uniformly."""

    low: FiniteFloat
    high: FiniteFloat

    @model_validator(mode="after")
    def _is_positive_and_not_empty(self) -> LogUniform:
        if self.low <= 0:
            raise ValueError(f"a log_uniform range begins above 0, not at {self.low}")
        _refuse_empty(self.low, self.high)
        return self


class Integer(_Distribution):
    """An integer from `low` to `high`, both included."""

    low: int
    high: int

    @model_validator(mode="after")
    def _is_not_empty(self) -> Integer:
        _refuse_empty(self.low, self.high)
        return self


class Choice(_Distribution):
    """One of `values`; the first trial of a search uses the first."""

    values: tuple[Value, ...]

    @model_validator(mode="after")
    def _is_not_empty(self) -> Choice:
        if not self.values:
            raise ValueError("there is nothing to choose from")
        return self


Distribution = Uniform | LogUniform | Integer | Choice
Field = Distribution | Value


@dataclass(frozen=True, kw_only=True)
class Space:
    """A search space.

    Attributes:
        name: Stem of the file: a texture, or `default` for a texture without a file.
        path: The file.
        fields: Field name to distribution, or to a fixed value.
    """

    name: str
    path: Path
    fields: Mapping[str, Field]


def names(folder: Path = BUNDLED) -> list[str]:
    """Return the textures that have a file, in alphabetical order.

    Example:
        >>> names()
        ['carpet', 'grid', 'leather', 'nanofibres', 'tile', 'wood']
    """
    return sorted(path.stem for path in folder.glob("*.yaml") if path.stem != DEFAULT)


def load(texture: str, *, known: Collection[str], folder: Path = BUNDLED) -> Space:
    """Read the space of a texture, or the default one for a texture without a file.

    Args:
        texture: Name of the texture.
        known: Names of the fields that a space may hold.
        folder: Where the files are.

    Raises:
        SpaceError: As for `load_file`.

    Example:
        >>> known = ["patch", "scale", "depth", "discriminator_depth", "width", "batch"]
        >>> load("my_fabric", known=known)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        zoo.errors.SpaceError: ...default.yaml: 'rotations' is no field of a configuration...
    """
    name = texture if texture in names(folder) else DEFAULT
    return load_file(folder / f"{name}.yaml", known=known)


def load_file(path: Path, *, known: Collection[str]) -> Space:
    """Read and check the file of a space.

    Args:
        path: The YAML file.
        known: Names of the fields that a space may hold.

    Raises:
        SpaceError: The file cannot be read or is no YAML, a field is given twice or is not
            `known`, or a range or choice is empty.
    """
    fields: dict[str, Field] = {}
    for name, body in _read(path).items():
        if name not in known:
            raise SpaceError(
                f"{path}: {_BRIEF.repr(name)} is no field of a configuration."
                f"{did_you_mean(str(name)[:MOST_LETTERS], known)} The fields are "
                f"{', '.join(sorted(known))}."
            )
        try:
            fields[str(name)] = _parse_field(body)
        except ValueError as error:
            reason = f"{_reason(error)} (found {_BRIEF.repr(body)})"
            raise SpaceError(f"{path}: field {name!r}: {reason}") from error
    return Space(name=path.stem, path=path, fields=MappingProxyType(fields))


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a repeated key is an error and 1e-4 is a number.

    PyYAML keeps the last of two equal keys. It follows YAML 1.1 and reads 1e-4 as text.
    """


def _mapping_without_repeats(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, object]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    repeated = next((key for index, key in enumerate(keys) if key in keys[:index]), None)
    if repeated is not None:
        raise yaml.MarkedYAMLError(
            problem=f"{repeated!r} is given twice", problem_mark=node.start_mark
        )
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_repeats)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _read(path: Path) -> Mapping[Hashable, object]:
    try:
        content = yaml.load(read_regular(path, most=TEXT).decode("utf-8"), _Loader)
    except OSError as error:
        raise SpaceError(f"{path}: cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError, LookupError, RecursionError) as error:
        raise SpaceError(f"{path}: is no YAML: {one_line(error)}") from error
    if not isinstance(content, dict) or not content:
        raise SpaceError(
            f"{path}: a space is lines of `field: distribution`, found {_BRIEF.repr(content)}."
        )
    return content


def _parse_field(body: object) -> Field:
    if body is None or isinstance(body, bool | int | float | str):
        return body
    if not isinstance(body, dict) or len(body) != 1:
        raise ValueError("a field is a plain value, or one distribution such as {integer: [2, 4]}")
    kind, content = next(iter(body.items()))
    if kind not in _KINDS:
        raise ValueError(
            f"{kind!r} is no distribution; there are {', '.join(_KINDS)}."
            f"{did_you_mean(str(kind), _KINDS)}"
        )
    if not isinstance(content, list):
        raise ValueError(f"{kind} takes a list such as [1, 2]")
    return _KINDS[kind](content)


def _range(content: list[object]) -> dict[str, object]:
    if len(content) != 2:
        raise ValueError(f"a range has two ends, [low, high], not {len(content)}")
    return {"low": content[0], "high": content[1]}


_KINDS: Mapping[str, Callable[[list[object]], Distribution]] = {
    "uniform": lambda content: Uniform.model_validate(_range(content)),
    "log_uniform": lambda content: LogUniform.model_validate(_range(content)),
    "integer": lambda content: Integer.model_validate(_range(content)),
    "choice": lambda content: Choice.model_validate({"values": tuple(content)}),
}


def _refuse_empty(low: int | float, high: int | float) -> None:
    if low >= high:
        raise ValueError(f"the range from {low} to {high} is empty")


def _reason(error: ValueError) -> str:
    """Return pydantic's report, which has several lines, as one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    found = _BRIEF.repr(first["input"])  # lists that name each other have no end
    return first["msg"].removeprefix("Value error, ").replace("Input", found, 1)
