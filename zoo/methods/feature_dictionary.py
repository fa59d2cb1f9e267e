"""The distance of a patch to a dictionary of ImageNet features of good patches.

The memory of `feature_memory` holds good vectors. Here the dictionary holds cluster centres of good
vectors, in their principal directions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from zoo.methods import backbone, neighbours
from zoo.methods.configuration import check_fields
from zoo.methods.pieces import in_pieces
from zoo.methods.protocol import Losses, Shape, Weights
from zoo.scoring.maps import of_cells

ROUNDS = 20  # of k-means; enough to converge on the 11,000 vectors of grid


@dataclass(frozen=True, kw_only=True)
class FeatureDictionary(backbone.FeatureMethod):
    """Mean distance of a patch's features to the nearest centres of a dictionary of good ones.

    Source:
        Napoletano et al. 2018. Ours: the network is EfficientNet-lite0, and it runs once over the
        whole image, not on each patch; the dictionary holds the centres of k-means, not the
        patches nearest to them.

    Attributes:
        patch: Side of the square whose coarse features are averaged into one vector, in pixels
            after scaling; the fine ones are averaged over half of it. Below 48 there is no
            averaging: on grid this finds small defects.
        variance: Share of the variance of good features that is kept, above 0 and at most 1. With
            less, only the directions in which good material varies most are used.
        words: Number of centres in the dictionary. With more of them the dictionary is finer and
            the detector stricter.
        nearest: Number of nearest centres whose distance is averaged; at most `words`.
        backbone: A file with the weights of EfficientNet-lite0, or an installed package that has
            one. Read in `fit` only.
    """

    published: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "test_pixel_auroc": {"nanofibres": 0.97}  # Source: Peccia 2021, Table 1
    }

    variance: float = 0.99
    words: int = 1000
    nearest: int = 3

    def __post_init__(self) -> None:
        """Refuse values that are out of their range."""
        check_fields(
            self,
            [
                ("patch", self.patch >= backbone.CELL, f"{backbone.CELL} or more"),
                ("words", self.words >= 1, "1 or more"),
                ("nearest", 1 <= self.nearest <= self.words, f"1 to {self.words} (words)"),
                ("variance", 0 < self.variance <= 1, "above 0 and at most 1"),
            ],
        )

    def learn(self, vectors: Float[Tensor, "n k"], *, generator: Generator) -> dict[str, Tensor]:
        """Find the principal directions and the cluster centres."""
        mean, axes = principal(vectors, variance=self.variance)
        words = cluster((vectors - mean) @ axes, self.words, generator=generator)
        return {"mean": mean, "axes": axes, "words": words}

    def shapes(self, channels: int) -> Mapping[str, Shape]:
        """Return the shapes of the tensors of the network, of the directions and of the centres."""
        return backbone.shapes() | {
            "mean": (backbone.VECTOR,),
            "axes": (backbone.VECTOR, "axes"),
            "words": ("words", "axes"),
        }

    def scorer(self, weights: Weights, *, used: Sequence[bool] | None = None) -> Losses:
        """Return the loss function: the mean distance to the nearest centres."""
        network, words = backbone.bundled(weights), weights["words"]

        def losses(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
            height, width = x.shape[-2:]
            features = backbone.features(network, x, patch=self.patch)
            offset = features - weights["mean"][:, None, None]
            projected = torch.einsum("ck,bchw->bkhw", weights["axes"], offset)
            away = neighbours.distance_maps(projected, words, count=min(self.nearest, len(words)))
            return of_cells(away.mean(dim=1, keepdim=True), backbone.CELL // 2, height, width)

        return in_pieces(losses, step=backbone.CELL, margin=backbone.REACH + self.patch)


def principal(
    vectors: Float[Tensor, "n d"], *, variance: float
) -> tuple[Float[Tensor, " d"], Float[Tensor, "d k"]]:
    """Return the mean, and the fewest principal directions with this share of the variance.

    Example:
        >>> flat = torch.tensor([[0.0, 1.0], [4.0, 1.0], [8.0, 1.0]])
        >>> mean, axes = principal(flat, variance=0.95)
        >>> mean.tolist(), axes.abs().tolist()
        ([4.0, 1.0], [[1.0], [0.0]])
    """
    mean = vectors.mean(dim=0)
    centred = (vectors - mean).double()
    powers, axes = torch.linalg.eigh(centred.T @ centred)
    shares = powers.clamp_min(0).flip(0).cumsum(0)
    count = int((shares < variance * shares[-1]).sum()) + 1
    # Contiguous, as after loading a bundle: with another layout the last digits of products differ.
    return mean, axes.flip(1)[:, :count].to(vectors).contiguous()


def cluster(
    vectors: Float[Tensor, "n d"], count: int, *, generator: torch.Generator
) -> Float[Tensor, "m d"]:
    """Return the centres of k-means, started from random vectors; at most as many as vectors.

    A centre that is not the nearest to any vector does not move. Source: Lloyd 1982.
    """
    centres = neighbours.some(vectors, count, generator=generator)
    for _ in range(ROUNDS):
        squares = centres.square().sum(dim=1)
        owner = (squares - 2 * vectors @ centres.T).argmin(dim=1)
        sizes = torch.bincount(owner, minlength=len(centres))[:, None]
        sums = torch.zeros_like(centres).index_add(0, owner, vectors)
        centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
    return centres
