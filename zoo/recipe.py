"""One configuration and the good pictures in, one detector out.

This is what a trial runs and what `zoo train` runs: train, choose the rule on *val*, calibrate
and set the threshold on *calibration*, and put it all into a bundle. It knows neither Ray nor
MLflow.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from importlib import metadata
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from zoo import defects, metrics, scoring, textures, training
from zoo.baselines import Losses, Method
from zoo.baselines.local_statistics import LocalStatistics
from zoo.bundle import Bundle
from zoo.defects import Defective
from zoo.detector import Detector, available, ready
from zoo.errors import BadImageError, BundleError, ConfigError, did_you_mean
from zoo.networks import FCBiGANConfig, halves
from zoo.patches import Preprocessing, prepare
from zoo.scoring import Calibration, Rule
from zoo.training import Progress, TrainConfig

FALSE_ALARM_RATE = 0.05  # 19 good images show it without assuming a distribution; 1 % takes 99
STATISTICS_IMAGES = 8  # calibration images whose pixels give mean and covariance: millions


@dataclass(frozen=True, kw_only=True)
class Materials:
    """All that making a detector needs of a texture: pictures in memory, the test images not.

    Attributes:
        texture: Its name.
        mode: Grey or colour.
        splits: Good pictures for *fit*, *val* and *calibration*.
        validation: Windows of the *val* pictures with synthetic defects.
        validation_seed: What they were painted with.
        fingerprint: Of the data.
        licence: Of the data.
    """

    texture: str
    mode: str
    splits: textures.Splits
    validation: tuple[Defective, ...]
    validation_seed: int
    fingerprint: str
    licence: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that a trial may vary, and nothing else.

    Attributes:
        networks: Shapes of the networks.
        train: How they are trained.
        scale: Factor on both sides of an image, before all else.
        output_stride: Pixels between two verdicts of the discriminator when scoring; 1 is dense
            and exact, more is faster and interpolates.
        views: The finished detector averages over so many views of an image: as it is, mirrored,
            upside down, both. Each costs the time of a score. Drafts look at one.
        rule: How losses become a score; None chooses on *val*.
    """

    networks: FCBiGANConfig
    train: TrainConfig
    scale: float = 1.0
    output_stride: int = 1
    views: int = 1
    rule: Rule | None = None

    def __post_init__(self) -> None:
        """Refuse an output stride that the discriminator does not have, and views unheard of."""
        if not 1 <= self.views <= len(scoring.VIEWS):
            raise ConfigError(
                f"views must be 1 to {len(scoring.VIEWS)}, not {self.views}. Change it."
            )
        strides = self.networks.output_strides
        if self.output_stride not in strides:
            raise ConfigError(
                f"output_stride must be one of {strides}, not {self.output_stride}. Change it."
            )


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A detector as it stands at one report of its training.

    Attributes:
        report: Number of the report, from 1.
        bundle: The detector, complete.
        metrics: `val_pixel_ap`, its families, and the training losses.
        state: What training needs to go on from here.
    """

    report: int
    bundle: Bundle
    metrics: Mapping[str, float]
    state: Mapping[str, Any]


def thesis() -> Settings:
    """Return the preset `thesis`. Source: Peccia 2021, section 5.2; docs/decisions.md."""
    return Settings(networks=FCBiGANConfig(), train=TrainConfig(), rule=scoring.THESIS_RULE)


def field_names() -> list[str]:
    """List the names that a search space may vary or fix."""
    parts = [field.name for part in (FCBiGANConfig, TrainConfig) for field in fields(part)]
    parts.remove("segmenter")  # follows from defect_rounds
    return [*parts, "scale", "output_stride", "views"]


def settings(values: Mapping[str, Any]) -> Settings:
    """Make settings of flat values by name, the rest as in `thesis`, but with a rule chosen on val.

    Raises:
        ConfigError: A name is unknown or a value out of its range.
    """
    return with_values(replace(thesis(), rule=None), values)


def with_values(base: Settings, values: Mapping[str, Any]) -> Settings:
    """Return the settings with these fields changed.

    An output stride that the discriminator is too shallow for becomes the largest it has, and
    a segmenter that halves a patch too often halves it as often as it can.

    Raises:
        ConfigError: A name is unknown, or a value of another kind than its field or out of range.
    """
    now = asdict(base.networks) | asdict(base.train)
    now |= {"scale": base.scale, "output_stride": base.output_stride, "views": base.views}
    new = now | {name: _like(name, value, now) for name, value in values.items()}

    def mine(part: type) -> dict[str, Any]:
        return {field.name: new[field.name] for field in fields(part)}

    while new["segmenter_depth"] > 2 and not halves(new["patch"], new["segmenter_depth"]):
        new["segmenter_depth"] -= 1
    networks = FCBiGANConfig(**mine(FCBiGANConfig) | {"segmenter": new["defect_rounds"] > 0})
    return Settings(
        networks=networks,
        train=TrainConfig(**mine(TrainConfig)),
        scale=new["scale"],
        output_stride=min(new["output_stride"], 2**networks.discriminator_depth),
        views=new["views"],
        rule=base.rule,
    )


def settings_of(bundle: Bundle) -> Settings:
    """Return the settings that a bundle of `make` was trained with, to train it anew.

    The rule is left to be chosen on *val* again. A field that the bundle is too old to have is as
    in `thesis`; one that this version no longer has is passed over.

    Raises:
        BundleError: It is not FCBiGAN's, does not say how it was trained, or says what no longer
            goes.
    """
    trained = bundle.made_by.get("training")
    if bundle.method != "fcbigan" or trained is None:
        raise BundleError(
            f"The bundle of '{bundle.texture}' is made by method '{bundle.method}' and does not "
            "hold the settings of an FCBiGAN. Name one that `zoo search` or `zoo train` made."
        )
    written = trained | bundle.config | {"scale": bundle.preprocessing.get("scale", 1.0)}
    written |= {"views": bundle.made_by.get("views", 1)}  # a draft's own is one
    try:
        return settings({name: written[name] for name in field_names() if name in written})
    except ConfigError as error:
        raise BundleError(
            f"The settings of the bundle of '{bundle.texture}' cannot be read: {error} "
            "Train it again with this version."
        ) from error


def gather(
    texture: textures.Texture, *, split_seed: int = 0, validation_seed: int = 0
) -> Materials:
    """Split a texture's good pictures and paint the validation defects; deterministic by seeds."""
    splits = textures.split(texture, seed=split_seed)
    return Materials(
        texture=texture.name,
        mode=texture.mode,
        splits=splits,
        validation=defects.validation_set(splits.val, seed=validation_seed),
        validation_seed=validation_seed,
        fingerprint=texture.fingerprint,
        licence=texture.licence,
    )


