"""f-AnoGAN: a Wasserstein GAN of good patches, then an encoder into its latent space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.baselines import Losses, patchwise
from zoo.patches import Patches


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
class FAnoGAN:
    """A Wasserstein GAN on patches, then an encoder by "izi_f", scored patch by patch.

    The defaults fit in about a minute on one core.

    Source: Schlegl et al. 2019. Small networks, without batch norm, and Adam throughout.

    Attributes:
        patch: Side of a patch, in pixels after scaling; a multiple of `2 ** depth`.
        stride: Step between the patches of an image that is scored, in pixels. Smaller is smoother,
            at quadratic cost.
        depth: Strided layers of each network.
        width: Channels of the first layer; the cost grows with its square.
        latent: Numbers that a patch becomes. More reconstruct better, defects included.
        batch: Patches of each kind in a step.
        learning_rate: Adam's, for all three networks.
        megapixels: Pixels of patches seen in all, in millions.
        encoder_share: Part of them that the encoder is trained with, after the game.
        critic_steps: Steps of the critic for each one of the generator. More keep the distance
            that G follows truer, and leave G fewer steps.
        penalty: Weight of the gradient penalty.
        kappa: Weight of the features' residual in what the encoder learns from.
        rotations: Turn patches by multiples of 90 degrees. Wrong where the grain has a direction.
    """

    patch: int = 32
    stride: int = 8
    depth: int = 3
    width: int = 16
    latent: int = 64
    batch: int = 32
    learning_rate: float = 5e-4
    megapixels: float = 70.0
    encoder_share: float = 0.4
    critic_steps: int = 5
    penalty: float = 10.0
    kappa: float = 1.0
    rotations: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming field and value."""
        shape = patchwise.shape_rules(
            patch=self.patch,
            stride=self.stride,
            depth=self.depth,
            width=self.width,
            latent=self.latent,
        )
        rest = [
            ("batch", self.batch >= 1, "at least 1"),
            ("learning_rate", 0 < self.learning_rate < 1, "above 0 and below 1"),
            ("megapixels", self.megapixels > 0 and isfinite(self.megapixels), "above 0"),
            ("encoder_share", 0 < self.encoder_share < 1, "above 0 and below 1"),
            ("critic_steps", self.critic_steps >= 1, "at least 1"),
            ("penalty", self.penalty >= 0 and isfinite(self.penalty), "0 or more"),
            ("kappa", self.kappa >= 0 and isfinite(self.kappa), "0 or more"),
        ]
        patchwise.check_fields(self, [*shape, *rest])

    def fit(
        self, images: Sequence[Float[Tensor, "c _ _"]], *, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Play the game, then train the encoder; return the weights of all three networks.

        Raises:
            BadImageError: An image is smaller than a patch.
            DivergedError: A loss is not a number any more.
        """
        patches = Patches(images, patch=self.patch, generator=generator, rotations=self.rotations)
        networks = patchwise.initialised(self._networks(len(images[0])), generator)
        self._play(networks, patches)
        self._encode(networks, patches)
        return networks.state_dict()

    def ready(self, weights: Mapping[str, Tensor]) -> Losses:
        """Return what gives each pixel its own residual, and that of its patches' features."""
        first = weights["encoder.0.weight"]
        with torch.device("meta"):
            networks = self._networks(channels=first.shape[1]).eval()
        networks.load_state_dict(dict(weights), assign=True)

        @torch.no_grad()
        def losses(x: Float[Tensor, "c h w"]) -> Float[Tensor, "2 h w"]:
            return patchwise.everywhere(x, networks.losses, size=self.patch, stride=self.stride)

        return losses

    def _play(self, networks: Networks, patches: Patches) -> None:
        """Train critic and generator. Source: Gulrajani et al. 2017, algorithm 1."""
        drawer, critic = networks.generator, networks.discriminator
        player, opponent = (
            torch.optim.Adam(part.parameters(), lr=self.learning_rate, betas=(0.0, 0.9))
            for part in (drawer, critic)
        )
        seen = self.megapixels * (1 - self.encoder_share)
        steps = patchwise.rounds(seen, patch=self.patch, batch=self.batch)
        for step in range(1, max(steps, self.critic_steps) + 1):
            x = patches.draw(self.batch)
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
        for step in range(patchwise.rounds(seen, patch=self.patch, batch=self.batch)):
            pixels, features = networks.residuals(patches.draw(self.batch))
            loss = pixels.mean() + self.kappa * features.mean()
            patchwise.descend(loss, optimiser)
            patchwise.check_losses(step, encoder_loss=loss)

    def _latents(self, generator: torch.Generator) -> Float[Tensor, "n z"]:
        return torch.randn(self.batch, self.latent, generator=generator, device=generator.device)

    def _networks(self, channels: int) -> Networks:
        return Networks(
            channels=channels,
            patch=self.patch,
            width=self.width,
            depth=self.depth,
            latent=self.latent,
        )
