"""One visible loop: good images in, trained networks out.

The loop knows neither Ray nor MLflow. Every so often it hands its state to a `report` callable,
which may look at it, keep it, or stop the training by raising.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from zoo import defects
from zoo.errors import ConfigError, DivergedError
from zoo.losses import (
    defect_loss,
    discriminator_loss,
    encoder_loss,
    generator_loss,
    reconstruction_penalty,
)
from zoo.networks import FCBiGAN, FCBiGANConfig, initialise
from zoo.patches import Patches, augment, vary_tone

DEFECT_POOL = 768  # defective patches painted at a time
USES = 3  # times that a painted patch is drawn, on average, before the pool is painted afresh
WARM_UP = 0.02  # share of the training in which the segmenter's learning rate rises
COOLED = 0.02  # share of its learning rate that is left at the end
CUTS_PER_PAINTING = 6  # patches cut from one painted image; painting costs more than cutting


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the networks are trained. The defaults are those of the preset `thesis`.

    Attributes:
        megapixels: Pixels of patches seen in all, in millions. 12,000 patches of 48x48 are 27.6.
            A round of the game costs about five times one with synthetic defects.
        batch: Patches of each kind in a step.
        learning_rate: Adam's, for encoder and generator.
        discriminator_learning_rate: Adam's, for the discriminator.
        reconstruction_penalty: lambda, the weight of the mean absolute reconstruction error.
            Higher makes reconstructions truer and the game matter less.
        penalty_reaches_generator: Let the penalty train G too; in the thesis it trains E only.
        rotations: Turn patches by multiples of 90 degrees. Wrong where the grain has a direction.
        fixed_patches: Train on this many patches, cut once; 0 cuts new ones at every step.
        ema: Decay, a step, of the averaged networks of the game that score; 0 scores with the
            last ones.
        defect_rounds: Rounds in a step, besides the game's one, that teach the segmenter with
            synthetic defects; 0 leaves it out, as the thesis does.
        defect_learning_rate: Adam's, for those rounds; it rises at first and falls along a cosine.
        defect_ema: Decay, a round, of the averaged segmenter that scores; 0 scores with the last.
        tone_jitter: Vary contrast and brightness of the patches that teach the segmenter, by up
            to this share of the range: for lighting that differs from picture to picture.
        reports: How often the loop reports, the end included.
    """

    megapixels: float = 1382.4
    batch: int = 64
    learning_rate: float = 2e-4
    discriminator_learning_rate: float = 2e-4
    reconstruction_penalty: float = 1.0
    penalty_reaches_generator: bool = False
    rotations: bool = True
    fixed_patches: int = 12_000
    ema: float = 0.0
    defect_rounds: int = 0
    defect_learning_rate: float = 1e-3
    defect_ema: float = 0.0
    tone_jitter: float = 0.0
    reports: int = 8

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming field and value."""
        for name, allowed, rule in (
            ("megapixels", self.megapixels > 0, "above 0"),
            ("batch", self.batch >= 2, "at least 2"),
            ("learning_rate", self.learning_rate > 0, "above 0"),
            ("discriminator_learning_rate", self.discriminator_learning_rate > 0, "above 0"),
            ("reconstruction_penalty", self.reconstruction_penalty >= 0, "0 or more"),
            ("fixed_patches", self.fixed_patches >= 0, "0 or more"),
            ("ema", 0 <= self.ema < 1, "at least 0 and below 1"),
            ("defect_rounds", self.defect_rounds >= 0, "0 or more"),
            ("defect_learning_rate", self.defect_learning_rate > 0, "above 0"),
            ("defect_ema", 0 <= self.defect_ema < 1, "at least 0 and below 1"),
            ("tone_jitter", 0 <= self.tone_jitter <= 1, "0 to 1"),
            ("reports", self.reports >= 1, "at least 1"),
        ):
            if not allowed:
                raise ConfigError(f"{name} must be {rule}, not {getattr(self, name)}. Change it.")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a report sees.

    Attributes:
        report: Number of this report, from 1.
        losses: Means since the last report: `train_discriminator_loss` and so on.
        networks: The networks that would score now, in evaluation mode.
        state: All that `fit` needs to go on from here: plain tensors and numbers. They are those
            that training goes on with, so keep a copy.
    """

    report: int
    losses: Mapping[str, float]
    networks: FCBiGAN
    state: Mapping[str, Any]


