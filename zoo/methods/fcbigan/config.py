"""The configuration of FCBiGAN: the shapes of its networks, and their training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from zoo.errors import ConfigError
from zoo.methods.configuration import DERIVED, check_fields

Norm = Literal["none", "batch"]
NORMS: tuple[str, ...] = get_args(Norm)

LATENT_PLANES = 4  # channels of z after it is enlarged to the size of x; see docs/decisions.md
SEGMENTER_STRIDE = 4  # pixels between two logits of the segmenter
PRETRAINED = tuple((width, depth) for width in (24, 16, 8) for depth in (4, 3))  # of segmenters
WIDEST = 8  # the channels double up to this multiple of those of the first layer


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The shapes of the networks. The defaults are those of the preset `thesis`.

    Attributes:
        patch: Side of a training patch, in pixels after scaling. A larger patch contains more of
            the period of the texture, at quadratic cost.
        depth: Number of strided layers of the encoder. A latent cell is `2 ** depth` pixels wide; a
            deeper encoder has a narrower bottleneck.
        discriminator_depth: Number of strided layers of the discriminator. Its receptive field is
            10, 22 or 46 pixels with 2, 3 or 4 of them, and must fit into a patch.
        width: Channels of the first layer; the cost grows with its square.
        latent_channels: Channels of a latent cell. More of them reconstruct better, also defects.
        discriminator_norm: Batch norm in discriminator and segmenter, or none.
        segmenter: Add a network that learns from synthetic defects; off in the thesis.
        segmenter_depth: Number of strided layers of the segmenter. Each layer doubles the receptive
            field.
        restoration: E and G learn to restore good material in patches with synthetic defects, and
            the segmenter sees the restored picture beside the picture. It takes half as much time
            again.
    """

    patch: int = 48
    depth: int = 4
    discriminator_depth: int = 4
    width: int = 32
    latent_channels: int = 32
    discriminator_norm: Norm = "batch"
    segmenter: bool = field(default=False, metadata={DERIVED: True})  # from defect_rounds
    segmenter_depth: int = 4
    restoration: bool = False

    def __post_init__(self) -> None:
        """Refuse values that are out of their range."""
        check_fields(
            self,
            [
                ("depth", 1 <= self.depth <= 6, "1 to 6"),
                ("discriminator_depth", 1 <= self.discriminator_depth <= 6, "1 to 6"),
                ("width", 1 <= self.width <= 1024, "1 to 1024"),
                ("latent_channels", 1 <= self.latent_channels <= 4096, "1 to 4096"),
                ("segmenter_depth", 2 <= self.segmenter_depth <= 7, "2 to 7"),
                ("discriminator_norm", self.discriminator_norm in NORMS, " or ".join(NORMS)),
            ],
        )
        cell, window = 2**self.depth, receptive_field(self.discriminator_depth)
        if self.patch % cell or self.patch < 2 * cell:
            raise ConfigError(
                f"patch must be a multiple of a latent cell, 2 ** depth = {cell}, and at least two "
                f"of them; it is {self.patch}. Use {max(2, round(self.patch / cell)) * cell}."
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
    def segmenter_shape(self) -> tuple[int, int] | None:
        """Width and depth of the segmenter; None without one, or if it has no batch norm."""
        return segmenter_shape(vars(self))

    @property
    def output_strides(self) -> list[int]:
        """Allowed pixels between two outputs of the discriminator, from dense to strided."""
        return [2**level for level in range(self.discriminator_depth + 1)]


def segmenter_shape(fields: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return `NetworkConfig.segmenter_shape` of these fields, which may not fit each other yet."""
    normed = fields["segmenter"] and fields["discriminator_norm"] == "batch"
    return (fields["width"], fields["segmenter_depth"]) if normed else None


def receptive_field(depth: int) -> int:
    """Return the receptive field of a discriminator of this depth, in pixels.

    Example:
        >>> [receptive_field(depth) for depth in (1, 2, 3, 4)]
        [4, 10, 22, 46]
    """
    return int(3 * 2**depth - 2)


def halves(patch: int, depth: int) -> bool:
    """Return whether a patch can be halved so often and is then at least two wide, to mirror it."""
    coarsest = int(2**depth)
    return patch % coarsest == 0 and patch >= 2 * coarsest


def widths(width: int, depth: int) -> list[int]:
    """Return the channels after each strided layer: they double up to a limit."""
    return [width * min(2**level, WIDEST) for level in range(depth)]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The training of the networks. The defaults are those of the preset `thesis`.

    Attributes:
        megapixels: Total number of patch pixels in the training, in millions. 12,000 patches of
            48x48 are 27.6. An adversarial round costs about five times a defect round.
        batch: Number of real and of generated patches in a step.
        learning_rate: Learning rate of Adam for encoder and generator.
        discriminator_learning_rate: Learning rate of Adam for the discriminator.
        reconstruction_penalty: lambda, the weight of the mean absolute reconstruction error. A
            higher value gives better reconstructions and less weight to the adversarial loss.
        penalty_reaches_generator: Train G with the penalty too; in the thesis it trains E only.
        rotations: Rotate patches by multiples of 90 degrees. Wrong for a texture with a direction.
        fixed_patches: Train on this many patches, cut once; 0 cuts new ones at every step.
        ema: Decay per step of the averaged encoder, generator and discriminator that score; 0
            scores with the last ones.
        defect_rounds: Rounds in a step, after the adversarial one, that train the segmenter with
            synthetic defects; 0 leaves the segmenter out, as the thesis does.
        defect_learning_rate: Learning rate of Adam in these rounds; with a warm-up and a cosine
            decay.
        defect_ema: Decay per round of the averaged segmenter that scores; 0 scores with the last.
        tone_jitter: Vary contrast and brightness of the patches for the segmenter by up to this
            share of the range, for lighting that differs between pictures.
        variation: Vary light, focus and noise of the patches for the segmenter by this factor on
            the ranges of `zoo.data.variation`. A higher value finds fainter defects less well.
        placebo_share: Share of the paintings with placebos: the same edit with good material,
            labelled good. With more of them the segmenter relies less on the edges of an edit.
        soft_defects: Blur the outlines of half of the synthetic defects.
        pretrained: Start the segmenter from weights of a training on drawn textures, instead of
            from random ones; there are some for the shapes in `PRETRAINED`.
        faintest_defect: Least strength of the synthetic defects, in (0, 1]. A higher value finds
            clear defects better in a busy texture, and loses faint ones.
        reports: Number of reports, with the one at the end.
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
    variation: float = 0.0
    placebo_share: float = 0.0
    soft_defects: bool = False
    faintest_defect: float = 0.05
    pretrained: bool = False
    reports: int = 8

    def __post_init__(self) -> None:
        """Refuse values that are out of their range."""
        check_fields(
            self,
            [
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
                ("variation", 0 <= self.variation <= 2, "0 to 2"),
                ("placebo_share", 0 <= self.placebo_share <= 1, "0 to 1"),
                ("faintest_defect", 0 < self.faintest_defect <= 1, "above 0 and at most 1"),
                ("reports", self.reports >= 1, "at least 1"),
            ],
        )
