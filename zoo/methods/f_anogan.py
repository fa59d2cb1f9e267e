"""f-AnoGAN: a Wasserstein GAN of good patches, then an encoder into its latent space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import ClassVar, cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from zoo.data.patches import Patches
from zoo.methods import patchwise
from zoo.methods.patchwise import PatchConfig
from zoo.methods.protocol import Images, Losses, Method, Progress, Report, Shape, State, Weights


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    x: Float[Tensor, "n c p p"],
    drawn: Float[Tensor, "n c p p"],
    *,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """How far from 1 the critic's slope is, at random places between real and drawn patches.

    Source: Gulrajani et al. 2017, eq. (3), without its weight.
    """
    share = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device)
    between = torch.lerp(x, drawn, share).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    norms = torch.linalg.vector_norm(slope.flatten(1), dim=1)
    return cast(Tensor, (norms - 1).square().mean())


class Critic(nn.Module):
    """D: how real a patch is, without bounds; its features are those before the last layer."""

    def __init__(self, *, channels: int, patch: int, width: int, depth: int) -> None:
        super().__init__()
        self.features = patchwise.trunk(channels=channels, width=width, depth=depth)
        self.head = nn.Linear(patchwise.trunk_size(patch=patch, width=width, depth=depth), 1)

    def forward(self, x: Float[Tensor, "n c p p"]) -> Float[Tensor, " n"]:
        """Judge each patch: higher is more real."""
        return cast(Tensor, self.head(self.features(x)))[:, 0]


class Networks(nn.Module):
    """E, G and the critic together."""

    def __init__(self, *, channels: int, patch: int, width: int, depth: int, latent: int) -> None:
        super().__init__()
        shape = {"channels": channels, "patch": patch, "width": width, "depth": depth}
        self.encoder = patchwise.encoder(**shape, latent=latent)
        self.generator = patchwise.generator(**shape, latent=latent)
        self.discriminator = Critic(**shape)

    def residuals(
        self, x: Float[Tensor, "n c p p"]
    ) -> tuple[Float[Tensor, "n p p"], Float[Tensor, " n"]]:
        """Return what E and G lose: squares in the image, and in the critic's features.

        Source: Schlegl et al. 2019, eq. (4) and (5): the two terms, means over channels and over
        features, unweighted. The paper gives an image one number; here a pixel keeps its own.
        """
        drawn = self.generator(self.encoder(x))
        pixels = (x - drawn).square().mean(dim=1)
        real, fake = self.discriminator.features(x), self.discriminator.features(drawn)
        return pixels, (real - fake).square().mean(dim=1)

    def losses(self, x: Float[Tensor, "n c p p"]) -> Float[Tensor, "n 2 p p"]:
        """Give each pixel its residual and that of the features, which a patch's pixels share."""
        pixels, patches = self.residuals(x)
        return torch.stack([pixels, patches[:, None, None].expand_as(pixels)], dim=1)


