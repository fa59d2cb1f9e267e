"""The networks of FCBiGAN: encoder, generator, discriminator, all fully convolutional.

No convolution has a bias that batch norm takes away again: its slope would be 0 but for rounding,
and of rounding Adam makes whole steps.

Nothing here knows a patch from a whole image: every network takes any size that is a multiple of
one latent cell. The discriminator has a second, dense form with the same weights, which gives
every pixel the verdict on the window around it. The segmenter, which is no part of the thesis, is
U-shaped.
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


def _layer(
    before: int, after: int, kernel: int, *, stride: int = 1, norm: Norm = "batch"
) -> list[nn.Module]:
    """Convolve, with mirrored edges, then normalise and bend; as wide as before if not strided."""
    return [
        nn.Conv2d(
            before,
            after,
            kernel,
            stride=stride,
            padding=1,
            padding_mode="reflect",
            bias=norm == "none",
        ),
        nn.BatchNorm2d(after) if norm == "batch" else nn.Identity(),
        nn.LeakyReLU(0.2),
    ]


class Encoder(nn.Module):
    """E: an image to its latent cells, one cell for `2 ** depth` by `2 ** depth` pixels."""

    def __init__(self, *, channels: int, width: int, depth: int, latent_channels: int) -> None:
        super().__init__()
        steps = [channels, *widths(width, depth)]
        layers: list[nn.Module] = []
        for before, after in pairwise(steps):
            layers += _layer(before, after, 4, stride=2)
        layers.append(nn.Conv2d(steps[-1], latent_channels, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b z hz wz"]:
        """Encode; sides must be multiples of a cell."""
        z: Tensor = self.layers(x)
        return z


class Generator(nn.Module):
    """G: latent cells to an image in [-1, 1], enlarged by sub-pixel convolution."""

    def __init__(self, *, channels: int, width: int, depth: int, latent_channels: int) -> None:
        super().__init__()
        steps = widths(width, depth)[::-1]
        layers = _layer(latent_channels, steps[0], 3)
        for before, after in pairwise(steps):
            layers += [
                nn.Conv2d(before, 4 * after, 3, padding=1, padding_mode="reflect"),
                nn.PixelShuffle(2),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(0.2),
            ]
        layers += [
            nn.Conv2d(steps[-1], 4 * channels, 3, padding=1, padding_mode="reflect"),
            nn.PixelShuffle(2),
            nn.Tanh(),
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Float[Tensor, "b z hz wz"]) -> Float[Tensor, "b c h w"]:
        """Draw the image that belongs to the latent cells."""
        x: Tensor = self.layers(z)
        return x


class Windows(nn.Module):
    """A strided network that pads nothing, so that each verdict is about one window of its image.

    The strided form, the dense form and any cut-out window therefore agree to the last bits.
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
        # As usual for GANs, no batch norm where the image enters.
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(layer.out_channels) if norm == "batch" and place else nn.Identity()
            for place, layer in enumerate(layers)
        )
        self.head = nn.Conv2d(steps[-1], 1, 1)

    @property
    def side(self) -> int:
        """Side of the window behind one verdict, in pixels."""
        return receptive_field(self.depth)

    def forward(
        self, x: Float[Tensor, "b k h w"], output_stride: int | None = None
    ) -> Float[Tensor, "b hd wd"]:
        """Judge every window, one each `output_stride` pixels; the first is at the top left.

        A layer whose stride would pass `output_stride` keeps its resolution instead, and the
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
        verdict: Tensor = self.head(h)
        return verdict[:, 0]

    def everywhere(
        self, x: Float[Tensor, "b k h w"], *, output_stride: int = 1
    ) -> Float[Tensor, "b h w"]:
        """Give each pixel the verdict on the window around it.

        A pixel too near the edge for a window of its own has the verdict of the nearest window
        inside the image: mirrored texture has kinks that no good material has. With an output
        stride above 1 the pixels between two verdicts are interpolated.

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
    """Which pixels of an image are defective: U-shaped, so it sees far and still draws thin lines.

    No part of the thesis: it learns from synthetic defects, and takes no part in the game. Nothing
    is computed at full size: an image is halved `depth` times, then laid over its finer selves up
    to a quarter, where a logit stands for `SEGMENTER_STRIDE` by `SEGMENTER_STRIDE` pixels.

    Source:
        Ronneberger et al. 2015; the finer layers are added, not joined, as in Lin et al. 2017.
    """

    def __init__(self, *, channels: int, width: int, depth: int, norm: Norm) -> None:
        super().__init__()
        self.cell = 2**depth
        steps = widths(width, depth)
        first = SEGMENTER_STRIDE.bit_length() - 2  # the level whose layers are that stride apart
        # As in the discriminator, no batch norm where the image enters.
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
        whole = _whole_cells(x, self.cell)
        logits = functional.interpolate(self(whole)[:, None], whole.shape[-2:], mode="bilinear")
        return logits[:, 0, :height, :width]

    @staticmethod
    def targets(masks: Bool[Tensor, "b h w"]) -> Float[Tensor, "b hs ws"]:
        """Return the defective share of each square of pixels."""
        return functional.avg_pool2d(masks.float()[:, None], SEGMENTER_STRIDE)[:, 0]


