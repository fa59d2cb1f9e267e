"""The system that FCBiGAN grew out of: a BiGAN with log losses and one vector for each patch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.nn.functional import binary_cross_entropy_with_logits

from zoo.data.patches import Patches
from zoo.methods import patchwise
from zoo.methods.patchwise import PatchConfig
from zoo.methods.protocol import Images, Losses, Method, Progress, Report, Shape, State, Weights


def discriminator_loss(real: Float[Tensor, " n"], fake: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Cross-entropy of calling pairs (x, E(x)) real and pairs (G(z), z) drawn, of logits.

    Source: Donahue et al. 2017, eq. (2), the negative of V; Peccia 2021, eq. (3).
    """
    return binary_cross_entropy_with_logits(
        real, torch.ones_like(real)
    ) + binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))


def players_loss(real: Float[Tensor, " n"], fake: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Cross-entropy of the wrong answers, which E and G want: each moves its own term only.

    Source: Donahue et al. 2017, eq. (2). The printed game has E and G raise D's loss, whose slope
    vanishes where D is sure; as is customary they lower that of the wrong answers instead.
    """
    return discriminator_loss(fake, real)


class Discriminator(nn.Module):
    """D: is (patch, latent vector) a real patch with its code, or a drawn one with its source?"""

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
        """Return f, the layer before the verdict, the first to know both x and z."""
        pair = torch.cat([self.trunk(x), functional.leaky_relu(self.code(z), 0.2)], dim=1)
        return functional.leaky_relu(self.both(pair), 0.2)

    def forward(self, x: Float[Tensor, "n c p p"], z: Float[Tensor, "n z"]) -> Float[Tensor, " n"]:
        """Return the logit of each pair being real."""
        return cast(Tensor, self.head(self.features(x, z)))[:, 0]


class Networks(nn.Module):
    """E, G and D together."""

    def __init__(self, *, channels: int, patch: int, width: int, depth: int, latent: int) -> None:
        super().__init__()
        shape = {
            "channels": channels,
            "patch": patch,
            "width": width,
            "depth": depth,
            "latent": latent,
        }
        self.encoder = patchwise.encoder(**shape)
        self.generator = patchwise.generator(**shape)
        self.discriminator = Discriminator(**shape)

    def losses(self, x: Float[Tensor, "n c p p"]) -> Float[Tensor, "n 2 p p"]:
        """Give each pixel L_R and L_D, which all pixels of a patch share.

        L_D is the distance between D's features of (x, E(x)) and of (G(E(x)), E(x)). The other
        form, the cross-entropy of D's verdict, says least where training went best: a D that is
        fooled has the same verdict on everything, and a D that won is sure of everything.

        Source: Peccia 2021, eq. (4). We take means over channels and over features in place of
        sums, so that neither hangs on the networks' width.
        """
        z = self.encoder(x)
        drawn = self.generator(z)
        pixels = (x - drawn).abs().mean(dim=1)
        real, fake = (self.discriminator.features(each, z) for each in (x, drawn))
        patches = (real - fake).abs().mean(dim=1)
        return torch.stack([pixels, patches[:, None, None].expand_as(pixels)], dim=1)


@dataclass(frozen=True, kw_only=True)
class BiGAN(Method):
    """A BiGAN on patches, without the reconstruction penalty, scored patch by patch.

    Nothing tells E that G should give its patch back, so reconstructions are of the texture, but
    often of another place of it. The defaults fit in about a minute on one core.

    Source: Donahue et al. 2017; Peccia 2021, section 3.2. Small networks, without batch norm.

    Attributes:
        config: The shapes of the networks, and the grid.
        learning_rate: Adam's, for all three networks.
        megapixels: Pixels of patches seen in all, in millions.
    """

    loss_names = ("reconstruction", "discriminator")
    config: PatchConfig = field(default_factory=PatchConfig)
    learning_rate: float = 2e-4
    megapixels: float = 50.0

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming field and value."""
        patchwise.check_fields(
            self,
            [
                ("learning_rate", 0 < self.learning_rate < 1, "above 0 and below 1"),
                ("megapixels", self.megapixels > 0 and isfinite(self.megapixels), "above 0"),
            ],
        )

    @property
    def patch(self) -> int:
        """Side of a patch, in pixels after scaling."""
        return self.config.patch

    def fit(
        self, images: Images, *, generator: Generator, report: Report, state: State | None = None
    ) -> None:
        """Play the game on random patches, and return the weights of all three networks.

        Raises:
            BadImageError: An image is smaller than a patch.
            DivergedError: A loss is not a number any more.
        """
        config = self.config
        patches = Patches(
            images, patch=config.patch, generator=generator, rotations=config.rotations
        )
        networks = patchwise.initialised(Networks(**config.shape(len(images[0]))), generator)
        encoder, drawer, judge = networks.encoder, networks.generator, networks.discriminator
        players, opponent = (
            torch.optim.Adam(parameters, lr=self.learning_rate, betas=(0.5, 0.999))
            for parameters in ([*encoder.parameters(), *drawer.parameters()], judge.parameters())
        )
        for step in range(
            patchwise.rounds(self.megapixels, patch=config.patch, batch=config.batch)
        ):
            x = patches.draw(config.batch)
            z = torch.randn(config.batch, config.latent, generator=generator, device=x.device)
            seen, codes = torch.cat([x, drawer(z)]), torch.cat([encoder(x), z])
            real, fake = judge(seen.detach(), codes.detach()).chunk(2)
            loss_d = discriminator_loss(real, fake)
            patchwise.descend(loss_d, opponent)
            loss_eg = players_loss(*judge(seen, codes).chunk(2))
            patchwise.descend(loss_eg, players)
            patchwise.check_losses(step, discriminator_loss=loss_d, players_loss=loss_eg)
        report(Progress(weights=networks.state_dict()))

    def shapes(self, channels: int) -> Mapping[str, Shape]:
        """Return the shapes of the networks' tensors."""
        return patchwise.shapes(Networks, self.config, channels=channels)

    def scorer(self, weights: Weights, *, used: Sequence[bool] | None = None) -> Losses:
        """Return what gives each pixel L_R, its own, and L_D, of its patches."""
        return patchwise.scorer(Networks, self.config, weights)
