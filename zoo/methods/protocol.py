"""The protocol of all methods: what a method must define, and what has a default.

A method is a frozen dataclass and a subclass of `Method`. Its fields are its configuration. A
bundle holds the fields and the tensors that `fit` reported.
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
Shape = tuple[int | str, ...]  # a name is a size that the fit determines
State = Mapping[str, Any]  # what a fit needs to continue: plain tensors and numbers


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A method at one report of its fit.

    Attributes:
        weights: Every tensor that scoring needs, by name. The fit changes them later, so copy them
            to keep them.
        report: Number of the report, from 1.
        metrics: Mean losses since the last report, as `train_<name>`.
        state: What `fit` needs to continue from here: plain tensors and numbers.
    """

    weights: Weights
    report: int = 1
    metrics: Mapping[str, float] = field(default_factory=dict)
    state: State = field(default_factory=dict)


Report = Callable[[Progress], None]


EXPORT_SIDE = 64  # pixels; with shorter sides an edge would be mirrored more than once


def export_side(patch: int) -> int:
    """Return the smallest side for ONNX of a method whose layers mirror the edges."""
    return max(patch, EXPORT_SIDE)


def one_by_one(losses: Callable[[Tensor], Tensor]) -> Losses:
    """Return a function for a batch "b c h w" from a function for one picture "c h w"."""
    return lambda x: torch.stack([losses(each) for each in x])


class Method(ABC):
    """A method: a frozen dataclass with keyword-only fields and usable defaults.

    Attributes:
        searched: Whether a search chooses the fields; the defaults are then a starting point only.
        untrained: Whether it learns from good pictures only, in seconds. A search begins with all
            such methods.
        features: What an untrained method compares, if other methods compare the same: the best
            of these is a part of the sum that a search begins with.
        before: Fields that were added later: the value that a detector without them was made with.
        published: Values that papers report: metric -> texture -> value.
        presets: Named configurations, each with its rule.
    """

    searched: ClassVar[bool] = False
    untrained: ClassVar[bool] = False
    features: ClassVar[str] = ""
    before: ClassVar[Mapping[str, Any]] = {}
    published: ClassVar[Mapping[str, Mapping[str, float]]] = {}
    presets: ClassVar[Mapping[str, tuple[Mapping[str, Any], Rule]]] = {}

    @property
    @abstractmethod
    def patch(self) -> int:
        """Smallest side of a picture that can be scored, in pixels after scaling."""

    @property
    @abstractmethod
    def loss_names(self) -> tuple[str, ...]:
        """Names of the losses, in the order in which `scorer` returns them."""

    @abstractmethod
    def fit(
        self, images: Images, *, generator: Generator, report: Report, state: State | None = None
    ) -> None:
        """Learn from good pictures and report at least once; the last report is the result.

        Args:
            images: Good pictures, on the device of the generator.
            generator: Draws all random numbers: the same pictures and seed give the same tensors.
            report: Receives each stage. It may raise an exception to stop the fit.
            state: The state of an earlier report, to continue from it.

        Raises:
            BadImageError: A picture is smaller than `patch`.
            DivergedError: A loss is not finite.
        """

    @abstractmethod
    def shapes(self, channels: int) -> Mapping[str, Shape]:
        """Return the shape of every tensor of `weights`, as the configuration implies it.

        No memory is allocated. The tensors of a bundle are checked against these shapes before use.

        Args:
            channels: Number of channels of a prepared picture.
        """

    @abstractmethod
    def scorer(self, weights: Weights, *, used: Sequence[bool] | None = None) -> Losses:
        """Return the loss function, which returns the losses of each pixel.

        It takes "b c h w" in [-1, 1] and returns "b t h w" with the same height and width. Higher
        is more anomalous.

        Args:
            weights: The weights that `fit` reported, on the device for scoring.
            used: Whether each loss is needed; one that is not may be 0. None means all.
        """

    @property
    def in_training(self) -> Method:
        """The method as it scores during its fit, which may be a cheaper form."""
        return self

    @property
    def export_side(self) -> int | None:
        """Smallest side, after scaling, for its ONNX form; None if it has no such form."""
        return None

    @classmethod
    def adapted(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a full configuration with incompatible fields adapted to each other."""
        return values
