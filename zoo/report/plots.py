"""Plots of benchmarks and searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.files import writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of this size in inches, without pyplot and its global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _saved(figure: Figure, path: Path) -> Path:
    with writing(path, f"the plot {path.name}"):
        figure.savefig(path, format="png")
    return path


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One metric of several systems, drawn as one panel of a plot.

    Attributes:
        title: Name of the metric.
        values: Values of each system, one a seed; empty if it failed.
        published: Values from the literature, by system.
    """

    title: str
    values: Mapping[str, Sequence[float]]
    published: Mapping[str, float]


def draw_bars(panels: Sequence[Panel], path: Path) -> Path:
    """Draw panels next to each other: a bar for the mean, a dot a seed, a diamond if published.

    All panels have the same systems in the same order.

    Raises:
        StorageError: The plot cannot be written.
    """
    systems = list(panels[0].values)
    figure = _new_figure(4.2 * len(panels) + 1.5, 0.45 * len(systems) + 1.6)
    for number, (panel, axes) in enumerate(
        zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True)
    ):
        for row, name in enumerate(systems):
            values = list(panel.values[name])
            if values:
                axes.barh(row, sum(values) / len(values), color="#9bb7d4")
                axes.plot(values, [row] * len(values), "o", color="#1f3b57", markersize=4)
            if name in panel.published:
                axes.plot(panel.published[name], row, "D", color="#c8372d", markersize=6)
        axes.set(title=panel.title, xlim=(0, 1), ylim=(len(systems) - 0.5, -0.5))
        axes.set_yticks(range(len(systems)), systems if number == 0 else [""] * len(systems))
    key = "bar: mean; dot: one seed"
    if any(panel.published for panel in panels):
        key += "; red diamond: published (Peccia 2021)"
    figure.supxlabel(key, fontsize=8)
    return _saved(figure, path)


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """The points of a scatter plot, some of them with a name.

    Attributes:
        title: Title of the plot.
        labels: Labels of the horizontal and the vertical axis.
        x: Horizontal values.
        y: Vertical values.
        marked: Index of each named point, by name.
    """

    title: str
    labels: tuple[str, str]
    x: Sequence[float]
    y: Sequence[float]
    marked: Mapping[str, int]


def draw_scatter(scatter: Scatter, path: Path) -> Path:
    """Draw points; named ones get their own marker and a line in the legend.

    Raises:
        StorageError: The plot cannot be written.
    """
    figure = _new_figure(6.0, 5.0)
    axes = figure.subplots()
    axes.plot(scatter.x, scatter.y, "o", color="#9bb7d4", markeredgecolor="#1f3b57")
    for (name, index), marker in zip(scatter.marked.items(), ("*", "D", "s", "^"), strict=False):
        axes.plot(
            scatter.x[index], scatter.y[index], marker, label=name, color="#c8372d", alpha=0.7
        )
    axes.set(title=scatter.title, xlabel=scatter.labels[0], ylabel=scatter.labels[1])
    axes.legend()
    return _saved(figure, path)
