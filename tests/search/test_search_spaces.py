"""The files of the search spaces, and how a wrong file is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from search_spaces import (
    BUNDLED,
    DEFAULT,
    Choice,
    Field,
    Integer,
    LogUniform,
    Space,
    Uniform,
    Value,
    load,
    load_file,
    names,
)
from zoo.errors import SpaceError
from zoo.methods.fcbigan.method import FCBiGAN
from zoo.search.space import first_trials
from zoo.training.settings import field_names, settings

KNOWN = field_names()
TEXTURES = ["carpet", "grid", "leather", "nanofibres", "tile", "wood"]
BUNDLED_FILES = [*TEXTURES, DEFAULT]


def written(folder: Path, text: str) -> Path:
    path = folder / "fabric.yaml"
    path.write_text(text, "utf-8")
    return path


def possible(field: Field) -> list[Value]:
    """List what a field may be: each choice and whole number, or both ends of a range."""
    match field:
        case Choice(values=values):
            return list(values)
        case Integer(low=low, high=high):
            return list(range(low, high + 1))
        case Uniform(low=low, high=high) | LogUniform(low=low, high=high):
            return [low, high]
        case _:
            return [field]


def test_the_textures_of_both_data_sets_have_a_file_of_their_own() -> None:
    assert names() == TEXTURES


@pytest.mark.parametrize("name", BUNDLED_FILES)
def test_a_bundled_file_begins_with_why_its_ranges_are_so_and_what_a_gpu_allows(name: str) -> None:
    comment = (BUNDLED / f"{name}.yaml").read_text("utf-8").split("\n\n")[0]
    lines = comment.splitlines()
    assert len(lines) > 10
    assert all(line.startswith("#") for line in lines)
    assert all(word in comment for word in ("scale ", "patch ", "rotations ", "depth ", "On a GPU"))


@pytest.mark.parametrize("name", BUNDLED_FILES)
def test_all_files_vary_or_fix_the_same_fields(name: str) -> None:
    space = load(name, known=KNOWN)
    assert space.name == name
    assert set(space.fields) == set(load(DEFAULT, known=KNOWN).fields)


@pytest.mark.parametrize("name", BUNDLED_FILES)
def test_any_patch_and_depths_that_a_search_may_draw_fit_each_other(name: str) -> None:
    fields = load(name, known=KNOWN).fields
    first = {field: possible(fields[field])[0] for field in fields}
    together = ["patch", "depth", "discriminator_depth"]
    drawn = list(product(*(possible(fields[field]) for field in together)))
    assert len(drawn) >= 4
    for values in drawn:
        settings(first | dict(zip(together, values, strict=True)))


@pytest.mark.parametrize("name", BUNDLED_FILES)
def test_each_value_that_a_search_may_draw_is_in_its_range(name: str) -> None:
    fields = load(name, known=KNOWN).fields
    first = {field: possible(fields[field])[0] for field in fields}
    drawn = [{field: value} for field in fields for value in possible(fields[field])]
    assert len(drawn) > len(fields)
    for values in drawn:
        settings(first | values)


@pytest.mark.parametrize("name", ["carpet", "grid", "wood"])
def test_the_patches_of_a_directed_texture_are_never_rotated(name: str) -> None:
    assert load(name, known=KNOWN).fields["rotations"] is False


@pytest.mark.parametrize("name", BUNDLED_FILES)
def test_a_search_starts_from_pretrained_weights_and_then_the_same_from_random_ones(
    name: str,
) -> None:
    space = load(name, known=KNOWN)
    fixed = {key: each for key, each in space.fields.items() if isinstance(each, Value)}
    start, second = (settings(fixed | each).method for each in first_trials(space)[:2])
    assert isinstance(start, FCBiGAN)
    assert start.training.pretrained, "there are weights for the shape of the first trial"
    assert second == replace(start, training=replace(start.training, pretrained=False))


def test_a_texture_without_a_file_gets_the_default_and_the_space_says_so() -> None:
    space = load("my_fabric", known=KNOWN)
    assert space.name == DEFAULT
    assert space.path == BUNDLED / "default.yaml"


def test_the_name_of_a_texture_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    written(tmp_path, "patch: 32")
    (tmp_path / "inside" / "default.yaml").write_text("patch: 48", "utf-8")
    space = load("../fabric", known=KNOWN, folder=tmp_path / "inside")
    assert space.fields == {"patch": 48}


def test_each_kind_of_line_becomes_its_distribution(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "ema: {uniform: [0, 0.99]}\n"
        "learning_rate: {log_uniform: [1e-4, 1.0e-3]}\n"
        "depth: {integer: [2, 4]}\n"
        "discriminator_norm: {choice: [none, null, 2, true]}\n"
        "scale: 0.5\n",
    )
    assert load_file(path, known=KNOWN) == Space(
        name="fabric",
        path=path,
        fields={
            "ema": Uniform(low=0.0, high=0.99),
            "learning_rate": LogUniform(low=0.0001, high=0.001),
            "depth": Integer(low=2, high=4),
            "discriminator_norm": Choice(values=("none", None, 2, True)),
            "scale": 0.5,
        },
    )


def test_a_choice_keeps_the_type_of_each_value(tmp_path: Path) -> None:
    path = written(tmp_path, "scale: {choice: [1, 1.0, true]}")
    choice = load_file(path, known=KNOWN).fields["scale"]
    assert isinstance(choice, Choice)
    assert [type(value) for value in choice.values] == [int, float, bool]


def test_an_unknown_field_is_refused_with_the_file_and_the_near_name(tmp_path: Path) -> None:
    path = written(tmp_path, "pacth: 48")
    message = f"{path}: 'pacth' is no field of a configuration. Did you mean 'patch'?"
    with pytest.raises(SpaceError, match=re.escape(message)):
        load_file(path, known=KNOWN)


def test_an_unknown_distribution_is_refused_with_the_near_name(tmp_path: Path) -> None:
    path = written(tmp_path, "depth: {intger: [2, 4]}")
    with pytest.raises(SpaceError, match=r"'depth': 'intger' is no distribution.*'integer'"):
        load_file(path, known=KNOWN)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ema: {uniform: [0.9, 0.1]}", "'ema': the range from 0.9 to 0.1 is empty"),
        ("ema: {uniform: [0.5, 0.5]}", "'ema': the range from 0.5 to 0.5 is empty"),
        ("depth: {integer: [4, 2]}", "'depth': the range from 4 to 2 is empty"),
        ("patch: {choice: []}", "'patch': there is nothing to choose from"),
        ("ema: {log_uniform: [3, 2]}", "'ema': the range from 3.0 to 2.0 is empty"),
        ("ema: {log_uniform: [0, 2]}", "'ema': a log_uniform range begins above 0, not at 0.0"),
        ("ema: {log_uniform: [-1, 2]}", "'ema': a log_uniform range begins above 0, not at -1.0"),
        ("ema: {uniform: [0, .inf]}", "'ema': inf should be a finite number"),
        ("depth: {integer: [2, 3.5]}", "'depth': 3.5 should be a valid integer"),
        ("depth: {integer: [true, 4]}", "'depth': True should be a valid integer"),
        ("depth: {integer: ['2', 4]}", "'depth': '2' should be a valid integer"),
        ("depth: {integer: [2]}", "'depth': a range has two ends, [low, high], not 1"),
        ("depth: {integer: 3}", "'depth': integer takes a list such as [1, 2]"),
        ("depth: [2, 4]", "'depth': a field is a plain value, or one distribution"),
        ("depth: {integer: [2, 4], choice: [2]}", "'depth': a field is a plain value, or one"),
    ],
)
def test_a_wrong_range_is_refused_with_its_file_its_field_and_its_values(
    tmp_path: Path, line: str, reason: str
) -> None:
    path = written(tmp_path, line)
    with pytest.raises(SpaceError, match=re.escape(reason)) as caught:
        load_file(path, known=KNOWN)
    assert str(caught.value).startswith(f"{path}: field ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("patch: 48\nscale: 1\npatch: 64\n", "'patch' is given twice"),
        ("depth: {integer: [2, 4], integer: [3, 4]}", "'integer' is given twice"),
        ("patch: {choice: [48", "is no YAML"),
        ("patch: !!python/object:os.system 48", "is no YAML"),
        ("", "a space is lines of `field: distribution`, found None"),
        ("- patch", "a space is lines of `field: distribution`, found ['patch']"),
        ("{[1]: 2}", "is no YAML"),
        ("[" * 3000, "is no YAML"),
        ("patch: " + "{a: " * 3000, "is no YAML"),
        ("width: 2001-99-99", "is no YAML"),
        ("width: 0x_", "is no YAML"),
        ("width: " + "1" * 5000, "is no YAML"),
        ("width: !!int ''", "is no YAML"),
    ],
)
def test_a_file_that_is_no_space_is_refused_in_one_line(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SpaceError, match=re.escape(reason)) as caught:
        load_file(path, known=KNOWN)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_alias_of_an_alias_is_refused_without_writing_it_out(tmp_path: Path) -> None:
    levels = [f"  - &l{at} [{', '.join([f'*l{at - 1}'] * 9)}]" for at in range(1, 30)]
    path = written(tmp_path, "\n".join(["depth:", "  - &l0 [0]", *levels]))
    with pytest.raises(SpaceError, match="'depth': a field is a plain value") as caught:
        load_file(path, known=KNOWN)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("field", ["{choice: XX}", "{integer: [1, XX]}", "{log_uniform: XX}", "XX"])
def test_lists_that_name_each_other_are_refused_without_writing_them_out(
    tmp_path: Path, field: str
) -> None:
    lists = "[x, x]"
    for name in "abcdefghijkl":  # of 2 x 10^12 letters, if they were written out
        lists = f"[&{name} {lists}, {', '.join([f'*{name}'] * 9)}]"
    path = written(tmp_path, f"patch: {field}".replace("XX", lists))
    with pytest.raises(SpaceError, match="field 'patch'") as caught:
        load_file(path, known=KNOWN)
    assert len(str(caught.value)) < 1000


def test_a_file_that_is_not_there_is_refused_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "fabric.yaml"
    with pytest.raises(SpaceError, match=f"{re.escape(str(path))}: cannot be read: No such file"):
        load_file(path, known=KNOWN)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "fabric.yaml"
    path.write_bytes(b"patch: \xff\xfe")
    with pytest.raises(SpaceError, match="is no YAML"):
        load_file(path, known=KNOWN)
