"""A report as one HTML file: templates, how values are written, and the file itself.

The file needs nothing from outside and runs no script. Every text is escaped, whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from zoo import words
from zoo.errors import ConfigError
from zoo.files import write_text

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
GENERATOR = "texture-zoo report"
_MARK = f'<meta name="generator" content="{GENERATOR}">'
_MARK_WITHIN = 2000  # bytes of the beginning of a file
LONGEST = 600  # characters of a text of others, such as a reason


def rendered(template: str, values: Mapping[str, Any]) -> str:
    """Return the page that a template makes of these values; the same values give the same page."""
    style = Markup((TEMPLATES / "report.css").read_text("utf-8"))  # a file of ours
    return _environment().get_template(template).render({**values, "style": style})


def write(page: str, path: Path) -> Path:
    """Write a page in one step; its folder is made if need be.

    Raises:
        ConfigError: The path is a folder, or a file that is no report.
        StorageError: The disk is full or the folder cannot be written.
    """
    check_target(path)
    return write_text(page, path)


def check_target(path: Path) -> None:
    """Refuse a path that a report must not be written to.

    Raises:
        ConfigError: It is a folder, or a file that is no report.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file to write, such as {path}/report.html.")
    if (path.exists() or path.is_symlink()) and not is_report(path):
        raise ConfigError(
            f"{path} is not a report of this program, so it is not replaced. Name another file "
            "with --out, or remove it."
        )


def is_report(path: Path) -> bool:
    """Return whether a file is a report that `write` wrote."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return _MARK.encode() in file.read(_MARK_WITHIN)
    except OSError:
        return False


def figure(value: float | None, digits: int = 3) -> str:
    """Return a number with so many digits after the point; a dash for None.

    Example:
        >>> figure(0.66766), figure(None), figure(1.5e-4)
        ('0.668', '-', '0.00015')
    """
    if value is None or value != value:
        return "-"
    if value and abs(value) < 10**-digits:
        return f"{value:.2g}"
    return f"{value:.{digits}f}"


def told(value: object) -> str:
    """Return a setting as short as it is exact enough to be read.

    Example:
        >>> told("0.00044721359549995795"), told("16"), told("batch"), told("1.0")
        ('0.000447', '16', 'batch', '1')
    """
    text = words.shortened(str(value), 60)
    try:
        number = float(text)
    except ValueError:
        return text
    return f"{number:.3g}" if abs(number) < 1e6 else text


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_safe,
    )
    made.globals["generator"] = Markup(_MARK)
    made.filters |= {
        "figure": figure,
        "told": told,
        "date": words.date,
        "duration": words.duration,
        "percent": words.percent,
    }
    return made


def _safe(value: Any) -> Any:
    """Make signs visible that would act on a page: those that turn a line around, for example."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return words.shortened(value, LONGEST)
    return value
