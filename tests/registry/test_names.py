"""The names of textures, and of the files that stand for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.names import MOST_BYTES, checked_name, file_name, folder_name, normal, texture_of
from zoo.errors import ConfigError


@given(st.text(max_size=20))
def test_the_file_of_a_texture_says_which_texture_it_is(texture: str) -> None:
    assert texture_of(file_name(texture)) == normal(texture)


@given(st.text(max_size=20))
def test_no_name_of_a_texture_leads_out_of_its_folder(texture: str) -> None:
    for name in (file_name(texture), folder_name(texture)):
        assert not set("/\\:@?#\0\n\x1b") & set(name)
        assert not name.startswith(".")


@pytest.mark.parametrize("name", ["wood", "wood.2", "a b-c_d ", "7", "木目", "café", "Übung"])
def test_what_was_a_name_before_has_the_file_it_had(name: str) -> None:
    assert file_name(name) == name
    assert checked_name(name) == name


@pytest.mark.parametrize(
    ("texture", "better"),
    [
        ("wood:2", "wood-2"),
        ("a/b", "a-b"),
        ('oak "A"', "oak -A"),
        ("x\x1b[2J", "x-2J"),
        ("@", "texture"),
        ("long" * 99, "longlonglonglonglong"),
        ("木" * (MOST_BYTES // 3 + 1), "木" * 20),
    ],
)
def test_what_cannot_be_a_name_is_refused_with_one_that_can(texture: str, better: str) -> None:
    with pytest.raises(ConfigError, match=f"with --category '{better}'"):
        checked_name(texture)
    assert checked_name(better) == better
