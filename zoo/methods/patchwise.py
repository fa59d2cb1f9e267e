"""What BiGAN and f-AnoGAN share: networks around one vector a patch, and scoring patch by patch.

A patch is encoded into one vector. A picture is therefore cut on a grid, judged patch by patch and
stitched together again, which takes far longer than a fully convolutional network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from zoo.errors import BadImageError, ConfigError, DivergedError
from zoo.methods.fcbigan.config import widths
from zoo.methods.protocol import Losses, Shape, one_by_one

SCORED_AT_ONCE = 256  # patches; tens of megabytes of activations at the usual widths

Check = tuple[str, bool, str]  # a field, whether its value is allowed, and what would be
Networks = TypeVar("Networks", bound=nn.Module)


def check_fields(config: object, checks: Iterable[Check]) -> None:
    """Refuse the first field whose value is not allowed.

    Raises:
        ConfigError: There is one.
    """
    for name, allowed, rule in checks:
        if not allowed:
            raise ConfigError(f"{name} must be {rule}, not {getattr(config, name)}. Change it.")


@dataclass(frozen=True, kw_only=True)
class PatchConfig:
    """The shapes of the networks, and the grid of patches that is scored.

    Attributes:
        patch: Side of a patch, in pixels after scaling; a multiple of `2 ** depth`.
        stride: Step between the patches of a picture that is scored, in pixels. Smaller is
            smoother, at quadratic cost.
        depth: Strided layers of each network.
        width: Channels of the first layer; the cost grows with its square.
        latent: Numbers that a patch becomes. More reconstruct better, defects included.
        batch: Patches of each kind in a step.
        rotations: Turn patches by multiples of 90 degrees. Wrong where the grain has a direction.
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
                ("stride", 1 <= self.stride <= self.patch, f"1 to patch, {self.patch}"),
                ("width", 1 <= self.width <= 1024, "1 to 1024"),
                ("latent", 1 <= self.latent <= 4096, "1 to 4096"),
                ("batch", self.batch >= 1, "at least 1"),
            ],
        )

    def shape(self, channels: int) -> dict[str, int]:
        """Return what the networks are built of."""
        return {
            "channels": channels,
            "patch": self.patch,
            "width": self.width,
            "depth": self.depth,
            "latent": self.latent,
        }


class Judge(Protocol):
    """Networks that give patches their losses."""

    def losses(self, x: Float[Tensor, "n c p p"]) -> Float[Tensor, "n 2 p p"]:
        """Give each pixel of patches its losses."""


def scorer(
    build: Callable[..., nn.Module], config: PatchConfig, weights: Mapping[str, Tensor]
) -> Losses:
    """Return what gives each pixel of pictures the mean losses of the patches that cover it."""
    networks = empty(build, config, channels=weights["encoder.0.weight"].shape[1]).eval()
    networks.load_state_dict(dict(weights), assign=True)
    judge = cast(Judge, networks).losses

    @torch.no_grad()
    def losses(x: Float[Tensor, "c h w"]) -> Float[Tensor, "2 h w"]:
        return everywhere(x, judge, size=config.patch, stride=config.stride)

    return one_by_one(losses)


def shapes(
    build: Callable[..., nn.Module], config: PatchConfig, *, channels: int
) -> dict[str, Shape]:
    """Return the shapes of the networks' tensors."""
    state = empty(build, config, channels=channels).state_dict()
    return {name: tuple(each.shape) for name, each in state.items()}


def empty(build: Callable[..., nn.Module], config: PatchConfig, *, channels: int) -> nn.Module:
    """Build networks without memory of their own."""
    with torch.device("meta"):
        return build(**config.shape(channels))


# ------------------------------------------------------------------------------- cut and stitched


