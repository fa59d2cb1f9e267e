"""The common part of BiGAN and f-AnoGAN: networks for patches, and scoring patch by patch.

A patch is encoded into one latent vector. A picture is therefore cut into patches on a grid, each
patch is scored, and the maps are stitched together. This takes much longer than a fully
convolutional network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar, TypeVar, cast

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from zoo.data.defects.fit_pictures import canvas_of
from zoo.data.patches import Patches
from zoo.errors import BadImageError, DivergedError
from zoo.methods.configuration import check_fields
from zoo.methods.fcbigan.config import widths
from zoo.methods.fcbigan.networks import initialise
from zoo.methods.protocol import Images, Losses, Method, Shape, Weights, one_by_one

SCORED_AT_ONCE = 256  # patches in one batch; tens of megabytes of activations

Networks = TypeVar("Networks", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class PatchConfig:
    """The shapes of the networks, and the grid of patches for scoring.

    Attributes:
        patch: Side of a patch, in pixels after scaling; a multiple of `2 ** depth`.
        stride: Step between the patches of a picture in scoring, in pixels. A smaller step gives a
            smoother map, at quadratic cost.
        depth: Number of strided layers of each network.
        width: Channels of the first layer; the cost grows with its square.
        latent: Length of the latent vector of a patch. A longer one reconstructs better, also
            defects.
        batch: Number of real and of generated patches in a step.
        rotations: Rotate patches by multiples of 90 degrees. Wrong for a texture with a direction.
    """

    patch: int = 32
    stride: int = 8
    depth: int = 3
    width: int = 16
    latent: int = 64
    batch: int = 32
    rotations: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming field and value."""
        cell = 2 ** max(1, min(self.depth, 6))
        nearest = max(1, round(self.patch / cell)) * cell
        check_fields(
            self,
            [
                ("depth", 1 <= self.depth <= 6, "1 to 6"),
                (
                    "patch",
                    self.patch >= cell and self.patch % cell == 0,
                    f"a multiple of 2 ** depth = {cell}, such as {nearest}",
                ),
                ("stride", 1 <= self.stride <= self.patch, f"1 to {self.patch} (patch)"),
                ("width", 1 <= self.width <= 1024, "1 to 1024"),
                ("latent", 1 <= self.latent <= 4096, "1 to 4096"),
                ("batch", self.batch >= 1, "at least 1"),
            ],
        )

    def shape(self, channels: int) -> dict[str, int]:
        """Return the arguments that the networks are built with."""
        return {
            "channels": channels,
            "patch": self.patch,
            "width": self.width,
            "depth": self.depth,
            "latent": self.latent,
        }

    def steps(self, megapixels: float) -> int:
        """Return the number of batches with this many million pixels of patches; at least one.

        Example:
            >>> PatchConfig(patch=32, batch=50).steps(1.024)
            20
        """
        return max(1, round(megapixels * 1e6 / (self.batch * self.patch**2)))