@dataclass(frozen=True, kw_only=True)
class FAnoGAN(Method):
    """A Wasserstein GAN on patches, then an encoder by "izi_f", scored patch by patch.

    The defaults fit in about a minute on one core.

    Source: Schlegl et al. 2019. Small networks, without batch norm, and Adam throughout.

    Attributes:
        config: The shapes of the networks, and the grid.
        learning_rate: Adam's, for all three networks.
        megapixels: Pixels of patches seen in all, in millions.
        encoder_share: Part of them that the encoder is trained with, after the game.
        critic_steps: Steps of the critic for each one of the generator. More keep the distance
            that G follows truer, and leave G fewer steps.
        penalty: Weight of the gradient penalty.
        kappa: Weight of the features' residual in what the encoder learns from.
    """

    loss_names = ("reconstruction", "discriminator")
    published: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "test_pixel_ap": {  # Source: Peccia 2021, Table 2
            "carpet": 0.025,
            "grid": 0.050,
            "leather": 0.156,
            "tile": 0.093,
            "wood": 0.159,
        }
    }

    config: PatchConfig = field(default_factory=PatchConfig)
    learning_rate: float = 5e-4
    megapixels: float = 70.0
    encoder_share: float = 0.4
    critic_steps: int = 5
    penalty: float = 10.0
    kappa: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming field and value."""
        patchwise.check_fields(
            self,
            [
                ("learning_rate", 0 < self.learning_rate < 1, "above 0 and below 1"),
                ("megapixels", self.megapixels > 0 and isfinite(self.megapixels), "above 0"),
                ("encoder_share", 0 < self.encoder_share < 1, "above 0 and below 1"),
                ("critic_steps", self.critic_steps >= 1, "at least 1"),
                ("penalty", self.penalty >= 0 and isfinite(self.penalty), "0 or more"),
                ("kappa", self.kappa >= 0 and isfinite(self.kappa), "0 or more"),
            ],
        )

    @property
    def patch(self) -> int:
        """Side of a patch, in pixels after scaling."""
        return self.config.patch

    def fit(
        self, images: Images, *, generator: Generator, report: Report, state: State | None = None
    ) -> None:
        """Play the game, then train the encoder; return the weights of all three networks.

        Raises:
            BadImageError: An image is smaller than a patch.
            DivergedError: A loss is not a number any more.
        """
        config = self.config
        patches = Patches(
            images, patch=config.patch, generator=generator, rotations=config.rotations
        )
        networks = patchwise.initialised(Networks(**config.shape(len(images[0]))), generator)
        self._play(networks, patches)
        self._encode(networks, patches)
        report(Progress(weights=networks.state_dict()))

    def shapes(self, channels: int) -> Mapping[str, Shape]:
        """Return the shapes of the networks' tensors."""
        return patchwise.shapes(Networks, self.config, channels=channels)

    def scorer(self, weights: Weights, *, used: Sequence[bool] | None = None) -> Losses:
        """Return what gives each pixel its own residual, and that of its patches' features."""
        return patchwise.scorer(Networks, self.config, weights)

    def _play(self, networks: Networks, patches: Patches) -> None:
        """Train critic and generator. Source: Gulrajani et al. 2017, algorithm 1."""
        drawer, critic = networks.generator, networks.discriminator
        player, opponent = (
            torch.optim.Adam(part.parameters(), lr=self.learning_rate, betas=(0.0, 0.9))
            for part in (drawer, critic)
        )
        seen = self.megapixels * (1 - self.encoder_share)
        steps = patchwise.rounds(seen, patch=self.config.patch, batch=self.config.batch)
        for step in range(1, max(steps, self.critic_steps) + 1):
            x = patches.draw(self.config.batch)
            with torch.no_grad():
                drawn = drawer(self._latents(patches.generator))
            slope = gradient_penalty(critic, x, drawn, generator=patches.generator)
            real, fake = critic(torch.cat([x, drawn])).chunk(2)
            loss = fake.mean() - real.mean() + self.penalty * slope
            patchwise.descend(loss, opponent)
            patchwise.check_losses(step, critic_loss=loss)
            if step % self.critic_steps == 0:
                drawn = drawer(self._latents(patches.generator))
                patchwise.descend(-critic(drawn).mean(), player)

    def _encode(self, networks: Networks, patches: Patches) -> None:
        """Train the encoder, all else frozen. Source: Schlegl et al. 2019, "izi_f", eq. (4)."""
        optimiser = torch.optim.Adam(networks.encoder.parameters(), lr=self.learning_rate)
        seen = self.megapixels * self.encoder_share
        for step in range(patchwise.rounds(seen, patch=self.config.patch, batch=self.config.batch)):
            pixels, features = networks.residuals(patches.draw(self.config.batch))
            loss = pixels.mean() + self.kappa * features.mean()
            patchwise.descend(loss, optimiser)
            patchwise.check_losses(step, encoder_loss=loss)

    def _latents(self, generator: torch.Generator) -> Float[Tensor, "n z"]:
        size = (self.config.batch, self.config.latent)
        return torch.randn(size, generator=generator, device=generator.device)