class Bench:
    """The materials as one scale sees them: prepared once, used at every report."""

    def __init__(self, materials: Materials, scale: float, device: torch.device) -> None:
        self.materials = materials
        self.preprocessing = Preprocessing(
            mode="RGB" if materials.mode == "RGB" else "L", scale=scale
        )
        self.device = device
        self.masks = [window.mask for window in materials.validation]
        self.families = [window.family for window in materials.validation]

    def prepared(self, pictures: Sequence[np.ndarray]) -> list[Float[Tensor, "c _ _"]]:
        """Bring pictures to mode, scale and device."""
        return [prepare(pixels, self.preprocessing).to(self.device) for pixels in pictures]

    @cached_property
    def fit(self) -> list[Float[Tensor, "c _ _"]]:
        """The images to train on."""
        return self.prepared([picture.pixels for picture in self.materials.splits.fit])

    @cached_property
    def good(self) -> list[Float[Tensor, "c _ _"]]:
        """The first calibration images: their pixels give the statistics of the losses."""
        pictures = self.materials.splits.calibration[:STATISTICS_IMAGES]
        return self.prepared([picture.pixels for picture in pictures])

    @cached_property
    def windows(self) -> list[Float[Tensor, "c _ _"]]:
        """The validation windows."""
        return self.prepared([window.image for window in self.materials.validation])

    @cached_property
    def small_masks(self) -> list[Bool[np.ndarray, "_ _"]]:
        """The validation masks at the scale of the windows; what was touched stays defective."""
        return [
            cv2.resize(mask.astype(np.float32), x.shape[:-3:-1], interpolation=cv2.INTER_AREA) > 0
            for mask, x in zip(self.masks, self.windows, strict=True)
        ]

    def judge(
        self, losses: Losses, rule: Rule | None = None
    ) -> tuple[Calibration, dict[str, float], scoring.Threshold]:
        """Choose a rule if none is given, and measure with it.

        Returns:
            Calibration, figures on *val*, threshold.
        """
        good = [losses(x) for x in self.good]
        val = [losses(x) for x in self.windows]
        if rule:
            calibration = scoring.calibrate(rule, good)
        else:
            rules = scoring.candidates(losses=len(good[0]))
            calibration = scoring.choose(rules, good, val, self.small_masks, self.families)
        maps = [
            scoring.enlarge(scoring.anomaly_map(each, calibration), *mask.shape).cpu().numpy()
            for each, mask in zip(val, self.masks, strict=True)
        ]
        top = calibration.rule.top_fraction
        scores = [
            float(scoring.image_score(scoring.anomaly_map(each, calibration), top)) for each in good
        ]
        threshold = scoring.threshold(scores, false_alarm_rate=FALSE_ALARM_RATE)
        return calibration, validation_figures(maps, self.masks, self.families), threshold


