"""Several maps of one picture become one: each is calibrated on good pixels, and they are added.

Maps of different detectors have different units. The tail of a detector brings its values to one
unit: how rare such a value is among good pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from zoo.errors import ConfigError
from zoo.scoring.maps import TOP

SHARES = tuple(each * 10.0**-power for power in range(12) for each in (1.0, 0.5, 0.2))
FEWEST = 20  # good pixels at or above the last knot; fewer say little about how rare it is
DECADE = 1.0  # of the heights; the slope beyond the last knot is that of the last one
NARROWEST = 1e-6  # distance of two knots, as a share of the largest knot
SMALLEST = 1e-9  # distance of two knots at least
VALUES = 2**24  # of all good pixels, about; more take seconds and change nothing
STEEPEST = 1e12  # so that a log tail fits in float32 for every map that a detector can have


@dataclass(frozen=True, kw_only=True)
class Tail:
    """How rare the values of a map are: -log10 of the share of good pixels at or above a value.

    Linear between the knots. Below the first knot it is constant. Beyond the last knot it goes on
    with `slope`, as if the tail of the good pixels were exponential.

    Attributes:
        knots: Values of a map, ascending; at least two.
        heights: -log10 of the share at each knot, from 0, not descending.
    """

    knots: tuple[float, ...]
    heights: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse knots and heights that are no function, or that float32 cannot compute."""
        if len(self.knots) < 2 or len(self.knots) != len(self.heights):
            raise ConfigError(
                "A tail needs two knots or more, and a height for each, not "
                f"{len(self.knots)} and {len(self.heights)}. Fit it again."
            )
        if not np.isfinite([*self.knots, *self.heights]).all():
            raise ConfigError("knots and heights must be finite numbers. Fit the tail again.")
        with np.errstate(over="ignore"):
            near = np.array(self.knots, np.float32)
        if not (np.isfinite(near).all() and (near[1:] > near[:-1]).all()):
            raise ConfigError("knots must ascend, and differ in float32. Fit the tail again.")
        if self.heights[0] < 0 or any(after < before for before, after in pairwise(self.heights)):
            raise ConfigError("heights must be 0 or more and must not descend. Fit the tail again.")
        if not self.slope <= STEEPEST:
            raise ConfigError(
                f"The slope beyond the last knot is {self.slope:.3g}; it may be {STEEPEST:.0e}. "
                "Fit the tail again."
            )

    @property
    def slope(self) -> float:
        """Slope beyond the last knot: the mean slope of the last decade of the heights.

        A single segment depends on a few pixels only.
        """
        floor = self.heights[-1] - DECADE
        below = [at for at, height in enumerate(self.heights[:-1]) if height <= floor]
        first = below[-1] if below else 0
        rise = self.heights[-1] - self.heights[first]
        return rise / (self.knots[-1] - self.knots[first])


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """How the maps of several detectors become one map and one score.

    Attributes:
        tails: The tail of each detector.
        map_weights: The weight of each log tail in the map; 0 leaves it out.
        score_weights: The weight of each log tail in the map that the score is taken of.
        top_fraction: The score of the image is the mean of this share of its highest pixels.
    """

    tails: tuple[Tail, ...]
    map_weights: tuple[float, ...]
    score_weights: tuple[float, ...]
    top_fraction: float = TOP

    def __post_init__(self) -> None:
        """Refuse values that are out of their range."""
        for name in ("map_weights", "score_weights"):
            weights = getattr(self, name)
            if len(weights) != len(self.tails):
                raise ConfigError(
                    f"{name} must have one weight for each of the {len(self.tails)} tails, not "
                    f"{len(weights)}. Change it."
                )
            if not all(0 <= each < math.inf for each in weights) or not any(weights):
                raise ConfigError(
                    f"{name} must be 0 or more, and one of them above 0, not {weights}. Change it."
                )
        if not 0 < self.top_fraction <= 1:
            raise ConfigError(
                f"top_fraction must be above 0 and at most 1, not {self.top_fraction}. Change it."
            )

    @property
    def used(self) -> tuple[bool, ...]:
        """For each part, whether the map or the score depends on it."""
        return tuple(
            a > 0 or b > 0 for a, b in zip(self.map_weights, self.score_weights, strict=True)
        )


