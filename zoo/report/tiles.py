"""What stands at the top of a report: the verdict, and the figures that matter most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tone = Literal["good", "warn", "bad", "plain"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer of a report.

    Attributes:
        word: In one or a few words.
        tone: Its colour; the word alone says the same.
        text: What that means, in a sentence or two.
        why: The reason on record, with its figures; empty if there is none.
    """

    word: str
    tone: Tone
    text: str
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One figure with its name.

    Attributes:
        label: What it is.
        value: The figure as it is written.
        note: What it means.
        tone: Its colour.
    """

    label: str
    value: str
    note: str = ""
    tone: Tone = "plain"


def on_test_pictures(found: tuple[int, int] | None, alarms: tuple[int, int] | None) -> str:
    """Return what the test pictures say, in a sentence; an empty text if there were none.

    Args:
        found: Of the defective pictures, how many are called so, and how many there are.
        alarms: The same of the good ones.

    Example:
        >>> on_test_pictures((17, 18), (0, 8))
        'On test pictures it finds 17 of 18 defects and calls 0 of 8 good pictures defective.'
    """
    sides = []
    if found:
        sides.append(f"finds {found[0]} of {found[1]} defects")
    if alarms:
        sides.append(f"calls {alarms[0]} of {alarms[1]} good pictures defective")
    return f"On test pictures it {' and '.join(sides)}." if sides else ""
