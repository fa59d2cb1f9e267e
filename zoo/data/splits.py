"""Divide good pictures into three splits that share no pixel: *fit*, *val*, *calibration*.

Pictures that are relatives, as copies and crops of one photograph are, stay in one split.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zoo.data.relatives import join, related
from zoo.data.textures import Picture, Texture
from zoo.errors import BadImageError

# Share of the images in val, and as many in calibration: few images set a threshold imprecisely.
_HELD_SHARE = 0.25
_HELD_MIN, _HELD_MAX = 4, 40
_WHOLE_MIN = 3 * _HELD_MIN  # with fewer images, each is divided into regions
_REGION_SHARES = {"fit": 0.6, "val": 0.2, "calibration": 0.2}
_REGION_MIN = 32  # pixels; a smaller region shows too little of a texture


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Good images in three splits that share no pixel.

    Attributes:
        fit: Used for training.
        val: Get synthetic defects; the search compares detectors on them.
        calibration: Set the means, the thresholds and the false-alarm rate.
        seed: Seed of the division.
        note: How the images were divided, as text.
        groups: The group of relatives of each image, by its key; an image without any is its own.
    """

    fit: tuple[Picture, ...]
    val: tuple[Picture, ...]
    calibration: tuple[Picture, ...]
    seed: int
    note: str
    groups: Mapping[str, int]

    @property
    def independent(self) -> int:
        """The number of images without relatives, and of groups of relatives."""
        return len(set(self.groups.values()))

    def groups_of(self, pictures: Sequence[Picture]) -> list[int]:
        """Return the group of each picture; a region has that of its picture."""
        return [self.groups[picture.key.partition("@")[0]] for picture in pictures]


def same_source(key_a: str, key_b: str) -> bool:
    """Return whether the pictures with these two keys share pixels.

    Example:
        >>> same_source("ab", "ab@0,0,9,5"), same_source("ab@0,0,9,5", "ab@0,5,9,5")
        (True, False)
    """
    image_a, _, region_a = key_a.partition("@")
    image_b, _, region_b = key_b.partition("@")
    if image_a != image_b:
        return False
    if not region_a or not region_b:
        return True
    top_a, left_a, height_a, width_a = map(int, region_a.split(","))
    top_b, left_b, height_b, width_b = map(int, region_b.split(","))
    rows = min(top_a + height_a, top_b + height_b) - max(top_a, top_b)
    columns = min(left_a + width_a, left_b + width_b) - max(left_a, left_b)
    return rows > 0 and columns > 0


def _draw(seed: int, key: str) -> int:
    return int(hashlib.sha256(f"{seed}:{key}".encode()).hexdigest(), 16)


def _regions(picture: Picture, order: Sequence[str]) -> dict[str, Picture]:
    """Divide a picture along its longer side into one region a split, in the given order.

    Raises:
        BadImageError: A region would have a side under `_REGION_MIN`.
    """
    height, width = picture.pixels.shape[:2]
    longer = max(height, width)
    if min(height, width) < _REGION_MIN or longer * min(_REGION_SHARES.values()) < _REGION_MIN:
        raise BadImageError(
            f"{picture.name} is {height}x{width} pixels (height x width), too small to be divided "
            f"into regions for training, validation and calibration: that takes {_REGION_MIN}x"
            f"{round(_REGION_MIN / min(_REGION_SHARES.values()))}. Give larger pictures, or at "
            f"least {_WHOLE_MIN} of them."
        )
    regions = {}
    start, share = 0, 0.0
    for name in order:
        share += _REGION_SHARES[name]
        end = round(share * longer)
        (top, bottom), (left, right) = (0, height), (start, end)
        if height > width:
            (top, bottom), (left, right) = (start, end), (0, width)
        regions[name] = Picture(
            name=f"{picture.name}[{top}:{bottom},{left}:{right}]",
            pixels=picture.pixels[top:bottom, left:right],
            key=f"{picture.key}@{top},{left},{bottom - top},{right - left}",
        )
        start = end
    return regions


def _photographs(count: int) -> str:
    return "1 photograph" if count == 1 else f"{count} photographs"


def _take(order: list[list[Picture]], held: int, leave: int) -> tuple[Picture, ...]:
    """Move groups from the front of the order to a split, until it has about `held` pictures.

    A group that would bring half as many too many is passed over, if another is left; as many
    groups as `leave` says stay.
    """
    taken: list[list[Picture]] = []
    count = 0
    for group in list(order):
        after = count + len(group)
        fits = after <= 1.5 * held and abs(after - held) < abs(count - held)
        if fits and len(order) > leave:
            taken.append(group)
            count = after
            order.remove(group)
    if not taken and order:
        taken.append(min(order, key=len))
        order.remove(taken[0])
    return tuple(itertools.chain.from_iterable(taken))


