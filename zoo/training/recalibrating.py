"""New limits for a detector: another operating point, or good pictures of a new line or camera.

Nothing is trained. Another operating point needs the scores that the detector carries. With new
pictures, other light is undone by the ratio of the brightness of old and new good pictures, and
tails and thresholds are set on the new ones; defects are painted on them for the threshold of
pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np

from registry.bundle import Bundle
from zoo.data import relatives
from zoo.data.preprocessing import BRIGHTEST
from zoo.data.splits import Splits
from zoo.data.statistics import picture_statistics
from zoo.data.textures import Texture
from zoo.detectors import Detector, card, fusion_of
from zoo.errors import ConfigError, DataError
from zoo.scoring.thresholds import Rates, fit_threshold
from zoo.training.data import TrainingData, data_of
from zoo.training.fit import raw_score, with_threshold
from zoo.training.fusing import made, part_of

_SET_AGAIN = ("value", "false_alarm_rate", "rule", "look_again_rate", "look_again_value")
FEWEST = 5  # good pictures
_BLACK = 1 / 64  # of the full scale; a ratio of darker pictures is one of their noise
SUSPECT = 10.0  # deviations, by the median: beyond it a picture does not look good; of ten good
# ones of grid, one had 7, as the median of ten deviations is itself uncertain


def rates_of(bundle: Bundle) -> Rates:
    """Return the operating point of a detector."""
    return Rates(
        false_alarms=float(bundle.threshold["false_alarm_rate"]),
        look_again=bundle.threshold.get("look_again_rate"),
    )


def at_rates(bundle: Bundle, rates: Rates) -> Bundle:
    """Return the detector at another operating point, by the scores of good pictures it carries.

    Only the limits of a picture change; those of pixels and of regions stay. The figures of an
    audit are left out.

    Raises:
        ConfigError: The detector is from a version that did not store its scores.
    """
    known = bundle.threshold
    if len(known.get("scores", ())) < 2:
        raise ConfigError(
            f"The detector of '{bundle.texture}' carries no scores of good pictures, because an "
            "older version made it. Give good pictures with --good DIR."
        )
    found = fit_threshold(known["scores"], rates, groups=known.get("groups"))
    fields = {name: each for name, each in asdict(found).items() if name in _SET_AGAIN}
    return replace(bundle, threshold=dict(known) | fields, metrics=_untested(bundle))


def recalibrated(
    bundle: Bundle,
    texture: Texture,
    *,
    rates: Rates | None = None,
    seed: int = 0,
    say: Callable[[str], None],
) -> Bundle:
    """Return the detector with new limits.

    Args:
        bundle: The detector.
        texture: The new good pictures.
        rates: The operating point; None keeps that of the detector.
        seed: Of the painted defects.
        say: Receives what is unusual about the pictures, such as white pixels.

    Raises:
        DataError: There are fewer than five pictures, or some do not look good.
        BadImageError: A picture is too small for the detector.
    """
    if len(texture.pictures) < FEWEST:
        raise DataError(
            f"A recalibration takes {FEWEST} good pictures or more; {texture.root} has "
            f"{len(texture.pictures)}. Add some."
        )
    data = _data(texture, seed)
    for line in data.notes:
        say(line)
    rates = rates or rates_of(bundle)
    gain = _gain(bundle, texture)
    parts = [
        part_of(_normalised(each, data, gain), data, rates=rates)
        for each in bundle.parts or (bundle,)
    ]
    if bundle.parts:
        fusion = replace(fusion_of(bundle), tails=tuple(part.tail for part in parts))
        found = made(parts, fusion, data, rates=rates)
    else:
        found = parts[0].bundle
    _refuse_suspects(Detector(found), texture)
    found = with_threshold(found, data, rates=rates)
    return replace(
        found,
        metrics=_untested(bundle),
        data=bundle.data | {"recalibrated_on": [picture.key for picture in texture.pictures]},
        made_by=bundle.made_by,
    )


def _untested(bundle: Bundle) -> dict[str, float]:
    """Return the figures of a detector without those of its audit, which had other limits."""
    return {name: each for name, each in bundle.metrics.items() if not name.startswith("test_")}


def _data(texture: Texture, seed: int) -> TrainingData:
    """Return the new pictures with windows painted on them; nothing is fitted, so none is apart."""
    groups = relatives.groups(texture.pictures)
    splits = Splits(
        fit=texture.pictures,
        val=texture.pictures,
        calibration=(),
        seed=seed,
        note=f"{len(texture.pictures)} pictures to recalibrate",
        groups={texture.pictures[p].key: n for n, group in enumerate(groups) for p in group},
    )
    return data_of(texture, splits, validation_seed=seed)


def _gain(bundle: Bundle, texture: Texture) -> float | None:
    """Return how much brighter the new good pictures are than those the detector was set on.

    The medians of few pictures differ less by chance than the extremes, and white pixels, which
    have lost their intensity, hardly move them. An offset cannot be told from other material.

    Returns:
        The ratio; None if the detector is from a version without statistics, or if one is black.
    """
    known = card.read(bundle).limits.statistics.get("brightness")
    new = np.median([picture_statistics(each.pixels)["brightness"] for each in texture.pictures])
    if not known or min(float(new), float(np.median(known))) < _BLACK:
        return None
    return float(new / np.median(known))


def _normalised(bundle: Bundle, data: TrainingData, gain: float | None) -> Bundle:
    """Return a detector to which new good pictures look like the old ones did."""
    low, high = data.intensities
    if gain is not None:
        known = bundle.preprocessing
        low, high = (gain * known.get(name, usual) for name, usual in (("low", 0.0), ("high", 1.0)))
        high = min(high, BRIGHTEST)
    return replace(bundle, preprocessing=bundle.preprocessing | {"low": low, "high": high})


def _refuse_suspects(detector: Detector, texture: Texture) -> None:
    """Refuse pictures whose scores are far above those of the others."""
    scores = np.array([raw_score(detector, picture.pixels) for picture in texture.pictures])
    middle = np.median(scores)
    spread = max(1.4826 * float(np.median(np.abs(scores - middle))), 0.02 * abs(float(middle)))
    suspects = [
        f"{picture.name} ({(score - middle) / spread:.0f} deviations)"
        for picture, score in zip(texture.pictures, scores, strict=True)
        if score > middle + SUSPECT * spread
    ]
    if suspects:
        raise DataError(
            f"{len(suspects)} of {len(scores)} pictures in {texture.root} do not look good: "
            f"{', '.join(suspects)}. Look at them; remove those with defects, then run again."
        )
