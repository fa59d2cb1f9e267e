"""A detector ready to use: a picture in; a map, a score and a yes or no out."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from registry.bundle import Bundle, load
from zoo.data.images import as_pixels, has_colour
from zoo.data.preprocessing import Preprocessing, prepare
from zoo.detectors.card import BEYOND, Card, read, tensors_of, unfit
from zoo.detectors.devices import available
from zoo.detectors.score import Score, calibrated
from zoo.errors import BadImageError, BundleError, ConfigError, ZooError
from zoo.methods import Losses, Method
from zoo.scoring.aggregation import Calibration, anomaly_map
from zoo.scoring.maps import enlarge, image_score
from zoo.scoring.thresholds import p_value

if TYPE_CHECKING:
    from zoo.data.images import ImageLike

MOST_PIXELS = 2**28  # of a picture, 16384 both ways: its maps alone need some ten gigabytes
WINDOW = 32  # pictures of a list that are held in memory at a time
BATCH_PIXELS = 2**20  # pixels of the pictures that are computed together: eight of 362x362


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a detector came from, so that it can follow its name.

    Attributes:
        folder: Of its bundle; on a shelf it is named by its content.
        now: Returns the folder of the bundle that the name stands for now. A detector that is to
            be pickled needs one that can be pickled.
        max_age_s: Look there while scoring, this many seconds after the last look.
        version: Its number on the shelf, if it has one.
    """

    folder: Path
    now: Callable[[], Path]
    max_age_s: float = math.inf
    version: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """A bundle and what was built of it; replaced as a whole, so no score is made of two."""

    bundle: Bundle
    card: Card
    losses: Losses


