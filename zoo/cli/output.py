"""What all commands write: answers on stdout, progress on stderr."""

from __future__ import annotations

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
