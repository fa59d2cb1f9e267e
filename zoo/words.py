"""What people read: dates, sizes, durations, counts and shares in words, and texts of others.

Programs get numbers (`--json`); people get these words, the same ones on a terminal, on the page of
the service and in the reports.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from zoo.errors import visible

LATEST = 2**37  # seconds since 1970: beyond it there is no date
LONGEST = 2000  # characters of a text of others that are shown
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def shortened(text: str, most: int = LONGEST) -> str:
    """Return a text in one line of at most so many characters; what is left out is in its middle.

    Example:
        >>> shortened("a-very-long-name-of-a-texture", 12)
        'a-very…xture'
    """
    shown = visible(text[: 4 * most] if len(text) > 4 * most else text)
    if len(shown) <= most:
        return shown
    after = (most - 1) // 2
    return f"{shown[: most - 1 - after]}…{shown[len(shown) - after :]}"


def date(when: float, *, zone: bool = False) -> str:
    """Return a time as the local date and time of day; a dash if there is no such date.

    Args:
        when: Seconds since 1970.
        zone: Whether to add the time zone, for readers who may be in another one.
    """
    if not math.isfinite(when) or not 0 <= when <= LATEST:
        return "-"
    local = datetime.fromtimestamp(when).astimezone()
    shown = f"{local:%Y-%m-%d %H:%M}"
    return f"{shown} {local:%Z}" if zone else shown


def time_of_day(when: float) -> str:
    """Return a time of today as `17:05`, and another one with its date."""
    shown = date(when)
    return shown.removeprefix(date(time.time()).partition(" ")[0] + " ")


def megabytes(count: float) -> str:
    """Return a number of megabytes; of small ones two digits are left.

    Example:
        >>> megabytes(12.38), megabytes(0.034), megabytes(1234.5), megabytes(0.0)
        ('12.4 MB', '0.034 MB', '1,234 MB', '0 MB')
    """
    digits = 1 if 1 <= count < 100 else 0
    return f"{count:,.{digits}f} MB" if count >= 1 else f"{count:.2g} MB"


def duration(seconds: float) -> str:
    """Return a duration in the largest units that matter.

    Example:
        >>> duration(0.0896), duration(42.0), duration(320.0), duration(760.0), duration(8e3)
        ('0.09 s', '42 s', '5 min 20 s', '13 min', '2 h 13 min')
        >>> duration(2e5)
        '2 d 8 h'
    """
    if not math.isfinite(seconds) or seconds < 0:
        return "-"
    if seconds < 9.5:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < 10 * _MINUTE:
        return f"{whole // _MINUTE} min" + (f" {whole % _MINUTE} s" if whole % _MINUTE else "")
    minutes = round(whole / _MINUTE)
    if minutes < _MINUTE:
        return f"{minutes} min"
    if whole < _DAY:
        return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")
    hours = round(whole / _HOUR)
    return f"{hours // 24} d" + (f" {hours % 24} h" if hours % 24 else "")


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, which gets an s unless the number is 1.

    Example:
        >>> counted(1, "picture"), counted(0, "picture"), counted(1200, "bundle")
        ('1 picture', '0 pictures', '1,200 bundles')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def outcomes(counts: Iterable[tuple[str, float]]) -> str:
    """Return how many trials had each outcome; empty if there were none.

    Example:
        >>> outcomes([("running", 0), ("finished", 3.0), ("stopped_early", 1.0)])
        '3 finished, 1 stopped early'
    """
    known = {name.replace("_", " "): round(number) for name, number in counts}
    return ", ".join(f"{number} {name}" for name, number in known.items() if number)


def in_words(name: str, value: Any) -> tuple[str, str]:
    """Return the name of a figure as a label, and its value in the unit that its name says.

    Example:
        >>> in_words("val_pixel_ap", 0.66767), in_words("train_seconds", 95.0)
        (('val pixel AP', '0.668'), ('training took', '1 min 35 s'))
        >>> in_words("promoted", True), in_words("trials_failed", 0.0), in_words("test", None)
        (('promoted', 'yes'), ('trials failed', '0'), ('test', '-'))
    """
    label = _LABELS.get(name) or " ".join(_ACRONYMS.get(w, w) for w in name.split("_"))
    return label, _value(name, value)


def _value(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return "; ".join(_value("", each) for each in value) or "none"
    if not isinstance(value, int | float):
        return str(value)
    if name.endswith("seconds") or name.endswith("seconds_per_image"):
        return duration(float(value))
    if name.endswith("megabytes"):
        return megabytes(float(value))
    if name.endswith("rate"):
        return percent(float(value))
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.3f}" if abs(value) >= 1e-3 else f"{value:.1e}"


_LABELS = {
    "seconds": "time",
    "train_seconds": "training took",
    "test_seconds_per_image": "time a picture",
    "megabytes": "size",
}
_ACRONYMS = {"ap": "AP", "auroc": "AUROC", "aupro": "AUPRO", "f1": "F1", "cpu": "CPU", "gpu": "GPU"}


def percent(share: float) -> str:
    """Return a share as a percentage, with two digits if it is small.

    Example:
        >>> percent(0.05), percent(0.345), percent(0.0012), percent(0.0), percent(1.0)
        ('5 %', '34 %', '0.12 %', '0 %', '100 %')
    """
    shown = 100 * share
    return f"{shown:.2g} %" if 0 < shown < 10 else f"{shown:.0f} %"
