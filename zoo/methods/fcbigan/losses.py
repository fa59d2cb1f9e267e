"""The adversarial losses: one function for each equation, from tensors to one number or one map.

The equations are those of Peccia, "Generative Adversarial Networks And Real-Time Anomaly Detection
In Texture Images", Politecnico di Milano 2021. docs/decisions.md explains how they are interpreted.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def discriminator_loss(
    real: Float[Tensor, "b h w"], fake: Float[Tensor, "b2 h2 w2"]
) -> Float[Tensor, ""]:
    """Squared error, target 1 for real and 0 for generated pairs. Source: Peccia 2021, eq. (5)."""
    return 0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean()


def generator_loss(fake: Float[Tensor, "b h w"]) -> Float[Tensor, ""]:
    """Squared error of generated pairs with target 1. Source: Peccia 2021, eq. (5)."""
    return 0.5 * (fake - 1).square().mean()


def encoder_loss(real: Float[Tensor, "b h w"]) -> Float[Tensor, ""]:
    """Squared error of real pairs with target 0, as printed. Source: Peccia 2021, eq. (5)."""
    return 0.5 * real.square().mean()


def reconstruction_penalty(
    x: Float[Tensor, "b c h w"], drawn: Float[Tensor, "b c h w"]
) -> Float[Tensor, ""]:
    """Mean absolute error over patches, channels and pixels, of values in [-1, 1].

    Source: Peccia 2021, eq. (6), which prints a norm without an expectation; a mean makes lambda
    independent of patch side and batch.
    """
    return (x - drawn).abs().mean()


def defect_loss(
    logits: Float[Tensor, "b h w"], defective: Float[Tensor, "b h w"]
) -> Float[Tensor, ""]:
    """Cross-entropy of the defective share of each square of pixels, the mean over squares.

    Ours: synthetic defects are one more kind of fake, with a known mask.
    """
    return binary_cross_entropy_with_logits(logits, defective)


def reconstruction_error(
    x: Float[Tensor, "b c h w"], drawn: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b h w"]:
    """L_R of each pixel: squared difference, mean over channels. Source: Peccia 2021, eq. (7)."""
    return (x - drawn).square().mean(dim=1)


def discriminator_score(output: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """L_D of each pixel: squared distance from the target of real pairs. Source: eq. (7)."""
    return (output - 1).square()
