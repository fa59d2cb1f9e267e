"""Chooses the best rule on *val* among all candidates. No training is needed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from zoo.scoring import metrics, objective
from zoo.scoring.aggregation import Calibration, Rule, anomaly_map, calibrate, joined
from zoo.scoring.maps import smooth
from zoo.scoring.objective import BINS, WIN_SHARE, Strata

MEAN_FILTERS = (1, 3, 7, 15, 31)  # sides tried on val, in pixels after scaling
THIN = 3  # every third pixel in both directions is used to compare rules
LINEAR_STEPS = 4  # eq. (7) is tried on val with weights in steps of a quarter


def candidates(losses: int, *, mean_filters: Sequence[int] = MEAN_FILTERS) -> list[Rule]:
    """Return the rules to choose from, for a method with this number of losses."""
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
    strata: Strata,
) -> Calibration:
    """Return the rule with the best objective on *val*, calibrated on *good*.

    A rule of several losses takes the place of the best one of a single loss only if it wins at
    least `WIN_SHARE` of the bootstrap draws: one family of defects, which one loss happens to like,
    would otherwise add a loss that harms all others.

    Every third pixel in both directions is used, which is enough to compare rules. Smoothing takes
    most of the time, so it is done once for each filter and not for each rule: `linear` and the
    mean filter commute. Rules of several losses are tried with the filter of the best single one.
    """
    raw = calibrate(Rule(aggregation="max"), good)
    step = _thinning(masks)
    thin_masks = [mask[::step, ::step] for mask in masks]

    def best(
        some: Sequence[Rule],
    ) -> tuple[objective.Judged, Calibration] | None:
        found: tuple[objective.Judged, Calibration] | None = None
        for side in sorted({rule.mean_filter for rule in some}):
            thin = [smooth(losses, side)[:, ::step, ::step] for losses in val]
            for rule in (each for each in some if each.mean_filter == side):
                if rule.aggregation == "mahalanobis":
                    calibration = calibrate(rule, good)
                else:
                    calibration = replace(raw, rule=rule)
                if rule.aggregation == "max":
                    maps = [anomaly_map(losses, calibration)[::step, ::step] for losses in val]
                else:
                    maps = [joined(losses, calibration) for losses in thin]
                counts = metrics.count([each.cpu().numpy() for each in maps], thin_masks, bins=BINS)
                judged = objective.Judged(counts=counts, strata=strata)
                if found is None or judged.objective > found[0].objective:
                    found = judged, calibration
        return found

    number = len(good[0])
    one = best([rule for rule in rules if sum(rule.uses(number)) == 1])
    several = [rule for rule in rules if sum(rule.uses(number)) > 1]
    if one is not None:
        side = one[1].rule.mean_filter
        several = [rule for rule in several if rule.mean_filter == side] or several
    mixed = best(several)
    if one is None or mixed is None:
        found = one or mixed
        return found[1] if found else raw
    clear = mixed[0].objective > one[0].objective and (
        objective.paired_maps(mixed[0], one[0]).win_share >= WIN_SHARE
    )
    return mixed[1] if clear else one[1]


def _thinning(masks: Sequence[Bool[np.ndarray, "_ _"]]) -> int:
    """Return the largest step up to `THIN` that leaves some pixels of each defect."""
    return next(
        step
        for step in range(THIN, 0, -1)
        if all(mask[::step, ::step].any() or not mask.any() for mask in masks) or step == 1
    )
