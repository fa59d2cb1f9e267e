"""The validation set: windows of good pictures with a synthetic defect, a placebo, or nothing.

The families of its defects are never seen by a training of the same seed. Half of the windows are
under benign variation of light, focus and noise. What knows the paint but not the material, or
takes an edit or the light for a defect, ranks low on it.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Shaped

from zoo.data.defects.families import judged
from zoo.data.defects.optics import Optics
from zoo.data.defects.painting import MIN_SIDE, SOFTEST, Look, extent, paint
from zoo.data.defects.placebo import Donors, donors_of, material, placebo
from zoo.data.textures import Picture
from zoo.data.variation import under_variation
from zoo.errors import ConfigError, EmptyFolderError

WINDOW = 384  # pixels; largest side of the windows on which validation defects are painted
SIZES = (0.03, 0.45)  # specks to shapes that leave the window, as shares of its shorter side
# On a smaller picture defects have the same size in pixels, and so fill a larger share of it. These
# are the limits of that share.
_SMALL_SIZES = (0.06, 0.7)
PER_FAMILY = 10
GOOD, PLACEBO = "good", "placebo"  # families of the windows without a defect
SIZE_NAMES, CONTRAST_NAMES = ("small", "medium", "large"), ("faint", "clear")  # of strata
_PLACEBO_TRIES = 12


@dataclass(frozen=True, kw_only=True)
class Window:
    """One window of a good picture, with one defect, a placebo, or as it is.

    Attributes:
        image: The window, in the dtype of its picture.
        mask: True where the window was visibly changed by a defect.
        family: One of `FAMILIES`, `PLACEBO` or `GOOD`.
        source: Key of the picture from which the window was cut.
        strata: Groups of defects that it belongs to: its family, its size and its contrast; empty
            without a defect.
        varied: Whether it is under benign variation.
    """

    image: Shaped[np.ndarray, "h w c"]
    mask: Bool[np.ndarray, "h w"]
    family: str
    source: str
    strata: tuple[str, ...] = ()
    varied: bool = False


def cut_window(picture: Picture, window: int, rng: np.random.Generator) -> Picture:
    """Cut a square of at most `window` pixels a side; its corner is that of a block of JPEG."""
    height, width = (min(side, window) for side in picture.pixels.shape[:2])
    top = int(rng.integers(0, picture.pixels.shape[0] - height + 1))
    left = int(rng.integers(0, picture.pixels.shape[1] - width + 1))
    if picture.tables:
        top, left = top // 8 * 8, left // 8 * 8
    return replace(picture, pixels=picture.pixels[top : top + height, left : left + width])


def sizes_on(side: int, window: int = WINDOW) -> tuple[float, float]:
    """Return the smallest and largest defect of validation, as shares of a picture's shorter side.

    Args:
        side: Shorter side of the picture, in pixels; from `window` on the shares are `SIZES`.
        window: Side to which `SIZES` refers, in pixels.

    Example:
        >>> sizes_on(384), sizes_on(96)
        ((0.03, 0.45), (0.06, 0.7))
    """
    grown = window / min(side, window)
    return min(SIZES[0] * grown, _SMALL_SIZES[0]), min(SIZES[1] * grown, _SMALL_SIZES[1])


@dataclass(frozen=True, kw_only=True)
class WindowPainter:
    """Makes windows with a defect, with a placebo, and without either.

    Attributes:
        pictures: Good pictures; windows are cut from them in turn, and material too.
        order: In which order the pictures are used.
        window: Largest height and width of a window, in pixels.
        optics: The camera.
        donors: The material of placebos.
    """

    pictures: Sequence[Picture]
    order: Sequence[int]
    window: int
    optics: Optics
    donors: Donors

    @classmethod
    def of(
        cls, pictures: Sequence[Picture], *, seed: int, optics: Optics | None, window: int = WINDOW
    ) -> WindowPainter:
        """Prepare the pictures, in a random order."""
        order = np.random.default_rng(seed).permutation(len(pictures)).tolist()
        camera = optics or Optics()
        return cls(
            pictures=pictures,
            order=order,
            window=window,
            optics=camera,
            donors=donors_of(material([pictures[index].pixels for index in order], camera)),
        )

    def good(self, turn: int, rng: np.random.Generator) -> Picture:
        """Cut a window."""
        return cut_window(self.pictures[self.order[turn % len(self.order)]], self.window, rng)

    def _finished(
        self, good: Picture, image: Float[np.ndarray, "h w c"], varied: bool, seed: int
    ) -> Shaped[np.ndarray, "h w c"]:
        """Return the pixels of the file that the camera would have written."""
        if varied:
            image = under_variation(image, seed=seed)
        return self.optics.exposed(image, good.pixels.dtype)

    def defective(
        self, turn: int, family: str, size: float, contrast: float, rng: np.random.Generator
    ) -> Window:
        """Return a window with a defect.

        Args:
            turn: Number of the window: which picture, whether its outline is soft, whether varied.
            family: One of `FAMILIES`.
            size: From the smallest to the largest of `sizes_on`, from 0 to below 1.
            contrast: From faint to clear, from 0 to below 1.
            rng: Source of random numbers.
        """
        good = self.good(turn, rng)
        step = int(rng.integers(1, max(2, len(self.order))))
        other = self.order[(turn + step) % len(self.order)]
        donor = cut_window(self.pictures[other], self.window, rng)
        smallest, largest = sizes_on(min(good.pixels.shape[:2]), self.window)
        image, mask = paint(
            self.optics.light(good.pixels),
            family,
            rng=rng,
            look=Look(
                size=smallest * (largest / smallest) ** size,
                contrast=0.05 + 0.95 * contrast,
                softness=float(rng.uniform(0, SOFTEST)) * (turn % 2),
            ),
            donor=self.optics.light(donor.pixels),
            optics=self.optics,
        )
        varied = (turn // 2) % 2 == 1
        return Window(
            image=self._finished(good, image, varied, int(rng.integers(2**31))),
            mask=mask,
            family=family,
            source=good.key,
            strata=(family, SIZE_NAMES[int(3 * size)], CONTRAST_NAMES[int(2 * contrast)]),
            varied=varied,
        )

    def unchanged(self, turn: int, family: str, rng: np.random.Generator) -> Window | None:
        """Return a good window, or one with a placebo; None if no material fits."""
        good = self.good(turn, rng)
        image = self.optics.light(good.pixels)
        if family == PLACEBO:
            smallest, largest = sizes_on(min(good.pixels.shape[:2]), self.window)
            for _ in range(_PLACEBO_TRIES):
                found = placebo(
                    image,
                    rng=rng,
                    side=extent(image.shape, smallest * (largest / smallest) ** rng.random()),
                    donors=self.donors,
                    optics=self.optics,
                    softness=float(rng.uniform(0, SOFTEST)) * (turn % 2),
                )
                if found is not None:
                    image = found[0]
                    break
            else:
                return None
        varied = (turn // 2) % 2 == 1
        return Window(
            image=self._finished(good, image, varied, int(rng.integers(2**31))),
            mask=np.zeros(image.shape[:2], np.bool_),
            family=family,
            source=good.key,
            varied=varied,
        )


def validation_set(
    pictures: Sequence[Picture],
    *,
    seed: int,
    optics: Optics | None = None,
    per_family: int = PER_FAMILY,
    window: int = WINDOW,
) -> tuple[Window, ...]:
    """Return windows with defects of the families that training does not see, and without.

    The pictures are used in turn, in a random order. Within a family the sizes ascend over the
    range of `sizes_on`, and the contrasts cover faint to clear in a random order. As many good
    windows and windows with placebos follow as there are defects of two families. There are fewer
    placebos, or none, where good material does not fit another place.

    Args:
        pictures: Good images that training does not see; they are the donors as well.
        seed: Another seed gives other families, windows, shapes and tones.
        optics: The camera of the pictures; None is a perfect one.
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
    made = WindowPainter.of(pictures, seed=seed, optics=optics, window=window)
    windows: list[Window] = []
    for family in judged(seed):
        # The seed includes the name: another family changes no random number of this one.
        rng = np.random.default_rng((seed, zlib.crc32(family.encode())))
        contrasts = (rng.permutation(per_family) + rng.random(per_family)) / per_family
        for index, contrast in enumerate(contrasts):
            size = (index + rng.random()) / per_family
            windows.append(made.defective(len(windows), family, size, float(contrast), rng))
    for family in (GOOD, PLACEBO):
        rng = np.random.default_rng((seed, zlib.crc32(family.encode())))
        several = (made.unchanged(turn, family, rng) for turn in range(2 * per_family))
        windows += [each for each in several if each is not None]
    return tuple(windows)


def fingerprint(validation: Sequence[Window]) -> str:
    """Return `sha256:` and the hash of all images, masks, families and sources, in order."""
    digest = hashlib.sha256()
    for window in validation:
        image, mask = window.image, window.mask
        digest.update(f"{window.family} {window.source} ".encode())
        digest.update(f"{image.dtype} {image.shape} ".encode())
        digest.update(np.ascontiguousarray(image).tobytes())
        digest.update(np.packbits(mask).tobytes())
    return f"sha256:{digest.hexdigest()}"
