"""The *fit* pictures of a training: prepared for a method, and painted on at native size.

A defect is painted on the pixels of the file, goes through the camera and the file format, and is
then scaled, as a real one is. Placebos, the same edit with good material, are painted beside it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from zoo.data.defects.families import FAMILIES
from zoo.data.defects.optics import Optics
from zoo.data.defects.painting import SOFTEST, Look, extent, paint
from zoo.data.defects.placebo import Donors, donors_of, material, placebo
from zoo.data.images import to_mode
from zoo.data.patches import Canvas
from zoo.data.preprocessing import Preprocessing, normalised, prepare
from zoo.data.variation import vary

SIZES = (0.05, 0.6)  # of a defect, as shares of a window; a window is up to two patches wide
CONTRASTS = (0.05, 1.0)
VARIED = 20  # fewest pictures under variation; of few pictures each is varied several times
_SOFT = 0.5  # share of the outlines that are blurred, where softness is asked for
_VISIBLE = 0.25  # share of a scaled pixel that must be defective


@dataclass(frozen=True, kw_only=True)
class Painting:
    """A window of a good picture before and after it was painted on, prepared.

    Attributes:
        before: The window of the picture.
        after: With defects and placebos.
        mask: Where it is defective.
        edited: Where there is a defect or a placebo.
    """

    before: Float[Tensor, "c h w"]
    after: Float[Tensor, "c h w"]
    mask: Bool[np.ndarray, "h w"]
    edited: Bool[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True)
class Style:
    """How defects and placebos are painted for a training.

    Attributes:
        placebos: Share of the paintings with one or two placebos.
        soft: Whether the outlines of half of all shapes are blurred.
        contrasts: The range of the strengths of defects, in (0, 1], from faint to clear.
    """

    placebos: float = 0.0
    soft: bool = False
    contrasts: tuple[float, float] = CONTRASTS


class FitPictures(Sequence[Float[Tensor, "c _ _"]]):
    """Good pictures that are prepared when they are used, and a source of paintings of them.

    Attributes:
        families: The families of defects that are painted.
    """

    def __init__(
        self,
        pixels: Sequence[Shaped[np.ndarray, "_ _ c"]],
        preprocessing: Preprocessing,
        *,
        device: torch.device,
        optics: Optics | None = None,
        unseen: frozenset[str] = frozenset(),
    ) -> None:
        """Set the pictures.

        Args:
            pixels: uint8 or uint16.
            preprocessing: How a picture becomes a tensor.
            device: Of the tensors.
            optics: The camera of the pictures; None is a perfect one.
            unseen: Families that are never painted.
        """
        self.preprocessing, self.optics = preprocessing, optics or Optics()
        self.pixels = [to_mode(each, preprocessing.mode) for each in pixels]
        self.device, self._prepared = device, list[Tensor]()
        self.families = tuple(name for name in FAMILIES if name not in unseen)

    @classmethod
    def of(cls, images: Sequence[Float[Tensor, "c _ _"]]) -> FitPictures:
        """Return pictures that are prepared already as a source of paintings, at their scale."""
        if isinstance(images, cls):
            return images
        made = cls(
            [np.rint(_unit(image) * 65535).astype(np.uint16) for image in images],
            Preprocessing(mode="RGB" if len(images[0]) == 3 else "L"),
            device=images[0].device,
        )
        made._prepared = list(images)
        return made

    @overload
    def __getitem__(self, index: int) -> Float[Tensor, "c _ _"]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Float[Tensor, "c _ _"]]: ...

    def __getitem__(self, index: int | slice) -> Tensor | Sequence[Tensor]:
        """Return a prepared picture."""
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        if self._prepared:
            return self._prepared[index]
        return prepare(self.pixels[index], self.preprocessing).to(self.device)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.pixels)

    def canvas(self) -> Canvas:
        """Return the pictures for random patches, with as few bytes as they have.

        At full scale a pixel is prepared alone, so patches of integers are cut and then prepared,
        to the same values.
        """
        if self._prepared or self.preprocessing.scale < 1:
            return Canvas.of(list(self))
        stored = [torch.from_numpy(_signed(np.moveaxis(each, 2, 0))) for each in self.pixels]
        return Canvas.of(stored, self._prepare)

    def _prepare(self, patches: Shaped[Tensor, "n c p p"]) -> Float[Tensor, "n c p p"]:
        if patches.dtype == torch.uint8:
            return normalised(patches.float() / 255, self.preprocessing)
        return normalised((patches.float() + 32768) / 65535, self.preprocessing)

    @cached_property
    def donors(self) -> Donors:
        """The material of placebos."""
        return donors_of(material(self.pixels, self.optics))

    def varied(
        self, x: Float[Tensor, "n c h w"], amount: float, *, generator: torch.Generator
    ) -> Float[Tensor, "n c h w"]:
        """Return prepared pictures, or patches of them, under benign variation; see `vary`."""
        preprocessing, white = self.preprocessing, self.optics.white
        return vary(
            x,
            amount,
            generator=generator,
            low=preprocessing.low / white,
            high=preprocessing.high / white,
            scale=preprocessing.scale,
        )

    @property
    def turns(self) -> int:
        """Draws of benign variation for each picture, for at least `VARIED` in all."""
        return -(-VARIED // len(self))

    def with_varied(self, *, generator: torch.Generator) -> Iterator[Float[Tensor, "c h w"]]:
        """Yield each picture as it is, and under `turns` draws of other light, focus and noise."""
        for x in self:
            yield x
            for _ in range(self.turns):
                yield self.varied(x[None], 1.0, generator=generator)[0]

    def to_paint(self, *, placebos: bool) -> FitPictures:
        """Return a copy for processes that only paint: on no device, with its donors measured."""
        made = copy.copy(self)
        made._prepared = []
        if placebos:
            made.__dict__["donors"] = self.donors
        return made

    def painting(
        self, patch: int, rng: np.random.Generator, style: Style | None = None
    ) -> Painting:
        """Paint one to three defects, and placebos, on a window of up to two patches on each side.

        Args:
            patch: Side of a patch, in pixels after scaling.
            rng: Source of random numbers.
            style: How; by default all strengths without placebos.
        """
        style = style or Style()
        pixels, donor = (self._window(patch, rng) for _ in range(2))
        image = self.optics.light(pixels)
        edited = np.zeros(image.shape[:2], np.bool_)
        if rng.random() < style.placebos:
            for _ in range(int(rng.integers(1, 3))):
                found = placebo(
                    image,
                    rng=rng,
                    side=extent(image.shape, _size(rng)),
                    donors=self.donors,
                    optics=self.optics,
                    softness=_softness(rng, style.soft),
                )
                if found is not None:
                    image, edited = found[0], edited | found[1]
        # Foreign texture of the same kind is what a placebo says is good.
        families = [name for name in self.families if not style.placebos or name != "cut_paste"]
        mask = np.zeros(image.shape[:2], np.bool_)
        for _ in range(int(rng.integers(1, 4))):
            image, added = paint(
                image,
                families[rng.integers(len(families))],
                rng=rng,
                look=Look(
                    size=_size(rng),
                    contrast=float(rng.uniform(*style.contrasts)),
                    softness=_softness(rng, style.soft),
                ),
                donor=self.optics.light(donor),
                optics=self.optics,
            )
            mask |= added
        x = prepare(self.optics.exposed(image, pixels.dtype), self.preprocessing)
        return Painting(
            before=prepare(pixels, self.preprocessing),
            after=x,
            mask=_scaled(mask, x),
            edited=_scaled(mask | edited, x),
        )

    def _window(self, patch: int, rng: np.random.Generator) -> Shaped[np.ndarray, "h w c"]:
        """Cut a window, for defects larger than a patch; it begins with a block of JPEG."""
        pixels = self.pixels[rng.integers(len(self.pixels))]
        side = -(-2 * patch // self.preprocessing.scale)
        height, width = (min(length, int(side)) for length in pixels.shape[:2])
        top = int(rng.integers(pixels.shape[0] - height + 1))
        left = int(rng.integers(pixels.shape[1] - width + 1))
        if self.optics.tables:
            top, left = top // 8 * 8, left // 8 * 8
        return pixels[top : top + height, left : left + width]


def canvas_of(images: Sequence[Float[Tensor, "c _ _"]]) -> Canvas:
    """Return prepared pictures, or those of a training, for random patches."""
    return images.canvas() if isinstance(images, FitPictures) else Canvas.of(images)


def _signed(pixels: Shaped[np.ndarray, "c h w"]) -> Shaped[np.ndarray, "c h w"]:
    """Return uint8 as it is, and uint16 less 32768 as int16: torch cannot cut uint16."""
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    return (pixels ^ np.uint16(0x8000)).view(np.int16)


def _size(rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(SIZES))))


def _softness(rng: np.random.Generator, wanted: bool) -> float:
    return float(rng.uniform(0, SOFTEST)) if wanted and rng.random() < _SOFT else 0.0


def _unit(image: Float[Tensor, "c h w"]) -> Float[np.ndarray, "h w c"]:
    return image.movedim(0, 2).cpu().numpy().clip(-1, 1) * 0.5 + 0.5


def _scaled(mask: Bool[np.ndarray, "_ _"], x: Float[Tensor, "c h w"]) -> Bool[np.ndarray, "h w"]:
    height, width = x.shape[-2:]
    if mask.shape == (height, width):
        return mask
    share = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(share >= min(_VISIBLE, float(share.max())), np.bool_) & (share > 0)
