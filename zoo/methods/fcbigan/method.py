"""FCBiGAN behind the protocol of all methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Generator

from zoo.errors import ConfigError
from zoo.methods.fcbigan.config import NetworkConfig, TrainConfig, halves
from zoo.methods.fcbigan.networks import Networks
from zoo.methods.fcbigan.scorer import VIEWS, fcbigan_losses
from zoo.methods.fcbigan.training import fit, new_networks
from zoo.methods.protocol import Images, Losses, Method, Report, Shape, State, Weights
from zoo.scoring.aggregation import THESIS_RULE, Rule

# Source: Peccia 2021, Table 2 (AUPR on MVTec AD) and Table 1 (AUROC on NanoTWICE).
_THESIS_AP = {"carpet": 0.074, "grid": 0.098, "leather": 0.112, "tile": 0.138, "wood": 0.046}


@dataclass(frozen=True, kw_only=True)
class FCBiGAN(Method):
    """A fully convolutional BiGAN, with a segmenter beside it that learns from painted defects.

    The defaults are the preset `thesis`. Source: Peccia 2021, sections 4 and 5.2.

    Attributes:
        networks: The shapes of the networks.
        training: How they are trained.
        output_stride: Pixels between two verdicts of the discriminator when scoring; 1 is dense
            and exact, more is faster and interpolates.
        views: A finished detector averages over so many views of a picture: as it is, mirrored,
            upside down, both. Each costs the time of a score. While it is trained it uses one.
    """

    searched: ClassVar[bool] = True
    published: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "test_pixel_ap": _THESIS_AP,
        "test_pixel_auroc": {"nanofibres": 0.95},
    }
    presets: ClassVar[Mapping[str, tuple[Mapping[str, Any], Rule]]] = {"thesis": ({}, THESIS_RULE)}

    networks: NetworkConfig = field(default_factory=NetworkConfig)
    training: TrainConfig = field(default_factory=TrainConfig)
    output_stride: int = 1
    views: int = 1

    def __post_init__(self) -> None:
        """Refuse an output stride that the discriminator does not have, and unknown views."""
        if self.views not in range(1, len(VIEWS) + 1):
            raise ConfigError(f"views must be 1 to {len(VIEWS)}, not {self.views}. Change it.")
        strides = self.networks.output_strides
        if self.output_stride not in strides:
            raise ConfigError(
                f"output_stride must be one of {strides}, not {self.output_stride}. Change it."
            )

    @property
    def patch(self) -> int:
        """Side of a training patch, in pixels after scaling."""
        return self.networks.patch

    @property
    def loss_names(self) -> tuple[str, ...]:
        """L_R, L_D, and the logit of the segmenter if there is one."""
        return ("reconstruction", "discriminator") + ("segmenter",) * self.networks.segmenter

    @property
    def in_training(self) -> FCBiGAN:
        """One view of a picture: a search would spend a third of its time on the others."""
        return replace(self, views=1)

    @property
    def export_side(self) -> int:
        """One patch."""
        return self.patch

    @classmethod
    def adapted(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Bring fields into line.

        An output stride that the discriminator is too shallow for becomes the largest it has. A
        segmenter that halves a patch too often halves it as often as it can. There is a segmenter
        if there are rounds with synthetic defects.
        """
        new = dict(values)
        while new["segmenter_depth"] > 2 and not halves(new["patch"], new["segmenter_depth"]):
            new["segmenter_depth"] -= 1
        new["output_stride"] = min(new["output_stride"], 2 ** new["discriminator_depth"])
        return new | {"segmenter": new["defect_rounds"] > 0}

    def fit(
        self, images: Images, *, generator: Generator, report: Report, state: State | None = None
    ) -> None:
        """Train the networks on random patches of good pictures."""
        networks = new_networks(
            self.networks, channels=len(images[0]), seed=generator.initial_seed()
        )
        fit(images, networks, self.training, generator=generator, report=report, state=state)

    def shapes(self, channels: int) -> Mapping[str, Shape]:
        """Return the shapes of the networks' tensors."""
        return {
            name: tuple(each.shape) for name, each in self._built(channels).state_dict().items()
        }

    def scorer(self, weights: Weights, *, used: Sequence[bool] | None = None) -> Losses:
        """Return what gives each pixel of pictures its losses."""
        networks = self._built(weights["encoder.layers.0.weight"].shape[1])
        networks.load_state_dict(dict(weights), assign=True)
        networks.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        wanted = (True, True, True) if used is None else tuple(used)
        return lambda x: fcbigan_losses(
            networks, x, output_stride=self.output_stride, views=self.views, used=wanted
        )

    def _built(self, channels: int) -> Networks:
        """Build the networks without memory of their own."""
        with torch.device("meta"):
            return Networks(self.networks, channels=channels)
