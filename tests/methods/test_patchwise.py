"""The methods that score patch by patch: their exams, and their parts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.method_exam import MethodExam, fit_weights
from zoo.data.patches import Patches
from zoo.errors import BadImageError, ConfigError, DivergedError
from zoo.methods import bigan, built, f_anogan, patchwise
from zoo.methods.bigan import BiGAN
from zoo.methods.f_anogan import FAnoGAN

TINY_GAN = {
    "patch": 16,
    "stride": 8,
    "depth": 2,
    "width": 8,
    "latent": 8,
    "batch": 16,
    "learning_rate": 2e-3,
    "megapixels": 0.6,
}


class TestBiGAN(MethodExam):
    name = "bigan"
    options = TINY_GAN


class TestFAnoGAN(MethodExam):
    name = "f_anogan"
    options = TINY_GAN


# ------------------------------------------------------------------------------- patch by patch


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(
    ("height", "width", "size", "stride"),
    [(16, 16, 16, 4), (17, 40, 16, 16), (33, 21, 8, 3), (30, 47, 7, 1), (9, 10, 1, 1)],
)
def test_stitching_what_was_cut_gives_the_image_back(
    height: int, width: int, size: int, stride: int
) -> None:
    x = noise(3, height, width)
    corners = patchwise.grid(height, width, size=size, stride=stride)
    cuts = patchwise.cut(x, corners, size=size)
    for batches in ([cuts], torch.split(cuts, 5)):
        back = patchwise.stitch(batches, corners, height=height, width=width)
        torch.testing.assert_close(back, x)


@pytest.mark.parametrize(("height", "width", "stride"), [(8, 8, 8), (8, 9, 8), (31, 20, 5)])
def test_every_pixel_is_covered_and_no_patch_reaches_over_the_edge(
    height: int, width: int, stride: int
) -> None:
    cover = torch.zeros(height, width)
    corners = patchwise.grid(height, width, size=8, stride=stride).tolist()
    for top, left in corners:
        cover[top : top + 8, left : left + 8] += 1
    assert cover.min() >= 1
    assert cover.sum() == len(corners) * 64
    assert len(set(map(tuple, corners))) == len(corners)


def test_overlapping_patches_are_averaged() -> None:
    corners = patchwise.grid(2, 3, size=2, stride=1)
    maps = torch.stack([torch.full((1, 2, 2), value) for value in (1.0, 4.0)])
    stitched = patchwise.stitch([maps], corners, height=2, width=3)
    assert stitched.tolist() == [[[1.0, 2.5, 4.0]] * 2]


def test_an_image_is_judged_a_few_patches_at_a_time() -> None:
    sizes = []

    def judge(patches: Tensor) -> Tensor:
        sizes.append(len(patches))
        return patches

    x = noise(2, 30, 47)
    torch.testing.assert_close(patchwise.everywhere(x, judge, size=8, stride=1), x)
    assert sum(sizes) == 23 * 40
    assert max(sizes) == patchwise.SCORED_AT_ONCE


def test_a_grid_on_an_image_smaller_than_a_patch_is_refused_with_both_sizes() -> None:
    with pytest.raises(BadImageError, match="7x20 pixels.*patch of 8x8"):
        patchwise.grid(7, 20, size=8, stride=4)


@pytest.mark.parametrize(("patch", "depth", "channels"), [(16, 2, 1), (32, 3, 3), (24, 1, 1)])
def test_a_patch_becomes_one_vector_and_a_vector_one_patch(
    patch: int, depth: int, channels: int
) -> None:
    shape = {"channels": channels, "patch": patch, "width": 4, "depth": depth, "latent": 5}
    x = noise(2, channels, patch, patch)
    z = patchwise.encoder(**shape)(x)
    assert z.shape == (2, 5)
    drawn = patchwise.generator(**shape)(z)
    assert drawn.shape == x.shape
    assert drawn.abs().max() <= 1


def test_descending_moves_one_networks_weights_only() -> None:
    one, other = nn.Linear(2, 3), nn.Linear(3, 1)
    before = [parameter.clone() for part in (one, other) for parameter in part.parameters()]
    optimiser = torch.optim.SGD(one.parameters(), lr=0.1)
    patchwise.descend(other(one(torch.ones(1, 2))).sum(), optimiser)
    after = [parameter for part in (one, other) for parameter in part.parameters()]
    moved = [not torch.equal(*pair) for pair in zip(before, after, strict=True)]
    assert moved == [True, True, False, False]


# -------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("made", [BiGAN, FAnoGAN])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("patch", 0),
        ("patch", 36),
        ("stride", 0),
        ("stride", 33),
        ("depth", 0),
        ("depth", 7),
        ("width", 0),
        ("latent", 0),
        ("batch", 0),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("megapixels", 0.0),
        ("megapixels", math.inf),
    ],
)
def test_a_gan_that_cannot_work_is_refused_naming_field_and_value(
    made: type[BiGAN] | type[FAnoGAN], field: str, value: float
) -> None:
    with pytest.raises(ConfigError, match=f"^{field} must be .*, not {value}. Change it"):
        built(made, {field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("encoder_share", 1.0), ("critic_steps", 0), ("penalty", -1.0), ("kappa", -0.5)],
)
def test_what_only_f_anogan_has_is_refused_as_well(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"^{field} must be .*, not {value}. Change it"):
        FAnoGAN(**{field: value})  # type: ignore[arg-type]


def test_a_patch_that_does_not_halve_often_enough_is_told_one_that_does() -> None:
    with pytest.raises(ConfigError, match=r"multiple of 2 \*\* depth = 8, such as 32, not 30"):
        built(BiGAN, {"patch": 30})


@pytest.mark.parametrize("made", [BiGAN, FAnoGAN])
def test_a_training_that_goes_to_infinity_is_refused_with_its_losses(
    made: type[BiGAN] | type[FAnoGAN],
) -> None:
    method = built(made, TINY_GAN)
    broken = [torch.full((1, 20, 24), math.nan)]
    with pytest.raises(DivergedError, match="diverged at step .*_loss nan"):
        fit_weights(method, broken)


@pytest.mark.parametrize("made", [BiGAN, FAnoGAN])
def test_a_gan_sees_as_many_megapixels_as_it_may(
    made: type[BiGAN] | type[FAnoGAN], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, draw = [], Patches.draw

    def counted(patches: Patches, count: int) -> Tensor:
        seen.append(count * patches.patch**2)
        return draw(patches, count)

    monkeypatch.setattr(Patches, "draw", counted)
    method = built(made, TINY_GAN | {"megapixels": 0.1, "width": 1})
    fit_weights(method, [noise(1, 20, 24)])
    assert sum(seen) == pytest.approx(0.1e6, abs=2 * 16 * 16**2)


@pytest.mark.parametrize("made", [BiGAN, FAnoGAN])
def test_a_gan_hangs_on_its_generator_and_on_no_global_seed(
    made: type[BiGAN] | type[FAnoGAN],
) -> None:
    method = built(made, TINY_GAN | {"megapixels": 0.01})
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        drawn.append(fit_weights(method, [noise(1, 20, 24)]))
    assert all(torch.equal(drawn[0][key], drawn[1][key]) for key in drawn[0])


# ---------------------------------------------------------------------------------------- BiGAN


def test_the_log_loss_is_the_cross_entropy_of_both_kinds_of_pairs() -> None:
    real, fake = torch.tensor([0.0, 2.0]), torch.tensor([-1.0, -1.0])
    right = (math.log(2) + math.log(1 + math.exp(-2))) / 2 + math.log(1 + math.exp(-1))
    assert float(bigan.discriminator_loss(real, fake)) == pytest.approx(right)
    wrong = (math.log(2) + math.log(1 + math.exp(2))) / 2 + math.log(1 + math.exp(1))
    assert float(bigan.players_loss(real, fake)) == pytest.approx(wrong)


def test_encoder_and_generator_have_a_slope_where_the_discriminator_is_sure() -> None:
    real, fake = (torch.tensor([logit], requires_grad=True) for logit in (20.0, -20.0))
    slopes = torch.autograd.grad(bigan.players_loss(real, fake), [real, fake])
    assert [float(slope) for slope in slopes] == pytest.approx([1.0, -1.0])


def test_a_patch_that_is_given_back_has_no_loss_in_a_bigan() -> None:
    networks = bigan.Networks(channels=1, patch=8, width=2, depth=1, latent=3)
    x = networks.generator(noise(1, 3)).detach()
    networks.encoder, networks.generator = Constant(torch.ones(1, 3)), Constant(x)
    assert not networks.losses(x).any()
    assert (networks.losses(x - 0.5)[:, 0] - 0.5).abs().max() < 1e-6
    assert (networks.losses(x - 0.5)[:, 1] > 0).all()


class Constant(nn.Sequential):
    """A network with a constant output."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Tensor:
        return self.answer


