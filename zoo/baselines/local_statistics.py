"""The floor: local means and deviations of a few filters, and their Mahalanobis distance.

Nothing is learned but a mean and a covariance. What loses to this is not worth promoting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.baselines import Losses
from zoo.scoring import smooth


@dataclass(frozen=True, kw_only=True)
class LocalStatistics:
    """Mean and deviation of gradient and blur maps around each pixel, against good pixels.

    Attributes:
        patch: Side of the square around a pixel, in pixels after scaling: local, yet a few grains
            of most textures.
    """

    patch: int = 15

    def fit(
        self, images: Sequence[Float[Tensor, "c _ _"]], *, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Measure mean and covariance of the features over all pixels of good images."""
        features = torch.cat(
            [self._features(image).flatten(1)[:, ::7] for image in images], dim=1
        ).double()
        covariance = torch.cov(features)
        ridge = torch.eye(len(features)) * covariance.trace() / len(features) * 1e-4
        return {
            "mean": features.mean(dim=1).float(),
            "whiten": torch.linalg.inv(torch.linalg.cholesky(covariance + ridge)).float(),
        }

    def ready(self, weights: Mapping[str, Tensor]) -> Losses:
        """Return what gives each pixel its Mahalanobis distance from good pixels."""

        def losses(x: Float[Tensor, "c h w"]) -> Float[Tensor, "1 h w"]:
            offset = self._features(x) - weights["mean"][:, None, None]
            whitened = torch.einsum("st,thw->shw", weights["whiten"], offset)
            return whitened.square().sum(dim=0, keepdim=True).sqrt()

        return losses

    def _features(self, x: Float[Tensor, "c h w"]) -> Float[Tensor, "k h w"]:
        blurs = [x, smooth(x, 3), smooth(x, 7)]
        slopes = [
            torch.gradient(blur, dim=axis)[0].abs() for blur in blurs[:2] for axis in (-2, -1)
        ]
        bands = torch.cat([*blurs, blurs[0] - blurs[1], blurs[1] - blurs[2], *slopes])
        mean = smooth(bands, self.patch)
        deviation = (smooth(bands.square(), self.patch) - mean.square()).clamp_min(0).sqrt()
        return torch.cat([mean, deviation])
