"""BiGAN: the predecessor of FCBiGAN, with log losses and one latent vector for each patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.nn.functional import binary_cross_entropy_with_logits

from zoo.methods import patchwise
from zoo.methods.patchwise import PatchMethod
from zoo.methods.protocol import Images, Progress, Report, State


def discriminator_loss(real: Float[Tensor, " n"], fake: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Cross-entropy of the logits, with target 1 for pairs (x, E(x)) and 0 for pairs (G(z), z).

    Source: Donahue et al. 2017, eq. (2), the negative of V; Peccia 2021, eq. (3).
    """
    return binary_cross_entropy_with_logits(
        real, torch.ones_like(real)
    ) + binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))


def players_loss(real: Float[Tensor, " n"], fake: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Cross-entropy with exchanged targets, the loss of E and G; each affects its own term only.

    Source: Donahue et al. 2017, eq. (2). In the printed equation E and G maximise the loss of D,
    whose gradient vanishes where D is certain. As usual they minimise this loss instead.
    """
    return discriminator_loss(fake, real)


class Discriminator(nn.Module):
    """D: tells real patches from generated ones, each with its latent vector."""

    def __init__(self, *, channels: int, patch: int, width: int, depth: int, latent: int) -> None:
        super().__init__()
        size, hidden = patchwise.trunk_size(patch=patch, width=width, depth=depth), 8 * width
        self.trunk = patchwise.trunk(channels=channels, width=width, depth=depth)
        self.code = nn.Linear(latent, hidden)
        self.both = nn.Linear(size + hidden, hidden)
        self.head = nn.Linear(hidden, 1)

    def features(
        self, x: Float[Tensor, "n c p p"], z: Float[Tensor, "n z"]
    ) -> Float[Tensor, "n k"]:
        """Return f, the last hidden layer, which is the first that depends on both x and z."""
        pair = torch.cat([self.trunk(x), functional.leaky_relu(self.code(z), 0.2)], dim=1)
        return functional.leaky_relu(self.both(pair), 0.2)

    def forward(self, x: Float[Tensor, "n c p p"], z: Float[Tensor, "n z"]) -> Float[Tensor, " n"]:
        """Return for each pair the logit that it is real."""
        return cast(Tensor, self.head(self.features(x, z)))[:, 0]


class Networks(nn.Module):
    """E, G and D together."""

    def __init__(self, **shape: int) -> None:
        super().__init__()
        self.encoder = patchwise.encoder(**shape)
        self.generator = patchwise.generator(**shape)
        self.discriminator = Discriminator(**shape)

    def losses(self, x: Float[Tensor, "n c p p"]) -> Float[Tensor, "n 2 p p"]:
        """Return L_R of each pixel, and L_D, which is the same for all pixels of a patch.

        L_D is the distance between the features in D of (x, E(x)) and of (G(E(x)), E(x)). The other
        form, the cross-entropy of the output of D, is least useful after a good training: then D
        has the same output for all patches, or is certain of all of them.

        Source: Peccia 2021, eq. (4). Ours: means over channels and over features instead of sums,
        so that the losses do not depend on the width of the networks.
        """
        z = self.encoder(x)
        rebuilt = self.generator(z)
        pixels = (x - rebuilt).abs().mean(dim=1)
        real, fake = (self.discriminator.features(each, z) for each in (x, rebuilt))
        patches = (real - fake).abs().mean(dim=1)
        return torch.stack([pixels, patches[:, None, None].expand_as(pixels)], dim=1)


@dataclass(frozen=True, kw_only=True)
class BiGAN(PatchMethod):
    """A BiGAN on patches, without the reconstruction penalty, that scores patch by patch.

    E is not trained to let G reconstruct the patch, so a reconstruction shows the texture, but
    often another part of it. A fit with the defaults takes about a minute on one core.

    Source: Donahue et al. 2017; Peccia 2021, section 3.2. Ours: small networks, no batch norm.
    """

    networks = Networks

    def fit(
        self, images: Images, *, generator: Generator, report: Report, state: State | None = None
    ) -> None:
        """Train the three networks on random patches, and report their weights.

        Raises:
            BadImageError: An image is smaller than a patch.
            DivergedError: A loss is not finite.
        """
        config, patches = self.config, self.patches(images, generator)
        networks = patchwise.initialised(Networks(**config.shape(len(images[0]))), generator)
        encoder, decoder, critic = networks.encoder, networks.generator, networks.discriminator
        players, opponent = (
            torch.optim.Adam(parameters, lr=self.learning_rate, betas=(0.5, 0.999))
            for parameters in ([*encoder.parameters(), *decoder.parameters()], critic.parameters())
        )
        for step in range(config.steps(self.megapixels)):
            x = patches.draw(config.batch)
            z = torch.randn(config.batch, config.latent, generator=generator, device=x.device)
            seen, codes = torch.cat([x, decoder(z)]), torch.cat([encoder(x), z])
            real, fake = critic(seen.detach(), codes.detach()).chunk(2)
            loss_d = discriminator_loss(real, fake)
            patchwise.descend(loss_d, opponent)
            loss_eg = players_loss(*critic(seen, codes).chunk(2))
            patchwise.descend(loss_eg, players)
            patchwise.check_losses(step, discriminator_loss=loss_d, players_loss=loss_eg)
        report(Progress(weights=networks.state_dict()))
