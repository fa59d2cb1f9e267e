"""The training loop of FCBiGAN: from good images to trained networks.

The loop does not use Ray or MLflow. At regular steps it passes its progress to the function
`report`, which may save it, or raise an exception to stop the training.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from zoo.data.defects.fit_pictures import FitPictures, Style
from zoo.data.patches import Patches, vary_tone
from zoo.errors import DivergedError
from zoo.methods.fcbigan import pretrained
from zoo.methods.fcbigan.config import NetworkConfig, TrainConfig
from zoo.methods.fcbigan.defect_patches import DefectPatches, Painted
from zoo.methods.fcbigan.graphs import Replayed
from zoo.methods.fcbigan.losses import (
    defect_loss,
    discriminator_loss,
    encoder_loss,
    generator_loss,
    reconstruction_penalty,
)
from zoo.methods.fcbigan.networks import Networks, initialise
from zoo.methods.fcbigan.painters import workers_for
from zoo.methods.protocol import Progress, Report

WARM_UP = 0.02  # share of the training in which the learning rate of the segmenter rises
COOLED = 0.02  # final share of its learning rate
DRAWN_AT_ONCE = 8  # rounds whose patches are drawn together


class Players:
    """The networks with their optimisers, and the averaged copies that score."""

    def __init__(self, networks: Networks, config: TrainConfig) -> None:
        self.live, self.config = networks.train(), config
        self.averaged = copy.deepcopy(networks) if config.ema or config.defect_ema else None
        rates = (config.learning_rate, config.learning_rate, config.discriminator_learning_rate)
        parts = (networks.encoder, networks.generator, networks.discriminator)
        self.optimisers: dict[nn.Module, torch.optim.Adam] = {
            part: torch.optim.Adam(part.parameters(), lr=rate, betas=(0.5, 0.999))
            for part, rate in zip(parts, rates, strict=True)
        }
        if networks.segmenter is not None:  # no opponent, so the usual momentum
            parameters = list(networks.segmenter.parameters())
            device, rate = parameters[0].device, config.defect_learning_rate
            replayed = device.type == "cuda"  # a graph reads its learning rate on the device
            self.optimisers[networks.segmenter] = torch.optim.Adam(
                parameters,
                lr=torch.tensor(rate, device=device) if replayed else rate,
                capturable=replayed,
            )

    def descend(self, losses: Mapping[nn.Module, Tensor]) -> None:
        """Update each network with the gradient of its own loss only."""
        left = len(losses)
        for part, loss in losses.items():
            left -= 1
            parameters = list(part.parameters())
            grads = torch.autograd.grad(loss, parameters, retain_graph=left > 0)
            for parameter, grad in zip(parameters, grads, strict=True):
                parameter.grad = grad
        for part in losses:
            self.optimisers[part].step()

    def pace(self, share: float) -> None:
        """Set the segmenter's learning rate for this share of the training, from 0 to 1.

        Source: Loshchilov and Hutter 2017, eq. (5), without restarts.
        """
        assert self.live.segmenter is not None
        cosine = (1 + math.cos(math.pi * share)) / 2
        factor = min(1.0, (share + 1e-3) / WARM_UP) * (COOLED + (1 - COOLED) * cosine)
        rate = factor * self.config.defect_learning_rate
        for group in self.optimisers[self.live.segmenter].param_groups:
            group["lr"] = group["lr"].fill_(rate) if isinstance(group["lr"], Tensor) else rate

    def average(self, *names: str, decay: float) -> None:
        """Update averaged networks, named as in `Networks`, from the live ones; decay 0 copies."""
        if self.averaged is None:
            return
        with torch.no_grad():
            for name in names:
                slow, live = getattr(self.averaged, name), getattr(self.live, name)
                torch._foreach_lerp_(list(slow.parameters()), list(live.parameters()), 1 - decay)

    def scoring(self) -> Networks:
        """Return the networks for scoring, averaged if configured, in evaluation mode."""
        if self.averaged is None:
            return self.live.eval()
        for slow, live in zip(self.averaged.buffers(), self.live.buffers(), strict=True):
            slow.copy_(live)
        return self.averaged.eval()

    def state(self) -> dict[str, Any]:
        """Return the state of all networks and optimisers."""
        return {
            "live": self.live.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged else None,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers.values()],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.live.load_state_dict(state["live"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        for optimiser, saved in zip(self.optimisers.values(), state["optimisers"], strict=True):
            # The state may come from another kind of device.
            own = [{k: group[k] for k in ("lr", "capturable")} for group in optimiser.param_groups]
            groups = [a | b for a, b in zip(saved["param_groups"], own, strict=True)]
            optimiser.load_state_dict({**saved, "param_groups": groups})


def new_networks(config: NetworkConfig, *, channels: int, seed: int) -> Networks:
    """Build untrained networks; the same seed gives the same weights."""
    networks = Networks(config, channels=channels)
    initialise(networks, torch.Generator().manual_seed(seed))
    return networks


def play(
    players: Players,
    x: Float[Tensor, "b c p p"],
    z: Float[Tensor, "b k q q"],
    painted: Painted | None = None,
) -> Float[Tensor, " 4"]:
    """Do one adversarial round: update D, then E and G, each with its own equation.

    Real and generated pairs are in the same batch, so that batch norm treats them alike.

    Args:
        players: The networks.
        x: Good patches.
        z: Latents drawn from the prior.
        painted: Patches with synthetic defects; the reconstruction penalty is then that of
            restoring them, beside that of good patches. None is the thesis.

    Returns:
        The losses of D, E and G and the reconstruction penalty, on the device.

    Source:
        Peccia 2021, eq. (5) and (6). Restoring is ours, after Zavrtanik et al. 2021 (DRAEM).
    """
    networks, config = players.live, players.config
    encoder, generator, discriminator = networks.encoder, networks.generator, networks.discriminator
    given = x if painted is None else torch.cat([x, painted.after])
    wanted = x if painted is None else torch.cat([x, painted.before])
    seen = encoder(given)
    zx, others = seen[: len(x)], seen[len(x) :]
    made = generator(torch.cat([z.to(zx.dtype), zx, others]))
    drawn, rebuilt = made[: len(z)], made[len(z) :]
    images, codes = torch.cat([x, drawn]), torch.cat([zx, z])

    real, fake = discriminator(images.detach(), codes.detach()).float().chunk(2)
    loss_d = discriminator_loss(real, fake)
    players.descend({discriminator: loss_d})

    real, fake = discriminator(images, codes).float().chunk(2)
    penalty = reconstruction_penalty(wanted, rebuilt.float())
    loss_e = encoder_loss(real) + config.reconstruction_penalty * penalty
    loss_g = generator_loss(fake)
    if config.penalty_reaches_generator:
        loss_g = loss_g + config.reconstruction_penalty * penalty
    players.descend({encoder: loss_e, generator: loss_g})
    return torch.stack([loss_d, loss_e, loss_g, penalty]).detach()


def spot(
    players: Players, x: Float[Tensor, "b c p p"], masks: Bool[Tensor, "b p p"]
) -> Float[Tensor, ""]:
    """Do one round of the segmenter.

    Args:
        players: The networks.
        x: Good patches and patches with synthetic defects.
        masks: Where they are defective.
    """
    segmenter = players.live.segmenter
    assert segmenter is not None
    with torch.no_grad():  # E and G learn in the game only
        seen = players.live.segmenter_input(x, None)
    loss = defect_loss(segmenter(seen).float(), segmenter.targets(masks))
    players.descend({segmenter: loss})
    return loss.detach()


def batches(
    patches: Patches, fakes: DefectPatches, config: TrainConfig
) -> Iterator[tuple[Float[Tensor, "b c p p"], Bool[Tensor, "b p p"]]]:
    """Yield the batches of a step's rounds with defects: half good, half painted, under variation.

    Patches for `DRAWN_AT_ONCE` rounds are drawn and varied together: that takes hardly longer than
    for one.
    """
    generator, half = fakes.generator, config.batch // 2
    for start in range(0, config.defect_rounds, DRAWN_AT_ONCE):
        rounds = min(DRAWN_AT_ONCE, config.defect_rounds - start)
        good = patches.draw(rounds * half)
        painted = fakes.draw(rounds * half, rotations=config.rotations)
        both = torch.cat([good, painted.after])
        if config.tone_jitter:
            both = vary_tone(both, config.tone_jitter, generator=generator)
        both = fakes.pictures.varied(both, config.variation, generator=generator)
        masks = torch.cat([torch.zeros_like(painted.masks), painted.masks])
        for turn in range(rounds):
            yield both[turn::rounds], masks[turn::rounds]


def fit(
    images: Sequence[Float[Tensor, "c _ _"]],
    networks: Networks,
    config: TrainConfig,
    *,
    generator: torch.Generator,
    report: Report,
    state: Mapping[str, Any] | None = None,
) -> Networks:
    """Train on random patches, and return the networks for scoring, in evaluation mode.

    Args:
        images: Good images, prepared, in [-1, 1].
        networks: Trained in place, on the device of the generator.
        config: The configuration of the training.
        generator: Draws patches, latents and defects. Its device is used.
        report: Called `config.reports` times, the last time at the end.
        state: The state of an earlier call with the same arguments, to continue from it.

    Raises:
        BadImageError: An image is smaller than a patch.
        DivergedError: A loss is not finite.

    Source:
        Peccia 2021, section 5.2; the rounds with synthetic defects are ours.
    """
    device, patch = generator.device, networks.config.patch
    networks = networks.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    pictures = FitPictures.of(images)
    if config.pretrained and state is None:
        pretrained.start(networks, families=pictures.families)
    players = Players(networks, config)
    patches = Patches(
        pictures.canvas(),
        patch=patch,
        generator=generator,
        rotations=config.rotations,
        fixed=config.fixed_patches,
    )
    latent = (config.batch, networks.config.latent_channels, *[patch // networks.cell] * 2)
    half, rounds = config.batch // 2, config.defect_rounds if networks.segmenter else 0
    restores = bool(rounds) and networks.config.restoration
    step, done, whole = 0, 0, steps(config, patch)
    if state is not None:
        players.restore(state)
        generator.set_state(state["generator"])
        step, done = state["step"], state["report"]

    def segmenter_round(both: Tensor, masks: Tensor) -> Tensor:
        loss = spot(players, both, masks)
        players.average("segmenter", decay=config.defect_ema)
        return loss

    segment = Replayed(segmenter_round)
    with closing(
        DefectPatches(
            pictures,
            patch=patch,
            generator=generator,
            style=Style(
                placebos=config.placebo_share,
                soft=config.soft_defects,
                contrasts=(config.faintest_defect, 1.0),
            ),
            workers=workers_for(device, pictures),
        )
    ) as fakes:
        for number in range(done + 1, config.reports + 1):
            end = whole * number // config.reports
            networks.train()
            total = torch.zeros(5, device=device)
            if rounds:
                fakes.begin((end - step) * half * (rounds + restores))
            for now in range(step, end):
                # No cache: the weights change within a step, so their copies must change too.
                with torch.autocast(
                    device.type, torch.bfloat16, enabled=half_precision(device), cache_enabled=False
                ):
                    x = patches.draw(config.batch).contiguous(memory_format=torch.channels_last)
                    z = torch.randn(latent, generator=generator, device=device)
                    restored = fakes.draw(half, rotations=config.rotations) if restores else None
                    total[:4] += play(players, x, z, restored)
                    drawn = batches(patches, fakes, config) if rounds else ()
                    for turn, (both, masks) in enumerate(drawn):
                        players.pace((now + turn / rounds) / whole)
                        total[4] += segment(both, masks) / rounds
                players.average("encoder", "generator", "discriminator", decay=config.ema)
            seen = {"train_megapixels": end * _pixels(config, patch) / 1e6}
            metrics = _means(total, end - step, end) | seen
            step = end
            place = {"step": step, "report": number, "generator": generator.get_state()}
            report(
                Progress(
                    weights=players.scoring().state_dict(),
                    report=number,
                    metrics=metrics,
                    state=players.state() | place,
                )
            )
    return players.scoring()


def half_precision(device: torch.device) -> bool:
    """Return whether a device multiplies in bfloat16 faster than in float32."""
    on_cpu = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # not in every torch
    return device.type == "cuda" or (device.type == "cpu" and bool(on_cpu()))


def steps(config: TrainConfig, patch: int) -> int:
    """Return the number of steps: the pixels of the training divided by those of a step."""
    return max(config.reports, round(config.megapixels * 1e6 / _pixels(config, patch)))


def _pixels(config: TrainConfig, patch: int) -> int:
    """Return the pixels of a step."""
    return int(config.batch * patch**2 * (1 + config.defect_rounds))


def _means(total: Float[Tensor, " 5"], rounds: int, end: int) -> dict[str, float]:
    names = (
        "discriminator_loss",
        "encoder_loss",
        "generator_loss",
        "reconstruction_penalty",
        "defect_loss",
    )
    means = (total / rounds).tolist()
    if not np.isfinite(means).all():
        found = ", ".join(f"{name} {mean}" for name, mean in zip(names, means, strict=True))
        raise DivergedError(
            f"Training diverged before step {end}: {found}. Lower the learning rates, or set "
            "discriminator_norm to 'batch'."
        )
    return {f"train_{name}": mean for name, mean in zip(names, means, strict=True)}