class Players:
    """The networks with their optimisers, and the averaged copies that score."""

    def __init__(self, networks: FCBiGAN, config: TrainConfig) -> None:
        self.live, self.config = networks.train(), config
        self.averaged = copy.deepcopy(networks) if config.ema or config.defect_ema else None
        game = (config.learning_rate, config.learning_rate, config.discriminator_learning_rate)
        parts = (networks.encoder, networks.generator, networks.discriminator)
        self.optimisers: dict[nn.Module, torch.optim.Adam] = {
            part: torch.optim.Adam(part.parameters(), lr=rate, betas=(0.5, 0.999))
            for part, rate in zip(parts, game, strict=True)
        }
        if networks.segmenter is not None:  # no opponent, so the usual momentum
            self.optimisers[networks.segmenter] = torch.optim.Adam(
                networks.segmenter.parameters(), lr=config.defect_learning_rate
            )

    def descend(self, losses: Mapping[nn.Module, Tensor]) -> None:
        """Move each network down its own loss, and by no other's."""
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
        for group in self.optimisers[self.live.segmenter].param_groups:
            group["lr"] = factor * self.config.defect_learning_rate

    def average(self, *names: str, decay: float) -> None:
        """Let averaged networks, named as in `FCBiGAN`, follow the live ones; 0 copies them."""
        if self.averaged is None:
            return
        with torch.no_grad():
            for name in names:
                slow, live = getattr(self.averaged, name), getattr(self.live, name)
                torch._foreach_lerp_(list(slow.parameters()), list(live.parameters()), 1 - decay)

    def scoring(self) -> FCBiGAN:
        """Return the networks that score, averaged if so configured, in evaluation mode."""
        if self.averaged is None:
            return self.live.eval()
        for slow, live in zip(self.averaged.buffers(), self.live.buffers(), strict=True):
            slow.copy_(live)
        return self.averaged.eval()

    def state(self) -> dict[str, Any]:
        """Return everything that training changes."""
        return {
            "live": self.live.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged else None,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers.values()],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put back what `state` returned."""
        self.live.load_state_dict(state["live"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        for optimiser, kept in zip(self.optimisers.values(), state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)


class DefectPatches:
    """Patches with synthetic defects, painted on the CPU now and then, drawn on the device.

    A pool of them is painted afresh when its patches have been drawn `USES` times.
    """

    def __init__(
        self,
        images: Sequence[Float[Tensor, "c _ _"]],
        *,
        patch: int,
        generator: torch.Generator,
    ) -> None:
        self.patch, self.generator = patch, generator
        self.images = [image.movedim(0, 2).cpu().numpy() * 0.5 + 0.5 for image in images]

    def paint(self) -> None:
        """Replace the pool by fresh patches, each with a defective pixel at a random place."""
        seed = torch.randint(2**31, (), generator=self.generator, device=self.generator.device)
        rng = np.random.default_rng(int(seed))
        cuts = [cut for _ in range(DEFECT_POOL // CUTS_PER_PAINTING) for cut in self._painting(rng)]
        self.pool, self.left = torch.stack(cuts).to(self.generator.device), USES * len(cuts)

    def draw(
        self, count: int, *, rotations: bool
    ) -> tuple[Float[Tensor, "n c p p"], Bool[Tensor, "n p p"]]:
        """Draw patches with their masks, flipped and turned at random."""
        if self.left < count:
            self.paint()
        self.left -= count
        device = self.generator.device
        picks = torch.randint(len(self.pool), (count,), generator=self.generator, device=device)
        both = augment(self.pool[picks], generator=self.generator, rotations=rotations)
        return both[:, :-1], both[:, -1] > 0

    def _painting(self, rng: np.random.Generator) -> list[Float[Tensor, "k p p"]]:
        image, donor = (self._window(rng) for _ in range(2))
        painted, mask = defects.training_pair(image, rng=rng, donor=donor)
        both = np.concatenate([painted * 2 - 1, mask[:, :, None]], axis=2, dtype=np.float32)
        places = rng.choice(np.argwhere(mask), CUTS_PER_PAINTING)
        corners = places - rng.integers(0, self.patch, places.shape)
        limit = np.array(mask.shape) - self.patch
        return [
            torch.from_numpy(both[top : top + self.patch, left : left + self.patch]).movedim(2, 0)
            for top, left in corners.clip(0, limit)
        ]

    def _window(self, rng: np.random.Generator) -> Float[np.ndarray, "h w c"]:
        """Cut a window of up to two patches' side: room for defects larger than a patch."""
        image = self.images[rng.integers(len(self.images))]
        height, width = (min(side, 2 * self.patch) for side in image.shape[:2])
        top = rng.integers(image.shape[0] - height + 1)
        left = rng.integers(image.shape[1] - width + 1)
        return image[top : top + height, left : left + width]


def new_networks(config: FCBiGANConfig, *, channels: int, seed: int) -> FCBiGAN:
    """Build untrained networks; the same seed draws the same weights."""
    networks = FCBiGAN(config, channels=channels)
    initialise(networks, torch.Generator().manual_seed(seed))
    return networks


