"""One picture of a request: decoded, scored and drawn in one go, in the thread of its turn."""

from __future__ import annotations

import base64
import hashlib
import io
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from registry.bundle import Bundle
from zoo.data.images import as_pixels, has_colour, to_mode
from zoo.detectors import Score, calibrated, good_scores
from zoo.errors import RefusedError
from zoo.report import overlays
from zoo.scoring.thresholds import (
    Rates,
    false_alarm_interval,
    fit_threshold,
    independent_images,
)
from zoo.serve.pool import Served

Kind = Literal["json", "overlay", "map"]
WithMap = Literal["true", "float32"]
MOST_REGIONS = 1000  # in an answer, of the highest peaks; noise can have as many as it has pixels


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a client asks for.

    Attributes:
        kind: JSON, the overlay as PNG, or the map as a file of NumPy.
        with_map: The map in the JSON too: `true` for a grey PNG in which 128 is the threshold,
            `float32` for a file of NumPy.
        rate: Share of good pictures that may be called defective; None for that of the detector.
    """

    kind: Kind = "json"
    with_map: WithMap | None = None
    rate: float | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a picture is answered with.

    Attributes:
        line: All but the map, for JSON.
        file: The overlay or the map, if that was asked for.
    """

    line: dict[str, Any]
    file: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of a picture's score at one operating point, in units of `Score.score`.

    Attributes:
        picture: A score above it is called defective.
        look_again: A score above it calls for a second look; `picture` for two answers.
        rate: Expected share of good pictures above `picture`.
        interval: Where the true share lies, with 95 % confidence; None for one calibration image.
        rule: How `picture` was set, as in `zoo.scoring.thresholds.Threshold`.
    """

    picture: float
    look_again: float
    rate: float
    interval: tuple[float, float] | None
    rule: str


def answered(served: Served, content: bytes, wanted: Wanted) -> Answer:
    """Score a picture.

    Args:
        served: The detector.
        content: The file of the picture.
        wanted: What to answer with.

    Raises:
        BadImageError: It cannot be read or scored.
        RefusedError: The detector cannot be moved to the rate.
    """
    begun = time.monotonic()
    bundle, detector = served.bundle, served.detector
    assert detector is not None  # a pool that builds none has pictures scored elsewhere
    limits = limits_of(bundle, wanted.rate)
    pixels = as_pixels(content)
    seen, note = _as_taught(pixels, bundle)
    found = detector.score(seen)
    line = _line(found, limits)
    line["warnings"] += note
    file = b""
    if wanted.kind == "overlay":
        file = _png(overlays.overlay(pixels, found))
    elif wanted.kind == "map":
        file = _npy(found)
    elif wanted.with_map:
        whole = _png(overlays.grey(found)) if wanted.with_map == "true" else _npy(found)
        line["map"] = base64.b64encode(whole).decode()
    about = {
        "name": served.name,
        "texture": bundle.texture,
        "version": served.version,
        "digest": served.digest,
        "picture": hashlib.sha256(content).hexdigest(),
    }
    return Answer(line=about | line | {"seconds": round(time.monotonic() - begun, 4)}, file=file)


def limits_of(bundle: Bundle, rate: float | None) -> Limits:
    """Return the limits at a rate of false alarms, or those that the detector has.

    Args:
        bundle: Of a detector, so that its card has been checked.
        rate: Share of good pictures that may be called defective.

    Raises:
        RefusedError: The detector carries no scores of good pictures.
        ConfigError: The rate is not between 0 and 1.
    """
    known = bundle.threshold
    look = known.get("look_again_rate")
    if rate is None:
        lower = known.get("look_again_value")
        return Limits(
            picture=1.0,
            look_again=1.0 if lower is None else min(1.0, calibrated(lower, known["value"])),
            rate=float(known["false_alarm_rate"]),
            interval=_interval(independent_images(known), float(known["false_alarm_rate"])),
            rule=str(known["rule"]),
        )
    good = good_scores(bundle)
    if good is None:
        raise RefusedError(
            f"The detector of '{bundle.texture}' carries no scores of good pictures, because an "
            "older version made it, so it has one operating point. Leave out `rate`.",
            status=422,
            code="one_rate",
        )
    band = look if look is not None and look > rate else None
    found = fit_threshold(
        good.scores, Rates(false_alarms=rate, look_again=band), groups=list(good.groups)
    )
    lower = found.look_again_value
    return Limits(
        picture=found.value,
        look_again=found.value if lower is None else min(lower, found.value),
        rate=rate,
        interval=_interval(found.independent, rate),
        rule=found.rule,
    )


@lru_cache(maxsize=256)
def _interval(images: int, rate: float) -> tuple[float, float] | None:
    if images < 2:
        return None
    low, high = false_alarm_interval(images, rate)
    return round(low, 4), round(high, 4)


def _line(found: Score, limits: Limits) -> dict[str, Any]:
    """Return a score for JSON, with the verdict at these limits."""
    line, score = found.as_json(), found.score
    line.pop("threshold")
    verdict = "good" if score <= limits.look_again else "look again"
    height, width = found.map.shape
    return line | {
        "verdict": "defective" if score > limits.picture else verdict,
        "is_anomalous": score > limits.picture,
        "anomalous_share": round(line["anomalous_pixels"] / (height * width), 8),
        "regions": line["regions"][:MOST_REGIONS],
        "thresholds": {
            "picture": limits.picture,
            "look_again": limits.look_again,
            "pixel": found.threshold,
            "share_of_peak": found.share_of_peak,
            "smallest_region": found.smallest_region,
            "false_alarm_rate": limits.rate,
            "false_alarm_interval": limits.interval,
            "rule": limits.rule,
        },
        "height": height,
        "width": width,
    }


def _as_taught(
    pixels: Shaped[np.ndarray, "h w c"], bundle: Bundle
) -> tuple[Shaped[np.ndarray, "h w k"], list[str]]:
    """Return a picture in the mode of the detector, and a line if its colour is dropped."""
    mode = (bundle.parts or (bundle,))[0].preprocessing["mode"]
    if mode != "L" or not has_colour(pixels):
        return pixels, []
    return to_mode(pixels, "L"), [
        "Colour is not looked at: the detector was trained on grey pictures, so this one was "
        "converted to grey."
    ]


def _png(pixels: Shaped[np.ndarray, "h w *c"]) -> bytes:
    disk = io.BytesIO()
    Image.fromarray(pixels).save(disk, "png", compress_level=3)
    return disk.getvalue()


def _npy(found: Score) -> bytes:
    disk = io.BytesIO()
    np.save(disk, found.map.astype(np.float32, copy=False), allow_pickle=False)
    return disk.getvalue()
