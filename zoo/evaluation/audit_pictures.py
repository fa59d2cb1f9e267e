"""What an audit keeps for a report: curves of the pixels, and the pictures nearest to an error."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from registry.trials import AUDIT_CURVES, AUDIT_SHOWN
from zoo.data.textures import Texture
from zoo.evaluation.audit import Scored, read_again
from zoo.files import write_text
from zoo.report import overlays
from zoo.report.pictures import store
from zoo.scoring.curves import curves

SHOWN = 6  # pictures on either side
DIGITS = 6  # of a score in a log, by `Score.as_json`
PIXELS = 2**23  # of a curve; more take seconds and look the same


def nearest(defective: Sequence[bool], scores: Sequence[float]) -> tuple[list[int], list[int]]:
    """Return which defective pictures score lowest, and which good ones highest, the worst first.

    Scores are compared to the digits that a log keeps, so that a log names the same pictures.

    Args:
        defective: Whether each picture shows a defect.
        scores: Of each picture.
    """
    order = np.argsort(np.round(scores, DIGITS), kind="stable").tolist()
    missed = [at for at in order if defective[at]][:SHOWN]
    alarms = [at for at in reversed(order) if not defective[at]][:SHOWN]
    return missed, alarms


def write(scored: Scored, texture: Texture, folder: Path) -> None:
    """Write both into the folder of an audited bundle.

    Of the pictures, those of `nearest` are read again, because an audit does not keep them.

    Args:
        scored: What the detector says of each test picture.
        texture: Where the pictures are.
        folder: Where; made if need be.

    Raises:
        BadImageError: A picture cannot be read any more.
        StorageError: The disk is full or the folder cannot be written.
    """
    if scored.located and any(not each.defective for each in scored.pictures):
        _write_curves(scored, folder / AUDIT_CURVES)
    both = nearest(scored.defective.tolist(), scored.scores.tolist())
    names = {scored.pictures[at].name: at for at in itertools.chain(*both)}
    for picture in read_again(texture, names):
        at = names[picture.name]
        pair = overlays.picture_and_map(picture.pixels, scored.pictures[at].score, picture.mask)
        store(pair, picture_of(folder, at))


def picture_of(folder: Path, number: int) -> Path:
    """Return the file with a test picture and its map, by its number in the log of the audit."""
    return folder / AUDIT_SHOWN / f"{number:05}.jpg"


def _write_curves(scored: Scored, path: Path) -> None:
    maps, masks = scored.with_masks()
    step = max(1, math.isqrt(sum(each.size for each in maps) // PIXELS))
    values = np.concatenate([each[::step, ::step].ravel() for each in maps])
    labels = np.concatenate([each[::step, ::step].ravel() for each in masks])
    if labels.any() and not labels.all():
        write_text(json.dumps(asdict(curves(values, labels))), path)
