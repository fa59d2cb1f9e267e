"""Put the tables of benchmarks into docs/results.md: `python docs/make_results.py FOLDER...`.

Each folder is what `zoo bench --out FOLDER` wrote. The text between the two markers is replaced, so
that no figure is written by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
PAGE = "bench.md"


def with_results(text: str, tables: Sequence[str]) -> str:
    """Return a page with the tables between its markers, instead of what was there.

    Raises:
        ValueError: It does not have each marker once, in their order.
    """
    before, begin, rest = text.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not begin or not end or BEGIN in old + after or END in before + after:
        raise ValueError(f"The page must have {BEGIN} and, below it, {END}, each once.")
    between = "\n\n".join(table.strip() for table in tables)
    return f"{before}{BEGIN}\n\n{between}\n\n{END}{after}"


def main(folders: Sequence[str]) -> None:
    """Replace the results on the page by those of the folders, in their order."""
    if not folders:
        sys.exit("Name the folders that `zoo bench --out` wrote.")
    tables = [(Path(folder) / PAGE).read_text("utf-8") for folder in folders]
    RESULTS.write_text(with_results(RESULTS.read_text("utf-8"), tables), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