def fit_tail(maps: Sequence[Float[Tensor, "_ _"]]) -> Tail:
    """Measure how rare the values of a map are, over all pixels of good pictures.

    Each height is the share that was counted, so ties are counted right. Constant maps have no
    tail: a value that is larger than theirs by their own size, or by 1, then has the height 1.

    Args:
        maps: Maps of good pictures, of differing sizes; not those that the detector was fitted on.

    Raises:
        ConfigError: There is no pixel, or a value is not finite.
    """
    own = [each.detach().cpu().numpy() for each in maps]
    size, finite = sum(each.size for each in own), sum(int(np.isfinite(each).sum()) for each in own)
    if not 0 < finite == size:
        raise ConfigError(
            f"A tail is measured on finite values of good pixels; these are {size}, and "
            f"{finite} of them are finite. Check the maps."
        )
    thin = max(1, math.isqrt(size // VALUES))
    values = np.concatenate([each[::thin, ::thin].ravel() for each in own]).astype(
        np.float32, copy=False
    )
    values.sort()
    count = values.size
    shares = [share for share in SHARES if share * count > FEWEST - 1e-6] or [1.0]
    at = [float(values[count - math.ceil(share * count - 1e-9)]) for share in shares]
    knots, heights = _separate(at, values)
    if len(knots) == 1:
        knots.append(knots[0] + max(abs(knots[0]), 1.0))
        heights.append(heights[0] + DECADE)
    return Tail(knots=tuple(knots), heights=tuple(heights))


def log_tail(anomaly: Float[Tensor, "h w"], tail: Tail) -> Float[Tensor, "h w"]:
    """Return log(1 + t) of each pixel, where t is the tail at its value. It is not descending."""
    knots: list[float] = np.array(tail.knots, np.float32).tolist()
    total = torch.full_like(anomaly, tail.heights[0])
    # A sum of slopes would lose all digits where the slope of two knots that are close ends.
    for (low, high), (bottom, top) in zip(pairwise(knots), pairwise(tail.heights), strict=True):
        total.add_((anomaly - low).div_(high - low).clamp_(0, 1), alpha=top - bottom)
    total.add_((anomaly - knots[-1]).clamp_(min=0), alpha=tail.slope)
    return total.log1p_()


def added(
    tails: Sequence[Float[Tensor, "h w"] | None], weights: Sequence[float]
) -> Float[Tensor, "h w"]:
    """Return the weighted sum of log tails, in their order; one may be None if its weight is 0.

    Raises:
        ConfigError: All weights are 0, or a log tail is missing.
    """
    total: Tensor | None = None
    for at, (each, weight) in enumerate(zip(tails, weights, strict=True)):
        if weight:
            if each is None:
                raise ConfigError(f"The map of part {at} has weight {weight} and is missing.")
            total = weight * each if total is None else total + weight * each
    if total is None:
        raise ConfigError("All weights are 0, so there is nothing to add. Change one.")
    return total


def _separate(
    candidates: Sequence[float], values: Float[np.ndarray, " n"]
) -> tuple[list[float], list[float]]:
    """Return knots that are far enough apart, ascending, and the height that was counted at each.

    Args:
        candidates: Ascending values.
        values: All values, ascending.
    """
    gap = max(NARROWEST * float(np.abs(values[[0, -1]]).max()), SMALLEST)
    knots: list[float] = []
    for value in candidates:
        if not knots or value > knots[-1] + gap:
            knots.append(value)
    above = len(values) - np.searchsorted(values, np.array(knots, np.float32), side="left")
    return knots, [math.log10(len(values) / int(each)) for each in above]
