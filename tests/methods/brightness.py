"""A method of ten lines, added from outside of the project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.methods import METHODS, Losses, Method, Progress

METHODS["brightness"] = "tests.methods.brightness:Brightness"


@dataclass(frozen=True, kw_only=True)
class Brightness(Method):
    """Distance of each pixel from the mean of good pixels."""

    patch: int = 1
    loss_names = ("distance",)
    export_side = 1

    def fit(self, images: Any, *, report: Any, **given: Any) -> None:
        report(Progress(weights={"mean": torch.stack([x.mean() for x in images]).mean()[None]}))

    def shapes(self, channels: int) -> dict[str, tuple[int, ...]]:
        return {"mean": (1,)}

    def scorer(self, weights: Any, *, used: Any = None) -> Losses:
        def losses(x: Tensor) -> Tensor:
            away: Tensor = (x - weights["mean"]).abs().mean(dim=1, keepdim=True)
            return away

        return losses
