"""The card of a bundle: read and checked before use, and shown to the user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from registry.bundle import FUSION, Bundle, all_weights
from zoo import methods
from zoo.data.images import Mode
from zoo.data.preprocessing import Preprocessing
from zoo.detectors import limits
from zoo.detectors.limits import Limits, check_numbers
from zoo.errors import BundleError, ConfigError
from zoo.methods import Losses, Method
from zoo.scoring.aggregation import Calibration, Rule, joined
from zoo.scoring.fusion import Fusion, Tail

SPLITS = ("val", "test", "train")
# Exceptions from reading a card that is complete but does not describe a valid detector.
_UNFIT = (
    ArithmeticError,
    AttributeError,
    BundleError,
    ConfigError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
MOST_KNOTS = 1000  # of a tail; ours have less than forty


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """From a picture to a map, as a plain detector or one part of a fused detector computes it.

    Attributes:
        method: The method with its configuration.
        preprocessing: The preprocessing of a picture.
        calibration: How losses become a map.
    """

    method: Method
    preprocessing: Preprocessing
    calibration: Calibration

    def losses(self, weights: Mapping[str, Tensor]) -> Losses:
        """Return the loss function; a loss that the rule gives no weight is not computed."""
        used = self.calibration.rule.uses(losses=len(self.method.loss_names))
        return self.method.scorer(weights, used=used)

    def smallest(self, side: int) -> float:
        """Return the side of the smallest picture of which `side` pixels are left by scaling.

        A whole number, or infinity for the smallest scales that a card can have.
        """
        return -(-side // self.preprocessing.scale)


@dataclass(frozen=True, kw_only=True)
class Card:
    """The content of a bundle, checked.

    Attributes:
        limits: What is normal of a picture, a pixel, a region, and of its statistics.
        pipeline: How the map of a plain detector is computed; a fused one has none.
        parts: The cards of the parts of a fused detector.
        fusion: How the maps of the parts become one; a plain detector has none.
    """

    limits: Limits
    pipeline: Pipeline | None = None
    parts: tuple[Card, ...] = ()
    fusion: Fusion | None = None

    @property
    def pipelines(self) -> tuple[Pipeline, ...]:
        """The pipeline of a plain detector, or those of the parts."""
        own = (self.pipeline,) if self.pipeline else ()
        return own + tuple(each for part in self.parts for each in part.pipelines)

    @property
    def map_weights(self) -> tuple[float, ...]:
        """The weight of each pipeline in the map."""
        return self.fusion.map_weights if self.fusion else (1.0,)

    @property
    def score_weights(self) -> tuple[float, ...]:
        """The weight of each pipeline in the map that the score is taken of."""
        return self.fusion.score_weights if self.fusion else (1.0,)

    @property
    def used(self) -> tuple[bool, ...]:
        """For each pipeline, whether the map or the score depends on it."""
        return self.fusion.used if self.fusion else (True,)

    @property
    def top_fraction(self) -> float:
        """The score of the image is the mean of this share of its highest pixels."""
        if self.fusion:
            return float(self.fusion.top_fraction)
        return float(self.pipelines[0].calibration.rule.top_fraction)

    @property
    def mode(self) -> Mode:
        """Grey (L) or colour (RGB); all parts have the same."""
        return self.pipelines[0].preprocessing.mode


def read(bundle: Bundle) -> Card:
    """Read the card of a bundle, and check the shapes of its tensors against its configuration.

    A bundle that does not fit is refused before any computation or allocation.

    Raises:
        BundleError: The method is unknown, a value is not allowed, or a tensor does not fit.
    """
    if bundle.parts:
        return _read_fused(bundle)
    if bundle.method not in methods.METHODS:
        raise BundleError(
            f"The bundle of '{bundle.texture}' is made by method '{bundle.method}'; this "
            f"version knows {', '.join(methods.names())}. Update texture-zoo."
        )
    try:
        preprocessing = _preprocessing(bundle.preprocessing)
        method = _method(bundle)
        methods.check_weights(method, tensors_of(bundle), channels=preprocessing.channels)
        return Card(
            limits=limits.read(bundle.threshold),
            pipeline=Pipeline(
                method=method,
                preprocessing=preprocessing,
                calibration=_calibration(bundle.calibration, method),
            ),
        )
    except _UNFIT as error:
        raise unfit(bundle, error) from error


def fuse(  # noqa: PLR0913  # what a bundle has beside its parts; each by name
    bundles: Sequence[Bundle],
    fusion: Fusion,
    *,
    texture: str,
    threshold: Mapping[str, Any],
    metrics: Mapping[str, float],
    data: Mapping[str, Any],
    made_by: Mapping[str, Any],
) -> Bundle:
    """Return the bundle of a detector that adds the maps of several complete detectors.

    Args:
        bundles: The parts, as many as the fusion has tails. They have one mode, and are not fused.
        fusion: How their maps become one.
        texture: Name of the texture.
        threshold: Fields of a `Threshold`, of scores of the fused detector; `map_value`, if the
            limit of normal pixels of the map is another value.
        metrics: Figures by split.
        data: As in a plain bundle.
        made_by: As in a plain bundle.

    Raises:
        BundleError: A part cannot be used, or the parts do not fit together.
    """
    made = Bundle(
        texture=texture,
        method=FUSION,
        config={},
        preprocessing={},
        calibration={},
        threshold=dict(threshold),
        metrics=dict(metrics),
        data=dict(data),
        made_by=dict(made_by),
        weights={},
        parts=tuple(bundles),
        fusion=asdict(fusion),
    )
    read(made)
    return made


def part_names(bundle: Bundle) -> tuple[str, ...]:
    """Return a name for each part of a fused bundle: its method, with a number if it is doubled.

    Example:
        Two parts of `random_features` and one of `fcbigan` are `random_features_1`, `fcbigan` and
        `random_features_2` if they are in this order.
    """
    known = [part.method for part in bundle.parts]
    count = Counter(known)
    return tuple(
        f"{name}_{known[: at + 1].count(name)}" if count[name] > 1 else name
        for at, name in enumerate(known)
    )


def fusion_of(bundle: Bundle) -> Fusion:
    """Return how the maps of the parts of a fused bundle become one.

    Raises:
        BundleError: The bundle's numbers are not allowed.
    """
    try:
        return _fusion(bundle.fusion)
    except _UNFIT as error:
        raise unfit(bundle, error) from error


def unfit(bundle: Bundle, error: Exception) -> BundleError:
    """Return the error of a bundle whose parts do not fit together."""
    reason = str(error).partition("\n")[0]  # torch adds a trace of its own functions
    return BundleError(
        f"The weights of '{bundle.texture}' do not fit its configuration: "
        f"{reason.rstrip('.')}. Fetch or promote it again."
    )


def tensors_of(bundle: Bundle, device: torch.device | None = None) -> dict[str, Tensor]:
    """Return the weights of a bundle as tensors; on the CPU they share memory where possible."""
    found = {  # arrays from Ray's object store are read-only, which torch does not support
        name: torch.from_numpy(array if array.flags.writeable else array.copy())
        for name, array in bundle.weights.items()
    }
    return {name: each.to(device) for name, each in found.items()} if device else found


def of(bundle: Bundle) -> dict[str, Any]:
    """Return the card of a bundle, to show it to the user.

    Returns:
        `texture`, `method`, `config`, `preprocessing`, `rule`; `metrics` by split; `threshold`
        with its expected false-alarm rate and the 95 % interval of the true rate; `data` with
        licence and fingerprint; `made_by`; `megabytes`; and
        `seconds_per_image` if the detector was audited. `statistics` says in words what the good
        pictures had, and where warnings begin. `intensities` says in words which ones are told
        apart. A fused detector has `parts`, by name, in place of `config`, `preprocessing`,
        `intensities` and `rule`.

    Raises:
        BundleError: As in `read`; or a figure is no number.
    """
    read(bundle)
    try:
        return _shown(bundle)
    except _UNFIT as error:
        raise unfit(bundle, error) from error


def _shown(bundle: Bundle) -> dict[str, Any]:
    check_numbers(*bundle.metrics.values())
    figures = {
        split: {
            name.removeprefix(f"{split}_"): value
            for name, value in sorted(bundle.metrics.items())
            if name.startswith(f"{split}_")
        }
        for split in SPLITS
    }
    card = {
        "texture": bundle.texture,
        "method": bundle.method,
        "metrics": {split: each for split, each in figures.items() if each},
        **limits.shown(bundle.threshold),
        **(_shown_parts(bundle) if bundle.parts else _shown_pipeline(bundle)),
        "data": {name: value for name, value in bundle.data.items() if name != "fit"}
        | {"fit": f"{len(bundle.data.get('fit', ()))} pictures or regions"},
        "made_by": {name: value for name, value in bundle.made_by.items() if name != "settings"},
        "megabytes": round(sum(array.nbytes for array in all_weights(bundle).values()) / 1e6, 2),
    }
    if "test_seconds_per_image" in bundle.metrics:
        card["seconds_per_image"] = bundle.metrics["test_seconds_per_image"]
    return card


def _read_fused(bundle: Bundle) -> Card:
    names = part_names(bundle)
    parts = []
    for name, part in zip(names, bundle.parts, strict=True):
        try:
            parts.append(read(part))
        except BundleError as error:
            raise BundleError(f"Part '{name}' of '{bundle.texture}': {error}") from error
    try:
        fusion = _fusion(bundle.fusion)
        if len(fusion.tails) != len(parts):
            raise ValueError(f"it has {len(parts)} parts and tails for {len(fusion.tails)}")
        modes = sorted({part.mode for part in parts})
        if len(modes) > 1:
            raise ValueError(f"its parts have the modes {' and '.join(modes)}, not one")
        return Card(limits=limits.read(bundle.threshold), parts=tuple(parts), fusion=fusion)
    except _UNFIT as error:
        raise unfit(bundle, error) from error


def _fusion(card: Mapping[str, Any]) -> Fusion:
    values, tails = dict(card), []
    for tail in values.pop("tails"):
        if len(tail["knots"]) > MOST_KNOTS:
            raise ValueError(f"a tail has {len(tail['knots'])} knots")
        check_numbers(*tail["knots"], *tail["heights"])
        tails.append(Tail(**{name: tuple(map(float, each)) for name, each in tail.items()}))
    for name in ("map_weights", "score_weights"):
        check_numbers(*values[name])
        values[name] = tuple(map(float, values[name]))
    check_numbers(values["top_fraction"])
    values["top_fraction"] = float(values["top_fraction"])
    return Fusion(tails=tuple(tails), **values)


def _preprocessing(card: Mapping[str, Any]) -> Preprocessing:
    check_numbers(*(value for name, value in card.items() if name != "mode"))
    return Preprocessing(**card)


def _shown_pipeline(bundle: Bundle) -> dict[str, Any]:
    return {
        "config": bundle.config,
        "preprocessing": bundle.preprocessing,
        "intensities": _shown_intensities(bundle),
        "rule": bundle.calibration["rule"],
    }


def _shown_parts(bundle: Bundle) -> dict[str, Any]:
    fusion = _fusion(bundle.fusion)
    weights = zip(fusion.map_weights, fusion.score_weights, strict=True)
    return {
        "parts": {
            name: {
                "method": part.method,
                "scale": part.preprocessing.get("scale", 1.0),
                "map_weight": in_map,
                "score_weight": in_score,
                "intensities": _shown_intensities(part),
            }
            for name, part, (in_map, in_score) in zip(
                part_names(bundle), bundle.parts, weights, strict=True
            )
        },
        "top_fraction": fusion.top_fraction,
    }


def _shown_intensities(bundle: Bundle) -> str:
    known = _preprocessing(bundle.preprocessing)
    if (known.low, known.high) == (0, 1):
        return "all of the full scale"
    return f"{known.low:.2g} to {known.high:.2g} of full scale; others are clamped"


def _method(bundle: Bundle) -> Method:
    """Build the method of a bundle; every value must have the type of its field."""
    cls = methods.named(bundle.method)
    usual = methods.flat(cls())
    config = {
        name: methods.alike(name, value, usual[name]) for name, value in bundle.config.items()
    }
    return methods.built(cls, {**cls.before, **config})


def _calibration(card: Mapping[str, Any], method: Method) -> Calibration:
    rule = dict(card["rule"])
    rule["weights"] = tuple(rule["weights"])
    losses = len(method.loss_names)
    if tuple(card.get("losses", method.loss_names)) != method.loss_names:
        raise ValueError(f"its calibration is for the losses {card['losses']!r:.80}")
    check_numbers(*card["mean"], *(each for row in card["covariance"] for each in row))
    check_numbers(*rule["weights"], rule["top_fraction"])
    if not isinstance(rule["mean_filter"], int):
        raise TypeError(f"mean_filter is {rule['mean_filter']!r}")
    sizes = [len(card["mean"]), len(card["covariance"]), *map(len, card["covariance"])]
    if set(sizes) != {losses} or len(rule["weights"]) not in (0, losses):
        raise ValueError(
            f"the method has {losses} losses, and its calibration is for another number"
        )
    made = Calibration(
        rule=Rule(**rule),
        mean=tuple(card["mean"]),
        covariance=tuple(tuple(row) for row in card["covariance"]),
    )
    joined(torch.zeros(losses, 1, 1), made)  # fails if the covariance is not valid
    return made
