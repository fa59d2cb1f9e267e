"""The floor: local means and deviations of a few filters, and their Mahalanobis distance.

Nothing is learned but a mean and a covariance. What loses to this is not worth promoting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.scoring import smooth

WINDOW = 15  # pixels after scaling: local, yet a few grains of most textures


def fit(images: Sequence[Float[Tensor, "c _ _"]]) -> dict[str, Tensor]:
    """Measure mean and covariance of the features over all pixels of good images."""
    features = torch.cat([_features(image).flatten(1)[:, ::7] for image in images], dim=1).double()
    covariance = torch.cov(features)
    ridge = torch.eye(len(features)) * covariance.trace() / len(features) * 1e-4
    return {
        "mean": features.mean(dim=1).float(),
        "whiten": torch.linalg.inv(torch.linalg.cholesky(covariance + ridge)).float(),
    }


def losses(x: Float[Tensor, "c h w"], weights: Mapping[str, Tensor]) -> Float[Tensor, "1 h w"]:
    """Return each pixel's Mahalanobis distance from good pixels."""
    offset = _features(x) - weights["mean"][:, None, None]
    whitened = torch.einsum("st,thw->shw", weights["whiten"], offset)
    return whitened.square().sum(dim=0, keepdim=True).sqrt()


def _features(x: Float[Tensor, "c h w"]) -> Float[Tensor, "k h w"]:
    blurs = [x, smooth(x, 3), smooth(x, 7)]
    slopes = [torch.gradient(blur, dim=axis)[0].abs() for blur in blurs[:2] for axis in (-2, -1)]
    bands = torch.cat([*blurs, blurs[0] - blurs[1], blurs[1] - blurs[2], *slopes])
    mean = smooth(bands, WINDOW)
    deviation = (smooth(bands.square(), WINDOW) - mean.square()).clamp_min(0).sqrt()
    return torch.cat([mean, deviation])