class Discriminator(nn.Module):
    """D: is (image, latent cells) a real image with its code, or a drawn one with its source?

    z is enlarged to the size of x by one sub-pixel convolution, cell by cell, and laid beside it;
    `Windows` judges the pair. For a whole image z is computed once and held per cell: a window
    sees the planes of the cells it lies over, wherever in a cell it begins. See
    docs/decisions.md, "z in the dense discriminator".
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
        """Judge a window each `2 ** discriminator_depth` pixels: the form that is trained."""
        return cast(Tensor, self.windows(self.pair(x, z)))

    def pair(
        self, x: Float[Tensor, "b c h w"], z: Float[Tensor, "b z hz wz"]
    ) -> Float[Tensor, "b k h w"]:
        """Lay the enlarged z beside x. Each pixel of z's planes depends on its own cell only."""
        return torch.cat([x, self.enlarge(z)], dim=1)


class Networks(nn.Module):
    """The networks together, and how they see an image of any size.

    `segmenter` is there if the configuration asks for it.
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
                channels=channels,
                width=config.width,
                depth=config.segmenter_depth,
                norm=config.discriminator_norm,
            )
            if config.segmenter
            else None
        )

    def seam(self, output_stride: int) -> tuple[int, int]:
        """Return where an image may be cut without any loss of a pixel changing.

        Args:
            output_stride: Pixels between two of D's verdicts.

        Returns:
            The step of places at which all networks look alike, and how far beyond a piece the
            networks see; both in pixels of the scaled image.
        """
        step = max(self.cell, output_stride, self.segmenter.cell if self.segmenter else 1)
        # A 4-wide layer of stride 2 sees 1.5 pixels of its input to each side, a 3-wide one 1,
        # and a pixel of a level is twice one of the level before: each sum is a geometric series.
        encoded = 2.5 * self.cell
        far = max(encoded + 3 * self.cell, encoded + self.discriminator.windows.side)
        if self.segmenter:
            far = max(far, 6.0 * self.segmenter.cell)
        return step, -int(-far // step) * step

    def whole_cells(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Mirror the image's lower and right edge until both sides are whole cells."""
        return _whole_cells(x, self.cell)


def initialise(networks: Networks, generator: torch.Generator) -> None:
    """Draw every weight; zero the biases.

    E and G have N(0, 0.02), as GANs do. The discriminator and the segmenter may have no batch
    norm, which that would starve, so their signals keep their size through leaky layers.

    Source: Radford et al. 2016; He et al. 2015.
    """
    for name, parameter in networks.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim == 4 and name.startswith(("encoder", "generator")):
            nn.init.normal_(parameter, 0.0, 0.02, generator=generator)
        elif parameter.ndim == 4:
            nn.init.kaiming_normal_(parameter, a=0.2, generator=generator)


def _whole_cells(x: Float[Tensor, "b c h w"], cell: int) -> Float[Tensor, "b c h2 w2"]:
    height, width = x.shape[-2:]
    return _mirror(x, 0, -height % cell, 0, -width % cell)


def _mirror(
    x: Float[Tensor, "b c h w"], top: int, bottom: int, left: int, right: int
) -> Float[Tensor, "b c h2 w2"]:
    """Pad by reflection, in several turns where the image is smaller than the padding."""
    while top or bottom or left or right:
        limit_h, limit_w = x.shape[-2] - 1, x.shape[-1] - 1
        now = [min(left, limit_w), min(right, limit_w), min(top, limit_h), min(bottom, limit_h)]
        x = functional.pad(x, now, mode="reflect")
        left, right, top, bottom = left - now[0], right - now[1], top - now[2], bottom - now[3]
    return x