def play(
    players: Players, x: Float[Tensor, "b c p p"], z: Float[Tensor, "b k q q"]
) -> Float[Tensor, " 4"]:
    """Play one round of the game: D learns, then E and G, each by its own equation.

    Real and drawn pairs pass a network together, so that batch norm cannot tell them apart.

    Returns:
        The losses of D, E and G and the reconstruction penalty, on the device.

    Source:
        Peccia 2021, eq. (5) and (6).
    """
    networks, config = players.live, players.config
    encoder, generator, discriminator = networks.encoder, networks.generator, networks.discriminator
    zx = encoder(x)
    drawn, rebuilt = generator(torch.cat([z.to(zx.dtype), zx])).chunk(2)
    images, codes = torch.cat([x, drawn]), torch.cat([zx, z])

    real, fake = discriminator(images.detach(), codes.detach()).float().chunk(2)
    loss_d = discriminator_loss(real, fake)
    players.descend({discriminator: loss_d})

    real, fake = discriminator(images, codes).float().chunk(2)
    penalty = reconstruction_penalty(x, rebuilt.float())
    loss_e = encoder_loss(real) + config.reconstruction_penalty * penalty
    loss_g = generator_loss(fake)
    if config.penalty_reaches_generator:
        loss_g = loss_g + config.reconstruction_penalty * penalty
    players.descend({encoder: loss_e, generator: loss_g})
    return torch.stack([loss_d, loss_e, loss_g, penalty]).detach()


def spot(
    players: Players,
    x: Float[Tensor, "b c p p"],
    defective: tuple[Float[Tensor, "b c p p"], Bool[Tensor, "b p p"]],
    *,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Teach the segmenter one round: good patches, and patches with synthetic defects."""
    segmenter, (bad, masks) = players.live.segmenter, defective
    assert segmenter is not None
    both = torch.cat([x, bad])
    if players.config.tone_jitter:
        both = vary_tone(both, players.config.tone_jitter, generator=generator)
    targets = segmenter.targets(torch.cat([torch.zeros_like(masks), masks]))
    loss = defect_loss(segmenter(both).float(), targets)
    players.descend({segmenter: loss})
    return loss.detach()


def fit(
    images: Sequence[Float[Tensor, "c _ _"]],
    networks: FCBiGAN,
    config: TrainConfig,
    *,
    generator: torch.Generator,
    report: Callable[[Progress], None],
    state: Mapping[str, Any] | None = None,
) -> FCBiGAN:
    """Train on random patches, and return the networks that score, in evaluation mode.

    Args:
        images: Good images, prepared, in [-1, 1].
        networks: Trained in place, on the generator's device.
        config: How.
        generator: Draws patches, latents and defects. Its device does the work.
        report: Called `config.reports` times, the last time at the very end.
        state: Where an earlier call with the same arguments had come to.

    Raises:
        BadImageError: An image is smaller than a patch.
        DivergedError: A loss is not a number any more.

    Source:
        Peccia 2021, section 5.2; the rounds with synthetic defects are ours.
    """
    device, patch = generator.device, networks.config.patch
    networks = networks.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    players = Players(networks, config)
    patches = Patches(
        images,
        patch=patch,
        generator=generator,
        rotations=config.rotations,
        fixed=config.fixed_patches,
    )
    fakes = DefectPatches(images, patch=patch, generator=generator)
    latent = (config.batch, networks.config.latent_channels, *[patch // networks.cell] * 2)
    half, rounds = config.batch // 2, config.defect_rounds if networks.segmenter else 0
    step, done, whole = 0, 0, steps(config, patch)
    if state is not None:
        players.restore(state)
        generator.set_state(state["generator"])
        step, done = state["step"], state["report"]

    for number in range(done + 1, config.reports + 1):
        end = whole * number // config.reports
        networks.train()
        total = torch.zeros(5, device=device)
        if rounds:
            fakes.paint()
        for now in range(step, end):
            # Not cached: the weights change within a step, and so must their copies in bfloat16.
            with torch.autocast(
                device.type, torch.bfloat16, enabled=half_precision(device), cache_enabled=False
            ):
                x = patches.draw(config.batch).contiguous(memory_format=torch.channels_last)
                z = torch.randn(latent, generator=generator, device=device)
                total[:4] += play(players, x, z)
                for turn in range(rounds):
                    players.pace((now + turn / rounds) / whole)
                    bad = fakes.draw(half, rotations=config.rotations)
                    total[4] += spot(players, patches.draw(half), bad, generator=generator) / rounds
                    players.average("segmenter", decay=config.defect_ema)
            players.average("encoder", "generator", "discriminator", decay=config.ema)
        losses = _means(total, end - step, end)
        step = end
        place = {"step": step, "report": number, "generator": generator.get_state()}
        report(
            Progress(
                report=number,
                losses=losses,
                networks=players.scoring(),
                state=players.state() | place,
            )
        )
    return players.scoring()


def half_precision(device: torch.device) -> bool:
    """Tell whether a device multiplies in bfloat16 faster than in float32."""
    on_cpu = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # not in every torch
    return device.type == "cuda" or (device.type == "cpu" and bool(on_cpu()))


def steps(config: TrainConfig, patch: int) -> int:
    """Return how many steps a training has: its budget of pixels over those of a step's rounds."""
    pixels = config.batch * patch**2 * (1 + config.defect_rounds)
    return max(config.reports, round(config.megapixels * 1e6 / pixels))


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
            f"Training diverged before step {end}: {found}. Lower the learning rates, or take "
            "discriminator_norm 'batch'."
        )
    return {f"train_{name}": mean for name, mean in zip(names, means, strict=True)}
