"""Nearest neighbours of features that nobody trained: FCBiGAN's encoder as it is drawn.

A training that loses to its own random weights has learned nothing, and this tells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from zoo import neighbours
from zoo.baselines import Losses
from zoo.errors import ConfigError
from zoo.networks import FCBiGAN, FCBiGANConfig, initialise, receptive_field
from zoo.scoring import smooth, spread

LEVELS = 3  # strided layers that are run; the features are those of the last two
STEP = 2**LEVELS  # pixels between two vectors
WINDOW = receptive_field(LEVELS)  # side of the square that a vector is about, in pixels


@dataclass(frozen=True, kw_only=True)
class RandomFeatures:
    """Distance of each place's features to the nearest in a memory of good ones.

    The layers are two strided ones of the middle. They are run without their padding: at mirrored
    edges good material would look rare.

    Attributes:
        patch: Side of the square whose features are averaged into one vector, in pixels after
            scaling. One vector alone is about 22 pixels; below 38 none are averaged.
        width: Channels of the encoder's first layer. More random filters see more.
        memory: Vectors that are kept. More cover rare good places too; the time to score and the
            size of the bundle grow with them.
    """

    patch: int = WINDOW
    width: int = 32
    memory: int = 4000

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming field and value."""
        for name, low in (("patch", WINDOW), ("width", 1), ("memory", 1)):
            if getattr(self, name) < low:
                raise ConfigError(
                    f"{name} must be {low} or more, not {getattr(self, name)}. Raise it."
                )

    @torch.no_grad()
    def fit(
        self, images: Sequence[Float[Tensor, "c _ _"]], *, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Draw the encoder, let its batch norms see good images, and remember their features."""
        channels = images[0].shape[0]
        networks = FCBiGAN(FCBiGANConfig(width=self.width), channels=channels)
        initialise(networks.to(generator.device), generator)
        layers = _strided(networks)
        for norm in list(layers)[1::3]:
            cast(nn.BatchNorm2d, norm).momentum = None  # then it keeps the plain mean of all images
        for x in images:
            layers.train()(x[None])
        layers.eval()
        features = (self._features(layers, x) for x in images)
        vectors = neighbours.pool(features, images=len(images), generator=generator)
        memory = neighbours.remember(vectors, self.memory, generator=generator)
        return {f"encoder.{k}": v for k, v in layers.state_dict().items()} | {"memory": memory}

    def ready(self, weights: Mapping[str, Tensor]) -> Losses:
        """Return what gives each pixel the distance to the nearest vector of the memory."""
        memory = weights["memory"]
        channels = weights["encoder.0.weight"].shape[1]
        networks = FCBiGAN(FCBiGANConfig(width=self.width), channels=channels).to(memory.device)
        layers = _strided(networks).eval()
        layers.load_state_dict(
            {k.removeprefix("encoder."): v for k, v in weights.items() if k != "memory"}
        )

        @torch.no_grad()
        def losses(x: Float[Tensor, "c h w"]) -> Float[Tensor, "1 h w"]:
            height, width = x.shape[-2:]
            away = neighbours.distance_maps(self._features(layers, x), memory)
            first = (WINDOW // 2, WINDOW // 2)
            return spread(away, step=STEP, first=first, height=height, width=width)

        return losses

    def _features(
        self, layers: nn.Sequential, x: Float[Tensor, "c h w"]
    ) -> Float[Tensor, "k hc wc"]:
        fine = layers[:-3](x[None])
        coarse = layers[-3:](fine)
        rows, columns = coarse.shape[-2:]
        # Without padding, the middle of a coarse window is that of four fine ones, from the second.
        laid = functional.avg_pool2d(fine[:, :, 1:, 1:], 2)[:, :, :rows, :columns]
        side = 1 + (self.patch - WINDOW) // STEP // 2 * 2
        return smooth(torch.cat([laid, coarse], dim=1)[0], side)


def _strided(networks: FCBiGAN) -> nn.Sequential:
    """Return the encoder's first layers, a convolution, a norm and a leak each, without padding."""
    layers = cast(nn.Sequential, networks.encoder.layers[: 3 * LEVELS])
    for layer in list(layers)[::3]:
        convolution = cast(nn.Conv2d, layer)
        convolution.padding, convolution.padding_mode = (0, 0), "zeros"
    return layers
