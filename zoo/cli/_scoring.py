"""Images scored by a detector in this process, or by a service; both give the same lines."""

from __future__ import annotations

import argparse
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import BadImageError

if TYPE_CHECKING:
    import numpy as np

    from zoo.serve.answers import Scored as Answer

FIELDS = (  # of `Score.as_json`
    "score",
    "threshold",
    "verdict",
    "p_value",
    "is_anomalous",
    "anomalous_pixels",
    "regions",
    "statistics",
    "warnings",
)


class Scored(NamedTuple):
    """What became of an image: its line for JSON, and its overlay if it is wanted; or an error."""

    path: Path
    line: dict[str, Any] | None = None
    overlay: np.ndarray | None = None
    error: BadImageError | None = None


def here(args: argparse.Namespace, paths: Sequence[Path]) -> Generator[Scored]:
    """Score images in this process; errors as in `zoo.load`."""
    import zoo
    from zoo.detectors import score_files
    from zoo.report import overlays

    detector = zoo.load(args.name, device=args.device)
    scored_by = {"detector": f"{detector.name}:{detector.version}", "digest": detector.digest}
    scored = score_files(detector, paths)
    try:
        for path, pixels, score, error in scored:
            if pixels is None or score is None:
                yield Scored(path, error=error)
                continue
            drawn = overlays.picture_and_map(pixels, score) if args.out else None
            yield Scored(path, score.as_json() | scored_by, drawn)
    finally:
        scored.close()


def there(args: argparse.Namespace, paths: Sequence[Path]) -> Generator[Scored]:
    """Let a service score images; errors as in `zoo.serve.client`."""
    from zoo.home import service_key
    from zoo.serve import client

    key = client.read_key(args.key_file) if args.key_file else service_key()
    with client.Client(args.server, key=key) as service:
        answers = client.score_files(service, args.name, paths, with_maps=args.out is not None)
        try:
            for path, answer, map_, error in answers:
                if answer is None:
                    yield Scored(path, error=error)
                    continue
                try:
                    drawn = None if map_ is None else _drawn(path, answer, map_)
                except BadImageError as unread:  # another limit of pixels holds here
                    yield Scored(path, error=unread)
                else:
                    yield Scored(path, _line(answer), drawn)
        finally:
            answers.close()


def _line(answer: Answer) -> dict[str, Any]:
    """Return the answer of a service as the line of a detector in this process."""
    known = answer.model_dump() | {"threshold": answer.thresholds.picture}
    scored_by = {"detector": f"{answer.texture}:{answer.version}", "digest": answer.digest}
    return {name: known[name] for name in FIELDS} | scored_by


def _drawn(path: Path, answer: Answer, map_: np.ndarray) -> np.ndarray:
    from zoo.data.images import read_image
    from zoo.detectors import Score
    from zoo.report import overlays

    limits = answer.thresholds
    score = Score(
        map=map_,
        score=answer.score,
        threshold=limits.pixel,
        share_of_peak=limits.share_of_peak,
    )
    return overlays.picture_and_map(read_image(path), score)
