"""The Mahalanobis distance of local means and deviations of a few filters.

Only a mean and a covariance are learned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from zoo.data.defects.fit_pictures import FitPictures
from zoo.methods.configuration import check_fields
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
from zoo.scoring.maps import smooth

FEATURES = 18  # for each channel: mean and deviation of nine maps
SIDE = 256  # of a piece, in pixels: its features stay in the cache, which saves a third of the time
BANDS = 8  # pixels that the bands reach, at least: a blur of 7, and a difference of blurs


@dataclass(frozen=True, kw_only=True)
class LocalStatistics(Method):
    """Mean and deviation of gradient and blur maps around each pixel, compared with good pixels.

    Attributes:
        patch: Side of the square around a pixel, in pixels after scaling: local, but larger than
            the grain of most textures.
    """

    untrained = True
    loss_names = ("distance",)
    patch: int = 15

    def __post_init__(self) -> None:
        """Refuse a value that is out of its range."""
        check_fields(self, [("patch", self.patch >= 1, "1 or more")])

    @property
    def export_side(self) -> int:
        """As `protocol.export_side` says."""
        return export_side(self.patch)

    def fit(
        self, images: Images, *, generator: Generator, report: Report, state: State | None = None
    ) -> None:
        """Measure the mean and covariance of the features over every seventh pixel.

        The pictures are seen as they are and under other light, focus and noise: else a lamp that
        is a tenth brighter than usual would be far from all that is good.
        """
        seen = FitPictures.of(images).with_varied(generator=generator)
        rows = (self._features(image[None])[0].flatten(1)[:, ::7].double() for image in seen)
        mean, covariance = _moments(rows)
        identity = torch.eye(len(covariance), device=covariance.device)
        ridge = identity * covariance.trace() / len(covariance) * 1e-4
        whiten = torch.linalg.inv(torch.linalg.cholesky(covariance + ridge)).float()
        report(Progress(weights={"mean": mean.float(), "whiten": whiten}))

    def shapes(self, channels: int) -> Mapping[str, Shape]:
        """Return the shapes of the mean and of the whitening matrix."""
        features = FEATURES * channels
        return {"mean": (features,), "whiten": (features, features)}

    def scorer(self, weights: Weights, *, used: Sequence[bool] | None = None) -> Losses:
        """Return the loss function: the Mahalanobis distance from good pixels."""
        whiten = weights["whiten"]
        origin = (whiten @ weights["mean"])[:, None]

        def losses(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
            # Products and no convolution, which a GPU may compute with fewer digits.
            features = self._features(x).flatten(2)
            found = torch.stack([whiten @ each - origin for each in features])
            return found.square_().sum(dim=1).sqrt_().reshape(len(x), 1, *x.shape[-2:])

        side = max(SIDE, 16 * self.patch)  # else the margins would be most of the work
        return in_pieces(losses, step=1, margin=self.patch // 2 + BANDS, side=side)

    def _features(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        blurs = [x, smooth(x, 3), smooth(x, 7)]
        slopes = [_slope(blur, axis).abs() for blur in blurs[:2] for axis in (-2, -1)]
        bands = torch.cat([*blurs, blurs[0] - blurs[1], blurs[1] - blurs[2], *slopes], dim=1)
        mean = smooth(bands, self.patch)
        variance = smooth(bands.square(), self.patch).addcmul_(mean, mean, value=-1)
        return torch.cat([mean, variance.clamp_(min=0).sqrt_()], dim=1)


def _moments(
    parts: Iterable[Float[Tensor, "k _"]],
) -> tuple[Float[Tensor, " k"], Float[Tensor, "k k"]]:
    """Return the mean and the covariance of columns that come in parts.

    All columns of many pictures would be gigabytes. Deviations are taken from the first part's
    mean, so that sums of squares lose no digits.
    """
    means, products, number, origin = list[Tensor](), list[Tensor](), 0, None
    for part in parts:
        origin = part.mean(dim=1, keepdim=True) if origin is None else origin
        rest = part - origin
        means.append(rest.sum(dim=1, keepdim=True))
        products.append(rest @ rest.T)
        number += rest.shape[1]
    assert origin is not None
    mean = torch.stack(means).sum(dim=0) / number
    product = torch.stack(products).sum(dim=0) - number * mean @ mean.T
    return (origin + mean)[:, 0], product / (number - 1)


def _slope(x: Float[Tensor, "b c h w"], axis: int) -> Float[Tensor, "b c h w"]:
    """Return the central differences, as `torch.gradient` does, which ONNX does not have."""
    last = x.shape[axis] - 1
    before, after = x.narrow(axis, 0, last), x.narrow(axis, 1, last)
    steps = after - before
    inner = (x.narrow(axis, 2, last - 1) - x.narrow(axis, 0, last - 1)) / 2
    return torch.cat([steps.narrow(axis, 0, 1), inner, steps.narrow(axis, last - 1, 1)], dim=axis)
