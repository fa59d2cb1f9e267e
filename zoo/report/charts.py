"""The charts of reports, each from plain values, as SVG markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from zoo import words
from zoo.report.svg import ACCENT, BAD, GOOD, INK, MUTED, QUIET, WARN, canvas, markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_LINES = 120  # of a chart of trials; more cannot be told apart
BINS = 16  # of a histogram
LONGEST_NAME = 32  # characters of a name in a chart


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a chart.

    Attributes:
        name: What it is, for the legend; empty for none.
        x: Ascending.
        y: As many values.
        stressed: Whether it stands out.
        broken: Whether it is drawn with gaps.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    stressed: bool = False
    broken: bool = False


@dataclass(frozen=True, kw_only=True)
class Level:
    """A value that a chart is compared with.

    Attributes:
        name: What it is.
        value: Its place on the axis.
        tone: `good`, `warn`, `bad`, or empty.
    """

    name: str
    value: float
    tone: str = ""


def progress(best: Line, reports: Line, levels: Sequence[Level], *, unit: str) -> Markup:
    """Draw the best value over time as steps, every report as a dot, and levels as lines.

    Args:
        best: The best value so far, at each time at which it changed, and at the end.
        reports: Every report.
        levels: What the values are compared with.
        unit: Of the time.
    """
    with canvas() as (figure, axes):
        axes.plot(reports.x, reports.y, "o", color=QUIET, markersize=4, label=reports.name)
        axes.plot(best.x, best.y, color=ACCENT, drawstyle="steps-post", label=best.name)
        for level, style in zip(levels, ("--", ":", "-."), strict=False):
            axes.axhline(level.value, color=_tone(level.tone), linestyle=style, linewidth=1.2)
            axes.annotate(
                level.name, (1, level.value), (5, 0), textcoords="offset points", va="center",
                xycoords=axes.get_yaxis_transform(), color=_tone(level.tone), fontsize=8.5,
            )  # fmt: skip
        axes.set(xlabel=f"{unit} since the search began", ylabel="validation AP")
        axes.set_ylim(0, _above([*best.y, *reports.y, *(level.value for level in levels)]))
        axes.set_xlim(left=0)
        _legend_above(axes)
        ends = f"from {best.y[0]:.3f} to {best.y[-1]:.3f}" if len(best.y) else "without a report"
        compared = "; ".join(f"{level.name}: {level.value:.3f}" for level in levels)
        says = f"Line chart: the best validation AP over time, {ends}. {compared}".strip()
        return markup(figure, "progress", says=says)


def curves(lines: Sequence[Line]) -> Markup:
    """Draw the validation AP of each trial by the number of the report."""
    shown = lines[:MOST_LINES]
    with canvas() as (figure, axes):
        for line in sorted(shown, key=lambda line: line.stressed):
            axes.plot(
                line.x,
                line.y,
                color=ACCENT if line.stressed else QUIET,
                linewidth=2.0 if line.stressed else 1.0,
                linestyle="--" if line.broken else "-",
                marker="o",
                markersize=4.5 if line.stressed else 3,
                label=_short(line.name) or None,
            )
        axes.set(xlabel="report of the trial", ylabel="validation AP")
        axes.set_ylim(0, _above([value for line in shown for value in line.y]))
        steps = sorted({int(step) for line in shown for step in line.x})
        axes.set_xticks(steps if len(steps) <= 12 else steps[:: -(-len(steps) // 12)])
        if any(line.name for line in shown):
            _legend_above(axes)
        says = f"Line chart: the validation AP of {len(shown)} trials at each of their reports."
        return markup(figure, "curves", says=says)


def bars(values: Mapping[str, float], name: str, *, label: str, percent: bool = False) -> Markup:
    """Draw a bar for each value, the first one on top, with its value beside it.

    Args:
        values: By name; a value below 0 goes to the left.
        name: Of the chart, as for `markup`.
        label: What is shown.
        percent: Whether the values are shares to be written as percentages.
    """
    written = [f"{value:.0%}" if percent else f"{value:.3f}" for value in values.values()]
    with canvas(height=0.55 + 0.27 * max(2, len(values))) as (figure, axes):
        rows = range(len(values))
        colours = [ACCENT if value >= 0 else BAD for value in values.values()]
        axes.barh(rows, list(values.values()), color=colours, height=0.62)
        for row, (value, text) in enumerate(zip(values.values(), written, strict=True)):
            axes.annotate(
                text, (max(value, 0), row), (4, 0), textcoords="offset points", va="center",
                fontsize=8.5, color=INK,
            )  # fmt: skip
        axes.set_yticks(rows, list(map(_short, values)))
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(values) - 0.5, -0.5)
        axes.set_xlim(min(0.0, *values.values()) * 1.15, max(1e-9, *values.values()) * 1.18)
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        axes.set_xticks([])
        said = "; ".join(f"{_short(key)} {text}" for key, text in zip(values, written, strict=True))
        return markup(figure, name, says=f"Bar chart, {label}: {said}.")


def histogram(
    scores: Sequence[float], levels: Sequence[Level], marks: Sequence[tuple[str, str, list[float]]]
) -> Markup:
    """Draw the scores of good pictures, the limits, and rows of marks of other scores below them.

    Args:
        scores: Of the good pictures.
        levels: The limits.
        marks: For each row its name, its tone and its scores.
    """
    values = [*scores, *(level.value for level in levels), *(x for _, _, xs in marks for x in xs)]
    low, high = min(values), max(values)
    room = 0.04 * (high - low or 1.0)
    edges = np.linspace(low - room, high + room, BINS + 1)
    with canvas(height=3.0 + 0.22 * len(marks)) as (figure, axes):
        counts, _, _ = axes.hist(scores, bins=edges.tolist(), color=QUIET, label="good pictures")
        most = float(np.max(counts))
        step = most * 0.09
        for row, (name, tone, xs) in enumerate(marks):
            height = -(row + 1) * step
            axes.plot(
                xs, [height] * len(xs), "|", color=_tone(tone), markersize=9, markeredgewidth=1.3
            )
            axes.annotate(
                name, (0, height), (-4, 0), xycoords=axes.get_yaxis_transform(), ha="right",
                textcoords="offset points", va="center", fontsize=8.5, color=_tone(tone),
            )  # fmt: skip
        for at, level in enumerate(levels):
            axes.axvline(level.value, color=_tone(level.tone), linewidth=1.6, linestyle="--")
            axes.annotate(
                level.name, (level.value, most * (1.22 - 0.1 * at)), (5, 0), va="center",
                textcoords="offset points", color=_tone(level.tone), fontsize=8.5,
            )  # fmt: skip
        axes.set(xlabel="score", xlim=(edges[0], edges[-1]))
        axes.set_ylim(-(len(marks) + 0.8) * step if marks else 0, most * 1.3)
        ticks = sorted({0, round(most / 2), round(most)})
        axes.set_yticks(ticks, [str(tick) for tick in ticks])
        axes.set_ylabel("good pictures", loc="top")
        limits = "; ".join(f"{level.name} {level.value:.2f}" for level in levels)
        says = (
            f"Histogram of the scores of {len(scores)} good pictures, from {min(scores):.2f} to "
            f"{max(scores):.2f}. Limits: {limits}."
        )
        return markup(figure, "histogram", says=says)


def precision_recall(lines: Sequence[Line]) -> Markup:
    """Draw curves of precision over recall."""
    labels = ("recall: share of the defects found", "precision: share of alarms that are right")
    with canvas(4.0, 3.4) as (figure, axes):
        _plot_rates(axes, lines, drawstyle="steps-pre")  # the area is the average precision
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.legend(loc="lower left")
        named = "; ".join(line.name for line in lines)
        return markup(figure, "pr", says=f"Precision over recall. {named}.")


def roc(lines: Sequence[Line]) -> Markup:
    """Draw curves of the true over the false positive rate."""
    labels = ("false alarms: share of the good", "share of the defects found")
    with canvas(4.0, 3.4) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=":")
        _plot_rates(axes, lines)
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.legend(loc="lower right")
        named = "; ".join(line.name for line in lines)
        return markup(figure, "roc", says=f"ROC curves. {named}.")


def _plot_rates(axes: Axes, lines: Sequence[Line], drawstyle: str = "default") -> None:
    for line, colour in zip(lines, (ACCENT, WARN, GOOD), strict=False):
        style = "--" if line.broken else "-"
        axes.plot(
            line.x, line.y, color=colour, label=line.name, linestyle=style, drawstyle=drawstyle
        )
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])


def _legend_above(axes: Axes) -> None:
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, borderpad=0, handlelength=1.4
    )


def _above(values: Sequence[float]) -> float:
    return max([*values, 0.05]) * 1.12


def _tone(tone: str) -> str:
    return {"good": GOOD, "warn": WARN, "bad": BAD}.get(tone, MUTED)


def _short(name: str) -> str:
    """Return a name as a chart can hold it: in one line, and not longer than the chart."""
    return words.shortened(name, LONGEST_NAME)
