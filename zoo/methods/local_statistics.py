"""The Mahalanobis distance of local means and deviations of a few filters.

Only a mean and a covariance are learned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional

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
from zoo.scoring.maps import of_cells, smooth

FEATURES = 18  # for each channel: mean and deviation of nine maps
SIDE = 256  # of a piece, in pixels: its features stay in the cache, which saves a third of the time
BANDS = 8  # pixels that the bands reach, at least: a blur of 7, and a difference of blurs


@dataclass(frozen=True, kw_only=True)
class LocalStatistics(Method):
    """Mean and deviation of gradient and blur maps around each pixel, compared with good pixels.

    Attributes:
        patch: Side of the square around a pixel, in pixels after scaling: local, but larger than
            the grain of most textures. Rounded down to an odd number of steps.
        step: Pixels from one square to the next, at most a third of `patch`; the distance of the
            pixels between is interpolated. Neighbouring squares are nearly the same, and 3 takes a
            quarter of the time of 1.
    """

    untrained = True
    loss_names = ("distance",)
    before: ClassVar[Mapping[str, Any]] = {"step": 1}
    patch: int = 15
    step: int = 3

    def __post_init__(self) -> None:
        """Refuse values that are out of their range."""
        check_fields(
            self,
            [
                ("patch", self.patch >= 1, "1 or more"),
                ("step", self.step >= 1, "1 or more"),
            ],
        )

    @property
    def export_side(self) -> int:
        """As `protocol.export_side` says."""
        return export_side(self.patch)

    def fit(
        self, images: Images, *, generator: Generator, report: Report, state: State | None = None
    ) -> None:
        """Measure the mean and covariance of the features over about every seventh pixel.

        The pictures are seen as they are and under other light, focus and noise: else a lamp that
        is a tenth brighter than usual would be far from all that is good.
        """
        seen = FitPictures.of(images).with_varied(generator=generator)
        thin = -(-7 // self._cell**2)
        rows = (self._seen(image[None])[0].flatten(1)[:, ::thin].double() for image in seen)
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
            features = self._features(x)
            found = torch.stack([whiten @ each - origin for each in features.flatten(2)])
            away = found.square_().sum(dim=1).sqrt_().reshape(len(x), 1, *features.shape[-2:])
            return of_cells(away, cell, *x.shape[-2:])

        cell, edge = self._cell, self._edge
        side = max(SIDE, 16 * self.patch)  # else the margins would be most of the work
        margin = self.patch // 2 + BANDS + cell
        computed = in_pieces(losses, step=cell, margin=margin, side=side)

        def inside(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
            height, width = x.shape[-2:]
            return computed(self._mirrored(x))[..., edge : edge + height, edge : edge + width]

        return inside

    def _seen(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k hf wf"]:
        """Return the features of the cells of pictures."""
        found, beyond = self._features(self._mirrored(x)), self._edge // self._cell
        return found[..., beyond : found.shape[-2] - beyond, beyond : found.shape[-1] - beyond]

    def _mirrored(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Return the pictures with mirrored edges, of whole cells."""
        ends = [self._edge + -side % self._cell for side in x.shape[-2:]]
        return functional.pad(x, (self._edge, ends[1], self._edge, ends[0]), mode="reflect")

    def _features(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k hf wf"]:
        cell, side = self._cell, self._side
        blurs = [x, smooth(x, 3), smooth(x, 7)]
        slopes = [_slope(blur, axis).abs() for blur in blurs[:2] for axis in (-2, -1)]
        bands = [*blurs, blurs[0] - blurs[1], blurs[1] - blurs[2], *slopes]
        mean, square = (
            smooth(torch.cat([_cells(each, cell) for each in maps], dim=1), side)
            for maps in (bands, [each.square() for each in bands])
        )
        variance = square.addcmul_(mean, mean, value=-1)
        return torch.cat([mean, variance.clamp_(min=0).sqrt_()], dim=1)

    @property
    def _cell(self) -> int:
        """Pixels from one square to the next."""
        return max(1, min(self.step, self.patch // 3))

    @property
    def _side(self) -> int:
        """Side of a square, in cells."""
        return self.patch if self._cell == 1 else (self.patch // self._cell - 1) // 2 * 2 + 1

    @property
    def _edge(self) -> int:
        """Pixels that are mirrored beyond the picture; with cells of one pixel `smooth` does it."""
        return 0 if self._cell == 1 else self._side // 2 * self._cell


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


def _cells(x: Float[Tensor, "b c h w"], step: int) -> Float[Tensor, "b c hf wf"]:
    """Return the mean of each cell of `step` by `step` pixels; half the time of a pooling."""
    rows = reduce(torch.add, [x[..., at::step, :] for at in range(step)])
    return reduce(torch.add, [rows[..., at::step] for at in range(step)]) / step**2


def _slope(x: Float[Tensor, "b c h w"], axis: int) -> Float[Tensor, "b c h w"]:
    """Return the central differences, as `torch.gradient` does, which ONNX does not have."""
    last = x.shape[axis] - 1
    before, after = x.narrow(axis, 0, last), x.narrow(axis, 1, last)
    steps = after - before
    inner = (x.narrow(axis, 2, last - 1) - x.narrow(axis, 0, last - 1)) / 2
    return torch.cat([steps.narrow(axis, 0, 1), inner, steps.narrow(axis, last - 1, 1)], dim=axis)
