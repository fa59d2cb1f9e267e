"""Fields of a card that may be missing or of any type: each is read as what it should be, or None.

A card on a shelf is written by others. Numbers are finite and of a size that can be printed, texts
are short and of one line, lists are short.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.words import shortened

LARGEST = 1e12  # of a number that is shown
MOST = 60  # names or texts of one list that are shown
LONGEST_NAME = 80


@dataclass(frozen=True)
class Fields:
    """A mapping by others; no method fails, whatever it holds.

    Attributes:
        raw: The mapping; anything else counts as empty.
    """

    raw: object

    def get(self, name: str) -> Any:
        """Return a value of any type; None if it is missing."""
        return self.raw.get(name) if isinstance(self.raw, Mapping) else None

    def names(self) -> list[str]:
        """Return the names of the first fields, as they are."""
        keys = self.raw if isinstance(self.raw, Mapping) else ()
        return [key for key in itertools.islice(keys, MOST) if isinstance(key, str)]

    def inner(self, name: str) -> Fields:
        """Return the fields of a mapping in this one; there are none if it is no mapping."""
        return Fields(self.get(name))

    def inners(self) -> list[tuple[str, Fields]]:
        """Return the name of each inner mapping, made visible and unique, and its fields."""
        found = [(name, self.get(name)) for name in self.names()]
        known = {
            shortened(name, LONGEST_NAME): Fields(each)
            for name, each in found
            if isinstance(each, Mapping)
        }
        return list(known.items())

    def text(self, name: str) -> str | None:
        """Return a text that is not empty."""
        value = self.get(name)
        return (shortened(value).strip() or None) if isinstance(value, str) else None

    def texts(self, name: str) -> list[str]:
        """Return the texts of a list."""
        known = self._list(name)[:MOST]
        return [shortened(each, LONGEST_NAME) for each in known if isinstance(each, str)]

    def number(self, name: str) -> float | None:
        """Return a finite number."""
        return _number(self.get(name))

    def numbers(self) -> dict[str, float]:
        """Return all numbers by name, made visible."""
        known = ((shortened(name, LONGEST_NAME), self.number(name)) for name in self.names())
        return {name: value for name, value in known if value is not None}

    def numbers_of(self, name: str) -> list[float]:
        """Return the finite numbers of a list."""
        known = self._list(name)[:MOST]
        return [each for each in map(_number, known) if each is not None]

    def whole(self, name: str) -> int | None:
        """Return a whole number of at least 0."""
        value = self.get(name)
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        return value if is_whole and 0 <= value <= LARGEST else None

    def flag(self, name: str) -> bool | None:
        """Return a truth value."""
        value = self.get(name)
        return value if isinstance(value, bool) else None

    def scalar(self, name: str) -> str | None:
        """Return a text, a number or a truth value, as text."""
        value = self.get(name)
        if isinstance(value, bool):
            return "yes" if value else "no"
        number = _number(value)
        return self.text(name) if number is None else f"{number:.6g}"

    def scalars(self) -> dict[str, str]:
        """Return all texts, numbers and truth values by name, as text, made visible."""
        known = ((shortened(name, LONGEST_NAME), self.scalar(name)) for name in self.names())
        return {name: value for name, value in known if value is not None}

    def size(self, name: str) -> int:
        """Return the length of a list; 0 if it is none."""
        return len(self._list(name))

    def interval(self, name: str) -> tuple[float, float] | None:
        """Return two shares in ascending order."""
        value = self._list(name)
        if len(value) != 2:
            return None
        low, high = map(_number, value)
        if low is None or high is None or not 0 <= low <= high <= 1:
            return None
        return low, high

    def _list(self, name: str) -> Sequence[Any]:
        value = self.get(name)
        return value if isinstance(value, list | tuple) else ()


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # A whole number of thousands of digits is no float.
    return float(value) if abs(value) <= LARGEST and math.isfinite(value) else None
