"""Nearest neighbours of untrained features: the encoder of FCBiGAN with random weights.

A trained network that is worse than its random weights has learned nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from zoo.methods import neighbours
from zoo.methods.configuration import check_fields
from zoo.methods.fcbigan.config import NetworkConfig, receptive_field, widths
from zoo.methods.fcbigan.networks import Networks, initialise
from zoo.methods.pieces import in_pieces
from zoo.methods.protocol import (
    Images,
    Losses,
    Method,
    Progress,
    Report,
    Shape,
    State,
    Weights,
    export_side,
)
from zoo.scoring.maps import interpolated, smooth

LEVELS = 3  # number of strided layers; the features are those of the last two
STEP = 2**LEVELS  # pixels between two vectors
WINDOW = receptive_field(LEVELS)  # side of the receptive field of a vector, in pixels


@dataclass(frozen=True, kw_only=True)
class RandomFeatures(Method):
    """Distance of the features at each place to the nearest vector in a memory of good ones.

    The features are those of two strided layers. They are computed without padding: at mirrored
    edges good material would be far from the memory.

    Attributes:
        patch: Side of the square whose features are averaged into one vector, in pixels after
            scaling. One vector covers 22 pixels; below 38 there is no averaging.
        width: Channels of the first layer of the encoder. More random filters give more features.
        memory: Number of vectors in the memory. More vectors cover also rare good places; the time
            to score and the size of the bundle grow with their number.
    """

    untrained = True
    loss_names = ("distance",)
    patch: int = WINDOW
    width: int = 32
    memory: int = 4000

    def __post_init__(self) -> None:
        """Refuse values that are out of their range."""
        check_fields(
            self,
            [
                ("patch", self.patch >= WINDOW, f"{WINDOW} or more"),
                ("width", self.width >= 1, "1 or more"),
                ("memory", self.memory >= 1, "1 or more"),
            ],
        )

    @property
    def export_side(self) -> int:
        """As `protocol.export_side` says."""
        return export_side(self.patch)

    @torch.no_grad()
    def fit(
        self, images: Images, *, generator: Generator, report: Report, state: State | None = None
    ) -> None:
        """Draw the encoder, fit its batch norms to good images, and choose the memory."""
        channels = images[0].shape[0]
        networks = Networks(NetworkConfig(width=self.width), channels=channels)
        initialise(networks.to(generator.device), generator)
        layers = _strided(networks)
        for norm in list(layers)[1::3]:
            cast(nn.BatchNorm2d, norm).momentum = None  # the plain mean over all images
        for x in images:
            layers.train()(x[None])
        layers.eval()
        features = (self._features(layers, x[None])[0] for x in images)
        vectors = neighbours.pool(features, images=len(images), generator=generator)
        memory = neighbours.remember(vectors, self.memory, generator=generator)
        encoder = {f"encoder.{k}": v for k, v in layers.state_dict().items()}
        report(Progress(weights=encoder | {"memory": memory}))

    def shapes(self, channels: int) -> Mapping[str, Shape]:
        """Return the shapes of the first layers of the encoder and of the memory."""
        state = self._layers(channels).state_dict()
        encoder: dict[str, Shape] = {f"encoder.{k}": tuple(v.shape) for k, v in state.items()}
        return encoder | {"memory": ("memory", sum(widths(self.width, LEVELS)[-2:]))}

    def scorer(self, weights: Weights, *, used: Sequence[bool] | None = None) -> Losses:
        """Return the loss function: the distance to the nearest vector of the memory."""
        memory = weights["memory"]
        layers = self._layers(weights["encoder.0.weight"].shape[1])
        own = {k.removeprefix("encoder."): v for k, v in weights.items() if k != "memory"}
        layers.load_state_dict(own, assign=True)

        @torch.no_grad()
        def losses(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
            height, width = x.shape[-2:]
            away = neighbours.distance_maps(self._features(layers, x), memory)
            first = (WINDOW // 2, WINDOW // 2)
            return interpolated(away, step=STEP, first=first, height=height, width=width)

        return in_pieces(losses, step=STEP, margin=self.patch + WINDOW + 2 * STEP)

    def _layers(self, channels: int) -> nn.Sequential:
        """Build the layers without allocating memory for their weights."""
        with torch.device("meta"):
            return _strided(Networks(NetworkConfig(width=self.width), channels=channels)).eval()

    def _features(
        self, layers: nn.Sequential, x: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b k hc wc"]:
        fine = layers[:-3](x)
        coarse = layers[-3:](fine)
        rows, columns = coarse.shape[-2:]
        # Without padding, the centre of a coarse window is that of four fine ones, from index 1.
        halved = functional.avg_pool2d(fine[:, :, 1:, 1:], 2)[:, :, :rows, :columns]
        side = 1 + (self.patch - WINDOW) // STEP // 2 * 2
        return smooth(torch.cat([halved, coarse], dim=1), side)


def _strided(networks: Networks) -> nn.Sequential:
    """Return the first layers of the encoder (convolution, norm, leaky ReLU) without padding."""
    layers = cast(nn.Sequential, networks.encoder.layers[: 3 * LEVELS])
    for layer in list(layers)[::3]:
        convolution = cast(nn.Conv2d, layer)
        convolution.padding, convolution.padding_mode = (0, 0), "zeros"
    return layers
