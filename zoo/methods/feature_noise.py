"""A small network that tells ImageNet features of good pictures from the same with noise.

It learns from good pictures only. Beside the memory of `feature_memory` it knows in which
directions good features vary together, and it scores without a search for neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from zoo.data.defects.fit_pictures import FitPictures
from zoo.errors import DivergedError
from zoo.methods import backbone
from zoo.methods.configuration import check_fields
from zoo.methods.pieces import in_pieces
from zoo.methods.protocol import Images, Losses, Progress, Report, Shape, State, Weights
from zoo.scoring.maps import of_cells

BATCH = 1024  # good vectors in a step, and as many with noise
RATE = 1e-3  # of AdamW at the first step; it falls to 0 as a cosine
MARGIN = 0.5  # a verdict beyond it has no loss. Source: Liu et al. 2023, section 3.5
SLOPE = 0.2  # of the leaky ReLU
FLOOR = 1e-2  # of the mean variance, added to each; else whitening enlarges rounding errors


@dataclass(frozen=True, kw_only=True)
class FeatureNoise(backbone.FeatureMethod):
    """Verdict of a discriminator of good features and good features with Gaussian noise.

    Source:
        Liu et al. 2023 (SimpleNet): discriminator, noise and truncated L1 loss. Ours: features are
        whitened, which takes the place of the learned adaptor; the noise is as large as the good
        features themselves; pictures under other light, focus and noise are good, too.

    Attributes:
        patch: Side of the square whose coarse features are averaged into one vector, in pixels
            after scaling; the fine ones are averaged over half of it. Below 48 there is no
            averaging, which finds small defects.
        noise: Standard deviation of the noise, in those of good features. With less noise the
            discriminator learns finer details, and worse what is far from good features.
        width: Units of its hidden layer.
        steps: Number of batches of its training.
        backbone: A file with the weights of EfficientNet-lite0, or an installed package that has
            one. Read in `fit` only.
    """

    loss_names = ("discriminator",)
    noise: float = 2.0
    width: int = 128
    steps: int = 600

    def __post_init__(self) -> None:
        """Refuse values that are out of their range."""
        check_fields(
            self,
            [
                ("patch", self.patch >= backbone.CELL, f"{backbone.CELL} or more"),
                ("noise", 0 < self.noise <= 100, "above 0 and at most 100"),
                ("width", 1 <= self.width <= 4096, "1 to 4096"),
                ("steps", self.steps >= 1, "1 or more"),
            ],
        )

    def fit(
        self, images: Images, *, generator: Generator, report: Report, state: State | None = None
    ) -> None:
        """Learn from random feature vectors of good images, as they are and under variation.

        Raises:
            ConfigError: The backbone is missing, or is another network.
            DivergedError: The loss is not finite.
        """
        pictures = FitPictures.of(images)
        vectors, frozen = backbone.pooled(
            pictures.with_varied(generator=generator),
            count=len(pictures) * (1 + pictures.turns),
            backbone=self.backbone,
            patch=self.patch,
            generator=generator,
        )
        report(Progress(weights=frozen | self.learn(vectors, generator=generator)))

    def learn(self, vectors: Float[Tensor, "n k"], *, generator: Generator) -> dict[str, Tensor]:
        """Train the discriminator; whitening and batch norm become a part of its first layer."""
        mean, axes = whitening(vectors)
        good = (vectors - mean) @ axes
        first, norm, last = self._trained(good, generator)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        hidden = factor[:, None] * first.weight @ axes.T
        bias = factor * (first.bias - norm.running_mean) + norm.bias - hidden @ mean
        found = {"hidden": hidden, "bias": bias, "verdict": -last.weight[0]}
        return {name: tensor.detach().contiguous() for name, tensor in found.items()}

    def shapes(self, channels: int) -> Mapping[str, Shape]:
        """Return the shapes of the tensors of the network and of the discriminator."""
        return backbone.shapes() | {
            "hidden": (self.width, backbone.VECTOR),
            "bias": (self.width,),
            "verdict": (self.width,),
        }

    def scorer(self, weights: Weights, *, used: Sequence[bool] | None = None) -> Losses:
        """Return the loss function: minus the output of the discriminator."""
        network = backbone.bundled(weights)

        def losses(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
            height, width = x.shape[-2:]
            features = backbone.features(network, x, patch=self.patch)
            h = functional.conv2d(features, weights["hidden"][:, :, None, None], weights["bias"])
            h = functional.leaky_relu(h, SLOPE)
            verdict = functional.conv2d(h, weights["verdict"][None, :, None, None])
            return of_cells(verdict, backbone.CELL // 2, height, width)

        return in_pieces(losses, step=backbone.CELL, margin=backbone.REACH + self.patch)

    @torch.enable_grad()
    def _trained(
        self, good: Float[Tensor, "n k"], generator: Generator
    ) -> tuple[nn.Linear, nn.BatchNorm1d, nn.Linear]:
        """Return the layers of a discriminator of whitened vectors; good ones are positive."""
        first = nn.Linear(good.shape[1], self.width, device=good.device)
        norm = nn.BatchNorm1d(self.width, device=good.device)
        last = nn.Linear(self.width, 1, bias=False, device=good.device)
        for layer in (first, last):
            nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
        nn.init.zeros_(first.bias)
        layers = nn.Sequential(first, norm, nn.LeakyReLU(SLOPE), last)
        descent = torch.optim.AdamW(layers.parameters(), lr=RATE, weight_decay=1e-5)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(descent, self.steps)
        for step in range(self.steps):
            place = torch.randint(len(good), (BATCH,), generator=generator, device=good.device)
            noise = torch.randn(BATCH, good.shape[1], generator=generator, device=good.device)
            both = torch.cat([good[place], good[place] + self.noise * noise])
            true, false = layers(both).view(2, BATCH)
            loss = ((MARGIN - true).relu() + (MARGIN + false).relu()).mean()
            if not loss.isfinite():
                raise DivergedError(
                    f"Training diverged at step {step}: the loss is {float(loss.detach())}. "
                    "Look at the good pictures with `zoo data check`."
                )
            descent.zero_grad()
            loss.backward()
            descent.step()
            schedule.step()
        return first, norm, last


def whitening(
    vectors: Float[Tensor, "n d"],
) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Return the mean, and the axes that give the vectors variance 1 in all directions.

    `FLOOR` of the mean variance is added in each direction first.
    """
    mean = vectors.mean(dim=0)
    centred = (vectors - mean).double()
    powers, axes = torch.linalg.eigh(centred.T @ centred / len(vectors))
    powers = powers.clamp_min(0) + (FLOOR * powers.mean()).clamp_min(1e-12)
    return mean, (axes / powers.sqrt()).to(vectors)
