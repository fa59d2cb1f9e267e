"""From the losses of each pixel to one anomaly map.

A method gives each pixel one or several losses. A rule combines them into one anomaly map, with
statistics of the losses on good pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from zoo.errors import ConfigError
from zoo.scoring.maps import TOP, smooth

Aggregation = Literal["linear", "max", "mahalanobis"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How losses become one map and one score.

    Attributes:
        aggregation: `linear` and `max` work on z-scores of the losses, and the map is smoothed
            afterwards; `mahalanobis` is the distance of the smoothed losses from those of good
            pixels, so unusually small losses are anomalous as well as large ones.
        weights: The share of each loss in `linear`; eq. (7) has (1 - alpha, alpha).
        mean_filter: Side of the mean filter, in pixels after scaling; 1 is no filter.
        top_fraction: The score of the image is the mean of this share of its highest pixels.
    """

    aggregation: Aggregation
    weights: tuple[float, ...] = ()
    mean_filter: int = 1
    top_fraction: float = TOP

    def __post_init__(self) -> None:
        """Refuse values that are out of their range."""
        if self.aggregation not in get_args(Aggregation):
            raise ConfigError(
                f"aggregation must be one of {', '.join(get_args(Aggregation))}, not "
                f"'{self.aggregation}'. Choose one of them."
            )
        if self.mean_filter < 1:
            raise ConfigError(f"mean_filter must be 1 or more, not {self.mean_filter}. Change it.")
        if not 0 < self.top_fraction <= 1:
            raise ConfigError(
                f"top_fraction must be above 0 and at most 1, not {self.top_fraction}. Change it."
            )

    def uses(self, losses: int) -> tuple[bool, ...]:
        """Return for each of the losses whether the map depends on it."""
        if self.aggregation != "linear":
            return (True,) * losses
        return tuple(weight != 0 for weight in self.weights)


THESIS_RULE = Rule(aggregation="max", mean_filter=48)  # Peccia 2021, section 5.2


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A rule with the statistics of good pixels that it needs.

    Attributes:
        rule: The rule.
        mean: Mean of each loss on good pixels.
        covariance: Covariance of the losses on good pixels, row by row.
    """

    rule: Rule
    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]


def calibrate(rule: Rule, good: Sequence[Float[Tensor, "t _ _"]]) -> Calibration:
    """Measure the mean and covariance of the losses over all pixels of good images."""
    side = rule.mean_filter if rule.aggregation == "mahalanobis" else 1
    losses = torch.cat([smooth(maps, side).flatten(1) for maps in good], dim=1).double()
    mean = losses.mean(dim=1)
    centred, count = losses - mean[:, None], losses.shape[1]
    # Plain sums, here and below: their last digits do not depend on a linear algebra library.
    covariance = [[float((a * b).sum()) / (count - 1) for b in centred] for a in centred]
    return Calibration(
        rule=rule,
        mean=tuple(mean.tolist()),
        covariance=tuple(tuple(row) for row in covariance),
    )


def anomaly_map(losses: Float[Tensor, "t h w"], calibration: Calibration) -> Float[Tensor, "h w"]:
    """Return one map of the losses; higher is more anomalous.

    Source:
        Peccia 2021, section 4.2 (linear, max, Mahalanobis) and 5.2 (z-scores, mean filter). Ours:
        `linear` weighs z-scores, not raw losses, which gives the same order of pixels for another
        alpha; for `mahalanobis` the losses are smoothed before the distance, not after.
    """
    side = calibration.rule.mean_filter
    if calibration.rule.aggregation == "mahalanobis":
        return joined(smooth(losses, side), calibration)
    return smooth(joined(losses, calibration)[None], side)[0]


def joined(losses: Float[Tensor, "t h w"], calibration: Calibration) -> Float[Tensor, "h w"]:
    """Combine the losses of each pixel into one number, without smoothing."""
    rule = calibration.rule
    mean = losses.new_tensor(calibration.mean)[:, None, None]
    covariance = np.array(calibration.covariance)
    if rule.aggregation == "mahalanobis":
        # A thousandth of the mean variance keeps the inverse finite if two losses are equal.
        ridge = np.trace(covariance) / len(covariance) * 1e-3 + 1e-12
        factor = np.linalg.cholesky(covariance + ridge * np.eye(len(covariance)))
        whiten = losses.new_tensor(np.linalg.inv(factor))
        whitened: Tensor = (whiten[:, :, None, None] * (losses - mean)).sum(dim=1)
        return whitened.square().sum(dim=0).sqrt()
    deviation = losses.new_tensor(np.sqrt(np.diag(covariance).clip(1e-12)))[:, None, None]
    scores = (losses - mean) / deviation
    if rule.aggregation == "max":
        return scores.amax(dim=0)
    return (losses.new_tensor(rule.weights)[:, None, None] * scores).sum(dim=0)
