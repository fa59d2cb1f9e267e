"""Batch norms folded into convolutions, for scoring only."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def fold(conv: nn.Module, norm: nn.Module) -> bool:
    """Fold a batch norm into a convolution, if it is one; a pixel shuffle may lie between them.

    The weights are replaced, not changed: a training, or a bundle, keeps its own.
    """
    if not (isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
        return False
    pixels = conv.out_channels // norm.num_features
    mean, variance, scale, shift = (
        cast(Tensor, each).repeat_interleave(pixels)
        for each in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, mean, variance, norm.eps, scale, shift
    )
    return True