class Detector:
    """A bundle built for one device. Many threads may use it at once.

    It can be pickled, and so go through Ray, multiprocessing and the workers of a DataLoader: it
    carries its bundle and is built anew from it.

    Example:
        >>> import zoo
        >>> zoo.load("carpet").score("piece.png").is_anomalous  # doctest: +SKIP
        True
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str | torch.device = "cpu",
        source: Source | None = None,
    ) -> None:
        """Build the method that the bundle names.

        Args:
            bundle: The detector on disk.
            device: Where to compute.
            source: Where the bundle came from; without it there is no `refresh`.

        Raises:
            BundleError: Its method, its configuration or its weights do not fit this version.
            ConfigError: The device does not exist here.
        """
        self.device = available(device)
        self._now = self._built(bundle)
        self._source, self._folder = source, source.folder if source else None
        self._looked, self._looking = time.monotonic(), threading.Lock()
        self._warned_of_colour = False

    def __repr__(self) -> str:
        """Show texture, version, method and device."""
        version = f", version={self._source.version}" if self._source else ""
        return (
            f"Detector('{self.name}'{version}, method='{self.bundle.method}', "
            f"device='{self.device}')"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the bundle, the device and the source; the rest is built anew."""
        return _rebuilt, (self.bundle, str(self.device), self._source)

    @property
    def bundle(self) -> Bundle:
        """What it was built from."""
        return self._now.bundle

    @property
    def method(self) -> Method:
        """The method with its configuration."""
        return self._now.card.method

    @property
    def preprocessing(self) -> Preprocessing:
        """What happens to a picture first."""
        return self._now.card.preprocessing

    @property
    def calibration(self) -> Calibration:
        """How losses become a map."""
        return self._now.card.calibration

    @property
    def name(self) -> str:
        """The texture that this detector is for."""
        return self.bundle.texture

    @property
    def threshold(self) -> float:
        """Where good ends on `map`, in units of the rule. Scores are divided by it."""
        return self._now.card.threshold

    def refresh(self) -> bool:
        """Become what the name stands for on the shelf now, and return whether that is new.

        Scores under way end with the detector they began with; none waits.

        Raises:
            BundleError: What is there now is damaged, or too new; the old one stays in use.
            StorageError: The shelf cannot be reached; likewise.
            ConfigError: The detector did not come from a shelf.
        """
        if self._source is None:
            raise ConfigError(
                f"This detector of '{self.name}' was built from a bundle and not loaded from a "
                "shelf, so nothing can be newer. Take zoo.load(...)."
            )
        with self._looking:
            self._looked = time.monotonic()
            found = self._source.now()
            if found == self._folder:
                return False
            self._now, self._folder = self._built(load(found)), found
            return True

    @overload
    def score(self, image: ImageLike) -> Score: ...

    @overload
    def score(self, image: list[Any] | tuple[Any, ...]) -> list[Score]: ...

    @overload
    def score(self, image: Iterator[ImageLike]) -> Iterator[Score]: ...

    def score(self, image: Any) -> Score | list[Score] | Iterator[Score]:
        """Score one picture, or each of many.

        Pictures of a list or a batch that have one size are computed together.

        Args:
            image: One picture: a path; the bytes of a file; a PIL image; an array "h w" or
                "h w c", or a tensor "h w" or "c h w", of uint8, uint16, or floats in [0, 1]; with
                one or three channels. Or many: a list of such, whose sizes may differ; a batch,
                an array "b h w c" or a tensor "b c h w"; or an iterator.

        Returns:
            A `Score`, whose map is "h w" as the picture. A list of them for a list or a batch. For
            an iterator another one, which scores each picture when it is asked for it.

        Raises:
            BadImageError: A picture cannot be read, is no picture, or is too small or too large.
            BundleError: The numbers of the bundle are so large that no finite map comes of them.
        """
        if isinstance(image, Iterator):
            return map(self._score_one, image)
        if isinstance(image, list | tuple) or getattr(image, "ndim", 0) == 4:
            return self._score_many(image)
        return self._score_one(image)

    def map(self, pixels: Shaped[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w"]:
        """Return the map of a picture in units of the rule, before it is divided by `threshold`.

        Args:
            pixels: uint8 or uint16, one or three channels.

        Raises:
            BadImageError: The picture is too small for this detector.
            BundleError: As in `score`.
        """
        return self._maps(self._now, [pixels])[0]

    def losses(self, pixels: Shaped[np.ndarray, "h w c"]) -> dict[str, Float[np.ndarray, "h2 w2"]]:
        """Return the losses of each pixel by their names, at the detector's scale.

        A loss that the rule gives no weight is 0.

        Args:
            pixels: As in `map`.

        Raises:
            BadImageError: The picture is too small for this detector.
        """
        found = self._losses(self._now, [pixels])[0].cpu().numpy()
        return dict(zip(self.method.loss_names, found, strict=True))

    def _losses(
        self, now: _Ready, pictures: Sequence[Shaped[np.ndarray, "h w c"]]
    ) -> Float[Tensor, "b t h2 w2"]:
        """Return the losses of pictures of one size."""
        height, width = pictures[0].shape[:2]
        if height * width > MOST_PIXELS:
            raise BadImageError(
                f"The image has {height}x{width} pixels; {MOST_PIXELS / 1e6:.0f} megapixels are "
                "the most that is scored at once. Cut it into pieces."
            )
        card = now.card
        x = torch.stack([prepare(pixels, card.preprocessing) for pixels in pictures])
        if min(x.shape[-2:]) < card.method.patch:
            need = -(-card.method.patch // card.preprocessing.scale)
            raise BadImageError(
                f"The image has {height}x{width} pixels; the detector '{now.bundle.texture}' was "
                f"trained on patches that are {need:.0f}x{need:.0f} pixels large in it. Score "
                "larger images."
            )
        return now.losses(x.to(self.device))

    def _maps(
        self, now: _Ready, pictures: Sequence[Shaped[np.ndarray, "h w c"]]
    ) -> list[Float[np.ndarray, "h w"]]:
        """Return the maps of pictures of one size."""
        size = pictures[0].shape[:2]
        maps = []
        for losses in self._losses(now, pictures):
            found = enlarge(anomaly_map(losses, now.card.calibration), *size).cpu().numpy()
            if not -BEYOND < found.min() <= found.max() < BEYOND:
                raise BundleError(
                    f"The detector '{self.name}' gives this image an anomaly of {found.max():.3g}: "
                    "its calibration or its weights are damaged. Fetch or promote it again."
                )
            maps.append(found)
        return maps

    def _score_one(self, image: ImageLike) -> Score:
        return self._scores(self._checked(), [self._pixels(image)])[0]

    def _score_many(self, images: Iterable[ImageLike]) -> list[Score]:
        """Score pictures, those of one size together, a few at a time."""
        scores: list[Score] = []
        for window in _chunks(images, WINDOW):
            now = self._checked()
            pictures = [self._pixels(image) for image in window]
            found: dict[int, Score] = {}
            for alike in _of_one_size(pictures):
                several = self._scores(now, [pictures[at] for at in alike])
                found |= dict(zip(alike, several, strict=True))
            scores += [found[at] for at in range(len(pictures))]
        return scores

    def _scores(self, now: _Ready, pictures: Sequence[Shaped[np.ndarray, "h w c"]]) -> list[Score]:
        card = now.card
        top_fraction, good = float(card.calibration.rule.top_fraction), card.good_scores
        scores = []
        for anomaly in self._maps(now, pictures):
            score = float(image_score(torch.from_numpy(anomaly), top_fraction))
            scores.append(
                Score(
                    map=calibrated(anomaly, card.threshold),
                    score=calibrated(score, card.threshold),
                    p_value=p_value(score, good) if good else None,
                )
            )
        return scores

    def _pixels(self, image: ImageLike) -> Shaped[np.ndarray, "h w c"]:
        pixels = as_pixels(image)
        if self.preprocessing.mode == "L" and not self._warned_of_colour and has_colour(pixels):
            self._warned_of_colour = True
            warnings.warn(
                f"The detector '{self.name}' is grey: colour is turned to grey before it is "
                "scored. This warning is given once.",
                stacklevel=4,
            )
        return pixels

    def _checked(self) -> _Ready:
        """Return what is in use now, and look for something newer if it is time to."""
        age = time.monotonic() - self._looked
        if self._source and age > self._source.max_age_s:
            self._looked = time.monotonic()
            threading.Thread(target=self._look, daemon=True).start()
        return self._now

    def _look(self) -> None:
        """Refresh, in a thread of its own: no score waits for it, and a failure is a warning."""
        try:
            self.refresh()
        except ZooError as error:
            warnings.warn(f"The detector '{self.name}' stays as it is: {error}", stacklevel=1)

    def _built(self, bundle: Bundle) -> _Ready:
        card = read(bundle)
        try:
            losses = card.losses(tensors_of(bundle, self.device))
        except (RuntimeError, TypeError, ValueError) as error:
            raise unfit(bundle, error) from error
        return _Ready(bundle=bundle, card=card, losses=losses)


def _rebuilt(bundle: Bundle, device: str, source: Source | None) -> Detector:
    return Detector(bundle, device=device, source=source)


def _of_one_size(pictures: Sequence[Shaped[np.ndarray, "_ _ _"]]) -> Iterator[list[int]]:
    """Yield the places of pictures that have one size and type, as many as fit into a batch."""
    kinds: dict[tuple[Any, ...], list[int]] = {}
    for at, pixels in enumerate(pictures):
        kinds.setdefault(pixels.shape[:2], []).append(at)
    for (height, width), places in kinds.items():
        count = max(1, BATCH_PIXELS // (height * width))
        yield from _chunks(places, count)


def _chunks(items: Iterable[Any], count: int) -> Iterator[list[Any]]:
    """Yield lists of `count` items; the last one may be shorter."""
    left = iter(items)
    while some := list(islice(left, count)):
        yield some