def grid(height: int, width: int, *, size: int, stride: int) -> Int[Tensor, "n 2"]:
    """Place patches so that every pixel is covered at least once.

    Args:
        height: Image height, in pixels.
        width: Image width, in pixels.
        size: Side of one patch, in pixels.
        stride: Step between neighbouring patches, in pixels; at most `size`.

    Returns:
        The (top, left) corner of each patch, row by row. The last row and column are moved
        inwards to end at the image's edge, so they may overlap their neighbours more.

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
    """Cut the patches at these corners out of an image."""
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
    """Lay the maps of patches back over the image, averaging where they overlap.

    Args:
        batches: The maps, some at a time, in the order of the corners; none is kept.
        corners: Where each patch was cut. Together they cover the image.
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
    judge: Callable[[Tensor], Tensor],
    *,
    size: int,
    stride: int,
) -> Float[Tensor, "t h w"]:
    """Judge an image patch by patch.

    Args:
        x: At least one patch high and wide.
        judge: Gives each pixel of patches "n c p p" its losses "n t p p".
        size: Side of one patch, in pixels.
        stride: Step between neighbouring patches, in pixels.

    Raises:
        BadImageError: The image is smaller than one patch.
    """
    height, width = x.shape[-2:]
    corners = grid(height, width, size=size, stride=stride)
    batches = (judge(cut(x, part, size=size)) for part in torch.split(corners, SCORED_AT_ONCE))
    return stitch(batches, corners, height=height, width=width)


# --------------------------------------------------------------------------------------- networks


def trunk(*, channels: int, width: int, depth: int) -> nn.Sequential:
    """Build what makes one vector of a patch: strided layers, flattened.

    It has no norm, as D judges with it: a critic's gradient penalty is each patch's own.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise([channels, *widths(width, depth)]):
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten())


def trunk_size(*, patch: int, width: int, depth: int) -> int:
    """Return the length of the vector that a trunk ends in.

    Example:
        >>> trunk_size(patch=16, width=4, depth=2) == 8 * 4 * 4
        True
    """
    return int(widths(width, depth)[-1] * (patch // 2**depth) ** 2)


def encoder(*, channels: int, patch: int, width: int, depth: int, latent: int) -> nn.Sequential:
    """Build E: a patch to its latent vector, fully connected.

    E and G are normalised layer by layer, which is the same in training and in scoring: the
    running means of a batch norm lag behind after a short training. Without any, G collapses.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise([channels, *widths(width, depth)]):
        layers.append(nn.Conv2d(before, after, 4, stride=2, padding=1))
        layers += [nn.GroupNorm(1, after), nn.LeakyReLU(0.2)]
    size = trunk_size(patch=patch, width=width, depth=depth)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, latent))


def generator(*, channels: int, patch: int, width: int, depth: int, latent: int) -> nn.Sequential:
    """Build G: a latent vector to a patch in [-1, 1], by transposed convolutions."""
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
    """Move networks to the generator's device and draw every weight there; zero the biases.

    G has N(0, 0.02), as GANs do; the others, where D has no norm, keep their signals' size.

    Source: Radford et al. 2016; He et al. 2015.
    """
    networks = networks.to(generator.device)
    for name, parameter in networks.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim > 1 and name.startswith("generator"):
            nn.init.normal_(parameter, 0.0, 0.02, generator=generator)
        elif parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, a=0.2, generator=generator)
    return networks


# --------------------------------------------------------------------------------------- training


def rounds(megapixels: float, *, patch: int, batch: int) -> int:
    """Return in how many batches of patches that many million pixels are seen; at least one.

    Example:
        >>> rounds(1.024, patch=32, batch=50)
        20
    """
    return max(1, round(megapixels * 1e6 / (batch * patch**2)))


def descend(loss: Float[Tensor, ""], optimiser: torch.optim.Optimizer) -> None:
    """Move one optimiser's weights, and no others, down a loss."""
    parameters = optimiser.param_groups[0]["params"]
    for parameter, grad in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = grad
    optimiser.step()


def check_losses(step: int, **losses: Tensor) -> None:
    """Refuse to go on from a loss that is no number.

    Raises:
        DivergedError: One of them is not finite.
    """
    found = {name: float(loss.detach()) for name, loss in losses.items()}
    if not all(map(math.isfinite, found.values())):
        said = ", ".join(f"{name} {value}" for name, value in found.items())
        raise DivergedError(f"Training diverged at step {step}: {said}. Lower the learning_rate.")
