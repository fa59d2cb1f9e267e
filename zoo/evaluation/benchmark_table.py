"""The tables and the plot of a benchmark."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo import methods
from zoo.data.textures import Texture
from zoo.evaluation.benchmark_fit import BenchmarkConfig, Fit
from zoo.files import write_csv, write_text
from zoo.report.plots import Panel, draw_bars
from zoo.training import versions

PAGE, TABLE, FITS, PLOT = "bench.md", "bench.csv", "fits.csv", "bench.png"
# Each metric with its heading and its number of decimals.
COLUMNS: Mapping[str, tuple[str, int]] = {
    "test_pixel_ap": ("pixel AP", 3),
    "test_pixel_auroc": ("pixel AUROC", 3),
    "test_aupro": ("AUPRO", 3),
    "test_image_auroc": ("image AUROC", 3),
    "val_pixel_ap": ("val_pixel_ap", 3),
    "fit_seconds": ("seconds to fit", 1),
    "test_seconds_per_image": ("seconds an image", 3),
    "peak_megabytes": ("peak MB", 0),
}
NANOFIBRES = "nanofibres"
PUBLISHED = ("test_pixel_ap", "test_pixel_auroc")  # metrics that papers report


@dataclass(frozen=True, kw_only=True)
class Row:
    """One system over its seeds.

    Attributes:
        system: Name of the system.
        scale: Factor on both sides of an image.
        mean: Mean of each metric over the seeds that did not fail.
        spread: Sample standard deviation of each metric that has two or more values.
        published: The values of the thesis, by metric.
        note: Which seeds failed and why; empty if none did.
    """

    system: str
    scale: float | None
    mean: Mapping[str, float]
    spread: Mapping[str, float]
    published: Mapping[str, float]
    note: str


# ---------------------------------------------------------------------------------------- the table


def summary(done: Sequence[Fit], texture: Texture) -> list[Row]:
    """Return a row for each system: mean and spread over its seeds, and the published values."""
    found = []
    for system in dict.fromkeys(fit.system for fit in done):
        fits = [fit for fit in done if fit.system == system]
        good = [fit.figures for fit in fits if not fit.reason]
        values = {name: [each[name] for each in good if name in each] for name in COLUMNS}
        failed = [fit for fit in fits if fit.reason]
        which = ", ".join(str(fit.seed) for fit in failed if fit.seed is not None)
        note = f"failed{f' (seed {which})' if which else ''}: {failed[0].reason}" if failed else ""
        found.append(
            Row(
                system=system,
                scale=fits[0].scale,
                mean={name: statistics.fmean(each) for name, each in values.items() if each},
                spread={n: statistics.stdev(each) for n, each in values.items() if len(each) > 1},
                published=published(system, texture),
                note=note,
            )
        )
    return found


def published(system: str, texture: Texture) -> dict[str, float]:
    """Return the values that papers report for a system on this texture, by metric.

    A preset has the values of its method, although its configuration may differ.
    """
    keys = {"mvtec": texture.name.lower(), "nanotwice": NANOFIBRES}
    key = keys.get(texture.layout, "")
    name = methods.PRESETS.get(system, system)
    figures = methods.named(name).published if name in methods.METHODS else {}
    return {name: of_texture[key] for name, of_texture in figures.items() if key in of_texture}


def page(rows: Sequence[Row], header: Sequence[str]) -> str:
    """Return the table as Markdown, below a header."""
    headings = [heading for heading, _ in COLUMNS.values()]
    lines = [
        *header,
        "",
        "| method | scale | " + " | ".join(headings) + " | Peccia 2021 | note |",
        "|---" * 2 + "|---:" * len(headings) + "|---" * 2 + "|",
    ]
    for row in rows:
        reported = [f"{COLUMNS[name][0]} {value:.3f}" for name, value in row.published.items()]
        cells = [
            row.system,
            "-" if row.scale is None else f"{row.scale:g}",
            *(_cell(row, name) for name in COLUMNS),
        ]
        cells += [", ".join(reported), row.note.replace("|", "\\|")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(row: Row, name: str) -> str:
    if name not in row.mean:
        return "-"
    decimals = COLUMNS[name][1]
    spread = f" ± {row.spread[name]:.{decimals}f}" if name in row.spread else ""
    return f"{row.mean[name]:.{decimals}f}{spread}"


def header_of(done: Sequence[Fit], config: BenchmarkConfig, texture: Texture) -> list[str]:
    """Return the header of the table: pictures, seeds, machine and versions."""
    tested = next((fit.tested for fit in done if fit.tested), "none tested")
    made_by = ", ".join(f"{name} {version}" for name, version in versions().items())
    seeds = ", ".join(map(str, config.seeds))
    return [
        f"### {texture.name}",
        "",
        f"{len(texture.pictures)} good pictures ({texture.fingerprint[:19]}), {tested}. "
        f"Seeds {seeds}: mean ± standard deviation over them. Seconds to fit include the choice of "
        "the rule on val; peak MB is that of the process, with Python, torch and the pictures. "
        f"{os.cpu_count()} cores, threads for a fit: {config.threads}; {platform.system()} "
        f"{platform.machine()}; {made_by}.",
    ]


def write(done: Sequence[Fit], config: BenchmarkConfig, texture: Texture, out: Path) -> None:
    """Write the tables and the plot again."""
    rows = summary(done, texture)
    write_text(page(rows, header_of(done, config, texture)), out / PAGE)
    write_csv([_summary_line(row, texture.name) for row in rows], out / TABLE)
    write_csv([_fit_line(fit, texture.name) for fit in done], out / FITS)
    panels = [
        Panel(
            title=f"{texture.name}: {COLUMNS[name][0]}",
            values={
                row.system: [
                    fit.figures[name]
                    for fit in done
                    if fit.system == row.system and name in fit.figures
                ]
                for row in rows
            },
            published={row.system: row.published[name] for row in rows if name in row.published},
        )
        for name in ("test_pixel_ap", "test_pixel_auroc", "test_aupro")
    ]
    draw_bars(panels, out / PLOT)


def _summary_line(row: Row, texture: str) -> dict[str, Any]:
    line: dict[str, Any] = {"texture": texture, "method": row.system, "scale": row.scale}
    for name in COLUMNS:
        line |= {name: row.mean.get(name), f"{name}_sd": row.spread.get(name)}
    reported = {f"published_{name}": row.published.get(name) for name in PUBLISHED}
    return line | reported | {"note": row.note}


def _fit_line(fit: Fit, texture: str) -> dict[str, Any]:
    line = {"texture": texture, "method": fit.system, "seed": fit.seed, "scale": fit.scale}
    return line | {name: fit.figures.get(name) for name in COLUMNS} | {"failed": fit.reason}
