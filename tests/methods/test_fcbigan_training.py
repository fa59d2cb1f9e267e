"""Training: repeatable, each network by its own loss, the same after an interruption."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.textures_drawn import draw
from zoo.data.defects.fit_pictures import FitPictures, Style
from zoo.data.preprocessing import Preprocessing, prepare
from zoo.errors import BadImageError, ConfigError, DivergedError
from zoo.methods.fcbigan import training
from zoo.methods.fcbigan.config import NetworkConfig, TrainConfig
from zoo.methods.fcbigan.defect_patches import DEFECT_POOL, USES, DefectPatches, Painted
from zoo.methods.fcbigan.losses import reconstruction_penalty
from zoo.methods.fcbigan.networks import Networks
from zoo.methods.fcbigan.training import Players, fit, new_networks, play, spot, steps
from zoo.methods.protocol import Progress

SHAPE = NetworkConfig(
    patch=16, depth=2, discriminator_depth=2, segmenter_depth=3, width=4, latent_channels=4
)
BRIEF = TrainConfig(megapixels=6 * 8 * 16**2 / 1e6, batch=8, fixed_patches=50, reports=3)
Weights = Mapping[str, Tensor]


@pytest.fixture(scope="module")
def images() -> list[Tensor]:
    rng = np.random.default_rng(0)
    sizes = ((64, 72), (40, 64))
    return [prepare(draw(*size, rng), Preprocessing(mode="L")) for size in sizes]


def trained(
    images: list[Tensor],
    config: TrainConfig,
    *,
    seed: int = 0,
    shape: NetworkConfig = SHAPE,
    state: Mapping[str, Any] | None = None,
) -> tuple[Weights, list[Progress]]:
    """Train, and return the weights and the reports with copies of their states."""
    seen: list[Progress] = []

    def report(progress: Progress) -> None:
        disk = io.BytesIO()
        torch.save(progress.state, disk)
        disk.seek(0)
        seen.append(replace(progress, state=torch.load(disk, weights_only=True)))

    networks = fit(
        images,
        new_networks(shape, channels=1, seed=seed),
        config,
        generator=torch.Generator().manual_seed(seed),
        report=report,
        state=state,
    )
    assert not networks.training
    return networks.state_dict(), seen


def alike(one: Weights, other: Weights) -> list[str]:
    """Return the names of the weights that are equal bit by bit."""
    assert list(one) == list(other)
    return [name for name in one if one[name].equal(other[name])]


# ------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize("defect_rounds", [0, 1])
def test_the_same_seed_trains_the_same_weights_and_another_others(
    images: list[Tensor], defect_rounds: int
) -> None:
    config = replace(BRIEF, defect_rounds=defect_rounds, reports=1)
    shape = replace(SHAPE, segmenter=defect_rounds > 0)
    first, again, other = (trained(images, config, seed=seed, shape=shape)[0] for seed in (1, 1, 2))
    assert len(alike(first, again)) == len(first) > 20
    weights = [name for name in first if first[name].ndim == 4]
    assert not set(weights) & set(alike(first, other))


@pytest.mark.parametrize(
    ("changes", "after"),
    [
        ({}, 1),
        ({}, 2),
        ({"fixed_patches": 0}, 1),
        ({"ema": 0.8}, 2),
        ({"defect_rounds": 1, "reports": 2}, 1),
        ({"defect_rounds": 1, "reports": 2, "variation": 1.0, "placebo_share": 0.5}, 1),
    ],
)
def test_a_training_that_is_resumed_ends_as_the_undisturbed_one(
    images: list[Tensor], changes: dict[str, Any], after: int
) -> None:
    config = replace(BRIEF, **changes)
    shape = replace(SHAPE, segmenter=config.defect_rounds > 0)
    whole, reports = trained(images, config, shape=shape)
    resumed, later = trained(images, config, shape=shape, state=reports[after - 1].state)
    assert len(alike(whole, resumed)) == len(whole)
    assert [each.report for each in later] == list(range(after + 1, config.reports + 1))
    assert [each.metrics for each in later] == [each.metrics for each in reports[after:]]


def test_a_training_that_was_at_its_end_is_resumed_without_another_step(
    images: list[Tensor],
) -> None:
    whole, reports = trained(images, replace(BRIEF, ema=0.5))
    resumed, later = trained(images, replace(BRIEF, ema=0.5), state=reports[-1].state)
    assert later == []
    assert len(alike(whole, resumed)) == len(whole)


# ------------------------------------------------------------------- each network by its own loss


def after_one_round(images: list[Tensor], **changes: Any) -> Weights:
    """Do one round from the same start, and return the weights."""
    players = Players(new_networks(SHAPE, channels=1, seed=0), replace(BRIEF, **changes))
    x, z = round_of(images)
    play(players, x, z)
    return players.live.state_dict()


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(4)


def round_of(images: list[Tensor]) -> tuple[Tensor, Tensor]:
    x = torch.stack([images[0][:, top : top + 16, :16] for top in range(8)])
    return x, torch.randn(8, 4, 4, 4, generator=torch.Generator().manual_seed(3))


def parts(weights: Weights, names: list[str], *, learned: bool = True) -> dict[str, bool]:
    """Return for each network whether all its learned weights are among the names."""
    found = {}
    for part in ("encoder", "generator", "discriminator"):
        own = [name for name in weights if name.startswith(part)]
        own = [name for name in own if not learned or name.endswith(("weight", "bias"))]
        assert len(own) > 5
        found[part] = set(own) <= set(names)
    return found


def test_lambda_reaches_the_encoder_only_as_in_the_thesis(images: list[Tensor]) -> None:
    one, other = (after_one_round(images, reconstruction_penalty=value) for value in (0.1, 50.0))
    same = parts(one, alike(one, other))
    assert same == {"encoder": False, "generator": True, "discriminator": True}


def test_lambda_reaches_the_generator_too_when_asked(images: list[Tensor]) -> None:
    one, other = (
        after_one_round(images, reconstruction_penalty=value, penalty_reaches_generator=True)
        for value in (0.1, 50.0)
    )
    same = parts(one, alike(one, other))
    assert same == {"encoder": False, "generator": False, "discriminator": True}


@pytest.mark.parametrize("part", ["encoder", "generator", "discriminator"])
def test_a_network_moves_by_its_own_loss_and_by_no_other(part: str, images: list[Tensor]) -> None:
    players = Players(new_networks(SHAPE, channels=1, seed=0), BRIEF)
    before = copy.deepcopy(players.live.state_dict())
    x, z = round_of(images)
    networks = players.live
    verdicts = networks.discriminator(networks.generator(networks.encoder(x)), z)
    players.descend({getattr(networks, part): verdicts.square().mean()})
    same = parts(before, alike(before, players.live.state_dict()))
    assert same == {name: name != part for name in same}


def test_a_step_is_that_of_adam_however_weights_and_slopes_lie_in_memory() -> None:
    x = torch.rand(8, 1, 16, 16, generator=draws()) * 2 - 1
    plain = new_networks(SHAPE, channels=1, seed=0).encoder
    start = copy.deepcopy(plain)
    networks = new_networks(SHAPE, channels=1, seed=0).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    reference = torch.optim.Adam(plain.parameters(), lr=2e-4, betas=(0.5, 0.999), foreach=False)
    players = Players(networks, BRIEF)
    for _ in range(3):
        players.descend({networks.encoder: networks.encoder(x).square().mean()})
        reference.zero_grad()
        plain(x).square().mean().backward()
        reference.step()
    three = (networks.encoder, plain, start)
    kernels = [[w.detach() for w in each.parameters() if w.ndim == 4] for each in three]
    for weight, expected, before in zip(*kernels, strict=True):
        assert float((weight - expected).abs().mean()) < 0.01 * float(
            (expected - before).abs().mean()
        )


def test_a_round_moves_all_three_networks(images: list[Tensor]) -> None:
    before = new_networks(SHAPE, channels=1, seed=0).state_dict()
    moved = parts(before, alike(before, after_one_round(images)))
    assert moved == {"encoder": False, "generator": False, "discriminator": False}


def test_a_round_with_defects_moves_the_segmenter_and_nothing_of_the_game(
    images: list[Tensor],
) -> None:
    shape = replace(SHAPE, segmenter=True)
    players = Players(new_networks(shape, channels=1, seed=0), BRIEF)
    before = copy.deepcopy(players.live.state_dict())
    spot(players, *half_black(images))
    same = alike(before, players.live.state_dict())
    changed = [name for name in before if name not in same]
    assert len(changed) > 5
    assert all(name.startswith("segmenter") for name in changed)


def test_a_segmenter_changes_nothing_in_the_game_but_its_draws(images: list[Tensor]) -> None:
    players = [
        Players(new_networks(replace(SHAPE, segmenter=there), channels=1, seed=0), BRIEF)
        for there in (False, True)
    ]
    for each in players:
        play(each, *round_of(images))
    without, having = (each.live.state_dict() for each in players)
    assert len(without) > 20
    assert all(weight.equal(having[name]) for name, weight in without.items())


def with_black_halves(images: list[Tensor]) -> tuple[Tensor, Painted]:
    x, _ = round_of(images)
    masks = torch.zeros(8, 16, 16, dtype=torch.bool)
    masks[:, :, 8:] = True
    return x, Painted(before=x, after=torch.where(masks[:, None], -1.0, x), masks=masks)


def half_black(images: list[Tensor]) -> tuple[Tensor, Tensor]:
    x, painted = with_black_halves(images)
    masks = torch.cat([torch.zeros_like(painted.masks), painted.masks])
    return torch.cat([x, painted.after]), masks


# -------------------------------------------------------------------------------------- learning


def rebuilt(networks: Networks, x: Tensor) -> float:
    with torch.no_grad():
        networks.eval()
        return float(reconstruction_penalty(x, networks.generator(networks.encoder(x))))


def test_reconstructions_get_better_when_the_penalty_trains_both(images: list[Tensor]) -> None:
    config = TrainConfig(
        megapixels=0.15,
        batch=8,
        learning_rate=3e-3,
        reconstruction_penalty=20.0,
        penalty_reaches_generator=True,
        fixed_patches=0,
        reports=1,
    )
    networks = new_networks(SHAPE, channels=1, seed=0)
    x, _ = round_of(images)
    before = rebuilt(networks, x)
    fit(
        images,
        networks,
        config,
        generator=torch.Generator().manual_seed(0),
        report=lambda progress: None,
    )
    assert rebuilt(networks, x) < 0.6 * before


def test_the_discriminator_learns_to_tell_real_pairs_from_drawn_ones(images: list[Tensor]) -> None:
    players = Players(
        new_networks(SHAPE, channels=1, seed=0),
        replace(BRIEF, learning_rate=1e-7, discriminator_learning_rate=3e-3),
    )
    x, z = round_of(images)
    first = play(players, x, z)
    for _ in range(40):
        last = play(players, x, z)
    assert float(last[0]) < 0.2 * float(first[0])
    networks = players.live
    with torch.no_grad():
        pairs = torch.cat([x, networks.generator(z)]), torch.cat([networks.encoder(x), z])
        real, fake = networks.discriminator(*pairs).chunk(2)
    assert real.mean() > 0.7
    assert fake.mean() < 0.3


def test_the_segmenter_learns_to_find_defects(images: list[Tensor]) -> None:
    players = Players(
        new_networks(replace(SHAPE, segmenter=True), channels=1, seed=0),
        replace(BRIEF, defect_learning_rate=3e-3),
    )
    losses = [float(spot(players, *half_black(images))) for _ in range(40)]
    assert losses[-1] < 0.3 * losses[0]


# ------------------------------------------------------------------------------- averages, reports


def test_averaged_networks_follow_the_live_ones_at_their_decay(images: list[Tensor]) -> None:
    players = Players(new_networks(SHAPE, channels=1, seed=0), replace(BRIEF, ema=0.75))
    start = copy.deepcopy(dict(players.live.named_parameters()))
    x, z = round_of(images)
    play(players, x, z)
    players.average("encoder", "generator", "discriminator", decay=0.75)
    live = dict(players.live.named_parameters())
    averaged = players.scoring()
    assert averaged is not players.live
    assert len(start) > 20
    for name, slow in averaged.named_parameters():
        torch.testing.assert_close(slow, 0.75 * start[name] + 0.25 * live[name])
    for name, buffer in averaged.named_buffers():
        assert buffer.equal(players.live.get_buffer(name))


def test_the_segmenter_has_an_average_of_its_own(images: list[Tensor]) -> None:
    shape = replace(SHAPE, segmenter=True)
    players = Players(new_networks(shape, channels=1, seed=0), replace(BRIEF, defect_ema=0.9))
    start = copy.deepcopy(dict(players.live.named_parameters()))
    play(players, *round_of(images))
    spot(players, *half_black(images))
    players.average("segmenter", decay=0.9)
    players.average("encoder", "generator", "discriminator", decay=0.0)
    live, moved = dict(players.live.named_parameters()), 0
    for name, slow in players.scoring().named_parameters():
        decay = 0.9 if name.startswith("segmenter") else 0.0
        moved += not live[name].equal(start[name])
        torch.testing.assert_close(slow, decay * start[name] + (1 - decay) * live[name])
    assert moved > 20


def test_the_segmenters_learning_rate_rises_then_falls_along_a_cosine() -> None:
    shape = replace(SHAPE, segmenter=True)
    config = replace(BRIEF, defect_learning_rate=1e-3)
    players = Players(new_networks(shape, channels=1, seed=0), config)
    segmenter = players.live.segmenter
    assert segmenter is not None
    rates = []
    for share in (0.0, 0.01, 0.02, 0.5, 0.999):
        players.pace(share)
        rates.append(players.optimisers[segmenter].param_groups[0]["lr"])
    assert rates[0] < 0.1 * 1e-3
    assert rates[0] < rates[1] < rates[2] > rates[3] > rates[4]
    assert rates[2] == pytest.approx(1e-3, rel=0.01)
    assert rates[3] == pytest.approx(0.51e-3)
    assert rates[4] == pytest.approx(0.02e-3, rel=0.01)
    assert players.optimisers[players.live.encoder].param_groups[0]["lr"] == config.learning_rate


def test_half_precision_trains_as_well_as_single(
    images: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(
        BRIEF, megapixels=2 * 8 * 16**2 * 65 / 1e6, reports=2, defect_rounds=64,
        defect_learning_rate=3e-3,
    )  # fmt: skip
    losses = []
    for half in (False, True):
        monkeypatch.setattr(training, "half_precision", lambda device, half=half: half)
        _, reports = trained(images, config, shape=replace(SHAPE, segmenter=True))
        losses.append([report.metrics["train_defect_loss"] for report in reports])
    single, half_loss = losses
    assert single[1] < 0.95 * single[0]
    assert half_loss == pytest.approx(single, rel=0.03)


def test_defective_patches_are_painted_afresh_when_they_have_been_used(
    images: list[Tensor],
) -> None:
    generator = torch.Generator().manual_seed(0)
    fakes = DefectPatches(FitPictures.of(images), patch=16, generator=generator)
    fakes.begin(USES * DEFECT_POOL + 1)
    first = fakes.pool.clone()
    for _ in range(USES):
        fakes.draw(len(first), rotations=False)
    assert fakes.pool.equal(first)
    fakes.draw(1, rotations=False)
    assert not (fakes.pool == first).flatten(1).all(dim=1).any()


def test_a_training_of_any_length_keeps_no_list_of_what_it_will_paint(images: list[Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    fakes = DefectPatches(FitPictures.of(images), patch=16, generator=generator)
    fakes.begin(10**15)
    assert len(fakes.draw(8, rotations=False).masks) == 8


@pytest.mark.parametrize(
    "changes", [{"placebo_share": 1.0}, {"soft_defects": True}, {"faintest_defect": 1.0}]
)
def test_how_defects_are_painted_changes_what_the_segmenter_learns(
    images: list[Tensor], changes: dict[str, Any]
) -> None:
    taught, shape = replace(BRIEF, defect_rounds=1, reports=1), replace(SHAPE, segmenter=True)
    plain, changed = (
        trained(images, each, shape=shape)[0] for each in (taught, replace(taught, **changes))
    )
    weights = [name for name in plain if name.startswith("segmenter.") and plain[name].ndim == 4]
    assert weights
    assert not set(weights) & set(alike(plain, changed))


@pytest.mark.parametrize("placebos", [0.0, 1.0])
def test_patches_with_defects_have_their_good_material_and_a_mask_beside_them(
    images: list[Tensor], placebos: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = FitPictures.of(images)
    fakes = DefectPatches(pictures, patch=16, generator=generator, style=Style(placebos=placebos))
    fakes.begin(200)
    drawn = fakes.draw(200, rotations=True)
    assert drawn.before.shape == drawn.after.shape == (200, 1, 16, 16)
    assert drawn.masks.shape == (200, 16, 16)
    changed = (drawn.after - drawn.before).abs().amax(dim=1) > 0.02
    assert changed.flatten(1).any(dim=1).float().mean() > 0.9, "a patch shows a part of an edit"
    assert changed[drawn.masks].float().mean() > 0.5
    unmarked = (changed.flatten(1).any(dim=1) & ~drawn.masks.flatten(1).any(dim=1)).float().mean()
    assert (unmarked > 0.05) == bool(placebos), "only placebos are edits without a mark"


def test_restoring_trains_encoder_and_generator_towards_the_good_material(
    images: list[Tensor],
) -> None:
    """A round with painted patches moves E by the good material that was there before."""
    x, painted = with_black_halves(images)
    z = round_of(images)[1]
    found = []
    for before in (painted.before, painted.after):
        players = Players(
            new_networks(SHAPE, channels=1, seed=0), replace(BRIEF, reconstruction_penalty=20.0)
        )
        play(players, x, z, replace(painted, before=before))
        found.append(players.live.state_dict())
    same = parts(found[0], alike(*found))
    assert same == {"encoder": False, "generator": True, "discriminator": True}


def test_without_averaging_the_last_networks_score(images: list[Tensor]) -> None:
    players = Players(new_networks(SHAPE, channels=1, seed=0), BRIEF)
    assert players.scoring() is players.live


@pytest.mark.parametrize("reports", [1, 3, 4])
def test_reports_are_counted_and_the_last_is_the_end(images: list[Tensor], reports: int) -> None:
    weights, seen = trained(images, replace(BRIEF, reports=reports))
    assert [each.report for each in seen] == list(range(1, reports + 1))
    assert [each.state["step"] for each in seen] == [6 * n // reports for n in seen_numbers(seen)]
    assert len(alike(weights, seen[-1].state["live"])) == len(weights)
    assert set(seen[0].metrics) == {
        "train_discriminator_loss",
        "train_encoder_loss",
        "train_generator_loss",
        "train_reconstruction_penalty",
        "train_defect_loss",
        "train_megapixels",
    }


def seen_numbers(seen: list[Progress]) -> list[int]:
    return [each.report for each in seen]


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_report_has_the_weights_that_would_score(images: list[Tensor], ema: float) -> None:
    seen: list[dict[str, Tensor]] = []

    def report(progress: Progress) -> None:
        seen.append({name: tensor.clone() for name, tensor in progress.weights.items()})

    networks = fit(
        images,
        new_networks(SHAPE, channels=1, seed=0),
        replace(BRIEF, ema=ema),
        generator=torch.Generator().manual_seed(0),
        report=report,
    )
    assert len(seen) == BRIEF.reports > 1
    assert not any(module.training for module in networks.modules())
    assert len(alike(seen[-1], networks.state_dict())) == len(seen[-1])
    assert len(alike(seen[-1], seen[0])) < len(seen[-1])


def test_training_goes_on_after_a_report_whatever_it_looked_at(images: list[Tensor]) -> None:
    one, _ = trained(images, replace(BRIEF, reports=1))
    many, _ = trained(images, replace(BRIEF, reports=6))
    assert len(alike(one, many)) == len(one)


def test_a_report_stops_the_training_by_raising(images: list[Tensor]) -> None:
    def report(progress: Progress) -> None:
        raise KeyboardInterrupt(progress.report)

    with pytest.raises(KeyboardInterrupt, match="1"):
        fit(
            images,
            new_networks(SHAPE, channels=1, seed=0),
            BRIEF,
            generator=torch.Generator().manual_seed(0),
            report=report,
        )


# ---------------------------------------------------------------------------------------- refusals


def test_a_training_that_diverges_says_when_and_with_which_losses(images: list[Tensor]) -> None:
    with pytest.raises(DivergedError, match=r"before step 2: discriminator_loss (nan|inf).* Lower"):
        trained(images, replace(BRIEF, learning_rate=1e30, discriminator_learning_rate=1e30))


def test_an_image_smaller_than_a_patch_is_refused(images: list[Tensor]) -> None:
    with pytest.raises(BadImageError, match="12x40 pixels .* 16x16"):
        trained([*images, torch.zeros(1, 12, 40)], BRIEF)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("megapixels", 0.0, "above 0"),
        ("batch", 1, "at least 2"),
        ("learning_rate", 0.0, "above 0"),
        ("discriminator_learning_rate", -1.0, "above 0"),
        ("reconstruction_penalty", -0.5, "0 or more"),
        ("fixed_patches", -1, "0 or more"),
        ("ema", 1.0, "at least 0 and below 1"),
        ("defect_rounds", -2, "0 or more"),
        ("defect_learning_rate", 0.0, "above 0"),
        ("variation", 2.5, "0 to 2"),
        ("placebo_share", 1.5, "0 to 1"),
        ("faintest_defect", 0.0, "above 0 and at most 1"),
        ("reports", 0, "at least 1"),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(name: str, value: float, rule: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} must be {rule}, not {value}"):
        TrainConfig(**{name: value})  # type: ignore[arg-type]


def test_steps_spend_the_budget_of_pixels() -> None:
    config = TrainConfig(megapixels=10.0, batch=10, reports=2)
    assert steps(config, 100) == 100
    assert steps(replace(config, defect_rounds=4), 100) == 20
    assert steps(replace(config, megapixels=1e-6), 100) == 2
