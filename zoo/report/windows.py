"""Validation windows with what a detector says of them, kept beside a search for its report."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.data.defects.validation import GOOD, PLACEBO, Window
from zoo.detectors import Score
from zoo.files import read_object, write_text
from zoo.report import overlays
from zoo.report.pictures import Shot, store, stored

EACH = 2  # windows of a family, of good pictures and of placebos
INDEX = "windows.json"


def chosen(windows: Sequence[Window]) -> list[Window]:
    """Return the windows to show: some of each family, then good ones and placebos.

    Within a family the sizes ascend, so the middle one and the largest are shown.
    """
    families = dict.fromkeys(window.family for window in windows)
    order = [*(each for each in families if each not in (GOOD, PLACEBO)), GOOD, PLACEBO]
    return list(itertools.chain.from_iterable(_some(windows, each) for each in order))


def save(windows: Sequence[Window], scores: Sequence[Score], folder: Path) -> None:
    """Write each window with its map beside it, and a line of words for each.

    Args:
        windows: The windows.
        scores: What the detector says of each.
        folder: Where; made if need be. Windows of an earlier call are replaced.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    lines = []
    for number, (window, score) in enumerate(zip(windows, scores, strict=True)):
        pair = overlays.picture_and_map(window.image, score, window.mask)
        store(pair, _picture(folder, number))
        lines.append(_line(window, score))
    write_text(json.dumps({"windows": lines}, indent=1), folder / INDEX)


def load(folder: Path) -> list[Shot]:
    """Return what `save` wrote; nothing if there is nothing, or it cannot be read."""
    shots = []
    lines = read_object(folder / INDEX).get("windows")
    for number, line in enumerate(lines if isinstance(lines, list) else []):
        content = stored(_picture(folder, number))
        if content is not None and isinstance(line, dict):
            texts = {name: str(line.get(name, "")) for name in ("title", "says", "tone")}
            shots.append(Shot(content=content, **texts))
    return shots


def _some(windows: Sequence[Window], family: str) -> list[Window]:
    own = [window for window in windows if window.family == family]
    if len(own) <= EACH:
        return own
    return [own[len(own) // 2], own[-1]]


def _picture(folder: Path, number: int) -> Path:
    return folder / f"window-{number:02}.jpg"


def _line(window: Window, score: Score) -> dict[str, Any]:
    kind = window.family.replace("_", " ")
    if window.family == GOOD:
        title = "Good, as it is"
    elif window.family == PLACEBO:
        title = "Placebo: good material put in another place"
    else:
        title = f"Painted: {', '.join([kind, *window.strata[1:]])}"
    if window.varied:
        title += "; under other light, focus or noise"
    right = score.is_anomalous == bool(window.strata)
    return {
        "title": title,
        "says": f"Score {score.score:.2f}: {score.verdict}",
        "tone": "good" if right else "bad",
    }
