"""The losses of a large picture in overlapping pieces: memory does not grow with the picture."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.methods.protocol import Losses

SIDE = 2048  # largest side of what is processed at once, in pixels after scaling


def in_pieces(losses: Losses, *, step: int, margin: int, side: int | None = None) -> Losses:
    """Return a loss function that processes larger pictures in overlapping pieces.

    Args:
        losses: The loss of a pixel depends on pixels that are at most `margin` away, and on where
            it lies in a grid of `step` pixels.
        step: Every piece begins at a multiple of it, in pixels.
        margin: What a piece has beyond what is taken from it, in pixels; rounded up to a `step`.
        side: Largest side of what is taken from a piece, in pixels, rounded down to a `step`; by
            default `SIDE`.
    """
    margin = -(-margin // step) * step

    def of_all(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b t h w"]:
        (height, width), most = x.shape[-2:], side or SIDE
        if torch.compiler.is_compiling() or max(height, width) <= most:
            return losses(x)
        inner = max(most // step, 1) * step
        kept: list[Tensor] = []
        for top, left in itertools.product(range(0, height, inner), range(0, width, inner)):
            above, before = min(top, margin), min(left, margin)
            found = losses(
                x[..., top - above : top + inner + margin, left - before : left + inner + margin]
            )
            kept = kept or [x.new_empty(*found.shape[:2], height, width)]
            inside = found[..., above : above + inner, before : before + inner]
            kept[0][..., top : top + inner, left : left + inner] = inside
        return kept[0]

    return of_all
