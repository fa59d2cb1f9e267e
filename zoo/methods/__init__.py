"""The methods of anomaly detection, which all follow one protocol.

A method is found by its name, which a bundle holds, and imported when it is first used. The package
itself has a fast import, because help texts list the methods.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from zoo.errors import ConfigError, did_you_mean
from zoo.methods.table import DEFAULT, METHODS, PRESETS, in_words, names

if TYPE_CHECKING:
    from zoo.methods.configuration import (
        alike,
        built,
        changed,
        check_names,
        check_weights,
        flat,
        settable,
    )
    from zoo.methods.protocol import Losses, Method, Progress, Report, Shape

__all__ = [
    "DEFAULT",
    "METHODS",
    "PRESETS",
    "Losses",
    "Method",
    "Progress",
    "Report",
    "Shape",
    "Weights",
    "alike",
    "built",
    "changed",
    "check_names",
    "check_weights",
    "flat",
    "in_words",
    "name_of",
    "named",
    "names",
    "settable",
]


def named(name: str) -> type[Method]:
    """Import and return the class of a method.

    Raises:
        ConfigError: There is no method of that name.
    """
    if name not in METHODS:
        raise ConfigError(
            f"There is no method '{name}'; there are {', '.join(METHODS)}."
            f"{did_you_mean(name, METHODS)}"
        )
    module, _, cls = METHODS[name].partition(":")
    return cast("type[Method]", getattr(import_module(module), cls))


def name_of(method: Method) -> str:
    """Return the name of a method in `METHODS`."""
    place = f"{type(method).__module__}:{type(method).__qualname__}"
    return next(name for name, at in METHODS.items() if at == place)


def __getattr__(name: str) -> Any:
    """Import the protocol and the configuration, and torch with them, when they are first used."""
    if name in __all__:
        for module in ("protocol", "configuration"):
            found = import_module(f"zoo.methods.{module}")
            if hasattr(found, name):
                return getattr(found, name)
    raise AttributeError(f"module 'zoo.methods' has no attribute '{name}'")
