"""A search space fitted to the images and the time budget, as distributions of Ray Tune."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ray import tune

from search_spaces import Choice, Field, Integer, LogUniform, Space, Uniform
from zoo.errors import BadImageError, SpaceError

SMALL = 512  # pixels; images of a material that are smaller have often been reduced
# What matters most and has no best value for all textures, the most important first.
TRIED_FIRST = (
    "pretrained",
    "width",
    "placebo_share",
    "scale",
    "variation",
    "patch",
    "restoration",
    "faintest_defect",
)


def parameter_space(space: Space) -> dict[str, Any]:
    """Return the distributions of Ray Tune for a space; fixed values stay as they are.

    Raises:
        SpaceError: Every field is fixed.
    """
    domains = {name: _domain(field) for name, field in space.fields.items()}
    if domains == dict(space.fields):
        raise SpaceError(
            f"Space '{space.name}' ({space.path}) fixes every field, so there is nothing to search "
            "for. Give a field a range, or make this one detector with `zoo train`."
        )
    return domains


def fitting(space: Space, smallest_side: int, *, widen: bool = False) -> tuple[Space, str]:
    """Remove the scales and patches that the smallest image is too small for.

    A scale stays if the median of the patches fits into the image at that scale; if none stays,
    the largest does. A patch stays if it fits at every scale that stays.

    Args:
        space: A space in which `scale` or `patch` is a range is returned as it is.
        smallest_side: Of all good images, in pixels.
        widen: Add full size to the scales if the images are small: the scales of the bundled
            spaces are meant for images of about 1000 pixels.

    Returns:
        The space, and a line for the user that says what is left; empty if nothing changed.

    Raises:
        BadImageError: Not even the smallest patch fits at the largest scale.
    """
    scales, patches = (_options(space.fields.get(name)) for name in ("scale", "patch"))
    if not scales or not patches:
        return space, ""
    small = widen and smallest_side < SMALL
    wide = [*scales, 1.0] if small and 1.0 not in scales else scales
    middle = sorted(patches)[len(patches) // 2]
    kept = [each for each in wide if round(smallest_side * each) >= middle] or [max(wide)]
    fit = [each for each in patches if each <= round(smallest_side * min(kept))]
    if not fit:
        raise BadImageError(
            f"The smallest good picture (or region of one) has a side of {smallest_side} pixels; "
            f"space '{space.name}' needs {min(patches) / max(wide):.0f} for its smallest patch. "
            "Use larger pictures, or a space of your own with --space."
        )
    if kept == scales and fit == patches:
        return space, ""
    chosen = {"scale": Choice(values=tuple(kept)), "patch": Choice(values=tuple(map(int, fit)))}
    note = (
        f"The smallest good picture has a side of {smallest_side} pixels, so scale is one of "
        f"{kept} and patch one of {fit}."
    )
    return replace(space, fields={**space.fields, **chosen}), note


def first_trials(space: Space, earlier: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """Return the parameters to begin with; a sampler knows nothing yet, but the space's author did.

    The first trial has the middle of every range and the first value of every choice. Then come
    those of earlier searches. Each of the others has the next value of one choice of the first
    trial instead, of those in `TRIED_FIRST`.

    Args:
        space: The space.
        earlier: Settings that were good; what lies outside of the space is as in the first trial.
    """
    start: dict[str, Any] = {}
    for name, field in space.fields.items():
        match field:
            case Choice():
                start[name] = field.values[0]
            case Integer():
                start[name] = (field.low + field.high) // 2
            case LogUniform():
                start[name] = math.sqrt(field.low * field.high)
            case Uniform():
                start[name] = (field.low + field.high) / 2
    known = [
        start | {name: each[name] for name in start if _within(space.fields[name], each.get(name))}
        for each in earlier
    ]
    trials = [start, *(each for each in known if each != start)]
    for name in TRIED_FIRST:
        field = space.fields.get(name)
        if isinstance(field, Choice) and len(field.values) > 1:
            trials.append(start | {name: field.values[1]})
    return trials


def starting_with(space: Space, name: str, value: float | int | str) -> Space:
    """Return the space with this value first in a choice; nothing changes without such a choice."""
    field = space.fields.get(name)
    if not isinstance(field, Choice) or value not in field.values:
        return space
    values = (value, *(each for each in field.values if each != value))
    return replace(space, fields={**space.fields, name: Choice(values=values)})


def _within(field: Field, value: Any) -> bool:
    match field:
        case Choice(values=values):
            return value in values
        case Uniform(low=low, high=high) | LogUniform(low=low, high=high):
            return isinstance(value, int | float) and low <= value <= high
        case Integer(low=low, high=high):
            return isinstance(value, int) and low <= value <= high
    return False


def _domain(field: Any) -> Any:
    match field:
        case Uniform(low=low, high=high):
            return tune.uniform(low, high)
        case LogUniform(low=low, high=high):
            return tune.loguniform(low, high)
        case Integer(low=low, high=high):
            return tune.randint(low, high + 1)
        case Choice(values=values):
            return tune.choice(list(values))
        case _:
            return field


def _options(field: Any) -> list[float | int]:
    if isinstance(field, Choice):
        return [value for value in field.values if isinstance(value, int | float)]
    return [field] if isinstance(field, int | float) else []
