"""Which normal pictures of VisA are for the test: a table beside its folders says so."""

from __future__ import annotations

import csv
from pathlib import Path

from zoo.errors import DataError

TABLE = Path("split_csv") / "1cls.csv"  # columns: object, split, label, image, mask
COLUMNS = ("object", "split", "label", "image")


def normal_for_test(root: Path) -> frozenset[str]:
    """Return the names of the normal pictures of an object that its authors keep for the test.

    Args:
        root: Folder of the object. Without the table beside it there are none, and all normal
            pictures are for training.

    Raises:
        DataError: The table cannot be read, or has other columns.
    """
    path = root.parent / TABLE
    if not path.is_file():
        return frozenset()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, strict=True)
            if missing := [name for name in COLUMNS if name not in (table.fieldnames or ())]:
                raise DataError(
                    f"{path} has no column {', '.join(missing)}; VisA's own has "
                    f"{', '.join(COLUMNS)}. Take VisA's own, or remove the file."
                )
            return frozenset(
                (row["image"] or "").rpartition("/")[2]
                for row in table
                if (row["object"], row["split"], row["label"]) == (root.name, "test", "normal")
            )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}, VisA's table of training and test, cannot be read: {error}. Take VisA's own, "
            "or remove the file."
        ) from error
