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
from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from zoo import metrics
from zoo.errors import ConfigError
from zoo.losses import discriminator_score, reconstruction_error
from zoo.networks import FCBiGAN

Aggregation = Literal["linear", "max", "mahalanobis"]

MEAN_FILTERS = (1, 3, 7, 15, 31)  # widths tried on val, in pixels after scaling
THIN = 3  # of the pixels both ways that rank rules
# The image as it is, mirrored, upside down, and turned by 180 degrees: axes to flip.
VIEWS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))
TILE = 2048  # pixels both ways, after scaling, of which the networks see no more at once
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

    def uses(self, losses: int) -> tuple[bool, ...]:
        """Tell which of so many losses the map depends on."""
        if self.aggregation != "linear":
            return (True,) * losses
        return tuple(weight != 0 for weight in self.weights)


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
        scores: Theirs, ascending; what a p-value is told by.
        set_on: Their split.
    """

    value: float
    false_alarm_rate: float
    rule: Literal["conformal", "normal"]
    images: int
    scores: tuple[float, ...] = ()
    set_on: Literal["calibration"] = "calibration"


@torch.no_grad()
def fcbigan_losses(
    networks: FCBiGAN,
    x: Float[Tensor, "c h w"],
    *,
    output_stride: int,
    views: int = 1,
    used: Sequence[bool] = (True, True, True),
) -> Float[Tensor, "t h w"]:
    """Return L_R and L_D of every pixel of one image, and the segmenter's logit if there is one.

    An image larger than `TILE` goes through the networks in overlapping pieces, with the same
    losses; so what they need of memory does not grow with the image.

    Args:
        networks: In evaluation mode.
        x: The image, prepared.
        output_stride: Pixels between two verdicts of D; what lies between is interpolated.
        views: The losses are the mean over so many of `VIEWS`; 1 is the image as it is.
        used: Whether each loss is wanted; one that is not is left at 0 and its work undone.

    Source: Peccia 2021, eq. (7); the segmenter and the views are ours.
    """
    seen = (
        _losses(networks, x.flip(axes), output_stride=output_stride, used=used).flip(axes)
        for axes in VIEWS[:views]
    )
    return reduce(torch.add, seen) / views


def _losses(
    networks: FCBiGAN, x: Float[Tensor, "c h w"], *, output_stride: int, used: Sequence[bool]
) -> Float[Tensor, "t h w"]:
    height, width = x.shape[-2:]
    whole = networks.whole_cells(x[None])
    if max(whole.shape[-2:]) <= TILE:
        return _of_piece(networks, whole, output_stride, used)[:, :height, :width]
    step, margin = networks.seam(output_stride)
    side = max(TILE // step, 1) * step
    rows, columns = (range(0, length, side) for length in whole.shape[-2:])
    losses = whole.new_empty(2 + (networks.segmenter is not None), *whole.shape[-2:])
    for top, left in itertools.product(rows, columns):
        above, before = min(top, margin), min(left, margin)
        piece = whole[..., top - above : top + side + margin, left - before : left + side + margin]
        found = _of_piece(networks, piece, output_stride, used)
        inside = found[:, above : above + side, before : before + side]
        losses[:, top : top + side, left : left + side] = inside
    return losses[:, :height, :width]


def _of_piece(
    networks: FCBiGAN, whole: Float[Tensor, "1 c h w"], output_stride: int, used: Sequence[bool]
) -> Float[Tensor, "t h w"]:
    """Return the losses of an image, or a piece of one, whose sides are whole cells."""
    nothing = torch.zeros_like(whole[:, 0])
    losses = [nothing, nothing]
    if used[0] or used[1]:
        z = networks.encoder(whole)
    if used[0]:
        losses[0] = reconstruction_error(whole, networks.generator(z))
    if used[1]:
        pair = networks.discriminator.pair(whole, z)
        verdict = networks.discriminator.windows.everywhere(pair, output_stride=output_stride)
        losses[1] = discriminator_score(verdict)
    if networks.segmenter is not None:
        losses.append(networks.segmenter.everywhere(whole) if used[2] else nothing)
    return torch.cat(losses)


def smooth(maps: Float[Tensor, "n h w"], side: int) -> Float[Tensor, "n h w"]:
    """Average over a `side` by `side` square around each pixel; the edge is mirrored.

    The square's centre is its pixel `side // 2`. A square larger than the image is cut to it.
    """
    for axis in (-2, -1):
        k = min(side, maps.shape[axis])
        if k > 1:
            ends = (k // 2, k - 1 - k // 2)
            pad = (0, 0, *ends) if axis == -2 else (*ends, 0, 0)
            # Running sums cost the same for any side; in float32 they would lose digits.
            sums = functional.pad(maps, pad, mode="reflect").double().cumsum(axis)
            zero = torch.zeros_like(sums.narrow(axis, 0, 1))
            sums = torch.cat([zero, sums], dim=axis)
            length = maps.shape[axis]
            maps = ((sums.narrow(axis, k, length) - sums.narrow(axis, 0, length)) / k).to(maps)
    return maps


def calibrate(rule: Rule, good: Sequence[Float[Tensor, "t _ _"]]) -> Calibration:
    """Measure mean and covariance of the losses over all pixels of good images."""
    side = rule.mean_filter if rule.aggregation == "mahalanobis" else 1
    losses = torch.cat([smooth(maps, side).flatten(1) for maps in good], dim=1).double()
    mean = losses.mean(dim=1)
    centred, count = losses - mean[:, None], losses.shape[1]
    # Plain sums, here and below: their last digits do not hang on a linear algebra library.
    covariance = [[float((a * b).sum()) / (count - 1) for b in centred] for a in centred]
    return Calibration(
        rule=rule,
        mean=tuple(mean.tolist()),
        covariance=tuple(tuple(row) for row in covariance),
    )


def anomaly_map(losses: Float[Tensor, "t h w"], calibration: Calibration) -> Float[Tensor, "h w"]:
    """Make one map of the losses; higher is more anomalous.

    Source:
        Peccia 2021, section 4.2 (linear, max, Mahalanobis) and 5.2 (z-scores, mean filter). Ours:
        `linear` weighs z-scores, not raw losses, which ranks pixels alike for some other alpha;
        for `mahalanobis` the losses are smoothed before the distance, not after.
    """
    side = calibration.rule.mean_filter
    if calibration.rule.aggregation == "mahalanobis":
        return joined(smooth(losses, side), calibration)
    return smooth(joined(losses, calibration)[None], side)[0]


def joined(losses: Float[Tensor, "t h w"], calibration: Calibration) -> Float[Tensor, "h w"]:
    """Make one number of each pixel's losses, each pixel for itself."""
    rule = calibration.rule
    mean = losses.new_tensor(calibration.mean)[:, None, None]
    covariance = np.array(calibration.covariance)
    if rule.aggregation == "mahalanobis":
        # A thousandth of the mean variance keeps the inverse finite where two losses are one.
        ridge = np.trace(covariance) / len(covariance) * 1e-3 + 1e-12
        factor = np.linalg.cholesky(covariance + ridge * np.eye(len(covariance)))
        whiten = losses.new_tensor(np.linalg.inv(factor))
        whitened: Tensor = (whiten[:, :, None, None] * (losses - mean)).sum(dim=1)
        return whitened.square().sum(dim=0).sqrt()
    spread = losses.new_tensor(np.sqrt(np.diag(covariance).clip(1e-12)))[:, None, None]
    scores = (losses - mean) / spread
    if rule.aggregation == "max":
        return scores.amax(dim=0)
    return (losses.new_tensor(rule.weights)[:, None, None] * scores).sum(dim=0)


