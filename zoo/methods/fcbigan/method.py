"""FCBiGAN as a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Generator

from zoo.errors import ConfigError
from zoo.methods.configuration import check_fields
from zoo.methods.fcbigan.config import (
    PRETRAINED,
    NetworkConfig,
    TrainConfig,
    halves,
    segmenter_shape,
)
from zoo.methods.fcbigan.networks import Networks, folded
from zoo.methods.fcbigan.scorer import VIEWS, fcbigan_losses
from zoo.methods.protocol import Images, Losses, Method, Report, Shape, State, Weights
from zoo.scoring.aggregation import THESIS_RULE, Rule

# Source: Peccia 2021, Table 2 (AUPR on MVTec AD) and Table 1 (AUROC on NanoTWICE).
_THESIS_AP = {"carpet": 0.074, "grid": 0.098, "leather": 0.112, "tile": 0.138, "wood": 0.046}


@dataclass(frozen=True, kw_only=True)
class FCBiGAN(Method):
    """A fully convolutional BiGAN, with an optional segmenter trained on synthetic defects.

    The defaults are the preset `thesis`. Source: Peccia 2021, sections 4 and 5.2.

    Attributes:
        networks: The shapes of the networks.
        training: The training of the networks.
        output_stride: Pixels between two outputs of the discriminator in scoring; 1 is dense and
            exact, more is faster and interpolates.
        views: Number of views of a picture that a finished detector averages over: as it is,
            flipped horizontally, vertically, both. Each view takes the time of a score. One view
            is used during training.
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
        """Refuse values that are out of their range."""
        strides = self.networks.output_strides
        check_fields(
            self,
            [
                ("views", 1 <= self.views <= len(VIEWS), f"1 to {len(VIEWS)}"),
                ("output_stride", self.output_stride in strides, f"one of {strides}"),
            ],
        )
        if self.training.pretrained and self.networks.segmenter_shape not in PRETRAINED:
            raise ConfigError(
                "There are no pretrained weights for this segmenter. They have batch norm and, as "
                f"(width, segmenter_depth), one of {list(PRETRAINED)}, not "
                f"{self.networks.segmenter_shape}. Use one of these, or set pretrained to false."
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
        """The method with one view: with four a search would spend a third of its time on them."""
        return replace(self, views=1)

    @property
    def export_side(self) -> int:
        """One patch."""
        return self.patch

    @classmethod
    def adapted(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Adapt dependent fields.

        `output_stride` is limited by the depth of the discriminator. `segmenter_depth` is limited
        by the size of a patch. There is a segmenter if there are rounds with synthetic defects; it
        is pretrained only where there are weights of its shape.
        """
        new = dict(values)
        while new["segmenter_depth"] > 2 and not halves(new["patch"], new["segmenter_depth"]):
            new["segmenter_depth"] -= 1
        new["output_stride"] = min(new["output_stride"], 2 ** new["discriminator_depth"])
        new["segmenter"] = new["defect_rounds"] > 0
        new["pretrained"] = new["pretrained"] and segmenter_shape(new) in PRETRAINED
        return new

    def fit(
        self, images: Images, *, generator: Generator, report: Report, state: State | None = None
    ) -> None:
        """Train the networks on random patches of good pictures."""
        # Here, as it imports what paints defects, which a detector that is only loaded never needs.
        from zoo.methods.fcbigan.training import fit, new_networks

        networks = new_networks(
            self.networks, channels=len(images[0]), seed=generator.initial_seed()
        )
        fit(images, networks, self.training, generator=generator, report=report, state=state)

    def shapes(self, channels: int) -> Mapping[str, Shape]:
        """Return the shapes of the tensors of the networks."""
        return {
            name: tuple(each.shape) for name, each in self._built(channels).state_dict().items()
        }

    def scorer(self, weights: Weights, *, used: Sequence[bool] | None = None) -> Losses:
        """Return the loss function: L_R, L_D and the logit of the segmenter of each pixel."""
        networks = self._built(weights["encoder.layers.0.weight"].shape[1])
        networks.load_state_dict(dict(weights), assign=True)
        folded(networks.eval()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        wanted = (True, True, True) if used is None else tuple(used)
        return lambda x: fcbigan_losses(
            networks, x, output_stride=self.output_stride, views=self.views, used=wanted
        )

    def _built(self, channels: int) -> Networks:
        """Build the networks without allocating memory for their weights."""
        with torch.device("meta"):
            return Networks(self.networks, channels=channels)
