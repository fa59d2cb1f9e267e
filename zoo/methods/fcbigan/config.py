"""The configuration of FCBiGAN: the shapes of its networks, and how they are trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from zoo.errors import ConfigError
from zoo.methods.configuration import DERIVED

Norm = Literal["none", "batch"]

LATENT_PLANES = 4  # image-sized planes that z becomes before it meets x; see docs/decisions.md
SEGMENTER_STRIDE = 4  # pixels between two logits of the segmenter
WIDEST = 8  # channels stop doubling at this multiple of the first layer's


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The networks' shapes. The defaults are those of the preset `thesis`.

    Attributes:
        patch: Side of a training patch, in pixels after scaling. Larger ones show the networks
            more of the texture's period, at quadratic cost.
        depth: Strided layers of the encoder. One latent cell is `2 ** depth` pixels wide; deeper
            is a tighter bottleneck.
        discriminator_depth: Strided layers of the discriminator. It sees 10, 22 or 46 pixels
            around each pixel with 2, 3 or 4 of them, and that must fit into a patch.
        width: Channels of the first layer; the cost grows with its square.
        latent_channels: Numbers in one latent cell. More reconstruct better, defects included.
        discriminator_norm: Batch norm in discriminator and segmenter, or none.
        segmenter: Add a network that learns from synthetic defects; off in the thesis.
        segmenter_depth: Strided layers of the segmenter. Each doubles how far it sees.
    """

    patch: int = 48
    depth: int = 4
    discriminator_depth: int = 4
    width: int = 32
    latent_channels: int = 32
    discriminator_norm: Norm = "batch"
    segmenter: bool = field(default=False, metadata={DERIVED: True})  # from defect_rounds
    segmenter_depth: int = 4

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming field and value."""
        for name, low, high in (
            ("depth", 1, 6),
            ("discriminator_depth", 1, 6),
            ("width", 1, 1024),
            ("latent_channels", 1, 4096),
            ("segmenter_depth", 2, 7),
        ):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(
                    f"{name} must be {low} to {high}, not {getattr(self, name)}. Change it."
                )
        if self.discriminator_norm not in get_args(Norm):
            raise ConfigError(
                f"discriminator_norm must be one of {', '.join(get_args(Norm))}, "
                f"not '{self.discriminator_norm}'. Choose one of them."
            )
        cell, window = 2**self.depth, receptive_field(self.discriminator_depth)
        if self.patch % cell or self.patch < 2 * cell:
            raise ConfigError(
                f"patch must be a multiple of a latent cell, 2 ** depth = {cell}, and at least two "
                f"of them; it is {self.patch}. Take {max(2, round(self.patch / cell)) * cell}."
            )
        if self.patch < window:
            raise ConfigError(
                f"patch {self.patch} is smaller than the {window} pixels that a discriminator of "
                f"discriminator_depth {self.discriminator_depth} sees. Raise the one or lower the "
                "other."
            )
        coarsest = 2**self.segmenter_depth
        if self.segmenter and not halves(self.patch, self.segmenter_depth):
            raise ConfigError(
                f"patch must be a multiple of 2 ** segmenter_depth = {coarsest}, and at least two "
                f"of them; it is {self.patch}. Change one of the two."
            )

    @property
    def output_strides(self) -> list[int]:
        """Pixels that may lie between two verdicts of the discriminator, dense to strided."""
        return [2**level for level in range(self.discriminator_depth + 1)]


def receptive_field(depth: int) -> int:
    """Return the side of the window, in pixels, behind one verdict of a discriminator so deep.

    Example:
        >>> [receptive_field(depth) for depth in (1, 2, 3, 4)]
        [4, 10, 22, 46]
    """
    return int(3 * 2**depth - 2)


def halves(patch: int, depth: int) -> bool:
    """Tell whether a patch can be halved so often, and is then still two wide: enough to mirror."""
    coarsest = int(2**depth)
    return patch % coarsest == 0 and patch >= 2 * coarsest


def widths(width: int, depth: int) -> list[int]:
    """Return the channels after each strided layer: doubling, up to a limit."""
    return [width * min(2**level, WIDEST) for level in range(depth)]


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
