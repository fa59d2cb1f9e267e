"""Figures as SVG markup for a page: the same bytes for the same values, in the page's colours."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from zoo.errors import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours by their names in the style sheet. Each is drawn with its value and then replaced by its
# name, so that a page in dark colours has dark figures. No two may be the same.
INK, MUTED, GRID = "#1b1f24", "#66707a", "#d9dde1"
ACCENT, GOOD, WARN, BAD, QUIET = "#1f5fa8", "#1d7a4b", "#9a6a00", "#b3261e", "#a9b4c0"
_NAMES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    ACCENT: "accent",
    GOOD: "good",
    WARN: "warn",
    BAD: "bad",
    QUIET: "quiet",
}
_STYLE: Any = {  # the type of matplotlib lists every name
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "texture-zoo",
    "text.parse_math": False,  # names may hold a dollar sign
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so that sizes are the same everywhere
    "font.size": 9.0,
    "axes.labelsize": 9.0,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


@contextmanager
def canvas(width: float = 4.8, height: float = 3.0) -> Iterator[tuple[Figure, Axes]]:
    """Give an empty figure of this size in inches, and its axes, in the style of the reports."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE), warnings.catch_warnings():
        # The browser has the letters that the font of matplotlib lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots()


def markup(figure: Figure, name: str, *, says: str) -> Markup:
    """Return the SVG element of a figure; to be called within `canvas`.

    Args:
        figure: The figure.
        name: Another one for each figure of a page: letters and hyphens.
        says: What a reader who does not see the figure must know.
    """
    written = io.BytesIO()
    figure.savefig(written, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format")))
    text = written.getvalue().decode()
    text = text[text.index("<svg") :]
    # Both have addresses of the web in them, and a page needs neither.
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'(<svg)[^>]*?(viewBox="[^"]*")[^>]*>', _opening(name, says), text, count=1)
    text = re.sub(r"<style.*?</style>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)
    text = re.sub(r" *\n\s*", " ", _with_own_ids(text, name))
    for colour, known in _NAMES.items():
        text = text.replace(colour, f"var(--{known})")
    return Markup(visible(text))  # matplotlib escapes all texts in it


def _opening(name: str, says: str) -> str:
    title = str(escape(says)).replace("\\", r"\\")
    return (
        rf'\1 class="chart" \2 role="img" aria-labelledby="{name}-says">'
        rf'<title id="{name}-says">{title}</title>'
    )


def _with_own_ids(text: str, name: str) -> str:
    """Remove the ids that nothing refers to, and make the others those of this figure."""
    used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text))
    known = {each for pair in used for each in pair if each} | {f"{name}-says"}

    def renamed(match: re.Match[str]) -> str:
        own = match[1]
        if own == f"{name}-says":
            return match[0]
        return f' id="{name}-{own}"' if own in known else ""

    text = re.sub(r' id="([^"]*)"', renamed, text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    return re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
