"""f-AnoGAN: a Wasserstein GAN on good patches, then an encoder into its latent space."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import ClassVar, cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from zoo.data.patches import Patches
from zoo.methods import patchwise
from zoo.methods.configuration import check_fields
from zoo.methods.patchwise import PatchMethod
from zoo.methods.protocol import Images, Progress, Report, State


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    x: Float[Tensor, "n c p p"],
    drawn: Float[Tensor, "n c p p"],
    *,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Mean squared distance from 1 of the gradient norm, between real and generated patches.

    Source: Gulrajani et al. 2017, eq. (3), without its weight.
    """
    share = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device)
    between = torch.lerp(x, drawn, share).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    norms = torch.linalg.vector_norm(slope.flatten(1), dim=1)
    return cast(Tensor, (norms - 1).square().mean())


class Critic(nn.Module):
    """D: scores how real a patch is; its features are the input of the last layer."""

    def __init__(self, *, channels: int, patch: int, width: int, depth: int) -> None:
        super().__init__()
        self.features = patchwise.trunk(channels=channels, width=width, depth=depth)
        self.head = nn.Linear(patchwise.trunk_size(patch=patch, width=width, depth=depth), 1)

    def forward(self, x: Float[Tensor, "n c p p"]) -> Float[Tensor, " n"]:
        """Score each patch; higher is more real."""
        return cast(Tensor, self.head(self.features(x)))[:, 0]


class Networks(nn.Module):
    """E, G and the critic together."""

    def __init__(self, *, latent: int, **shape: int) -> None:
        super().__init__()
        self.encoder = patchwise.encoder(**shape, latent=latent)
        self.generator = patchwise.generator(**shape, latent=latent)
        self.discriminator = Critic(**shape)

    def residuals(
        self, x: Float[Tensor, "n c p p"]
    ) -> tuple[Float[Tensor, "n p p"], Float[Tensor, " n"]]:
        """Return the squared reconstruction error in the image, and in the features of the critic.

        Source: Schlegl et al. 2019, eq. (4) and (5): the two terms, means over channels and over
        features, unweighted. The paper has one number for an image; here each pixel has its own.
        """
        rebuilt = self.generator(self.encoder(x))
        pixels = (x - rebuilt).square().mean(dim=1)
        real, fake = self.discriminator.features(x), self.discriminator.features(rebuilt)
        return pixels, (real - fake).square().mean(dim=1)

    def losses(self, x: Float[Tensor, "n c p p"]) -> Float[Tensor, "n 2 p p"]:
        """Return the residual of each pixel, and that of the features, the same for the patch."""
        pixels, patches = self.residuals(x)
        return torch.stack([pixels, patches[:, None, None].expand_as(pixels)], dim=1)


@dataclass(frozen=True, kw_only=True)
class FAnoGAN(PatchMethod):
    """A Wasserstein GAN on patches and an encoder trained by "izi_f"; scores patch by patch.

    A fit with the defaults takes about a minute on one core.

    Source: Schlegl et al. 2019. Ours: small networks, no batch norm, Adam for all networks.

    Attributes:
        encoder_share: Share of `megapixels` for the encoder, which is trained after the GAN.
        critic_steps: Steps of the critic for each step of the generator. With more of them the
            critic is more accurate, and the generator has fewer steps.
        penalty: Weight of the gradient penalty.
        kappa: Weight of the residual of the features in the loss of the encoder.
    """

    networks = Networks
    published: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "test_pixel_ap": {  # Source: Peccia 2021, Table 2
            "carpet": 0.025,
            "grid": 0.050,
            "leather": 0.156,
            "tile": 0.093,
            "wood": 0.159,
        }
    }

    learning_rate: float = 5e-4
    megapixels: float = 70.0
    encoder_share: float = 0.4
    critic_steps: int = 5
    penalty: float = 10.0
    kappa: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values that are out of their range."""
        super().__post_init__()
        check_fields(
            self,
            [
                ("encoder_share", 0 < self.encoder_share < 1, "above 0 and below 1"),
                ("critic_steps", self.critic_steps >= 1, "at least 1"),
                ("penalty", self.penalty >= 0 and isfinite(self.penalty), "0 or more"),
                ("kappa", self.kappa >= 0 and isfinite(self.kappa), "0 or more"),
            ],
        )

    def fit(
        self, images: Images, *, generator: Generator, report: Report, state: State | None = None
    ) -> None:
        """Train the GAN, then the encoder; report the weights of all three networks.

        Raises:
            BadImageError: An image is smaller than a patch.
            DivergedError: A loss is not finite.
        """
        patches = self.patches(images, generator)
        networks = Networks(**self.config.shape(len(images[0])))
        patchwise.initialised(networks, generator)
        self._train_gan(networks, patches)
        self._train_encoder(networks, patches)
        report(Progress(weights=networks.state_dict()))

    def _train_gan(self, networks: Networks, patches: Patches) -> None:
        """Train critic and generator. Source: Gulrajani et al. 2017, algorithm 1."""
        decoder, critic = networks.generator, networks.discriminator
        player, opponent = (
            torch.optim.Adam(part.parameters(), lr=self.learning_rate, betas=(0.0, 0.9))
            for part in (decoder, critic)
        )
        steps = self.config.steps(self.megapixels * (1 - self.encoder_share))
        for step in range(1, max(steps, self.critic_steps) + 1):
            x = patches.draw(self.config.batch)
            with torch.no_grad():
                drawn = decoder(self._latents(patches.generator))
            slope = gradient_penalty(critic, x, drawn, generator=patches.generator)
            real, fake = critic(torch.cat([x, drawn])).chunk(2)
            loss = fake.mean() - real.mean() + self.penalty * slope
            patchwise.descend(loss, opponent)
            patchwise.check_losses(step, critic_loss=loss)
            if step % self.critic_steps == 0:
                drawn = decoder(self._latents(patches.generator))
                patchwise.descend(-critic(drawn).mean(), player)

    def _train_encoder(self, networks: Networks, patches: Patches) -> None:
        """Train the encoder only. Source: Schlegl et al. 2019, "izi_f", eq. (4)."""
        optimiser = torch.optim.Adam(networks.encoder.parameters(), lr=self.learning_rate)
        for step in range(self.config.steps(self.megapixels * self.encoder_share)):
            pixels, features = networks.residuals(patches.draw(self.config.batch))
            loss = pixels.mean() + self.kappa * features.mean()
            patchwise.descend(loss, optimiser)
            patchwise.check_losses(step, encoder_loss=loss)

    def _latents(self, generator: torch.Generator) -> Float[Tensor, "n z"]:
        size = (self.config.batch, self.config.latent)
        return torch.randn(size, generator=generator, device=generator.device)
