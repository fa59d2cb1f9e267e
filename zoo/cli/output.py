"""What all commands write: answers on stdout, progress on stderr."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def say(line: str) -> None:
    """Write a line of progress to stderr; stdout is for answers."""
    print(line, file=sys.stderr, flush=True)


def answer(values: Mapping[str, Any], *, as_json: bool) -> None:
    """Print an answer: one JSON object, or a line for each value."""
    if as_json:
        print(json.dumps(values))
        return
    width = max(map(len, values))
    for name, value in values.items():
        shown = value
        if isinstance(value, float):
            shown = f"{value:.4f}" if abs(value) >= 1e-3 or not value else f"{value:.1e}"
        print(f"{name:<{width}}  {shown}")


def table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows with aligned columns; the first row is the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())


def counted(warnings: Sequence[Sequence[str]]) -> list[str]:
    """Return one line for the warnings of several images that agree up to the first colon.

    Args:
        warnings: Those of each image.
    """
    found: dict[str, list[str]] = {}
    for line in itertools.chain.from_iterable(warnings):
        found.setdefault(line.partition(":")[0], []).append(line)
    return [f"{len(same)} of {len(warnings)} images: {same[0]}" for same in found.values()]
