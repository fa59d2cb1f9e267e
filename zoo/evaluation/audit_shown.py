"""An audit as a report shows it: the one of a promotion, or one that is made now.

The audit of a promotion is kept under the home, with a line for each test picture and the pictures
that were nearest to an error. A line that is not what it should be is left out.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from registry import bundle
from registry.bundle import Bundle
from registry.trials import AUDIT_CURVES, AUDIT_LOG
from zoo.data.textures import Texture
from zoo.detectors import Detector
from zoo.evaluation import audit_log, audit_pictures
from zoo.evaluation.audit import doubts, figures, score_test
from zoo.files import read_object, read_objects, read_regular
from zoo.report.detector_page import Audited, KindRow
from zoo.report.pictures import Shot, stored
from zoo.scoring import metrics
from zoo.scoring.curves import Curves, curves

MOST_LOG = 2**28  # bytes of a log; a line has at most some thirty thousand
TEST = "test_"  # beginning of the name of a figure of an audit
_NO_PICTURES = (
    "The pictures are not kept with this audit. `zoo report NAME --data DIR` reads them again."
)


def before(made: Bundle, digest: str, home: Path) -> Audited | None:
    """Return the audit of the promotion of a detector; None if it is not kept under the home.

    Args:
        made: The detector.
        digest: Of its bundle, with the figures of the audit.
        home: Where audits are kept.
    """
    for path in sorted((home / "audited").glob(f"*/{bundle.CARD}")):
        try:
            content = read_regular(path, most=bundle.MOST_BYTES[bundle.CARD])
        except OSError:
            continue
        if hashlib.sha256(content).hexdigest() == digest:
            return _audited(made, path.parent)
    return None


def now(made: Bundle, texture: Texture) -> tuple[Audited | None, Bundle]:
    """Return an audit that is made now, and the detector with its figures.

    Raises:
        EmptyFolderError: There is no test picture.
        BadImageError: One cannot be read.
        BadMaskError: One has no mask.
    """
    scored = score_test(Detector(made), texture)
    with tempfile.TemporaryDirectory() as folder:
        audit_log.write(scored, Path(folder) / AUDIT_LOG)
        audit_pictures.write(scored, texture, Path(folder))
        measured = bundle.with_metrics(made, figures(scored))
        return _audited(measured, Path(folder)), measured


def _audited(made: Bundle, folder: Path) -> Audited | None:
    """Return an audit from what it kept in a folder; None without a log."""
    lines = _lines(folder / AUDIT_LOG)
    if not lines:
        return None
    defective = np.array([line["defective"] for line in lines], np.bool_)
    scores = np.array([line["score"] for line in lines], np.float64)
    both = bool(defective.any() and not defective.all())
    misses, alarms = audit_pictures.nearest(defective.tolist(), scores.tolist())
    shots = [_shots(folder, lines, side) for side in (misses, alarms)]
    known = {
        name.removeprefix(TEST): value
        for name, value in made.metrics.items()
        if name.startswith(TEST)
    }
    return Audited(
        kinds=_kinds(lines),
        good=tuple(scores[~defective].tolist()),
        defective=tuple(scores[defective].tolist()),
        image=curves(scores, defective) if both else None,
        image_ap=metrics.average_precision(scores, defective) if both else None,
        image_auroc=metrics.auroc(scores, defective) if both else None,
        pixel=_pixel_curves(folder / AUDIT_CURVES),
        figures=known,
        misses=shots[0],
        alarms=shots[1],
        pictures_note="" if any(shots) else _NO_PICTURES,
        doubts=tuple(doubts(made.metrics, made.threshold)),
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log that have all that a report needs."""
    return [line for line in read_objects(path, most=MOST_LOG) if _is_whole(line)]


def _is_whole(line: Mapping[str, Any]) -> bool:
    score, pixel_ap = line.get("score"), line.get("pixel_ap")
    return (
        isinstance(line.get("image"), str)
        and isinstance(line.get("kind"), str)
        and all(isinstance(line.get(name), bool) for name in ("defective", "is_anomalous"))
        and isinstance(score, int | float)
        and abs(score) < 1e300
        and (pixel_ap is None or (isinstance(pixel_ap, int | float) and 0 <= pixel_ap <= 1))
    )


def _kinds(lines: Sequence[Mapping[str, Any]]) -> tuple[KindRow, ...]:
    """Return a row for each kind; a kind of defect may have pictures without a visible defect."""
    groups: dict[tuple[bool, str], list[Mapping[str, Any]]] = {}
    for line in lines:
        groups.setdefault((not line["defective"], line["kind"]), []).append(line)
    rows = []
    for (good, kind), mine in sorted(groups.items()):
        aps = [line["pixel_ap"] for line in mine if line.get("pixel_ap") is not None]
        rows.append(
            KindRow(
                kind=kind if good == (kind == "good") else f"{kind}, without a defect",
                defective=not good,
                pictures=len(mine),
                alarms=sum(line["is_anomalous"] for line in mine),
                middle=statistics.median(line["score"] for line in mine),
                pixel_ap=statistics.fmean(aps) if aps else None,
            )
        )
    return tuple(rows)


def _shots(
    folder: Path, lines: Sequence[Mapping[str, Any]], side: Sequence[int]
) -> tuple[Shot, ...]:
    shots = []
    for at in side:
        content = stored(audit_pictures.picture_of(folder, at))
        if content is None:
            continue
        line = lines[at]
        right = line["is_anomalous"] == line["defective"]
        verdict = "defective" if line["is_anomalous"] else str(line.get("verdict", "good"))
        wrong = "a false alarm" if line["is_anomalous"] else "missed"
        shots.append(
            Shot(
                content=content,
                title=f"{line['kind']}: {line['image']}",
                says=f"Score {line['score']:.2f}: {verdict}" + ("" if right else f", {wrong}"),
                tone="good" if right else "bad",
            )
        )
    return tuple(shots)


def _pixel_curves(path: Path) -> Curves | None:
    known = read_object(path)
    try:
        values = {each.name: tuple(map(float, known[each.name])) for each in fields(Curves)}
    except (KeyError, TypeError, ValueError):
        return None
    found = Curves(**values)
    pairs = ((found.recall, found.precision), (found.false_rate, found.true_rate))
    shares = [share for pair in pairs for side in pair for share in side]
    fits = all(len(x) == len(y) > 0 for x, y in pairs) and all(0 <= each <= 1 for each in shares)
    return found if fits else None