def enlarge(
    anomaly: Float[Tensor, "h w"], height: int, width: int
) -> Float[Tensor, "{height} {width}"]:
    """Bring the map of a scaled image back to the image's own size."""
    if anomaly.shape == (height, width):
        return anomaly
    return functional.interpolate(anomaly[None, None], (height, width), mode="bilinear")[0, 0]


def spread(
    values: Float[Tensor, "t hv wv"],
    *,
    step: int,
    first: tuple[int, int],
    height: int,
    width: int,
) -> Float[Tensor, "t {height} {width}"]:
    """Give each pixel of an image a value, from values on a grid: between them, or the nearest.

    Args:
        values: Of the grid's points.
        step: Pixels between two points.
        first: Row and column of the pixel that the first point lies on.
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Example:
        >>> row = torch.tensor([[[1.0, 5.0]]])
        >>> spread(row, step=2, first=(0, 1), height=1, width=6).tolist()
        [[[1.0, 1.0, 3.0, 5.0, 5.0, 5.0]]]
    """
    size = [(side - 1) * step + 1 for side in values.shape[-2:]]
    whole = functional.interpolate(values[None], size, mode="bilinear", align_corners=True)
    top, left = first
    pad = (left, width - left - size[1], top, height - top - size[0])
    return functional.pad(whole, pad, mode="replicate")[0]


