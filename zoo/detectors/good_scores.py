"""The scores of the good pictures that set a detector's threshold, as its `Score` would state them.

With them a user sees what another threshold would cost, without scoring anything again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from registry.bundle import Bundle
from zoo.detectors.score import calibrated
from zoo.scoring.thresholds import independent_images, rates_above


@dataclass(frozen=True, kw_only=True)
class GoodScores:
    """Scores of good pictures that a detector was not trained on; its threshold is 1.

    Attributes:
        scores: In the units of `Score.score`, ascending.
        groups: A number for each; relatives, such as crops of one photograph, have the same.
        rule: How the threshold was set, as in `zoo.scoring.thresholds.Threshold`.
        independent: Number of groups; each counts as one picture.
        varied: Whether they are those of the pictures under benign variation.
    """

    scores: tuple[float, ...]
    groups: tuple[int, ...]
    rule: Literal["conformal", "normal"]
    independent: int
    varied: bool

    def false_alarm_rates(self, limits: Sequence[float]) -> Float[np.ndarray, " m"]:
        """Return the expected share of good pictures above each limit.

        Args:
            limits: In the units of `Score.score`. For 1 it is at most the rate of the card.
        """
        return rates_above(limits, self.scores, groups=self.groups, rule=self.rule)


def good_scores(bundle: Bundle) -> GoodScores | None:
    """Return the scores that a detector carries; None for one of a version that stored none.

    Args:
        bundle: Of a detector, so that its card has been checked.
    """
    known: dict[str, Any] = dict(bundle.threshold)
    scores = np.asarray(known.get("scores", ()), np.float64)
    if len(scores) < 2:
        return None
    groups = np.asarray(known.get("groups") or range(len(scores)))
    order = np.argsort(scores, kind="stable")
    return GoodScores(
        scores=tuple(calibrated(scores[order], known["value"]).tolist()),
        groups=tuple(groups[order].tolist()),
        rule="conformal" if str(known["rule"]) == "conformal" else "normal",
        independent=independent_images(known),
        varied=bool(known.get("varied", False)),
    )
