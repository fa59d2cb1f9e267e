"""The table of `zoo score` on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.cli.output import Style, columns, put_line, row_of, shown

STYLES: dict[str, Style] = {"good": "good", "look again": "doubtful", "defective": "bad"}
COLUMNS = ("verdict", "score", "p", "regions", "largest", "warnings")


class ScoreTable:
    """Prints a row for each image as soon as it is scored."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Print the head of a table that these images fit into."""
        self._width = max(columns(shown(str(path), sys.stdout)) for path in paths)
        self._row("image", *COLUMNS)

    def __call__(self, line: dict[str, Any]) -> None:
        """Print the row of an image, of which this is the JSON."""
        p = line["p_value"]
        largest = max((region["area"] for region in line["regions"]), default=None)
        self._row(
            line["image"],
            line["verdict"].upper() if line["is_anomalous"] else line["verdict"],
            f"{line['score']:.3f}",
            "-" if p is None else f"{p:.3f}",
            str(len(line["regions"])),
            "-" if largest is None else f"{largest} px",
            str(len(line["warnings"]) or "-"),
            style=STYLES.get(line["verdict"], "plain"),
        )

    def _row(self, image: str, *cells: str, style: Style = "plain") -> None:
        widths = [self._width, *[10] * (len(cells) - 1)]
        put_line(row_of([image, *cells], widths, style=style, column=1))
