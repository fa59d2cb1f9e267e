"""The data sets that can be fetched: `sets.yaml`, and files of the same form, read and checked."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from registry.names import checked_name
from zoo.data.fetch.arrange import ARRANGEMENTS
from zoo.errors import ConfigError, did_you_mean, one_line
from zoo.files import TEXT, read_regular
from zoo.https import check_address

BUNDLED = Path(__file__).with_name("sets.yaml")
ALL = "all"  # of the archives, the one with everything; of `--only`, all names

Line = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$")]
Names = tuple[Line, ...]


class _Strict(BaseModel):
    """What has no unknown field, and no number or text in place of the other."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _listed(value: object) -> object:
    """Return one or several addresses, as YAML has them, as a tuple."""
    return tuple(value) if isinstance(value, list) else (value,)


class Archive(_Strict):
    """A file that can be downloaded.

    Attributes:
        url: Addresses of the same file; the first that answers is used.
        sha256: Of its content; None if it is not known.
        bytes: Its size, which may be rounded; None if it is not known.
    """

    url: Annotated[tuple[Line, ...], BeforeValidator(_listed), Field(min_length=1)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    bytes: Annotated[int, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _has_addresses(self) -> Archive:
        for each in self.url:
            try:
                check_address(each, plain=True)
            except ConfigError as error:
                raise ValueError(str(error)) from error
        return self


class DataSet(_Strict):
    """A data set that can be fetched.

    Attributes:
        title: Its name as its authors write it.
        licence: In one line.
        terms: What else its authors ask for.
        page: Where a person finds it.
        citation: What to cite.
        textures: The textures it has; each becomes a folder of that name.
        others: What else it has, such as objects.
        archives: By name of what they hold; `all` holds everything.
        arrange: How its folders become a layout that the zoo reads.
        skip: Patterns of paths in the archives that are left out.
    """

    title: Line
    licence: Line
    terms: Line = "None stated."
    page: Line
    citation: Line
    textures: Annotated[Names, Field(strict=False, min_length=1)]
    others: Annotated[Names, Field(strict=False)] = ()
    archives: dict[str, Archive]
    arrange: Line = "as-is"
    skip: Annotated[Names, Field(strict=False)] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> DataSet:
        for name in self.names:
            try:
                checked_name(name)
            except ConfigError as error:
                raise ValueError(str(error)) from error
        if ALL in self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"a name is given twice, or is '{ALL}'")
        if unknown := set(self.archives) - {*self.names, ALL}:
            raise ValueError(f"its archives have names that it does not: {sorted(unknown)}")
        if ALL not in self.archives and set(self.archives) < set(self.names):
            raise ValueError("not every name has an archive, and there is none of all")
        if self.arrange not in ARRANGEMENTS:
            raise ValueError(f"'{self.arrange}' is none of {', '.join(ARRANGEMENTS)}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The textures and the others."""
        return (*self.textures, *self.others)

    def sources(self, names: Sequence[str], *, unverified: bool) -> dict[str, tuple[str, ...]]:
        """Return which archives to take some names from, and which names from each.

        An archive of its own is smaller than that of all, which is taken if its SHA-256 is known
        and that of the smaller one is not.

        Args:
            names: What is wanted.
            unverified: Whether archives are taken whose SHA-256 is not known.
        """
        own = all(name in self.archives for name in names)
        known = own and all(self.archives[name].sha256 for name in names)
        if ALL in self.archives:
            everything = set(names) == set(self.names)
            if everything or not own or (not known and not unverified):
                return {ALL: tuple(names)}
        return {name: (name,) for name in names}

    def size(self, names: Sequence[str]) -> int | None:
        """Return the bytes to download for some names, about; None if they are not known."""
        sizes = [self.archives[each].bytes for each in self.sources(names, unverified=False)]
        return None if None in sizes else sum(filter(None, sizes))


def load(extra: Path | None = None) -> dict[str, DataSet]:
    """Return the data sets by name, those of another file after our own.

    Args:
        extra: A file of the same form; its sets come before ours of the same name.

    Raises:
        ConfigError: A file cannot be read, is no YAML, or a set in it is not valid.
    """
    found = _read(BUNDLED)
    return found | _read(extra) if extra else found


def named(sets: dict[str, DataSet], name: str) -> DataSet:
    """Return a data set.

    Raises:
        ConfigError: There is none of that name; near names are offered.
    """
    if name not in sets:
        raise ConfigError(
            f"There is no data set '{name}' to fetch; there is {', '.join(sets)}."
            f"{did_you_mean(name, sets)}"
        )
    return sets[name]


def chosen(dataset: DataSet, only: Sequence[str]) -> tuple[str, ...]:
    """Return what is to be fetched of a data set: what is named, all of it, or its textures.

    Raises:
        ConfigError: It has no such thing; near names are offered.
    """
    if ALL in only:
        return dataset.names
    for name in only:
        if name not in dataset.names:
            raise ConfigError(
                f"{dataset.title} has no '{name}'; it has {', '.join(dataset.names)}."
                f"{did_you_mean(name, dataset.names)}"
            )
    return tuple(dict.fromkeys(only)) or dataset.textures


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a repeated key is an error; PyYAML keeps the last of two."""


def _mapping_without_repeats(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    repeated = next((key for at, key in enumerate(keys) if key in keys[:at]), None)
    if repeated is not None:
        raise yaml.MarkedYAMLError(
            problem=f"{repeated!r} is given twice", problem_mark=node.start_mark
        )
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_repeats)


def _read(path: Path) -> dict[str, DataSet]:
    try:
        content = yaml.load(read_regular(path, most=TEXT).decode("utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. Correct it.") from error
    except (yaml.YAMLError, ValueError, LookupError, RecursionError, TypeError) as error:
        raise ConfigError(f"{path} is no YAML: {one_line(error)}. Correct it.") from error
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{path} has no data sets: it should have `name: {{title: ...}}`.")
    found: dict[str, DataSet] = {}
    for name, body in content.items():
        try:
            found[checked_name(str(name))] = DataSet.model_validate(body)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            why = first["msg"].removeprefix("Value error, ")
            raise ConfigError(
                f"{path}: the data set '{name}', {where}: {one_line(why)}."
            ) from error
    return found
