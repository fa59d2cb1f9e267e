"""The losses of FCBiGAN for each pixel of a picture of any size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.methods.fcbigan.losses import discriminator_score, reconstruction_error
from zoo.methods.fcbigan.networks import Networks, whole_cells
from zoo.methods.pieces import in_pieces

# Axes to flip: none, horizontal, vertical, and both (a rotation by 180 degrees).
VIEWS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))


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

    Large pictures are processed in overlapping pieces, with the same losses.

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
    step, margin = networks.seam(output_stride)
    losses = in_pieces(
        lambda piece: _of_piece(networks, piece, output_stride, used), step=step, margin=margin
    )
    return losses(whole_cells(x, networks.cell))[..., :height, :width]


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
