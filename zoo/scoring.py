"""From losses to a score: aggregation, smoothing, calibration and threshold.

A method gives each pixel one or several losses (FCBiGAN: L_R and L_D). A rule makes one anomaly
map of them, with statistics of the losses on good pixels. Which rule is best costs no training,
so it is chosen on *val* among all candidates; statistics and threshold come from *calibration*.
Test images play no part.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import stats
from torch import Tensor
from torch.nn import functional

from zoo import metrics
from zoo.errors import ConfigError
from zoo.losses import discriminator_score, reconstruction_error
from zoo.networks import FCBiGAN

Aggregation = Literal["linear", "max", "mahalanobis"]

MEAN_FILTERS = (1, 3, 7, 15, 31)  # widths tried on val, in pixels after scaling
LINEAR_STEPS = 4  # eq. (7) is tried on val with shares of a loss in steps of a quarter


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How losses become one map and one number.

    Attributes:
        aggregation: `linear` and `max` work on z-scores of the losses, and the map is smoothed
            after; `mahalanobis` is the distance of the smoothed losses from those of good
            pixels, so it sees what is too good to be true as well as what is too bad.
        weights: The share of each loss in `linear`; eq. (7) has (1 - alpha, alpha).
        mean_filter: Side of the mean filter, in pixels after scaling; 1 is none.
        top_fraction: The image's score is the mean of this share of its highest pixels.
    """

    aggregation: Aggregation
    weights: tuple[float, ...] = ()
    mean_filter: int = 1
    top_fraction: float = 0.01

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming field and value."""
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


THESIS_RULE = Rule(aggregation="max", mean_filter=48)  # Peccia 2021, section 5.2


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A rule with the statistics of good pixels that it needs.

    Attributes:
        rule: What is computed.
        mean: Of each loss on good pixels.
        covariance: Of the losses on good pixels, row by row.
    """

    rule: Rule
    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Where good ends, and how that was found out.

    Attributes:
        value: A score above it is anomalous.
        false_alarm_rate: Share of good images that are expected above it.
        rule: `conformal`, a rank among the calibration scores, which holds for any distribution;
            or `normal`, a prediction bound, where there are too few images for that rank.
        images: Calibration images (or regions of images) that it was set on.
    """

    value: float
    false_alarm_rate: float
    rule: Literal["conformal", "normal"]
    images: int


@torch.no_grad()
def fcbigan_losses(
    networks: FCBiGAN, x: Float[Tensor, "c h w"], *, output_stride: int
) -> Float[Tensor, "t h w"]:
    """Return L_R and L_D of every pixel of one image, and the segmenter's logit if there is one.

    Source: Peccia 2021, eq. (7); the third is ours.
    """
    height, width = x.shape[-2:]
    whole = networks.whole_cells(x[None])
    z = networks.encoder(whole)
    pair = networks.discriminator.pair(whole, z)
    verdict = networks.discriminator.windows.everywhere(pair, output_stride=output_stride)
    losses = [
        reconstruction_error(whole, networks.generator(z)),
        discriminator_score(verdict),
    ]
    if networks.segmenter is not None:
        losses.append(networks.segmenter.everywhere(whole, output_stride=output_stride))
    return torch.cat(losses)[:, :height, :width]


def smooth(maps: Float[Tensor, "n h w"], side: int) -> Float[Tensor, "n h w"]:
    """Average over a `side` by `side` square around each pixel; the edge is mirrored.

    The square's centre is its pixel `side // 2`. A square larger than the image is cut to it.
    """
    for axis in (-2, -1):
        k = min(side, maps.shape[axis])
        if k == 1:
            continue
        ends = (k // 2, k - 1 - k // 2)
        pad, window = ((0, 0, *ends), (k, 1)) if axis == -2 else ((*ends, 0, 0), (1, k))
        maps = functional.avg_pool2d(functional.pad(maps, pad, mode="reflect"), window, stride=1)
    return maps


def calibrate(rule: Rule, good: Sequence[Float[Tensor, "t _ _"]]) -> Calibration:
    """Measure mean and covariance of the losses over all pixels of good images."""
    side = rule.mean_filter if rule.aggregation == "mahalanobis" else 1
    losses = torch.cat([smooth(maps, side).flatten(1) for maps in good], dim=1).double()
    covariance = torch.cov(losses).reshape(len(losses), len(losses))
    return Calibration(
        rule=rule,
        mean=tuple(losses.mean(dim=1).tolist()),
        covariance=tuple(tuple(row) for row in covariance.tolist()),
    )


def anomaly_map(losses: Float[Tensor, "t h w"], calibration: Calibration) -> Float[Tensor, "h w"]:
    """Make one map of the losses; higher is more anomalous.

    Source:
        Peccia 2021, section 4.2 (linear, max, Mahalanobis) and 5.2 (z-scores, mean filter). Ours:
        `linear` weighs z-scores, not raw losses, which ranks pixels alike for some other alpha;
        for `mahalanobis` the losses are smoothed before the distance, not after.
    """
    rule = calibration.rule
    if rule.aggregation == "mahalanobis":
        return _mahalanobis(smooth(losses, rule.mean_filter), calibration)
    mean, spread = losses.new_tensor(calibration.mean), _spread(calibration, losses)
    scores = (losses - mean[:, None, None]) / spread[:, None, None]
    if rule.aggregation == "max":
        joint = scores.amax(dim=0)
    else:
        joint = torch.einsum("t,thw->hw", losses.new_tensor(rule.weights), scores)
    return smooth(joint[None], rule.mean_filter)[0]


def enlarge(
    anomaly: Float[Tensor, "h w"], height: int, width: int
) -> Float[Tensor, "{height} {width}"]:
    """Bring the map of a scaled image back to the image's own size."""
    if anomaly.shape == (height, width):
        return anomaly
    return functional.interpolate(anomaly[None, None], (height, width), mode="bilinear")[0, 0]


