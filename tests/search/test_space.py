"""A search space as distributions of Ray Tune, fitted to the images and the time."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray import tune

from search_spaces import Choice, Field, Integer, LogUniform, Space, Uniform
from tests.search.tiny_searches import space
from zoo.errors import BadImageError
from zoo.search.space import first_trials, fitting, parameter_space, starting_with


def test_a_space_becomes_rays_distributions_and_fixed_values_stay() -> None:
    found = parameter_space(
        Space(
            name="s",
            path=Path("s.yaml"),
            fields={
                "a": Uniform(low=0.0, high=1.0),
                "b": LogUniform(low=1e-4, high=1e-2),
                "c": Integer(low=2, high=3),
                "d": Choice(values=(8, 16)),
                "e": "batch",
            },
        )
    )
    assert isinstance(found["a"], tune.search.sample.Float)
    draws = {name: {found[name].sample() for _ in range(64)} for name in "abcd"}
    assert all(0 <= value < 1 for value in draws["a"])
    assert all(1e-4 <= value < 1e-2 for value in draws["b"])
    assert sum(value < 1e-3 for value in draws["b"]) > 16, "half of the decades, not of the range"
    assert draws["c"] == {2, 3}
    assert draws["d"] == {8, 16}
    assert found["e"] == "batch"


SCALES, PATCHES = (0.25, 0.5, 1.0), (16, 32, 64)


def sizes(field: Field) -> list[float]:
    """Return the numbers that a field chooses from."""
    assert isinstance(field, Choice)
    assert field.values
    return [value for value in field.values if isinstance(value, int | float)]


@pytest.mark.parametrize("side", [16, 24, 40, 64, 100, 128, 200, 255, 256, 1000])
def test_whatever_is_left_of_a_space_fits_the_smallest_image(side: int) -> None:
    wide = space(scale=Choice(values=SCALES), patch=Choice(values=PATCHES))
    narrow, note = fitting(wide, side)
    scales, patches = (sizes(narrow.fields[name]) for name in ("scale", "patch"))
    assert round(side * min(scales)) >= max(patches)
    assert set(scales) <= set(SCALES)
    assert set(patches) <= set(PATCHES)
    assert {k: v for k, v in narrow.fields.items() if k not in ("scale", "patch")} == {
        k: v for k, v in wide.fields.items() if k not in ("scale", "patch")
    }
    assert (note == "") == (narrow == wide) == (round(side / 4) >= 64)


def test_a_space_that_was_narrowed_says_to_what() -> None:
    wide = space(scale=Choice(values=SCALES), patch=Choice(values=PATCHES))
    _, note = fitting(wide, 100)
    assert note == (
        "The smallest good picture has a side of 100 pixels, so scale is one of [0.5, 1.0] and "
        "patch one of [16, 32]."
    )


def test_an_image_smaller_than_the_smallest_patch_is_refused_with_both_sizes() -> None:
    wide = space(scale=Choice(values=(0.25, 0.5)), patch=Choice(values=PATCHES))
    with pytest.raises(BadImageError, match=r"side of 30 pixels; space 'tiny' needs 32 .*--space"):
        fitting(wide, 30)
    assert fitting(wide, 32)[0].fields["patch"] == Choice(values=(16,))


def test_small_images_are_tried_at_full_size_too_unless_the_space_is_the_users_own() -> None:
    wide = space(scale=Choice(values=(0.25, 0.5)), patch=Choice(values=PATCHES))
    found, note = fitting(wide, 256, widen=True)
    assert sizes(found.fields["scale"]) == [0.25, 0.5, 1.0]
    assert "scale is one of [0.25, 0.5, 1.0]" in note
    assert fitting(wide, 256) == (wide, "")
    assert fitting(wide, 1024, widen=True) == (wide, "")


def test_a_space_without_scale_or_patch_is_left_alone() -> None:
    plain = Space(name="plain", path=Path("p.yaml"), fields={"width": 4})
    assert fitting(plain, 10) == (plain, "")


def test_a_search_begins_with_the_middle_of_its_ranges_and_the_first_of_its_choices() -> None:
    wide = space(
        patch=Choice(values=(64, 48)),
        width=Integer(low=12, high=24),
        learning_rate=LogUniform(low=1e-4, high=1e-2),
        ema=Uniform(low=0.5, high=0.9),
        batch=16,
    )
    start, other = first_trials(wide)
    assert other == start | {"patch": 48}
    assert start == {
        "patch": 64,
        "width": 18,
        "learning_rate": pytest.approx(1e-3),
        "ema": pytest.approx(0.7),
    }


def test_a_value_can_be_put_first_in_a_choice() -> None:
    wide = space(patch=Choice(values=(64, 48)), width=Integer(low=12, high=24))
    assert starting_with(wide, "patch", 48).fields["patch"] == Choice(values=(48, 64))
    assert starting_with(wide, "patch", 32) == wide, "it is none of the values"
    assert starting_with(wide, "width", 12) == wide, "it is no choice"


def test_a_search_tries_early_what_earlier_ones_chose_within_its_own_space() -> None:
    wide = space(patch=Choice(values=(64, 48)), width=Integer(low=12, high=24), batch=16)
    good = {"patch": 32, "width": 20, "batch": 8, "unknown": 1}
    trials = first_trials(wide, [good, {"width": 99}])
    assert trials == [
        {"patch": 64, "width": 18},
        {"patch": 64, "width": 20},  # patch 32 is none of its values, batch is fixed
        {"patch": 48, "width": 18},
    ]
