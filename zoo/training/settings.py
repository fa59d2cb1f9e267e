"""The settings of a training: a method with its fields, the scale and the rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from registry.bundle import Bundle
from zoo import methods
from zoo.data.preprocessing import Preprocessing
from zoo.errors import BundleError, ConfigError, did_you_mean
from zoo.methods import Method
from zoo.scoring.aggregation import Rule


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All values that a trial may vary.

    Attributes:
        method: The method with its fields.
        scale: Factor on both sides of a picture, applied first.
        rule: How losses become a score; None chooses one on *val*.
    """

    method: Method
    scale: float = 1.0
    rule: Rule | None = None

    def __post_init__(self) -> None:
        """Refuse a scale that is out of its range."""
        Preprocessing(mode="L", scale=self.scale)


def preset(name: str) -> Settings:
    """Return the preset of this name; docs/decisions.md has its source.

    Raises:
        ConfigError: There is no preset of this name.
    """
    if name not in methods.PRESETS:
        known = ", ".join(methods.PRESETS)
        raise ConfigError(
            f"There is no preset '{name}'; there is {known}.{did_you_mean(name, methods.PRESETS)}"
        )
    cls = methods.named(methods.PRESETS[name])
    values, rule = cls.presets[name]
    return Settings(method=methods.built(cls, values), rule=rule)


def field_names(method: str = methods.DEFAULT) -> list[str]:
    """Return the names of the fields that a search space for this method may use."""
    return [*methods.settable(methods.named(method)), "scale"]


def settings(values: Mapping[str, Any], *, method: str = methods.DEFAULT) -> Settings:
    """Return the settings with these values by name, and the defaults of the method otherwise.

    Raises:
        ConfigError: A name is unknown or a value out of its range.
    """
    return with_values(Settings(method=methods.named(method)()), values)


def with_values(base: Settings, values: Mapping[str, Any]) -> Settings:
    """Return the settings with these fields changed, and dependent fields adapted.

    Raises:
        ConfigError: A name is unknown, or a value has the wrong type or is out of its range.
    """
    name = methods.name_of(base.method)
    methods.check_names(values, field_names(name), of=name)
    own = {field: value for field, value in values.items() if field != "scale"}
    scale = methods.alike("scale", values.get("scale", base.scale), base.scale)
    return replace(base, method=methods.changed(base.method, own), scale=scale)


def settings_of(bundle: Bundle) -> Settings:
    """Return the settings that a bundle was trained with, to train it again.

    The rule is None, so that it is chosen on *val* again. A field that an older bundle does not
    have gets its default; a field that this version no longer has is left out.

    Raises:
        BundleError: The bundle does not have its settings, or a value is no longer allowed.
    """
    asked = bundle.made_by.get("settings")
    if not isinstance(asked, dict):
        raise BundleError(
            f"The bundle of '{bundle.texture}' is made by method '{bundle.method}' and does not "
            "hold the settings that it was trained with. Name one that `zoo search` or `zoo train` "
            "made."
        )
    written = asked | {"scale": bundle.preprocessing.get("scale", 1.0)}
    try:
        known = field_names(bundle.method)
        values = {name: value for name, value in written.items() if name in known}
        return settings(values, method=bundle.method)
    except ConfigError as error:
        raise BundleError(
            f"The settings of the bundle of '{bundle.texture}' cannot be read: {error} "
            "Train it again with this version."
        ) from error
