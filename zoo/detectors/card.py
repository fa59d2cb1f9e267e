"""The card of a bundle: read and checked before use, and shown to the user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from registry.bundle import Bundle
from zoo import methods
from zoo.data.preprocessing import Preprocessing
from zoo.errors import BundleError, ConfigError
from zoo.methods import Losses, Method
from zoo.scoring.aggregation import Calibration, Rule, joined
from zoo.scoring.thresholds import false_alarm_interval

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
# Within these limits the numbers of a card, and a map divided by the threshold, fit in float32.
LARGEST, SMALLEST, BEYOND = 1e12, 1e-20, 1e18


@dataclass(frozen=True, kw_only=True)
class Card:
    """The content of a bundle, checked.

    Attributes:
        method: The method with its configuration.
        preprocessing: The preprocessing of a picture.
        calibration: How losses become a map.
        threshold: A map or score above it is anomalous; in units of the rule.
        good_scores: Scores of the calibration pictures if the threshold was set by rank.
    """

    method: Method
    preprocessing: Preprocessing
    calibration: Calibration
    threshold: float
    good_scores: tuple[float, ...]

    def losses(self, weights: Mapping[str, Tensor]) -> Losses:
        """Return the loss function; a loss that the rule gives no weight is not computed."""
        used = self.calibration.rule.uses(losses=len(self.method.loss_names))
        return self.method.scorer(weights, used=used)


def read(bundle: Bundle) -> Card:
    """Read the card of a bundle, and check the shapes of its tensors against its configuration.

    A bundle that does not fit is refused before any computation or allocation.

    Raises:
        BundleError: The method is unknown, a value is not allowed, or a tensor does not fit.
    """
    if bundle.method not in methods.METHODS:
        raise BundleError(
            f"The bundle of '{bundle.texture}' is made by method '{bundle.method}'; this "
            f"version knows {', '.join(methods.names())}. Update texture-zoo."
        )
    try:
        preprocessing = Preprocessing(**bundle.preprocessing)
        method = _method(bundle)
        methods.check_weights(method, tensors_of(bundle), channels=preprocessing.channels)
        known = bundle.threshold
        good = known.get("scores", ()) if str(known["rule"]) == "conformal" else ()
        _check_numbers(known["value"], *known.get("scores", ()))
        if 0 < abs(known["value"]) < SMALLEST:
            raise ValueError(f"the threshold is {known['value']!r}")
        return Card(
            method=method,
            preprocessing=preprocessing,
            calibration=_calibration(bundle.calibration, method),
            threshold=float(known["value"]),
            good_scores=tuple(good),
        )
    except _UNFIT as error:
        raise unfit(bundle, error) from error


def unfit(bundle: Bundle, error: Exception) -> BundleError:
    """Return the error of a bundle whose parts do not fit together."""
    return BundleError(
        f"The weights of '{bundle.texture}' do not fit its configuration: "
        f"{str(error).rstrip('.')}. Fetch or promote it again."
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
        with its expected false-alarm rate and, if it was set by rank, the 95 % interval of the
        true rate; `data` with licence and fingerprint; `made_by`; `megabytes`; and
        `seconds_per_image` if the detector was audited.
    """
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
        "threshold": _shown_threshold(bundle.threshold),
        "config": bundle.config,
        "preprocessing": bundle.preprocessing,
        "rule": bundle.calibration["rule"],
        "data": {name: value for name, value in bundle.data.items() if name != "fit"}
        | {"fit": f"{len(bundle.data.get('fit', ()))} pictures or regions"},
        "made_by": {name: value for name, value in bundle.made_by.items() if name != "settings"},
        "megabytes": round(sum(array.nbytes for array in bundle.weights.values()) / 1e6, 2),
    }
    if "test_seconds_per_image" in bundle.metrics:
        card["seconds_per_image"] = bundle.metrics["test_seconds_per_image"]
    return card


def _shown_threshold(known: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: value for name, value in known.items() if name != "scores"}
    if known["rule"] == "conformal":
        interval = false_alarm_interval(known["images"], known["false_alarm_rate"])
        shown["false_alarm_interval"] = interval and [round(end, 4) for end in interval]
    return shown


def _method(bundle: Bundle) -> Method:
    """Build the method of a bundle; every value must have the type of its field."""
    cls = methods.named(bundle.method)
    usual = methods.flat(cls())
    config = {
        name: methods.alike(name, value, usual[name]) for name, value in bundle.config.items()
    }
    return methods.built(cls, config)


def _calibration(card: Mapping[str, Any], method: Method) -> Calibration:
    rule = dict(card["rule"])
    rule["weights"] = tuple(rule["weights"])
    losses = len(method.loss_names)
    if tuple(card.get("losses", method.loss_names)) != method.loss_names:
        raise ValueError(f"its calibration is for the losses {card['losses']!r:.80}")
    _check_numbers(*card["mean"], *(each for row in card["covariance"] for each in row))
    _check_numbers(*rule["weights"], rule["top_fraction"])
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


def _check_numbers(*values: Any) -> None:
    """Refuse values that are not numbers, or are too large."""
    for value in values:
        if not isinstance(value, int | float) or not abs(value) <= LARGEST:
            raise ValueError(f"{value!r:.40} is not a number that a card can have")