# ------------------------------------------------------------------------------------- f-AnoGAN


@pytest.mark.parametrize(("slope", "penalty"), [(1.0, 0.0), (0.0, 1.0), (3.0, 4.0)])
def test_the_gradient_penalty_is_the_squared_distance_of_the_slope_from_1(
    slope: float, penalty: float
) -> None:
    direction = noise(1, 2, 4, 4)
    direction = direction / direction.norm() * slope

    def critic(x: Tensor) -> Tensor:
        return torch.einsum("nchw,chw->n", x, direction[0])

    x, drawn = noise(5, 2, 4, 4, seed=1), noise(5, 2, 4, 4, seed=2)
    found = f_anogan.gradient_penalty(critic, x, drawn, generator=torch.Generator().manual_seed(0))
    assert float(found) == pytest.approx(penalty, abs=1e-5)


def test_the_gradient_penalty_looks_between_real_and_drawn_patches() -> None:
    seen = []

    def critic(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.sum((1, 2, 3))

    x, drawn = torch.zeros(50, 1, 2, 2), torch.ones(50, 1, 2, 2)
    f_anogan.gradient_penalty(critic, x, drawn, generator=torch.Generator().manual_seed(0))
    shares = seen[0].flatten(1)
    assert (shares == shares[:, :1]).all()
    assert shares.min() < 0.2
    assert shares.max() > 0.8


def test_f_anogans_residuals_are_means_of_squares() -> None:
    networks = f_anogan.Networks(channels=1, patch=8, width=2, depth=1, latent=3)
    x = noise(1, 1, 8, 8)
    networks.encoder, networks.generator = Constant(torch.ones(1, 3)), Constant(x + 0.5)
    pixels, patches = networks.losses(x).unbind(dim=1)
    torch.testing.assert_close(pixels, torch.full((1, 8, 8), 0.25))
    features = networks.discriminator.features
    torch.testing.assert_close(patches[0, 0, 0], (features(x) - features(x + 0.5)).square().mean())


def test_f_anogan_trains_its_encoder_with_the_others_frozen() -> None:
    method = built(FAnoGAN, TINY_GAN | {"megapixels": 0.02})
    images, longer = [noise(1, 20, 24)], replace(method, encoder_share=0.9, megapixels=0.12)
    one, other = (fit_weights(each, images) for each in (method, longer))
    same = {key for key in one if torch.equal(one[key], other[key])}
    assert {key.split(".")[0] for key in one.keys() - same} == {"encoder"}
    assert all(key in same for key in one if not key.startswith("encoder"))