@dataclass(frozen=True, kw_only=True)
class PatchMethod(Method):
    """A method that scores patch by patch. A subclass names its networks and trains them.

    Attributes:
        networks: Class of the networks; its `losses` gives patches "n c p p" their losses
            "n 2 p p".
        config: The shapes of the networks, and the grid.
        learning_rate: Learning rate of Adam, for all networks.
        megapixels: Total number of patch pixels in the training, in millions.
    """

    networks: ClassVar[type[nn.Module]]
    loss_names = ("reconstruction", "discriminator")
    config: PatchConfig = field(default_factory=PatchConfig)
    learning_rate: float = 2e-4
    megapixels: float = 50.0

    def __post_init__(self) -> None:
        """Refuse values that are out of their range."""
        check_fields(
            self,
            [
                ("learning_rate", 0 < self.learning_rate < 1, "above 0 and below 1"),
                ("megapixels", 0 < self.megapixels < math.inf, "above 0"),
            ],
        )

    @property
    def patch(self) -> int:
        """Side of a patch, in pixels after scaling."""
        return self.config.patch

    def patches(self, images: Images, generator: Generator) -> Patches:
        """Return random patches of good images to train on."""
        config, canvas = self.config, canvas_of(images)
        return Patches(canvas, patch=config.patch, generator=generator, rotations=config.rotations)

    def shapes(self, channels: int) -> Mapping[str, Shape]:
        """Return the shapes of the tensors of the networks."""
        state = self._empty(channels).state_dict()
        return {name: tuple(each.shape) for name, each in state.items()}

    def scorer(self, weights: Weights, *, used: Sequence[bool] | None = None) -> Losses:
        """Return the loss function: each pixel has the mean losses of the patches that cover it."""
        networks = self._empty(weights["encoder.0.weight"].shape[1]).eval()
        networks.load_state_dict(dict(weights), assign=True)
        patch_losses = cast(Callable[[Tensor], Tensor], networks.losses)

        @torch.no_grad()
        def losses(x: Float[Tensor, "c h w"]) -> Float[Tensor, "2 h w"]:
            return everywhere(x, patch_losses, size=self.patch, stride=self.config.stride)

        return one_by_one(losses)

    def _empty(self, channels: int) -> nn.Module:
        """Build the networks without allocating memory for their weights."""
        with torch.device("meta"):
            return self.networks(**self.config.shape(channels))


# -------------------------------------------------------------------------------- cut and stitch


def grid(height: int, width: int, *, size: int, stride: int) -> Int[Tensor, "n 2"]:
    """Return the corners of a grid of patches that covers every pixel at least once.

    Args:
        height: Image height, in pixels.
        width: Image width, in pixels.
        size: Side of one patch, in pixels.
        stride: Step between neighbouring patches, in pixels; at most `size`.

    Returns:
        The (top, left) corner of each patch, row by row. The last row and column end at the edge
        of the image, so they may overlap their neighbours more.

    Raises:
        BadImageError: The image is smaller than one patch.

    Example:
        >>> grid(height=5, width=4, size=3, stride=2).tolist()
        [[0, 0], [0, 1], [2, 0], [2, 1]]
    """
    if min(height, width) < size:
        raise BadImageError(
            f"An image of {height}x{width} pixels (after scaling) is smaller than a patch of "
            f"{size}x{size}. Use a larger image or a detector with a smaller patch."
        )
    tops, lefts = (
        torch.tensor([*range(0, side - size, stride), side - size]) for side in (height, width)
    )
    return torch.cartesian_prod(tops, lefts)


def cut(
    x: Float[Tensor, "c h w"], corners: Int[Tensor, "n 2"], *, size: int
) -> Float[Tensor, "n c {size} {size}"]:
    """Return the patches of an image at these corners."""
    return torch.stack(
        [x[:, top : top + size, left : left + size] for top, left in corners.tolist()]
    )


def stitch(
    batches: Iterable[Float[Tensor, "_ t p p"]],
    corners: Int[Tensor, "n 2"],
    *,
    height: int,
    width: int,
) -> Float[Tensor, "t {height} {width}"]:
    """Return the map of an image from the maps of its patches; overlaps are averaged.

    Args:
        batches: The maps of the patches, in batches, in the order of the corners.
        corners: The corner of each patch. Together the patches cover the image.
        height: Image height, in pixels.
        width: Image width, in pixels.
    """
    places: Iterator[list[int]] = iter(corners.tolist())
    total = cover = torch.zeros(())
    for batch in batches:
        kinds, size = batch.shape[1:3]
        if not total.ndim:
            total, cover = batch.new_zeros(kinds, height, width), batch.new_zeros(height, width)
        for each, (top, left) in zip(batch, places):  # noqa: B905  a batch is a part of the places
            here = slice(top, top + size), slice(left, left + size)
            total[:, *here] += each
            cover[here] += 1
    return total / cover


