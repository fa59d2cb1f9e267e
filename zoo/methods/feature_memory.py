"""Nearest neighbours of ImageNet features: what a user would otherwise pick.

A memory of good vectors is all that is learned; the network has seen a million other pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Generator, Tensor

from zoo.errors import ConfigError
from zoo.methods import backbone, neighbours
from zoo.methods.protocol import Images, Losses, Method, Progress, Report, Shape, State, Weights


@dataclass(frozen=True, kw_only=True)
class FeatureMemory(Method):
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

    loss_names = ("distance",)
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

    @property
    def export_side(self) -> int:
        """At least `backbone.EXPORT_SIDE`."""
        return max(self.patch, backbone.EXPORT_SIDE)

    def fit(
        self, images: Images, *, generator: Generator, report: Report, state: State | None = None
    ) -> None:
        """Remember the features of good images.

        Raises:
            ConfigError: The backbone is not there, or is another network.
        """
        vectors, kept = backbone.pooled(
            images, backbone=self.backbone, patch=self.patch, generator=generator
        )
        memory = neighbours.remember(vectors, self.memory, generator=generator)
        report(Progress(weights=kept | {"memory": memory}))

    def shapes(self, channels: int) -> Mapping[str, Shape]:
        """Return the shapes of the network's tensors and of the memory."""
        return backbone.shapes() | {"memory": ("memory", backbone.VECTOR)}

    def scorer(self, weights: Weights, *, used: Sequence[bool] | None = None) -> Losses:
        """Return what gives each pixel the distance to the nearest vector of the memory."""
        network, memory = backbone.bundled(weights), weights["memory"]

        def losses(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
            height, width = x.shape[-2:]
            features = backbone.features(network, x, patch=self.patch)
            away = neighbours.distance_maps(features, memory)
            return backbone.everywhere(away, height, width)

        return losses
