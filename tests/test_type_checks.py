"""The tests check calls: of these packages, and of a module that is written here."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import beartype
import jaxtyping
import numpy as np
import pytest
import torch

from tests import type_checks
from zoo.data import textures
from zoo.scoring.maps import smooth

WRONG = beartype.roar.BeartypeCallHintViolation
MODULE = """
from __future__ import annotations
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
import numpy as np
from jaxtyping import Float
if TYPE_CHECKING:
    from decimal import Decimal

def half(value: int) -> int:
    return value / 2

def joined(one: Float[np.ndarray, "h w"], other: Float[np.ndarray, "h w"]) -> None: ...

def turned(one: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "w h"]:
    return one

def squares(side: int) -> Float[np.ndarray, "{side} {side}"]:
    return np.zeros((3, 3))

def rows(array: Float[np.ndarray, "h w"]) -> Iterator[Float[np.ndarray, "w"]]:
    yield from array

def later(number: Decimal, value: int) -> None: ...

@dataclass(frozen=True)
class Place:
    row: int
    values: Float[np.ndarray, "n"]

    @property
    def name(self) -> str:
        return self.row

    @classmethod
    def at(cls, row: int) -> None: ...

    @staticmethod
    def of(row: int) -> None: ...
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    folder = tmp_path_factory.mktemp("written")
    (folder / "written_here.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setattr(sys, "meta_path", list(sys.meta_path))
        type_checks.check_calls_of("written_here")
        yield importlib.import_module("written_here")
    del sys.modules["written_here"]
    assert not list(folder.rglob("*.pyc")), "without the checks, another process could not run it"


def test_an_argument_and_a_result_of_another_type_are_refused(module: ModuleType) -> None:
    with pytest.raises(WRONG, match="value='1'"):
        module.half("1")
    with pytest.raises(WRONG, match="return 0.5"):
        module.half(1)


def test_axes_of_one_name_must_agree_among_arguments_result_and_numbers(module: ModuleType) -> None:
    flat = np.zeros((2, 3))
    module.joined(flat, flat)
    for other in (np.zeros((2, 4)), np.zeros(2), np.zeros((2, 3), int)):
        with pytest.raises(WRONG, match="parameter other"):
            module.joined(flat, other)
    with pytest.raises(WRONG, match="return"):
        module.turned(flat)
    assert module.turned(np.zeros((2, 2))).shape == (2, 2)
    assert module.squares(3).shape == (3, 3)
    with pytest.raises(WRONG, match="return"):
        module.squares(4)


def test_a_generator_yields_after_the_axes_of_its_call_are_gone(module: ModuleType) -> None:
    assert [len(row) for row in module.rows(np.zeros((2, 3)))] == [3, 3]
    with pytest.raises(WRONG, match="parameter array"):
        next(module.rows(np.zeros(3)))


def test_a_type_that_is_not_imported_is_not_checked_and_those_beside_it_are(
    module: ModuleType,
) -> None:
    module.later("no number", 1)
    with pytest.raises(WRONG, match="value='1'"):
        module.later("no number", "1")


def test_classes_are_checked_as_they_are_made_and_in_their_methods(module: ModuleType) -> None:
    place = module.Place(1, np.zeros(3))
    for row, values in (("1", np.zeros(3)), (1, np.zeros((3, 1)))):
        with pytest.raises(WRONG):
            module.Place(row, values)
    with pytest.raises(WRONG, match="return 1"):
        _ = place.name
    for method in (module.Place.at, place.of):
        with pytest.raises(WRONG, match="row='1'"):
            method("1")


def test_nothing_is_checked_while_it_is_switched_off(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    assert module.half(1) == 0.5
    module.turned(np.zeros((2, 3)))


def test_of_many_calls_of_a_function_the_first_and_one_of_some_are_checked(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type_checks, "FIRST", 3)
    monkeypatch.setattr(type_checks, "EVERY", 4)
    counted = type_checks.checked(module.half.__wrapped__)
    wrong = []
    for number in range(1, 13):
        try:
            counted("1")
        except WRONG:
            wrong.append(number)
        except TypeError:
            pass  # `"1" / 2`, as without checks
    assert wrong == [1, 2, 3, 4, 8, 12]


def test_the_packages_of_the_project_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type_checks, "EVERY", 1)
    with pytest.raises(WRONG, match="parameter data"):
        textures.find("data", "weave")  # type: ignore[arg-type]
    with pytest.raises(WRONG, match="parameter maps"):
        smooth(torch.zeros(3), 3)