def _split_groups(
    groups: Sequence[Sequence[Picture]], seed: int
) -> tuple[tuple[Picture, ...], tuple[Picture, ...], tuple[Picture, ...]]:
    """Give whole groups to fit, val and calibration, in the order of a draw.

    With fewer than three groups, a split stays empty.
    """
    drawn = [sorted(group, key=lambda each: _draw(seed, each.key)) for group in groups]
    drawn.sort(key=lambda group: _draw(seed, min(picture.key for picture in group)))
    count, largest = sum(map(len, drawn)), max(map(len, drawn))
    held = min(_HELD_MAX, max(_HELD_MIN, round(_HELD_SHARE * count)))
    held = min(held, (count - largest) // 2)  # what is left when fit has the largest group
    calibration, val = _take(drawn, held, 2), _take(drawn, held, 1)
    return tuple(itertools.chain.from_iterable(drawn)), val, calibration


def _split_regions(
    pictures: Sequence[Picture], seed: int, groups: Mapping[str, int], duplicates: str
) -> Splits:
    """Give every split one region of each picture; its place changes from picture to picture."""
    orders = list(itertools.permutations(_REGION_SHARES))
    first = orders[_draw(seed, "order") % len(orders)]
    parts = []
    for number, picture in enumerate(pictures):
        turn = number % len(first)
        parts.append(_regions(picture, first[turn:] + first[:turn]))
    independent = len(set(groups.values()))
    count = f"{len(pictures)} good images are" if len(pictures) > 1 else "1 good image is"
    return Splits(
        fit=tuple(part["fit"] for part in parts),
        val=tuple(part["val"] for part in parts),
        calibration=tuple(part["calibration"] for part in parts),
        seed=seed,
        note=f"{count} too few to keep whole images apart; each is divided into regions: "
        f"60 % to fit, 20 % to validate, 20 % to calibrate.{duplicates}"
        + (f" They seem to come from {_photographs(independent)}." * (independent < len(parts))),
        groups=groups,
    )


def split(texture: Texture, *, seed: int = 0) -> Splits:
    """Divide the good images into three splits that share no pixel.

    With at least 12 distinct images, a split gets whole images: val and calibration get a quarter
    of them each, at most 40. Relatives (`zoo.data.relatives`) get into one split, so the shares
    are then only about these. If nearly all images are relatives of each other, they are divided
    all the same, where they are least alike.

    With fewer images, each image is divided into regions, and every split gets a region of every
    image. The splits are then more similar to each other than to new images.

    The division depends on the content of the images and the seed, not on file names, but for one
    rule by which images of one sheet are recognised.

    Args:
        texture: The good images; duplicates are left out.
        seed: Another seed gives another division.

    Raises:
        BadImageError: There are fewer than 12 images, and one is too small to be divided.
    """
    distinct = {picture.key: picture for picture in reversed(texture.pictures)}
    pictures = [distinct[key] for key in sorted(distinct)]
    left_out = len(texture.pictures) - len(distinct)
    duplicates = f" Duplicates left out: {left_out}." if left_out else ""
    links = related(pictures)
    groups = join(len(pictures), links)
    numbers = {pictures[p].key: number for number, group in enumerate(groups) for p in group}
    independent = len(groups)
    if len(pictures) < _WHOLE_MIN:
        pictures.sort(key=lambda picture: _draw(seed, picture.key))
        return _split_regions(pictures, seed, numbers, duplicates)
    fit, val, calibration = _split_groups([[pictures[p] for p in g] for g in groups], seed)
    if min(len(fit), len(val), len(calibration)) < _HELD_MIN - 1:
        groups = join(len(pictures), links, largest=min(len(pictures) // 3, _HELD_MAX))
        fit, val, calibration = _split_groups([[pictures[p] for p in g] for g in groups], seed)
    sources = f", which seem to come from {_photographs(independent)}"
    return Splits(
        fit=fit,
        val=val,
        calibration=calibration,
        seed=seed,
        note=f"{len(pictures)} good images{sources * (independent < len(pictures))}: {len(fit)} "
        f"to fit, {len(val)} to validate, {len(calibration)} to calibrate.{duplicates}",
        groups=numbers,
    )
