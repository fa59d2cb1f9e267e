"""Other systems behind the same detector, to know what a search is worth.

Each is a frozen dataclass whose fields are its configuration, found here by the name that a bundle
carries. What they import beyond torch and numpy they import when they are fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.errors import ConfigError, did_you_mean

Losses = Callable[[Tensor], Tensor]  # "c h w" in [-1, 1] -> "t h w"


@runtime_checkable
class Method(Protocol):
    """One system: a frozen dataclass, made by keyword, whose fields a bundle carries.

    `patch` is the smallest side of an image that it can score, in pixels after scaling.
    """

    @property
    def patch(self) -> int:
        """Smallest side of an image, in pixels after scaling."""

    def fit(
        self, images: Sequence[Float[Tensor, "c _ _"]], *, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Learn from good images, and return all that scoring needs, by name.

        Args:
            images: Prepared, in [-1, 1], of differing sizes; on the generator's device.
            generator: Draws everything: the same images and seed give the same tensors.

        Raises:
            BadImageError: An image is smaller than `patch`.
        """

    def ready(self, weights: Mapping[str, Tensor]) -> Losses:
        """Return what gives each pixel of an image its losses, as large as the image.

        Higher is more anomalous. The tensors are on the device that is to score.
        """


# Name to module and class: a baseline is imported when it is asked for.
_PLACES: Mapping[str, tuple[str, str]] = {
    "feature_dictionary": ("zoo.baselines.feature_dictionary", "FeatureDictionary"),
    "feature_memory": ("zoo.baselines.feature_memory", "FeatureMemory"),
    "bigan": ("zoo.baselines.bigan", "BiGAN"),
    "f_anogan": ("zoo.baselines.f_anogan", "FAnoGAN"),
    "local_statistics": ("zoo.baselines.local_statistics", "LocalStatistics"),
    "random_features": ("zoo.baselines.random_features", "RandomFeatures"),
    "sparse_dictionary": ("zoo.baselines.sparse_dictionary", "SparseDictionary"),
}
NAMES: tuple[str, ...] = tuple(_PLACES)


def named(name: str) -> Callable[..., Method]:
    """Return the class of a baseline.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in _PLACES:
        raise ConfigError(
            f"There is no method '{name}'; there are fcbigan, {', '.join(NAMES)}."
            f"{did_you_mean(name, NAMES)}"
        )
    module, made = _PLACES[name]
    return cast(Callable[..., Method], getattr(import_module(module), made))