def everywhere(
    x: Float[Tensor, "c h w"],
    losses: Callable[[Tensor], Tensor],
    *,
    size: int,
    stride: int,
) -> Float[Tensor, "t h w"]:
    """Return the losses of an image, computed patch by patch.

    Args:
        x: At least one patch high and wide.
        losses: Returns the losses "n t p p" of patches "n c p p".
        size: Side of one patch, in pixels.
        stride: Step between neighbouring patches, in pixels.

    Raises:
        BadImageError: The image is smaller than one patch.
    """
    height, width = x.shape[-2:]
    corners = grid(height, width, size=size, stride=stride)
    batches = (losses(cut(x, part, size=size)) for part in torch.split(corners, SCORED_AT_ONCE))
    return stitch(batches, corners, height=height, width=width)


# --------------------------------------------------------------------------------------- networks


def trunk(*, channels: int, width: int, depth: int) -> nn.Sequential:
    """Build strided layers that turn a patch into one vector.

    D uses them. They have no norm, because the gradient penalty of a critic must not mix patches.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise([channels, *widths(width, depth)]):
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten())


def trunk_size(*, patch: int, width: int, depth: int) -> int:
    """Return the length of the output vector of a trunk.

    Example:
        >>> trunk_size(patch=16, width=4, depth=2) == 8 * 4 * 4
        True
    """
    return int(widths(width, depth)[-1] * (patch // 2**depth) ** 2)


def encoder(*, channels: int, patch: int, width: int, depth: int, latent: int) -> nn.Sequential:
    """Build E: from a patch to its latent vector.

    E and G use group norm with one group, which is the same in training and in scoring. The running
    means of a batch norm are not accurate after a short training. Without a norm G collapses.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise([channels, *widths(width, depth)]):
        layers.append(nn.Conv2d(before, after, 4, stride=2, padding=1))
        layers += [nn.GroupNorm(1, after), nn.LeakyReLU(0.2)]
    size = trunk_size(patch=patch, width=width, depth=depth)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, latent))


def generator(*, channels: int, patch: int, width: int, depth: int, latent: int) -> nn.Sequential:
    """Build G: from a latent vector to a patch in [-1, 1], by transposed convolutions."""
    steps, side = widths(width, depth)[::-1], patch // 2**depth
    layers: list[nn.Module] = [
        nn.Linear(latent, trunk_size(patch=patch, width=width, depth=depth)),
        nn.Unflatten(1, (steps[0], side, side)),
    ]
    for before, after in pairwise([*steps, channels]):
        layers += [nn.GroupNorm(1, before), nn.LeakyReLU(0.2)]
        layers.append(nn.ConvTranspose2d(before, after, 4, stride=2, padding=1))
    return nn.Sequential(*layers, nn.Tanh())


def initialised(networks: Networks, generator: torch.Generator) -> Networks:
    """Move networks to the device of the generator and draw their weights there.

    G has weights from N(0, 0.02), as usual for GANs. The others have those of He et al. 2015, which
    keep the variance of the activations: D has no norm.
    """
    networks = networks.to(generator.device)
    initialise(networks, generator, gan=("generator",))
    return networks


# --------------------------------------------------------------------------------------- training


def descend(loss: Float[Tensor, ""], optimiser: torch.optim.Optimizer) -> None:
    """Update the weights of one optimiser, and no others, with the gradient of a loss."""
    parameters = optimiser.param_groups[0]["params"]
    for parameter, grad in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = grad
    optimiser.step()


def check_losses(step: int, **losses: Tensor) -> None:
    """Stop the training if a loss is not finite.

    Raises:
        DivergedError: A loss is not finite.
    """
    found = {name: float(loss.detach()) for name, loss in losses.items()}
    if not all(map(math.isfinite, found.values())):
        values = ", ".join(f"{name} {value}" for name, value in found.items())
        raise DivergedError(f"Training diverged at step {step}: {values}. Lower the learning_rate.")
