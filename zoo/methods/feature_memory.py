"""The nearest neighbour in a memory of ImageNet features of good pictures.

Only the memory is learned. The network was trained on a million other pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Generator, Tensor

from zoo.methods import backbone, neighbours
from zoo.methods.configuration import check_fields
from zoo.methods.pieces import in_pieces
from zoo.methods.protocol import Losses, Shape, Weights
from zoo.scoring.maps import of_cells


@dataclass(frozen=True, kw_only=True)
class FeatureMemory(backbone.FeatureMethod):
    """Distance of the features at each place to the nearest vector in a memory of good ones.

    Source:
        Roth et al. 2022 (PatchCore). Ours: a smaller network; features are averaged only with a
        large `patch`; the score of an image is not weighted by the density around its nearest
        neighbour.

    Attributes:
        patch: Side of the square whose coarse features are averaged into one vector, in pixels
            after scaling; the fine ones are averaged over half of it. Below 48 there is no
            averaging, which finds small defects; the rule can still average the distances.
        memory: Number of vectors in the memory. More vectors cover also rare good places; the time
            to score and the size of the bundle grow with their number.
        backbone: A file with the weights of EfficientNet-lite0, or an installed package that has
            one. Read in `fit` only.
    """

    memory: int = 4000

    def __post_init__(self) -> None:
        """Refuse values that are out of their range."""
        check_fields(
            self,
            [
                ("patch", self.patch >= backbone.CELL, f"{backbone.CELL} or more"),
                ("memory", self.memory >= 1, "1 or more"),
            ],
        )

    def learn(self, vectors: Float[Tensor, "n k"], *, generator: Generator) -> dict[str, Tensor]:
        """Choose vectors for the memory."""
        return {"memory": neighbours.remember(vectors, self.memory, generator=generator)}

    def shapes(self, channels: int) -> Mapping[str, Shape]:
        """Return the shapes of the tensors of the network and of the memory."""
        return backbone.shapes() | {"memory": ("memory", backbone.VECTOR)}

    def scorer(self, weights: Weights, *, used: Sequence[bool] | None = None) -> Losses:
        """Return the loss function: the distance to the nearest vector of the memory."""
        network, memory = backbone.bundled(weights), weights["memory"]

        def losses(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
            height, width = x.shape[-2:]
            features = backbone.features(network, x, patch=self.patch)
            away = neighbours.distance_maps(features, memory)
            return of_cells(away, backbone.CELL // 2, height, width)

        return in_pieces(losses, step=backbone.CELL, margin=backbone.REACH + self.patch)