def image_score(anomaly: Float[Tensor, "h w"], top_fraction: float) -> float:
    """Return the mean of the highest pixels: steadier than the one highest."""
    count = max(1, round(anomaly.numel() * top_fraction))
    return float(anomaly.flatten().topk(count).values.mean())


def threshold(scores: Sequence[float], *, false_alarm_rate: float) -> Threshold:
    """Set the score above which an image is anomalous, from scores of good images.

    Args:
        scores: Of good images that were not trained on; at least two.
        false_alarm_rate: Share of good images allowed above the threshold, above 0 and below 1.

    Raises:
        ConfigError: The rate is not between 0 and 1, or there are fewer than two scores.

    Source:
        Split conformal prediction (Vovk et al. 2005): the k-th smallest of n scores, k =
        ceil((n + 1)(1 - rate)), holds the rate for exchangeable images. Where k > n, the upper
        prediction bound of a normal sample, mean + t(1 - rate, n - 1) s sqrt(1 + 1/n).
    """
    n = len(scores)
    if not 0 < false_alarm_rate < 1:
        raise ConfigError(
            f"The false-alarm rate must be between 0 and 1, not {false_alarm_rate}. Change it."
        )
    if n < 2:
        raise ConfigError(f"A threshold needs at least 2 good images, not {n}. Add some.")
    rank = math.ceil((n + 1) * (1 - false_alarm_rate))
    if rank <= n:
        value, rule = sorted(scores)[rank - 1], "conformal"
    else:
        student = stats.t.ppf(1 - false_alarm_rate, n - 1)
        deviation = np.std(scores, ddof=1) * math.sqrt(1 + 1 / n)
        value, rule = float(np.mean(scores) + student * deviation), "normal"
    return Threshold(
        value=float(value),
        false_alarm_rate=false_alarm_rate,
        rule="conformal" if rule == "conformal" else "normal",
        images=n,
    )


def candidates(losses: int, *, mean_filters: Sequence[int] = MEAN_FILTERS) -> list[Rule]:
    """List the rules that may be chosen for a method with that many losses."""
    shares = [
        tuple(step / LINEAR_STEPS for step in steps)
        for steps in itertools.product(range(LINEAR_STEPS + 1), repeat=losses)
        if sum(steps) == LINEAR_STEPS
    ]
    return [
        rule
        for side in mean_filters
        for rule in (
            *(Rule(aggregation="linear", weights=share, mean_filter=side) for share in shares),
            *([Rule(aggregation="max", mean_filter=side)] if losses > 1 else []),
            Rule(aggregation="mahalanobis", mean_filter=side),
        )
    ]


def choose(
    rules: Sequence[Rule],
    good: Sequence[Float[Tensor, "t _ _"]],
    val: Sequence[Float[Tensor, "t _ _"]],
    masks: Sequence[Bool[np.ndarray, "_ _"]],
    families: Sequence[str],
) -> Calibration:
    """Return the rule with the best mean pixel AP over families on *val*, calibrated on *good*.

    Every second pixel both ways is looked at; that is enough to rank rules.
    """

    def merit(calibration: Calibration) -> float:
        maps = [anomaly_map(losses, calibration)[::2, ::2].cpu().numpy() for losses in val]
        counts = metrics.count(maps, [mask[::2, ::2] for mask in masks])
        return float(np.mean(list(metrics.family_average_precision(counts, families).values())))

    return max((calibrate(rule, good) for rule in rules), key=merit)


def _spread(calibration: Calibration, like: Tensor) -> Float[Tensor, " t"]:
    variances = [row[k] for k, row in enumerate(calibration.covariance)]
    return like.new_tensor(variances).clamp_min(1e-12).sqrt()


def _mahalanobis(losses: Float[Tensor, "t h w"], calibration: Calibration) -> Float[Tensor, "h w"]:
    covariance = torch.tensor(calibration.covariance, dtype=torch.float64)
    # A thousandth of the mean variance keeps the inverse finite where two losses are one.
    covariance += torch.eye(len(covariance)) * (covariance.trace() / len(covariance) * 1e-3 + 1e-12)
    whiten = torch.linalg.inv(torch.linalg.cholesky(covariance)).to(losses)
    offset = losses - losses.new_tensor(calibration.mean)[:, None, None]
    distance: Tensor = torch.einsum("st,thw->shw", whiten, offset).norm(dim=0)
    return distance
