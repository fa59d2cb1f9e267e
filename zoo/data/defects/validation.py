"""The validation set: windows of good pictures, each with one synthetic defect."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Shaped

from zoo.data.defects.families import FAMILIES
from zoo.data.defects.painting import MIN_SIDE, paint
from zoo.data.images import unit
from zoo.data.textures import Picture
from zoo.errors import ConfigError, EmptyFolderError

WINDOW = 512  # pixels; largest side of the windows on which validation defects are painted
SIZES = (0.03, 0.25)  # thin wires to large areas, as shares of the shorter side of a window
# On a smaller picture defects have the same size in pixels, and so fill a larger share of it. These
# are the limits of that share.
_SMALL_SIZES = (0.05, 0.6)


@dataclass(frozen=True, kw_only=True)
class Defective:
    """One window of a good picture with one defect on it.

    Attributes:
        image: The window with its defect, in the dtype of its picture.
        mask: True where the window was visibly changed.
        family: One of `FAMILIES`.
        source: Key of the picture from which the window was cut.
    """

    image: Shaped[np.ndarray, "h w c"]
    mask: Bool[np.ndarray, "h w"]
    family: str
    source: str


def cut_window(picture: Picture, window: int, rng: np.random.Generator) -> Picture:
    """Cut a square of at most `window` pixels a side at a random place."""
    height, width = (min(side, window) for side in picture.pixels.shape[:2])
    top = int(rng.integers(0, picture.pixels.shape[0] - height + 1))
    left = int(rng.integers(0, picture.pixels.shape[1] - width + 1))
    return replace(picture, pixels=picture.pixels[top : top + height, left : left + width])


def defective(
    good: Picture,
    donor: Picture,
    family: str,
    *,
    rng: np.random.Generator,
    size: float,
    contrast: float,
) -> Defective:
    """Paint one defect on a picture, with the arguments of `paint`."""
    painted, mask = paint(
        unit(good.pixels), family, rng=rng, size=size, contrast=contrast, donor=unit(donor.pixels)
    )
    dtype = good.pixels.dtype
    image = np.rint(painted * np.iinfo(dtype).max).astype(dtype)
    return Defective(image=image, mask=mask, family=family, source=good.key)


def sizes_on(side: int, window: int = WINDOW) -> tuple[float, float]:
    """Return the smallest and largest defect of validation, as shares of a picture's shorter side.

    Args:
        side: Shorter side of the picture, in pixels; from `window` on the shares are `SIZES`.
        window: Side to which `SIZES` refers, in pixels.

    Example:
        >>> sizes_on(512), sizes_on(128)
        ((0.03, 0.25), (0.05, 0.6))
    """
    grown = window / min(side, window)
    return min(SIZES[0] * grown, _SMALL_SIZES[0]), min(SIZES[1] * grown, _SMALL_SIZES[1])


def validation_set(
    pictures: Sequence[Picture], *, seed: int, per_family: int = 4, window: int = WINDOW
) -> tuple[Defective, ...]:
    """Return `per_family` defective windows of every family, family by family.

    The pictures are used in turn, in a random order. Within a family the sizes ascend over the
    range of `sizes_on`, and the contrasts cover faint to clear in a random order.

    Args:
        pictures: Good images that training does not see; they are the donors as well.
        seed: Another seed gives other windows, shapes and tones for all families.
        per_family: Number of windows of each family.
        window: Largest height and width, in pixels; a smaller picture is used whole.

    Raises:
        EmptyFolderError: There is no picture.
        ConfigError: `per_family` or `window` is too small.
        BadImageError: A picture is too small for a defect.
    """
    if not pictures:
        raise EmptyFolderError("There is no good picture to paint validation defects on.")
    if per_family < 1 or window < MIN_SIDE:
        raise ConfigError(
            f"per_family = {per_family} and window = {window}; "
            f"they must be at least 1 and {MIN_SIDE}."
        )
    order = np.random.default_rng(seed).permutation(len(pictures))
    validation: list[Defective] = []
    for family in FAMILIES:
        # The seed includes the name: a new family changes no random number of the others.
        rng = np.random.default_rng((seed, zlib.crc32(family.encode())))
        contrasts = (rng.permutation(per_family) + rng.random(per_family)) / per_family
        for index in range(per_family):
            turn = len(validation)
            good = cut_window(pictures[order[turn % len(order)]], window, rng)
            other = order[(turn + rng.integers(1, max(2, len(order)))) % len(order)]
            donor = cut_window(pictures[other], window, rng)
            share = (index + rng.random()) / per_family
            smallest, largest = sizes_on(min(good.pixels.shape[:2]), window)
            size = smallest * (largest / smallest) ** share
            contrast = 0.05 + 0.95 * contrasts[index]
            validation.append(defective(good, donor, family, rng=rng, size=size, contrast=contrast))
    return tuple(validation)


def fingerprint(validation: Sequence[Defective]) -> str:
    """Return `sha256:` and the hash of all images, masks, families and sources, in order."""
    digest = hashlib.sha256()
    for window in validation:
        image, mask = window.image, window.mask
        digest.update(f"{window.family} {window.source} ".encode())
        digest.update(f"{image.dtype} {image.shape} ".encode())
        digest.update(np.ascontiguousarray(image).tobytes())
        digest.update(np.packbits(mask).tobytes())
    return f"sha256:{digest.hexdigest()}"
