"""What a detector says of each test picture, as JSON lines: to look at misses and false alarms."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import one_line
from zoo.evaluation.audit import Scored, ScoredPicture
from zoo.files import read_regular, write_text
from zoo.scoring import metrics

SHOWN = 3  # pictures on either side, in words
MOST_BYTES = 2**31  # of a file
_READ: Mapping[str, tuple[type, ...]] = {
    "image": (str,),
    "score": (int, float),
    "defective": (bool,),
    "is_anomalous": (bool,),
}
REGIONS, CORNERS = 20, 100  # of a picture and of a contour, so that a line has at most some 30 KB


def write(scored: Scored, path: Path) -> Path:
    """Replace a file with one JSON object a line, for each test picture in the order of reading.

    A line has the fields of a line of `zoo score --json`, whose `image` is a path relative to the
    texture's folder, and `kind` ("good" or the type of the defect), `defective`,
    `defective_pixels`, `pixel_ap`, `pixel_f1` and `seconds`. Figures of pixels are None where no
    mask shows a defect. `regions` has the `REGIONS` with the highest peaks, of `regions_found`, and
    a contour of many corners is thinned out to `CORNERS`.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    lines = [json.dumps(_line(picture)) + "\n" for picture in scored.pictures]
    return write_text("".join(lines), path)


def nearest(path: Path) -> list[str]:
    """Say which defective pictures of a file that `write` made score lowest, which good ones most.

    Returns:
        A line for either side; none for a side without pictures, or if there is no file. One line
        that says why, if the file is damaged: no promotion fails for it.
    """
    if not path.is_file():
        return []
    try:
        lines = [_read(line) for line in read_regular(path, most=MOST_BYTES).splitlines()]
    except (OSError, ValueError, RecursionError) as error:
        return [
            f"{path} cannot be summed up: {one_line(error)}. Remove its folder, and the next "
            "promotion of the detector makes it again."
        ]
    lines.sort(key=lambda line: float(line["score"]))
    defective = [line for line in lines if line["defective"]]
    good = [line for line in reversed(lines) if not line["defective"]]
    said = [f"{path} has a line for each of {len(lines)} test pictures."]
    if defective:
        missed = sum(not line["is_anomalous"] for line in defective)
        said.append(f"Missed {missed} of {len(defective)} defective; lowest: {_named(defective)}.")
    if good:
        alarms = sum(line["is_anomalous"] for line in good)
        said.append(f"False alarms {alarms} of {len(good)} good; highest: {_named(good)}.")
    return said


def _read(text: bytes) -> dict[str, Any]:
    """Return a line as an object.

    Raises:
        ValueError: It is none, or a field that `nearest` reads is not what it should be.
    """
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"a line of it is no object: {text[:40]!r}")
    for name, kind in _READ.items():
        if type(found.get(name)) not in kind:
            raise ValueError(f"'{name}' of a line is {found.get(name)!r:.40}")
    if not abs(found["score"]) < sys.float_info.max:
        raise ValueError(f"the score of a line is {found['score']!r:.40}")
    return found


def _line(picture: ScoredPicture) -> dict[str, Any]:
    said, mask = picture.score.as_json(), picture.mask
    figures: dict[str, float | None] = {"pixel_ap": None, "pixel_f1": None}
    if mask is not None and mask.any() and not mask.all():
        pixels = picture.score.map.ravel(), mask.ravel()
        figures["pixel_ap"] = round(metrics.average_precision(*pixels), 4)
        figures["pixel_f1"] = round(metrics.f1(picture.score.mask.ravel(), mask.ravel()), 4)
    regions = said.pop("regions")
    return {
        "image": picture.name,
        "kind": picture.kind,
        "defective": picture.defective,
        **said,
        "defective_pixels": None if mask is None else int(mask.sum()),
        **figures,
        "seconds": round(picture.seconds, 4),
        "regions_found": len(regions),
        "regions": [
            region | {"contour": _thinned(region["contour"])} for region in regions[:REGIONS]
        ],
    }


def _thinned(contour: Sequence[Any]) -> Sequence[Any]:
    return contour[:: -(-len(contour) // CORNERS)]


def _named(lines: Sequence[dict[str, Any]]) -> str:
    return ", ".join(f"{line['image']} ({line['score']:.3f})" for line in lines[:SHOWN])
