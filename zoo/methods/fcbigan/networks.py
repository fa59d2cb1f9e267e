"""The networks of FCBiGAN: encoder, generator, discriminator, all fully convolutional.

A convolution before a batch norm has no bias: its gradient would be only rounding error, which Adam
would turn into full steps.

All networks take patches and whole images: any size that is a multiple of one latent cell. The
discriminator has a second, dense form with the same weights, with one output for the window around
each pixel. The segmenter, which is not part of the thesis, is U-shaped.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from zoo.methods.fcbigan.config import (
    LATENT_PLANES,
    SEGMENTER_STRIDE,
    NetworkConfig,
    Norm,
    receptive_field,
    widths,
)
from zoo.methods.folding import fold


class Mirrored(nn.Conv2d):
    """A convolution with mirrored edges.

    Autocast on a processor would mirror in float32, and copy each activation twice for it.
    """

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h2 w2"]:
        """Mirror the edges and convolve."""
        rows, columns = cast(tuple[int, int], self.padding)
        with torch.autocast(x.device.type, enabled=False):
            x = functional.pad(x, (columns, columns, rows, rows), mode="reflect")
        return functional.conv2d(x, self.weight, self.bias, self.stride)


def _layer(
    before: int, after: int, kernel: int, *, stride: int = 1, norm: Norm = "batch"
) -> list[nn.Module]:
    """Return a convolution with mirrored edges, a norm and a leaky ReLU."""
    return [
        Mirrored(before, after, kernel, stride=stride, padding=1, bias=norm == "none"),
        nn.BatchNorm2d(after) if norm == "batch" else nn.Identity(),
        nn.LeakyReLU(0.2),
    ]


class Encoder(nn.Module):
    """E: from an image to its latent cells, one for `2 ** depth` by `2 ** depth` pixels."""

    def __init__(self, *, channels: int, width: int, depth: int, latent_channels: int) -> None:
        super().__init__()
        steps = [channels, *widths(width, depth)]
        layers: list[nn.Module] = []
        for before, after in pairwise(steps):
            layers += _layer(before, after, 4, stride=2)
        layers.append(nn.Conv2d(steps[-1], latent_channels, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b z hz wz"]:
        """Return the latent cells; sides must be multiples of a cell."""
        z: Tensor = self.layers(x)
        return z


class Generator(nn.Module):
    """G: from latent cells to an image in [-1, 1], by sub-pixel convolutions."""

    def __init__(self, *, channels: int, width: int, depth: int, latent_channels: int) -> None:
        super().__init__()
        steps = widths(width, depth)[::-1]
        layers = _layer(latent_channels, steps[0], 3)
        for before, after in pairwise(steps):
            layers += [
                Mirrored(before, 4 * after, 3, padding=1),
                nn.PixelShuffle(2),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(0.2),
            ]
        layers += [
            Mirrored(steps[-1], 4 * channels, 3, padding=1),
            nn.PixelShuffle(2),
            nn.Tanh(),
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Float[Tensor, "b z hz wz"]) -> Float[Tensor, "b c h w"]:
        """Return the image of the latent cells."""
        x: Tensor = self.layers(z)
        return x


class Windows(nn.Module):
    """A strided network without padding, so that each output depends on one window of the image.

    The strided form, the dense form and any window that is cut out therefore give the same output,
    up to rounding.
    """

    def __init__(self, *, channels: int, width: int, depth: int, norm: Norm) -> None:
        super().__init__()
        self.depth = depth
        steps = [channels, *widths(width, depth)]
        layers = [
            nn.Conv2d(before, after, 4, stride=2, bias=norm == "none" or not place)
            for place, (before, after) in enumerate(pairwise(steps))
        ]
        self.convolutions = nn.ModuleList(layers)
        # As usual for GANs, the first layer has no batch norm.
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(layer.out_channels) if norm == "batch" and place else nn.Identity()
            for place, layer in enumerate(layers)
        )
        self.head = nn.Conv2d(steps[-1], 1, 1)

    @property
    def side(self) -> int:
        """Side of the window of one output, in pixels."""
        return receptive_field(self.depth)

    def forward(
        self, x: Float[Tensor, "b k h w"], output_stride: int | None = None
    ) -> Float[Tensor, "b hd wd"]:
        """Return the outputs of windows, every `output_stride` pixels, from the top left.

        A layer whose stride would exceed `output_stride` keeps its resolution instead, and the
        layers after it are dilated: the same sums over the same pixels, at more places.

        Args:
            x: At least one window high and wide.
            output_stride: A power of two, from 1 (dense) to `2 ** depth` (the strided form, and
                the default).

        Source:
            Long et al. 2015, section 3.2 (shift-and-stitch is dilation); the partial form is the
            output stride of Chen et al. 2017.
        """
        h, stride, dilation = x, 1, 1
        for layer, norm in zip(self.convolutions, self.norms, strict=True):
            step = 2 if stride * 2 <= (output_stride or 2**self.depth) else 1
            conv = cast(nn.Conv2d, layer)
            h = functional.conv2d(h, conv.weight, conv.bias, stride=step, dilation=dilation)
            h = functional.leaky_relu(norm(h), 0.2)
            stride, dilation = stride * step, dilation * (2 // step)
        output: Tensor = self.head(h)
        return output[:, 0]

    def everywhere(
        self, x: Float[Tensor, "b k h w"], *, output_stride: int = 1
    ) -> Float[Tensor, "b h w"]:
        """Return for each pixel the output of the window around it.

        A pixel near the edge, whose window would leave the image, has the output of the nearest
        window inside: mirrored texture has discontinuities that good material does not have. With
        an output stride above 1 the pixels between two outputs are interpolated.

        Args:
            x: At least one window high and wide.
            output_stride: As in `forward`.
        """
        height, width = x.shape[-2:]
        out = self(x, output_stride)[:, None]
        if output_stride > 1:
            size = [(side - 1) * output_stride + 1 for side in out.shape[-2:]]
            out = functional.interpolate(out, size, mode="bilinear", align_corners=True)
        before = self.side // 2
        right, bottom = (
            whole - before - side
            for whole, side in zip((width, height), (out.shape[-1], out.shape[-2]), strict=True)
        )
        out = functional.pad(out, (before, right, before, bottom), mode="replicate")
        return out[:, 0]


class Segmenter(nn.Module):
    """Predicts which pixels of an image are defective; U-shaped, for large and thin defects.

    Not part of the thesis: it learns from synthetic defects, and not from the adversarial loss. It
    computes nothing at full size: an image is halved `depth` times, then enlarged and added to the
    finer levels up to a quarter of the size, where a logit stands for `SEGMENTER_STRIDE` by
    `SEGMENTER_STRIDE` pixels.

    Source:
        Ronneberger et al. 2015; the finer layers are added, not concatenated, as in Lin et al.
        2017.
    """

    def __init__(self, *, channels: int, width: int, depth: int, norm: Norm) -> None:
        super().__init__()
        self.cell = 2**depth
        steps = widths(width, depth)
        first = SEGMENTER_STRIDE.bit_length() - 2  # the level whose layers are that stride apart
        # As in the discriminator, the first layer has no batch norm.
        down = [nn.Sequential(*_layer(channels, steps[0], 4, stride=2, norm="none"))]
        for before, after in pairwise(steps):
            halved = nn.Sequential(*_layer(before, after, 4, stride=2, norm=norm))
            down.append(nn.Sequential(halved, nn.Sequential(*_layer(after, after, 3, norm=norm))))
        back = list(pairwise(steps[first:]))[::-1]
        self.down = nn.ModuleList(down)
        self.lateral = nn.ModuleList(nn.Conv2d(after, before, 1) for before, after in back)
        self.up = nn.ModuleList(
            nn.Sequential(*_layer(before, before, 3, norm=norm)) for before, _ in back
        )
        self.head = nn.Conv2d(steps[first], 1, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b hs ws"]:
        """Return a logit for each square of pixels; sides must be multiples of `2 ** depth`."""
        levels, h = [], x
        for layer in self.down:
            h = layer(h)
            levels.append(h)
        for lateral, up, finer in zip(self.lateral, self.up, levels[-2::-1], strict=False):
            h = up(functional.interpolate(lateral(h), scale_factor=2.0) + finer)
        logits: Tensor = self.head(h)
        return logits[:, 0]

    def everywhere(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        """Return a logit for every pixel of an image of any size, interpolated between squares."""
        height, width = x.shape[-2:]
        whole = whole_cells(x, self.cell)
        logits = functional.interpolate(self(whole)[:, None], whole.shape[-2:], mode="bilinear")
        return logits[:, 0, :height, :width]

    @staticmethod
    def targets(masks: Bool[Tensor, "b h w"]) -> Float[Tensor, "b hs ws"]:
        """Return the defective share of each square of pixels."""
        return functional.avg_pool2d(masks.float()[:, None], SEGMENTER_STRIDE)[:, 0]


class Discriminator(nn.Module):
    """D: tells real images from generated ones, each with its latent cells.

    z is enlarged to the size of x by one sub-pixel convolution, cell by cell, and concatenated with
    x; `Windows` gets the pair. For a whole image z is computed once: a window uses the channels of
    the cells that it covers, wherever in a cell it begins. See docs/decisions.md, "z in the dense
    discriminator".
    """

    def __init__(self, config: NetworkConfig, *, channels: int) -> None:
        super().__init__()
        cell = 2**config.depth
        self.enlarge = nn.Sequential(
            nn.Conv2d(config.latent_channels, LATENT_PLANES * cell**2, 1), nn.PixelShuffle(cell)
        )
        self.windows = Windows(
            channels=channels + LATENT_PLANES,
            width=config.width,
            depth=config.discriminator_depth,
            norm=config.discriminator_norm,
        )

    def forward(
        self, x: Float[Tensor, "b c h w"], z: Float[Tensor, "b z hz wz"]
    ) -> Float[Tensor, "b hd wd"]:
        """Return an output every `2 ** discriminator_depth` pixels: the form for training."""
        return cast(Tensor, self.windows(self.pair(x, z)))

    def pair(
        self, x: Float[Tensor, "b c h w"], z: Float[Tensor, "b z hz wz"]
    ) -> Float[Tensor, "b k h w"]:
        """Concatenate x and the enlarged z, of which each pixel depends on its own cell only."""
        return torch.cat([x, self.enlarge(z)], dim=1)


class Networks(nn.Module):
    """All networks, and how they divide an image of any size.

    `segmenter` is None if the configuration does not ask for it.
    """

    def __init__(self, config: NetworkConfig, *, channels: int) -> None:
        super().__init__()
        self.config, self.cell = config, 2**config.depth
        shape = {
            "channels": channels,
            "width": config.width,
            "depth": config.depth,
            "latent_channels": config.latent_channels,
        }
        self.encoder = Encoder(**shape)
        self.generator = Generator(**shape)
        self.discriminator = Discriminator(config, channels=channels)
        self.segmenter = (
            Segmenter(
                channels=channels * (1 + config.restoration),
                width=config.width,
                depth=config.segmenter_depth,
                norm=config.discriminator_norm,
            )
            if config.segmenter
            else None
        )

    def segmenter_input(
        self, x: Float[Tensor, "b c h w"], drawn: Float[Tensor, "b c h w"] | None
    ) -> Float[Tensor, "b k h w"]:
        """Return what the segmenter sees: the picture, and beside it the restored one if wanted.

        Args:
            x: Pictures whose sides are multiples of a latent cell.
            drawn: G(E(x)); None computes it if it is needed.
        """
        if not self.config.restoration:
            return x
        return torch.cat([x, self.generator(self.encoder(x)) if drawn is None else drawn], dim=1)

    def seam(self, output_stride: int) -> tuple[int, int]:
        """Return how an image can be cut into pieces without a change of the losses.

        Args:
            output_stride: Pixels between two outputs of D.

        Returns:
            The step of the grid that all networks share, and how far the receptive fields reach
            beyond a piece; both in pixels of the scaled image.
        """
        step = max(self.cell, output_stride, self.segmenter.cell if self.segmenter else 1)
        # A 4-wide layer of stride 2 reaches 1.5 pixels of its input to each side, a 3-wide one 1,
        # and a pixel of a level is two of the level before: each sum is a geometric series.
        encoded = 2.5 * self.cell
        far = max(encoded + 3 * self.cell, encoded + self.discriminator.windows.side)
        if self.segmenter:
            behind = encoded + 3 * self.cell if self.config.restoration else 0
            far = max(far, 6.0 * self.segmenter.cell + behind)
        return step, -int(-far // step) * step


def initialise(
    networks: nn.Module,
    generator: torch.Generator,
    *,
    gan: tuple[str, ...] = ("encoder", "generator"),
) -> None:
    """Draw every weight, and set the biases to zero.

    Args:
        networks: The networks, on the device of the generator.
        generator: Draws the weights.
        gan: Networks with weights from N(0, 0.02), as usual for GANs. The others may have no batch
            norm and would lose their signal with such small weights, so they have weights that
            keep the variance of the activations through leaky layers.

    Source: Radford et al. 2016; He et al. 2015.
    """
    for name, parameter in networks.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim > 1 and name.startswith(gan):
            nn.init.normal_(parameter, 0.0, 0.02, generator=generator)
        elif parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, a=0.2, generator=generator)


def folded(networks: Networks) -> Networks:
    """Fold each batch norm into the convolution before it, in place, for scoring only.

    The weights themselves are replaced, not changed: a training may go on with them.
    """
    windows = networks.discriminator.windows
    for place, (conv, norm) in enumerate(zip(windows.convolutions, windows.norms, strict=True)):
        if fold(conv, norm):
            windows.norms[place] = nn.Identity()
    for part in list(networks.modules()):
        if not isinstance(part, nn.Sequential):
            continue
        for place, layer in enumerate(part):
            shuffles = place > 1 and isinstance(part[place - 1], nn.PixelShuffle)
            if place and fold(part[place - 1 - shuffles], layer):
                part[place] = nn.Identity()
            elif isinstance(layer, nn.LeakyReLU):
                layer.inplace = True  # nothing else holds the output of a convolution
    return networks


def whole_cells(x: Float[Tensor, "b c h w"], cell: int) -> Float[Tensor, "b c h2 w2"]:
    """Mirror the lower and right edges until both sides are multiples of a cell.

    This takes several steps if the image is smaller than the padding.
    """
    bottom, right = (-side % cell for side in x.shape[-2:])
    while bottom or right:
        rows, columns = min(bottom, x.shape[-2] - 1), min(right, x.shape[-1] - 1)
        x = functional.pad(x, (0, columns, 0, rows), mode="reflect")
        bottom, right = bottom - rows, right - columns
    return x