def make(
    materials: Materials,
    wanted: Settings,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    report: Callable[[Draft], None],
    state: Mapping[str, Any] | None = None,
) -> None:
    """Train a detector and hand it to `report` at every stage, the last one at the end.

    Args:
        materials: The texture.
        wanted: The configuration.
        seed: Of everything that is drawn; the same seed, data, machine and number of threads give
            the same detector.
        device: Where to compute.
        report: Receives each draft. A draft's bundle is complete, but for `finish`.
        state: A draft's state, to go on from there.

    Raises:
        BadImageError: An image is smaller than a patch.
        ConfigError: The device does not exist here.
        DivergedError: Training went to infinity.
    """
    place, began = available(device), time.monotonic()
    bench = Bench(materials, wanted.scale, place)
    _check_sizes(materials, patch=wanted.networks.patch, scale=wanted.scale)
    networks = training.new_networks(
        wanted.networks, channels=bench.preprocessing.channels, seed=seed
    )

    def look(progress: Progress) -> None:
        def losses(x: Tensor) -> Tensor:
            return scoring.fcbigan_losses(progress.networks, x, output_stride=wanted.output_stride)

        calibration, figures, threshold = bench.judge(losses, wanted.rule)
        figures["train_seconds"] = time.monotonic() - began
        bundle = Bundle(
            texture=materials.texture,
            method="fcbigan",
            config=asdict(wanted.networks) | {"output_stride": wanted.output_stride, "views": 1},
            preprocessing=asdict(bench.preprocessing),
            calibration=asdict(calibration),
            threshold=asdict(threshold),
            metrics=figures,
            data=provenance(materials),
            made_by=versions()
            | {"seed": seed, "training": asdict(wanted.train), "views": wanted.views},
            weights={
                k: v.detach().cpu().clone() for k, v in progress.networks.state_dict().items()
            },
        )
        report(
            Draft(
                report=progress.report,
                bundle=bundle,
                metrics={**progress.losses, **figures},
                state=progress.state,
            )
        )

    training.fit(
        bench.fit,
        networks,
        wanted.train,
        generator=torch.Generator(place).manual_seed(seed),
        report=look,
        state=state,
    )


def trained(
    materials: Materials,
    wanted: Settings,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    last: bool = False,
) -> Bundle:
    """Train a detector and return its best draft on *val*, as a search keeps it, or its last.

    It is complete but for `finish`. Arguments and errors are those of `make`.
    """
    kept: list[Draft] = []

    def keep(draft: Draft) -> None:
        if last or not kept or draft.metrics["val_pixel_ap"] > kept[0].metrics["val_pixel_ap"]:
            kept[:] = [replace(draft, state={})]

    make(materials, wanted, seed=seed, device=device, report=keep)
    return kept[0].bundle


