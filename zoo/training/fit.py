"""One configuration and the good pictures in, one detector out.

A trial, `zoo train` and a benchmark run this: fit the method, choose the rule on *val*, calibrate
and set the threshold on *calibration*, and put it all into a bundle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from registry.bundle import Bundle
from zoo import methods
from zoo.detectors import Detector, available, tensors_of
from zoo.methods import Method, Progress
from zoo.scoring.aggregation import Calibration
from zoo.scoring.maps import image_score
from zoo.scoring.thresholds import fit_threshold
from zoo.training.data import FALSE_ALARM_RATE, PreparedData, TrainingData, check_sizes
from zoo.training.provenance import provenance, versions
from zoo.training.settings import Settings, settings_of

METRIC = "val_pixel_ap"  # the objective: what a search maximises, and what a checkpoint is kept by


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A detector at one report of its training.

    Attributes:
        report: Number of the report, from 1.
        bundle: The detector, complete but for `finish`.
        metrics: `val_pixel_ap`, its families, and the training losses.
        state: What training needs to go on from here.
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
    """Train a detector and hand it to `report` at every stage, the last one at the end.

    Args:
        data: The texture.
        wanted: The configuration.
        seed: Of everything that is drawn. The same seed, data, machine and number of threads give
            the same detector.
        device: Where to compute.
        report: Receives each checkpoint.
        state: The state of a checkpoint, to go on from there.

    Raises:
        BadImageError: A picture is smaller than a patch.
        ConfigError: The device does not exist here.
        DivergedError: Training went to infinity.
    """
    place, began = available(device), time.monotonic()
    check_sizes(data, patch=wanted.method.patch, scale=wanted.scale)
    prepared = PreparedData(data, wanted.scale, place)
    method = wanted.method.in_training

    def judge(progress: Progress) -> None:
        calibration, figures, threshold = prepared.judge(
            method.scorer(progress.weights), wanted.rule
        )
        figures["train_seconds"] = time.monotonic() - began
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
        report=judge,
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
    """Train a detector and return its best checkpoint on *val*, as a search keeps it, or its last.

    It is complete but for `finish`. Arguments and errors are those of `train`.
    """
    kept: list[Checkpoint] = []

    def keep(checkpoint: Checkpoint) -> None:
        if last or not kept or checkpoint.metrics[METRIC] > kept[0].metrics[METRIC]:
            kept[:] = [replace(checkpoint, state={})]

    train(data, wanted, seed=seed, device=device, report=keep)
    return kept[0].bundle


def baseline(data: TrainingData, *, scale: float) -> Bundle:
    """Make the detector that every other one must beat: local statistics.

    Args:
        data: The texture.
        scale: The scale of the detector that it is compared with.
    """
    wanted = Settings(method=methods.named(methods.BASELINE)(), scale=scale)
    return train_best(data, wanted, seed=0)


def finish(
    bundle: Bundle, data: TrainingData, *, false_alarm_rate: float = FALSE_ALARM_RATE
) -> Bundle:
    """Complete a checkpoint: its final form, and its threshold on all calibration pictures.

    While it is trained, a method may score in a cheaper form (FCBiGAN uses one view of a picture),
    and its threshold is set on the first few pictures only. Where the final form is another, the
    rule is chosen again with it, on *val* as before.
    """
    detector = Detector(bundle)
    wanted = settings_of(bundle).method
    if methods.flat(wanted) != methods.flat(detector.method):
        detector = Detector(_in_final_form(bundle, data, wanted, detector))
    top = detector.calibration.rule.top_fraction
    scores = [
        float(image_score(torch.from_numpy(detector.map(picture.pixels)), top))
        for picture in data.splits.calibration
    ]
    found = fit_threshold(scores, false_alarm_rate=false_alarm_rate)
    return replace(detector.bundle, threshold=asdict(found))


def with_baseline(bundle: Bundle, data: TrainingData) -> Bundle:
    """Return the bundle with `val_pixel_ap_baseline` on its card, for comparison."""
    least = baseline(data, scale=bundle.preprocessing["scale"]).metrics[METRIC]
    return replace(bundle, metrics=bundle.metrics | {f"{METRIC}_baseline": least})


def _in_final_form(
    bundle: Bundle, data: TrainingData, wanted: Method, detector: Detector
) -> Bundle:
    """Score a checkpoint in its final form: rule, figures and statistics are made again."""
    prepared = PreparedData(data, detector.preprocessing.scale, detector.device)
    losses = wanted.scorer(tensors_of(bundle, detector.device))
    calibration, figures, threshold = prepared.judge(losses)
    return replace(
        bundle,
        config=methods.flat(wanted),
        calibration=_card_of(calibration, wanted),
        threshold=asdict(threshold),
        metrics=bundle.metrics | figures,
    )


def _card_of(calibration: Calibration, method: Method) -> dict[str, Any]:
    return asdict(calibration) | {"losses": list(method.loss_names)}


def _array(tensor: Tensor) -> Any:
    """Copy a tensor, which training goes on with, to an array."""
    return tensor.detach().cpu().numpy().copy()
