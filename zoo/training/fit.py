"""Trains one detector from one configuration and the good pictures.

A trial, `zoo train` and a benchmark use this module. It fits the method, chooses the rule on *val*,
sets the statistics and the threshold on *calibration*, and makes a bundle of all.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from registry.bundle import Bundle
from zoo import methods
from zoo.data.statistics import statistics_of
from zoo.data.variation import under_variation
from zoo.detectors import Detector, available, calibrated, tensors_of
from zoo.methods import Method, Progress
from zoo.scoring import metrics, objective
from zoo.scoring.aggregation import Calibration
from zoo.scoring.maps import image_score
from zoo.scoring.outlines import fit_pixel_threshold
from zoo.scoring.regions import smallest_region
from zoo.scoring.thresholds import Rates, fit_threshold
from zoo.training.data import RATES, PreparedData, TrainingData, check_sizes
from zoo.training.provenance import provenance, versions
from zoo.training.settings import Settings, settings_of

VARIED = 60  # fewest pictures under variation that the threshold of a picture is set on
THIN = 2  # every second pixel in both directions is enough to compare maps
METRIC = "val_pixel_ap"  # the objective of a search, and of the choice of a checkpoint


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A detector at one report of its training.

    Attributes:
        report: Number of the report, from 1.
        bundle: The detector, complete except for `finish`.
        metrics: `val_pixel_ap`, its families, and the training losses.
        state: The state to continue the training from here.
    """

    report: int
    bundle: Bundle
    metrics: Mapping[str, float]
    state: Mapping[str, Any]


def train(
    data: TrainingData,
    wanted: Settings,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    report: Callable[[Checkpoint], None],
    state: Mapping[str, Any] | None = None,
) -> None:
    """Train a detector and pass each checkpoint to `report`; the last one is the end result.

    Args:
        data: The data of the texture.
        wanted: The configuration.
        seed: Seed of all random numbers. The same seed, data, machine and number of threads give
            the same detector.
        device: Where to compute.
        report: Receives each checkpoint.
        state: The state of a checkpoint, to continue from it.

    Raises:
        BadImageError: A picture is smaller than a patch.
        ConfigError: The device does not exist here.
        DivergedError: A loss is no longer finite.
    """
    place, began = available(device), time.monotonic()
    check_sizes(data, patch=wanted.method.patch, scale=wanted.scale)
    prepared = PreparedData(data, wanted.scale, place)
    method = wanted.method.in_training

    def measure(progress: Progress) -> None:
        calibration, figures, threshold = prepared.measure(
            method.scorer(progress.weights), wanted.rule
        )
        figures["train_seconds"] = time.monotonic() - began
        figures["train_report"] = float(progress.report)
        bundle = Bundle(
            texture=data.texture,
            method=methods.name_of(method),
            config=methods.flat(method),
            preprocessing=asdict(prepared.preprocessing),
            calibration=_card_of(calibration, method),
            threshold=asdict(threshold),
            metrics=figures,
            data=provenance(data),
            made_by=versions() | {"seed": seed, "settings": methods.flat(wanted.method)},
            weights={name: _array(tensor) for name, tensor in progress.weights.items()},
        )
        report(
            Checkpoint(
                report=progress.report,
                bundle=bundle,
                metrics={**progress.metrics, **figures},
                state=progress.state,
            )
        )

    wanted.method.fit(
        prepared.fit,
        generator=torch.Generator(place).manual_seed(seed),
        report=measure,
        state=state,
    )


def train_best(
    data: TrainingData,
    wanted: Settings,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    last: bool = False,
) -> Bundle:
    """Train a detector and return its best checkpoint on *val*, or its last one.

    The bundle is complete except for `finish`. Arguments and errors are those of `train`.
    """
    best: list[Checkpoint] = []

    def keep(checkpoint: Checkpoint) -> None:
        if last or not best or checkpoint.metrics[METRIC] > best[0].metrics[METRIC]:
            best[:] = [replace(checkpoint, state={})]

    train(data, wanted, seed=seed, device=device, report=keep)
    return best[0].bundle


def finish(bundle: Bundle, data: TrainingData, *, rates: Rates = RATES) -> Bundle:
    """Complete a checkpoint: set its final form, and its thresholds on all good pictures.

    During training the threshold is set on the first few calibration pictures only.
    """
    made = with_limits(in_final_form(bundle, data), data, rates=rates)[0]
    return with_threshold(made, data, rates=rates)


