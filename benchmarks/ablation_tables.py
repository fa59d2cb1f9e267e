"""The tables of `benchmarks.ablation`, from the rows of its trainings."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from zoo.training import METRIC

BASE = "base"
UNFAIR = "all_families"  # it is taught the families of *val* too, which no search does
LOSSES = ("reconstruction", "discriminator", "segmenter")

Row = dict[str, str | float | None]


def read(paths: Sequence[Path]) -> list[Row]:
    """Return the rows of earlier runs."""

    def value(name: str, text: str) -> str | float | None:
        return text if name in ("texture", "variant", "rule") else float(text) if text else None

    rows = list[Row]()
    for path in paths:
        with path.open() as file:
            rows += [{k: value(k, v) for k, v in row.items()} for row in csv.DictReader(file)]
    return rows


class Results:
    """The rows of all trainings, as tables."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.textures = list(dict.fromkeys(str(row["texture"]) for row in rows))
        self.variants = list(dict.fromkeys(str(row["variant"]) for row in rows))

    def of(self, variant: str, texture: str, column: str) -> dict[float, float]:
        """Return the values of a column by seed."""
        return {
            float(row["seed"] or 0): float(value)
            for row in self.rows
            if row["variant"] == variant and row["texture"] == texture
            if (value := row.get(column)) is not None
        }

    def medians(self, column: str) -> Iterator[list[str]]:
        """Yield for each variant the median over seeds, lowest and highest, of each texture."""
        for variant in self.variants:
            found = [list(self.of(variant, each, column).values()) for each in self.textures]
            cells = [
                f"{np.median(each):.3f} ({min(each):.3f} to {max(each):.3f})" if each else "-"
                for each in found
            ]
            yield [variant, *cells]

    def differences(self, column: str) -> Iterator[list[str]]:
        """Yield for each variant the differences to the base with the same seed and texture."""
        for variant in (each for each in self.variants if each != BASE):
            pairs = list[list[float]]()
            for texture in self.textures:
                base = self.of(BASE, texture, column)
                own = self.of(variant, texture, column)
                pairs.append([own[seed] - base[seed] for seed in own if seed in base])
            yield [variant, *map(signed, [*pairs, list(itertools.chain(*pairs))])]

    def orders(self) -> Iterator[list[str]]:
        """Yield for each texture the rank correlations of *val* with test."""
        fair = [each for each in self.variants if each != UNFAIR]
        for texture in self.textures:
            cells = [texture]
            for figure in ("pixel_ap", "image_auroc"):
                columns = (f"val_{figure}", f"test_{figure}")
                pairs, middles = list[tuple[float, float]](), list[tuple[float, float]]()
                for variant in fair:
                    val, test = (self.of(variant, texture, column) for column in columns)
                    own = [(val[seed], test[seed]) for seed in test if seed in val]
                    pairs += own
                    middles += [(*np.median(own, axis=0),)] if own else []
                cells += [ranked(pairs), ranked(middles)]
            yield cells

    def alone(self) -> Iterator[list[str]]:
        """Yield for each variant and loss the medians on test and *val* of its own map."""
        column = f"test_pixel_ap_{LOSSES[0]}"
        measured = {str(row["variant"]) for row in self.rows if row[column] is not None}
        for variant in (each for each in self.variants if each in measured):
            for name in ("", *(f"_{loss}" for loss in LOSSES)):
                cells = [f"{variant}: {name[1:] or 'rule'}"]
                for texture in self.textures:
                    columns = (f"test_pixel_ap{name}", f"val_pixel_ap{name}")
                    found = [list(self.of(variant, texture, each).values()) for each in columns]
                    cells.append(" / ".join(f"{np.median(v):.3f}" if v else "-" for v in found))
                yield cells


def signed(found: Sequence[float]) -> str:
    """Return the median of differences, and how many of them are above 0."""
    higher = sum(each > 0 for each in found)
    return f"{np.median(found):+.3f} ({higher}/{len(found)})" if found else "-"


def ranked(pairs: Sequence[tuple[float, float]]) -> str:
    """Return the rank correlation of pairs, and their number."""
    if len(pairs) < 3:
        return "-"
    return f"{spearmanr(*zip(*pairs, strict=True)).statistic:.2f} ({len(pairs)})"


def show(title: str, header: Sequence[str], rows: Iterator[list[str]]) -> None:
    """Print a Markdown table."""
    print(f"\n{title}\n")
    for cells in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(cells)} |")


def tables(rows: Sequence[Row]) -> None:
    """Print all tables."""
    found = Results(rows)
    names = ["variant", *found.textures]
    for column in ("test_pixel_ap", "test_image_auroc", METRIC):
        show(f"{column}: median over seeds (lowest to highest)", names, found.medians(column))
        title = f"{column}: median difference to the base (how many are higher)"
        show(title, [*names, "all"], found.differences(column))
    header = ["texture", "AP: trainings", "variants", "image AUROC: trainings", "variants"]
    show(f"Spearman of val and test (pairs), without {UNFAIR}", header, found.orders())
    show("Each loss alone: pixel AP on test / val", ["variant: map", *names[1:]], found.alone())
    for column in ("train_seconds", "val_seconds", "test_seconds", "megapixels_per_second"):
        show(column, names, found.medians(column))
