"""Each equation compared with values by hand, and the effect of its gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from zoo.methods.fcbigan.losses import (
    defect_loss,
    discriminator_loss,
    discriminator_score,
    encoder_loss,
    generator_loss,
    reconstruction_error,
    reconstruction_penalty,
)

REAL = torch.tensor([[[0.5, 1.0], [2.0, 1.0]]])  # distances from 1: 0.5, 0, 1, 0
FAKE = torch.tensor([[[0.0, 3.0, -1.0, 0.0]]])  # distances from 0: 0, 3, 1, 0


def slope(loss: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(loss, of)[0]


# ---------------------------------------------------------------------------------- the equations


def test_the_discriminator_is_right_with_1_for_real_and_0_for_drawn_pairs() -> None:
    one, zero = torch.ones(2, 3, 5), torch.zeros(1, 4, 2)
    assert discriminator_loss(one, zero) == 0
    assert discriminator_loss(zero, one) == 1


def test_the_discriminator_loss_is_the_sum_of_two_half_means() -> None:
    assert float(discriminator_loss(REAL, FAKE)) == pytest.approx(
        0.5 * (0.25 + 0 + 1 + 0) / 4 + 0.5 * (0 + 9 + 1 + 0) / 4
    )


def test_the_generator_wants_drawn_pairs_to_be_called_real() -> None:
    assert generator_loss(torch.ones(1, 2, 3)) == 0
    assert float(generator_loss(FAKE)) == pytest.approx(0.5 * (1 + 4 + 4 + 1) / 4)


def test_the_encoder_wants_real_pairs_to_be_called_drawn_as_printed() -> None:
    assert encoder_loss(torch.zeros(1, 2, 3)) == 0
    assert float(encoder_loss(REAL)) == pytest.approx(0.5 * (0.25 + 1 + 4 + 1) / 4)


def test_encoder_and_generator_pull_against_the_discriminator() -> None:
    real, fake = (torch.full((1, 2, 3), 0.5, requires_grad=True) for _ in range(2))
    judge = discriminator_loss(real, fake)
    assert (slope(encoder_loss(real), real) * slope(judge + 0, real) < 0).all()
    judge = discriminator_loss(real, fake)
    assert (slope(generator_loss(fake), fake) * slope(judge, fake) < 0).all()


def test_the_penalty_is_the_mean_absolute_difference() -> None:
    x = torch.tensor([[[[1.0, -1.0, 0.5]]], [[[0.0, 0.0, 0.0]]]])
    drawn = torch.tensor([[[[-1.0, -1.0, 0.0]]], [[[0.25, -0.25, 0.0]]]])
    assert float(reconstruction_penalty(x, drawn)) == pytest.approx(3.0 / 6)


@pytest.mark.parametrize("shape", [(1, 1, 2, 3), (7, 1, 2, 3), (1, 3, 2, 3), (2, 3, 16, 48)])
def test_the_penalty_does_not_hang_on_batch_channels_or_patch_side(
    shape: tuple[int, int, int, int],
) -> None:
    x = torch.full(shape, 0.5)
    assert float(reconstruction_penalty(x, -x)) == pytest.approx(1.0)


def test_the_reconstruction_error_is_a_square_per_pixel_averaged_over_channels() -> None:
    x = torch.tensor([[[[1.0, 0.0]], [[0.0, 0.0]], [[0.5, -1.0]]]])
    drawn = torch.tensor([[[[0.0, 0.0]], [[2.0, 0.0]], [[0.5, 1.0]]]])
    torch.testing.assert_close(reconstruction_error(x, drawn), torch.tensor([[[5.0 / 3, 4.0 / 3]]]))


def test_the_discriminator_score_is_higher_on_both_sides_of_real() -> None:
    verdict = torch.tensor([[[1.0, 0.0, 2.0, -2.0]]])
    assert discriminator_score(verdict).tolist() == [[[0.0, 1.0, 1.0, 9.0]]]


# -------------------------------------------------------------------------------- the defect loss


def masked(pixels: int, of: int = 100) -> Tensor:
    mask = torch.zeros(1, 1, of, dtype=torch.bool)
    mask[..., :pixels] = True
    return mask


def test_the_defect_loss_is_the_mean_cross_entropy_of_the_squares() -> None:
    logits = torch.tensor([[[0.0, 2.0, -1.0]]])
    shares = torch.tensor([[[0.0, 1.0, 0.25]]])
    right, wrong = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    costs = [math.log(2), math.log(1 + math.exp(-2)), 0.25 * wrong + 0.75 * right]
    assert float(defect_loss(logits, shares)) == pytest.approx(sum(costs) / 3)


@pytest.mark.parametrize("pixels", [0, 1, 10, 50, 100])
def test_being_undecided_costs_log_2_however_many_pixels_are_defective(pixels: int) -> None:
    undecided = defect_loss(torch.zeros(1, 1, 100), masked(pixels).float())
    assert float(undecided) == pytest.approx(math.log(2))


def test_the_defect_loss_falls_towards_the_right_answer_and_is_worst_at_the_wrong_one() -> None:
    mask = masked(30).float()
    right = 2 * mask - 1
    costs = [float(defect_loss(right * sure, mask)) for sure in (-5, -1, 0, 1, 5, 20)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 1e-6
    assert costs[0] > 5


def test_the_defect_loss_raises_logits_of_defects_and_lowers_the_others() -> None:
    mask, logits = masked(5), torch.zeros(1, 1, 100, requires_grad=True)
    slopes = slope(defect_loss(logits, mask.float()), logits)
    assert (slopes[mask] < 0).all()
    assert (slopes[~mask] > 0).all()
