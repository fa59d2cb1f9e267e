"""The one protocol of every method: what it must do, and what it may leave at a default.

A method is a frozen dataclass. Its fields are its configuration; a bundle carries them and the
tensors that `fit` reported. It subclasses `Method` and so has the defaults.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

if TYPE_CHECKING:
    from zoo.scoring.aggregation import Rule

Images = Sequence[Float[Tensor, "c _ _"]]  # prepared, in [-1, 1], of differing sizes
Weights = Mapping[str, Tensor]  # every tensor that scoring needs, by name
Losses = Callable[[Tensor], Tensor]  # "b c h w" in [-1, 1] -> "b t h w"
Shape = tuple[int | str, ...]  # a word stands for a size that the fit decides
State = Mapping[str, Any]  # what a fit needs to go on: plain tensors and numbers


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A method at one report of its fit.

    Attributes:
        weights: Every tensor that scoring needs, by name. The fit goes on with them: copy to keep.
        report: Number of the report, from 1.
        metrics: Means since the last report: `train_<name>`.
        state: All that `fit` needs to go on from here: plain tensors and numbers.
    """

    weights: Weights
    report: int = 1
    metrics: Mapping[str, float] = field(default_factory=dict)
    state: State = field(default_factory=dict)


Report = Callable[[Progress], None]


def one_by_one(losses: Callable[[Tensor], Tensor]) -> Losses:
    """Return the losses of pictures of one size from a function of one picture, "c h w"."""
    return lambda x: torch.stack([losses(each) for each in x])


class Method(ABC):
    """One method: a frozen dataclass, made by keyword, whose defaults work.

    Attributes:
        searched: Whether its defaults are a starting point only, and a search chooses its fields.
        published: What papers report of it: figure -> texture -> value.
        presets: Configurations that have a name, each with the rule that belongs to it.
    """

    searched: ClassVar[bool] = False
    published: ClassVar[Mapping[str, Mapping[str, float]]] = {}
    presets: ClassVar[Mapping[str, tuple[Mapping[str, Any], Rule]]] = {}

    @property
    @abstractmethod
    def patch(self) -> int:
        """Smallest side of a picture that it scores, in pixels after scaling."""

    @property
    @abstractmethod
    def loss_names(self) -> tuple[str, ...]:
        """Names of the losses, in the order in which `scorer` returns them."""

    @abstractmethod
    def fit(
        self, images: Images, *, generator: Generator, report: Report, state: State | None = None
    ) -> None:
        """Learn from good pictures, and report at least once; the last report is the result.

        Args:
            images: Good pictures, on the device of the generator.
            generator: Draws everything: the same pictures and seed give the same tensors.
            report: Receives each stage. It may stop the fit by raising.
            state: Of an earlier report, to go on from there.

        Raises:
            BadImageError: A picture is smaller than `patch`.
            DivergedError: A loss is not a number any more.
        """

    @abstractmethod
    def shapes(self, channels: int) -> Mapping[str, Shape]:
        """Return the shape of every tensor of `weights`, as the configuration implies it.

        It takes no memory, so a bundle is compared with it before its tensors are used.

        Args:
            channels: Of a prepared picture.
        """

    @abstractmethod
    def scorer(self, weights: Weights, *, used: Sequence[bool] | None = None) -> Losses:
        """Return the function that gives each pixel of pictures its losses.

        It takes "b c h w" in [-1, 1] and returns "b t h w", as high and wide as the pictures.
        Higher is more anomalous.

        Args:
            weights: What `fit` reported, on the device that is to score.
            used: Whether each loss is wanted; one that is not may be 0. None wants all.
        """

    @property
    def in_training(self) -> Method:
        """The same method as it scores while it is being fitted, where that may be cheaper."""
        return self

    @property
    def export_side(self) -> int | None:
        """Smallest side, after scaling, that its ONNX form takes; None where it has none."""
        return None

    @classmethod
    def adapted(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a full configuration with fields that cannot go together brought into line."""
        return values
