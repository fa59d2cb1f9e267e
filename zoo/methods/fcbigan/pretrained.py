"""Weights from which a segmenter may start: those of a training on drawn textures.

They were made by docs/make_pretrained.py. No photograph is among these textures; pieces of three
are foreign matter in them, as in every training. docs/experiments.md, "A segmenter that has seen
other textures", has what they are worth.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from safetensors.torch import load_file, save
from torch import Tensor, nn

from zoo.data.defects.families import FAMILIES, ROTATIONS, held_out
from zoo.files import write_whole
from zoo.methods.fcbigan.networks import Networks

FOLDER = Path(__file__).parent / "weights"
_FIRST = "down.0.0.weight"
_COLOURS = 3  # channels of the pictures that they were trained on


def path(rotation: int) -> Path:
    """Return the file of a rotation of the families of defects."""
    return FOLDER / f"{rotation}.safetensors"


def write(weights: Mapping[tuple[int, int], Mapping[str, Tensor]], rotation: int) -> None:
    """Write the weights of segmenters that saw no family of `held_out(rotation)`, as float16.

    Args:
        weights: Of each width and depth.
        rotation: The rotation.
    """
    stored = {
        f"{_of(shape)}{name}": each.half().contiguous()
        for shape, one in weights.items()
        for name, each in one.items()
        if each.is_floating_point()
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_whole(path(rotation), save(stored))


def start(networks: Networks, *, families: Collection[str]) -> None:
    """Set the weights of the segmenter, whose shape is one of `PRETRAINED`.

    Args:
        networks: For grey or colour; where the segmenter sees the restored picture beside the
            picture, this has no weight at first.
        families: Families of defects that its training uses. The weights saw no other one.
    """
    shape = networks.config.segmenter_shape
    assert networks.segmenter is not None
    assert shape is not None
    known = (r for r in range(ROTATIONS) if set(families) >= set(FAMILIES) - held_out(r))
    stored, prefix = load_file(path(next(known))), _of(shape)
    weights = {k.removeprefix(prefix): v.float() for k, v in stored.items() if k.startswith(prefix)}
    own = networks.segmenter.state_dict()
    channels, seen = own[_FIRST].shape[1], weights[_FIRST]
    if channels % _COLOURS:
        seen = seen.sum(1, keepdim=True)  # the same output for a grey picture
    weights[_FIRST] = nn.functional.pad(seen, (0, 0, 0, 0, 0, channels - seen.shape[1]))
    for name, value in weights.items():
        own[name].copy_(value)


def _of(shape: tuple[int, int]) -> str:
    """Return how the names of the weights of a width and depth begin."""
    return f"width{shape[0]}-depth{shape[1]}."