def baseline(
    materials: Materials,
    method: Method,
    *,
    name: str,
    scale: float,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Bundle:
    """Fit a baseline and choose its rule, as for a trial; the bundle is complete but for `finish`.

    Args:
        materials: The texture.
        method: The baseline with its configuration.
        name: Its name among the baselines.
        scale: Factor on both sides of an image.
        seed: Of everything that is drawn.
        device: Where to compute.

    Raises:
        BadImageError: An image is smaller than the method's patch.
        ConfigError: The device does not exist here.
    """
    place, began = available(device), time.monotonic()
    _check_sizes(materials, patch=method.patch, scale=scale)
    bench = Bench(materials, scale, place)
    weights = method.fit(bench.fit, generator=torch.Generator(place).manual_seed(seed))
    seconds = time.monotonic() - began
    calibration, figures, threshold = bench.judge(method.ready(weights))
    return Bundle(
        texture=materials.texture,
        method=name,
        config=dict(vars(method)),
        preprocessing=asdict(bench.preprocessing),
        calibration=asdict(calibration),
        threshold=asdict(threshold),
        metrics=figures | {"train_seconds": seconds},
        data=provenance(materials),
        made_by=versions() | {"seed": seed},
        weights={key: tensor.cpu() for key, tensor in weights.items()},
    )


def floor(materials: Materials, *, scale: float) -> Bundle:
    """Make the detector that every other one must beat: local statistics, nothing learned.

    Args:
        materials: The texture.
        scale: The scale of the detector that it is compared with.
    """
    return baseline(materials, LocalStatistics(), name="local_statistics", scale=scale)


def finish(
    bundle: Bundle, materials: Materials, *, false_alarm_rate: float = FALSE_ALARM_RATE
) -> Bundle:
    """Complete a draft: its views, its threshold on all calibration images, and the floor.

    A draft looks at one view of an image and sets its threshold on the first few images only.
    Where more views are wanted, the rule is chosen again with them, on *val* as before. The floor
    is `val_pixel_ap_floor`.
    """
    views = int(bundle.made_by.get("views", 1))
    if views != bundle.config.get("views", 1):
        bundle = _with_views(bundle, materials, views=views)
    detector = Detector(bundle)
    top = detector.calibration.rule.top_fraction
    scores = [
        float(scoring.image_score(torch.from_numpy(detector.map(picture.pixels)), top))
        for picture in materials.splits.calibration
    ]
    found = scoring.threshold(scores, false_alarm_rate=false_alarm_rate)
    least = floor(materials, scale=detector.preprocessing.scale).metrics["val_pixel_ap"]
    return replace(
        bundle,
        threshold=asdict(found),
        metrics=bundle.metrics | {"val_pixel_ap_floor": least},
    )


def _with_views(bundle: Bundle, materials: Materials, *, views: int) -> Bundle:
    """Let a draft average over views, and choose its rule, figures and statistics anew."""
    every_loss = bundle.calibration | {"rule": asdict(Rule(aggregation="max"))}
    several = replace(bundle, config=bundle.config | {"views": views}, calibration=every_loss)
    detector = Detector(several)
    bench = Bench(materials, detector.preprocessing.scale, detector.device)
    calibration, figures, threshold = bench.judge(ready(several, detector.device))
    return replace(
        several,
        calibration=asdict(calibration),
        threshold=asdict(threshold),
        metrics=bundle.metrics | figures,
    )


def validation_figures(
    maps: Sequence[Float[np.ndarray, "_ _"]],
    masks: Sequence[Bool[np.ndarray, "_ _"]],
    families: Sequence[str],
) -> dict[str, float]:
    """Return `val_pixel_ap`, the objective, and the average precision of each family.

    The objective is the mean over families of pixel average precision at a fixed prevalence.
    """
    each = metrics.family_average_precision(metrics.count(maps, masks), families)
    held_out = [value for family, value in each.items() if family in defects.HELD_OUT]
    figures = {"val_pixel_ap": float(np.mean(list(each.values())))}
    if held_out:
        figures["val_pixel_ap_held_out"] = float(np.mean(held_out))
    return figures | {f"val_pixel_ap_{family}": value for family, value in each.items()}


def provenance(materials: Materials) -> dict[str, Any]:
    """Say which pictures a detector has seen, for its card and for the gate of promotion."""
    return {
        "fingerprint": materials.fingerprint,
        "licence": materials.licence,
        "non_commercial": "-NC" in materials.licence.upper(),
        "split_seed": materials.splits.seed,
        "split": materials.splits.note,
        "fit": [picture.key for picture in materials.splits.fit],
        "validation": defects.fingerprint(materials.validation),
        "validation_seed": materials.validation_seed,
    }


def versions() -> dict[str, Any]:
    """Return the versions that made a detector."""
    names = {"texture_zoo": "texture-zoo", "torch": "torch", "numpy": "numpy"}
    found = {name: metadata.version(package) for name, package in names.items()}
    return found | {"python": platform.python_version()}


def _like(name: str, value: Any, now: Mapping[str, Any]) -> Any:
    """Return a value as the kind that its field has now; a whole number will do for a float."""
    if name not in field_names():
        raise ConfigError(
            f"There is no setting '{name}'.{did_you_mean(name, field_names())} Known are "
            f"{', '.join(field_names())}."
        )
    kind = type(now[name])
    takes = (int, float) if kind is float else kind
    right = isinstance(value, takes) and isinstance(value, bool) == (kind is bool)
    if not right or (kind is float and not math.isfinite(value)):
        said = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
        raise ConfigError(
            f"{name} takes {said[kind]}, such as {json.dumps(now[name])}, not {value!r}. Change it."
        )
    return kind(value)


def smallest_side(materials: Materials) -> int:
    """Return the shortest side of all good pictures and regions, in pixels."""
    splits = materials.splits
    pictures = (*splits.fit, *splits.val, *splits.calibration)
    return int(min(min(picture.pixels.shape[:2]) for picture in pictures))


def _check_sizes(materials: Materials, *, patch: int, scale: float) -> None:
    """Refuse, before any work, pictures that a patch does not fit into."""
    splits = materials.splits
    for picture in (*splits.fit, *splits.val, *splits.calibration):
        height, width = picture.pixels.shape[:2]
        if round(min(height, width) * scale) < patch:
            need = -(-patch // scale)
            raise BadImageError(
                f"{picture.name} has {height}x{width} pixels; a patch of {patch} "
                f"at scale {scale} needs {need:.0f}x{need:.0f}. Use larger images, a "
                "smaller patch or a larger scale."
            )
