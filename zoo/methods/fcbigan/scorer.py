"""The losses of FCBiGAN for each pixel of a picture of any size."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.methods.fcbigan.losses import discriminator_score, reconstruction_error
from zoo.methods.fcbigan.networks import Networks, whole_cells

# Axes to flip: none, horizontal, vertical, and both (a rotation by 180 degrees).
VIEWS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))
TILE = 2048  # largest side of a piece that the networks process at once, in pixels after scaling


@torch.no_grad()
def fcbigan_losses(
    networks: Networks,
    x: Float[Tensor, "b c h w"],
    *,
    output_stride: int,
    views: int = 1,
    used: Sequence[bool] = (True, True, True),
) -> Float[Tensor, "b t h w"]:
    """Return L_R and L_D of each pixel, and the logit of the segmenter if there is one.

    Pictures larger than `TILE` are processed in overlapping pieces, with the same losses. The
    memory of the networks therefore does not grow with the picture.

    Args:
        networks: In evaluation mode.
        x: Prepared pictures of the same size.
        output_stride: Pixels between two outputs of D; the pixels between are interpolated.
        views: The losses are the mean over this many of `VIEWS`; 1 is the picture as it is.
        used: Whether each loss is needed; one that is not is 0 and not computed.

    Source: Peccia 2021, eq. (7); the segmenter and the views are ours.
    """
    seen = (
        _losses(networks, x.flip(axes), output_stride=output_stride, used=used).flip(axes)
        for axes in VIEWS[:views]
    )
    return reduce(torch.add, seen) / views


def _losses(
    networks: Networks, x: Float[Tensor, "b c h w"], *, output_stride: int, used: Sequence[bool]
) -> Float[Tensor, "b t h w"]:
    height, width = x.shape[-2:]
    whole = whole_cells(x, networks.cell)
    if max(whole.shape[-2:]) <= TILE:
        return _of_piece(networks, whole, output_stride, used)[..., :height, :width]
    step, margin = networks.seam(output_stride)
    side = max(TILE // step, 1) * step
    rows, columns = (range(0, length, side) for length in whole.shape[-2:])
    kinds = 2 + (networks.segmenter is not None)
    losses = whole.new_empty(len(x), kinds, *whole.shape[-2:])
    for top, left in itertools.product(rows, columns):
        above, before = min(top, margin), min(left, margin)
        piece = whole[..., top - above : top + side + margin, left - before : left + side + margin]
        found = _of_piece(networks, piece, output_stride, used)
        inside = found[..., above : above + side, before : before + side]
        losses[..., top : top + side, left : left + side] = inside
    return losses[..., :height, :width]


def _of_piece(
    networks: Networks, whole: Float[Tensor, "b c h w"], output_stride: int, used: Sequence[bool]
) -> Float[Tensor, "b t h w"]:
    """Return the losses of pictures, or of pieces, whose sides are multiples of a cell."""
    nothing = torch.zeros_like(whole[:, 0])
    losses, segmenter = [nothing, nothing], networks.segmenter
    restored = segmenter is not None and networks.config.restoration and used[2]
    if used[0] or used[1] or restored:
        z = networks.encoder(whole)
    drawn = networks.generator(z) if used[0] or restored else None
    if used[0]:
        assert drawn is not None
        losses[0] = reconstruction_error(whole, drawn)
    if used[1]:
        pair = networks.discriminator.pair(whole, z)
        output = networks.discriminator.windows.everywhere(pair, output_stride=output_stride)
        losses[1] = discriminator_score(output)
    if segmenter is not None:
        seen = networks.segmenter_input(whole, drawn) if used[2] else whole
        losses.append(segmenter.everywhere(seen) if used[2] else nothing)
    return torch.stack(losses, dim=1)