def image_score(anomaly: Float[Tensor, "h w"], top_fraction: float) -> Float[Tensor, ""]:
    """Return the mean of the highest pixels: steadier than the one highest."""
    count = max(1, round(anomaly.numel() * top_fraction))
    return anomaly.flatten().topk(count).values.mean()


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
    rank = conformal_rank(n, false_alarm_rate)
    if rank <= n:
        value, rule = sorted(scores)[rank - 1], "conformal"
    else:
        from scipy.special import stdtrit

        student = float(stdtrit(n - 1, 1 - false_alarm_rate))  # Student's quantile
        deviation = np.std(scores, ddof=1) * math.sqrt(1 + 1 / n)
        value, rule = float(np.mean(scores) + student * deviation), "normal"
    return Threshold(
        value=float(value),
        false_alarm_rate=false_alarm_rate,
        rule="conformal" if rule == "conformal" else "normal",
        images=n,
        scores=tuple(sorted(float(score) for score in scores)),
    )


def p_value(score: float, good: Sequence[float]) -> float:
    """Return the share of good images at or above a score, the image itself counted as one.

    For images like the calibration ones it is at most p with a chance of at most p, whatever the
    distribution; it is never below 1 / (n + 1).

    Args:
        score: Of the image.
        good: Scores of the calibration images.

    Source: Vovk et al. 2005, chapter 2 (conformal p-values).
    """
    return (1 + sum(each >= score for each in good)) / (len(good) + 1)


def false_alarm_interval(
    images: int, false_alarm_rate: float, *, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Return where the real false-alarm rate of a conformal threshold lies.

    The rate is right on average over calibration sets; that of one set, for all the good images
    to come, has a Beta distribution with these quantiles. None where there were too few images for
    a rank, so that nothing is promised whatever the distribution.

    Source: Vovk 2012, "Conditional validity of inductive conformal predictors".
    """
    rank = conformal_rank(images, false_alarm_rate)
    if rank > images:
        return None
    from scipy.special import betaincinv  # a loaded detector needs none of SciPy

    tail = (1 - confidence) / 2
    low, high = (float(betaincinv(images - rank + 1, rank, p)) for p in (tail, 1 - tail))
    return low, high


def conformal_rank(images: int, false_alarm_rate: float) -> int:
    """Return which of so many ascending scores is the threshold; none is, if it is beyond them.

    Source: as in `threshold`.
    """
    # 1 - 0.42 is a little above 0.58.
    return math.ceil((images + 1) * (1 - false_alarm_rate) - 1e-9)


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

    Every third pixel both ways is looked at; that is enough to rank rules. Smoothing is what
    takes time, so it is done once a width and not once a rule: `linear` and the mean filter may
    change places.
    """
    raw = calibrate(Rule(aggregation="max"), good)
    step = _thinning(masks, families)
    thin_masks = [mask[::step, ::step] for mask in masks]
    best, best_merit = raw, -1.0
    for side in sorted({rule.mean_filter for rule in rules}):
        thin = [smooth(losses, side)[:, ::step, ::step] for losses in val]
        for rule in (each for each in rules if each.mean_filter == side):
            if rule.aggregation == "mahalanobis":
                calibration = calibrate(rule, good)
            else:
                calibration = replace(raw, rule=rule)
            if rule.aggregation == "max":
                maps = [anomaly_map(losses, calibration)[::step, ::step] for losses in val]
            else:
                maps = [joined(losses, calibration) for losses in thin]
            counts = metrics.count([each.cpu().numpy() for each in maps], thin_masks)
            each_family = metrics.family_average_precision(counts, families)
            merit = float(np.mean(list(each_family.values())))
            if merit > best_merit:
                best, best_merit = calibration, merit
    return best


def _thinning(masks: Sequence[Bool[np.ndarray, "_ _"]], families: Sequence[str]) -> int:
    """Return the widest step up to `THIN` that leaves every family some defective pixel."""

    def families_left(step: int) -> set[str]:
        pairs = zip(masks, families, strict=True)
        return {family for mask, family in pairs if mask[::step, ::step].any()}

    return next(step for step in range(THIN, 0, -1) if families_left(step) == set(families))