def with_threshold(bundle: Bundle, data: TrainingData, *, rates: Rates = RATES) -> Bundle:
    """Set the threshold of pictures on good pictures under benign variation.

    Good pictures of a production line differ more than the few that a detector is calibrated on:
    by light, focus and noise at least. A rate that holds under the ranges of `zoo.data.variation`
    is a rate that holds on them. Few pictures get several draws each, which count as relatives.

    Args:
        bundle: With the limits that `with_limits` or `limits` set; those of pixels stay.
        data: The texture.
        rates: Of good pictures.
    """
    detector, pictures = Detector(bundle), data.good
    groups = data.good_groups
    turns = -(-VARIED // len(pictures))
    scores = []
    for turn, (at, picture) in itertools.product(range(turns), enumerate(pictures)):
        seen = under_variation(data.optics.light(picture.pixels), seed=turn * len(pictures) + at)
        pixels = data.optics.exposed(seen, picture.pixels.dtype)
        scores.append(raw_score(detector, pixels))
    threshold = fit_threshold(scores, rates, groups=groups * turns)
    known = asdict(replace(threshold, images=len(pictures), varied=True))
    as_taken = {"scores_as_taken": bundle.threshold["scores"]}
    return replace(bundle, threshold=dict(bundle.threshold) | known | as_taken)


def raw_score(detector: Detector, pixels: Shaped[np.ndarray, "h w c"]) -> float:
    """Return the score of a picture in the units of its map, not divided by the threshold."""
    found = torch.from_numpy(detector.score_map(pixels))
    return float(image_score(found, detector.top_fraction))


Maps = list[Float[Tensor, "_ _"]]


def with_limits(
    bundle: Bundle, data: TrainingData, *, rates: Rates = RATES
) -> tuple[Bundle, Maps, Maps]:
    """Set the limits of a detector on the good pictures of `data` and its validation windows.

    Returns:
        The bundle, the maps of the good pictures, and those of the windows.
    """
    detector = Detector(bundle)
    good = [torch.from_numpy(detector.map(picture.pixels)) for picture in data.good]
    windows = [torch.from_numpy(detector.map(window.image)) for window in data.validation]
    scores = [float(image_score(each, detector.top_fraction)) for each in good]
    own = limits(scores, good, windows, data, rates=rates)
    return replace(bundle, threshold=own), good, windows


def limits(
    scores: Sequence[float],
    good: Sequence[Float[Tensor, "_ _"]],
    windows: Sequence[Float[Tensor, "_ _"]],
    data: TrainingData,
    *,
    rates: Rates,
) -> dict[str, Any]:
    """Return the limits of a bundle: of the score of a picture, of a pixel, of a region.

    With them are the statistics of the good pictures; later pictures are compared with these.

    Args:
        scores: Of the good pictures of `data`.
        good: Maps of the same pictures.
        windows: Maps of the validation windows.
        data: The texture.
        rates: Of good pictures.
    """
    maps = [each.numpy() for each in good]
    pixel = fit_pixel_threshold(
        [each.numpy() for each in windows],
        [window.mask for window in data.validation],
        maps,
        thin=THIN,
    )
    area = smallest_region(
        [each > pixel.value for each in maps], false_alarm_rate=rates.false_alarms
    )
    found = fit_threshold(scores, rates, groups=data.good_groups)
    return asdict(found) | {
        "map_value": pixel.value,
        "share_of_peak": pixel.share_of_peak,
        "smallest_region": area,
        "statistics": _statistics(data, [calibrated(each, pixel.value) for each in maps]),
    }


def _statistics(
    data: TrainingData, maps: Sequence[Float[np.ndarray, "_ _"]]
) -> dict[str, list[float]]:
    """Return the ascending values of each statistic of the good pictures."""
    found = [
        statistics_of(picture.pixels, each) for picture, each in zip(data.good, maps, strict=True)
    ]
    return {name: sorted(round(each[name], 6) for each in found) for name in found[0]}


def in_final_form(bundle: Bundle, data: TrainingData) -> Bundle:
    """Bring a checkpoint to its final form.

    During training a method may score in a cheaper form: FCBiGAN uses one view of a picture. Where
    the final form differs, the rule is chosen again with it, on *val* as before. The final form is
    taken if *val* is sure that it is better, because each score takes longer with it.
    """
    detector = Detector(bundle)
    wanted = settings_of(bundle).method
    if methods.flat(wanted) == methods.flat(detector.method):
        return bundle
    prepared = PreparedData(data, detector.preprocessing.scale, detector.device)
    losses = wanted.scorer(tensors_of(bundle, detector.device))
    calibration, figures, threshold = prepared.measure(losses)
    final = replace(
        bundle,
        config=methods.flat(wanted),
        calibration=_card_of(calibration, wanted),
        threshold=asdict(threshold),
        metrics=bundle.metrics | figures,
    )
    better = objective.paired_maps(_judged(final, data), _judged(bundle, data))
    return final if better.win_share >= objective.WIN_SHARE else bundle


def _judged(bundle: Bundle, data: TrainingData) -> objective.Judged:
    detector = Detector(bundle)
    counts = window_counts([detector.map(window.image) for window in data.validation], data)
    return objective.Judged(counts=counts, strata=data.strata)


def window_counts(
    maps: Sequence[Float[np.ndarray, "_ _"]], data: TrainingData, *, bins: int = 2048
) -> metrics.Counts:
    """Return the pixels of the validation windows by the value of their maps."""
    return metrics.count(
        [each[::THIN, ::THIN] for each in maps],
        [window.mask[::THIN, ::THIN] for window in data.validation],
        bins=bins,
    )


def _card_of(calibration: Calibration, method: Method) -> dict[str, Any]:
    return asdict(calibration) | {"losses": list(method.loss_names)}


def _array(tensor: Tensor) -> Any:
    """Copy a tensor to an array; the training continues to change the tensor."""
    return tensor.detach().cpu().numpy().copy()
