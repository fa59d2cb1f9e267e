"""Nearest neighbours of ImageNet features: what a user would otherwise pick.

A memory of good vectors is all that is learned; the network has seen a million other pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from zoo import neighbours
from zoo.baselines import Losses, backbone
from zoo.baselines.backbone import EfficientNetLite0
from zoo.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class FeatureMemory:
    """Distance of each place's features to the nearest in a memory of good ones.

    Source:
        Roth et al. 2022 (PatchCore). Ours: a smaller network, nothing averaged before the
        distance unless `patch` says so, and no weighting of an image's score by how lonely its
        nearest neighbour is.

    Attributes:
        patch: Side of the square whose coarse features are averaged into one vector, in pixels
            after scaling; the fine ones are averaged over half of it. Below 48 nothing is, which
            finds small defects: distances can still be averaged afterwards, by the rule.
        memory: Vectors that are kept. More cover rare good places too; the time to score and the
            size of the bundle grow with them.
        backbone: A file with the weights of EfficientNet-lite0, or the installed package that has
            one. Read in `fit` only.
    """

    patch: int = 16
    memory: int = 4000
    backbone: str = backbone.PACKAGE

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming field and value."""
        for name, low in (("patch", backbone.CELL), ("memory", 1)):
            if getattr(self, name) < low:
                raise ConfigError(
                    f"{name} must be {low} or more, not {getattr(self, name)}. Raise it."
                )

    def fit(
        self, images: Sequence[Float[Tensor, "c _ _"]], *, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Remember the features of good images.

        Raises:
            ConfigError: The backbone is not there, or is another network.
        """
        network, kept = backbone.pretrained(self.backbone, device=generator.device)
        features = (self._features(network, x) for x in images)
        vectors = neighbours.pool(features, images=len(images), generator=generator)
        memory = neighbours.remember(vectors, self.memory, generator=generator)
        return kept | {"memory": memory}

    def ready(self, weights: Mapping[str, Tensor]) -> Losses:
        """Return what gives each pixel the distance to the nearest vector of the memory."""
        network, memory = backbone.bundled(weights), weights["memory"]

        def losses(x: Float[Tensor, "c h w"]) -> Float[Tensor, "1 h w"]:
            height, width = x.shape[-2:]
            away = neighbours.distance_maps(self._features(network, x), memory)
            return backbone.everywhere(away, height, width)

        return losses

    def _features(
        self, network: EfficientNetLite0, x: Float[Tensor, "c h w"]
    ) -> Float[Tensor, "k hf wf"]:
        return backbone.features(network, x, patch=self.patch)
