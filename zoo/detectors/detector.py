"""A detector that is ready to use: it gives a picture an anomaly map, a score and a decision."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from jaxtyping import Float, Shaped

from registry.bundle import Bundle, load
from zoo.data.images import as_pixels, has_colour, to_mode
from zoo.data.preprocessing import Preprocessing
from zoo.data.statistics import statistics_of, warnings_of
from zoo.detectors.card import Pipeline, part_names
from zoo.detectors.devices import available
from zoo.detectors.forking import prepare
from zoo.detectors.ready import Ready, built
from zoo.detectors.score import Score, calibrated
from zoo.errors import ConfigError, ZooError
from zoo.methods import Method
from zoo.scoring.aggregation import Calibration
from zoo.scoring.maps import image_score
from zoo.scoring.thresholds import p_value

if TYPE_CHECKING:
    from zoo.data.images import ImageLike

WINDOW = 32  # pictures of a list that are held in memory at a time
BATCH_PIXELS = 2**20  # pixels of the pictures in one batch: eight pictures of 362x362


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a detector was loaded from, so that it can load a newer bundle of the same name.

    Attributes:
        folder: Folder of the bundle; on a shelf its name is the hash of the content.
        now: Returns the folder of the bundle that the name refers to now. To pickle the detector,
            this function must be picklable.
        max_age_s: While scoring, check for a newer bundle this many seconds after the last check.
        version: Version number on the shelf, if there is one.
    """

    folder: Path
    now: Callable[[], Path]
    max_age_s: float = math.inf
    version: int | None = None


class Detector:
    """A detector, built from a bundle for one device. It is thread-safe.

    A fused detector adds the maps of several detectors, its `parts`. It is used like any other, but
    has no `method`, `preprocessing` and `calibration` of its own.

    It can be pickled, for Ray, multiprocessing and DataLoader workers: the pickle holds the bundle,
    and the detector is built again from it. On a CPU it also works in processes that are made by
    fork; they compute with one thread each.

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
        """Build the method of the bundle.

        Args:
            bundle: The bundle of the detector.
            device: Where to compute.
            source: Where the bundle was loaded from; `refresh` needs it.

        Raises:
            BundleError: The method, the configuration or the weights do not fit this version.
            ConfigError: The device does not exist here.
        """
        self.device = available(device)
        self._now = built(bundle, self.device)
        self._source, self._folder = source, source.folder if source else None
        self._looked, self._looking = time.monotonic(), threading.Lock()
        self._warned_of_colour = False
        prepare(self)

    def __repr__(self) -> str:
        """Show texture, version, method and device."""
        version = f", version={self._source.version}" if self._source else ""
        return (
            f"Detector('{self.name}'{version}, method='{self.bundle.method}', "
            f"device='{self.device}')"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the bundle, the device and the source; the rest is built again."""
        source = self._source
        if source and self._folder:  # after `refresh` it is another bundle than at first
            source = replace(source, folder=self._folder, version=self.version)
        return partial(Detector, self.bundle, device=str(self.device), source=source), ()

    def after_fork(self) -> None:
        """Replace the lock, which a thread that the new process does not have may hold."""
        self._looking = threading.Lock()

    @property
    def bundle(self) -> Bundle:
        """The bundle that it was built from."""
        return self._now.bundle

    @property
    def parts(self) -> tuple[Detector, ...]:
        """The parts of a fused detector, each built anew as a detector; a plain one has none."""
        return tuple(Detector(part, device=self.device) for part in self.bundle.parts)

    @property
    def method(self) -> Method:
        """The method with its configuration; a fused detector raises `ConfigError`."""
        return self._pipeline("method").method

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of a picture; a fused detector raises `ConfigError`."""
        return self._pipeline("preprocessing").preprocessing

    @property
    def calibration(self) -> Calibration:
        """How losses become a map; a fused detector raises `ConfigError`."""
        return self._pipeline("calibration").calibration

    @property
    def top_fraction(self) -> float:
        """The score is the mean of this share of the highest pixels of `score_map`."""
        return self._now.card.top_fraction

    @property
    def name(self) -> str:
        """The texture that this detector is for."""
        return self.bundle.texture

    @property
    def digest(self) -> str | None:
        """The digest of the bundle in use; None if it did not come from a shelf."""
        return self._folder.name if self._folder else None

    @property
    def version(self) -> int | None:
        """The version on the shelf; None without a shelf, and after `refresh` found a new one."""
        same = self._source and self._source.folder == self._folder
        return self._source.version if self._source and same else None

    @property
    def threshold(self) -> float:
        """The limit of normal scores, in units of `score_map`. Scores are divided by it."""
        return self._now.card.limits.picture

    @property
    def map_threshold(self) -> float:
        """The limit of normal pixels, in units of `map`. Maps are divided by it."""
        return self._now.card.limits.pixel

    def refresh(self) -> bool:
        """Load the bundle that the name refers to now, and return whether it is a new one.

        A score that is being computed is finished with the old bundle; no score waits.

        Raises:
            BundleError: The new bundle is damaged, or too new; the old one stays in use.
            StorageError: The shelf cannot be reached; the old bundle stays in use.
            ConfigError: The detector did not come from a shelf.
        """
        if self._source is None:
            raise ConfigError(
                f"This detector of '{self.name}' was built from a bundle and not loaded from a "
                "shelf, so it cannot be refreshed. Load it with zoo.load(...)."
            )
        with self._looking:
            self._looked = time.monotonic()
            found = self._source.now()
            if found == self._folder:
                return False
            self._now, self._folder = built(load(found), self.device), found
            return True

    @overload  # a file object, which is one image, is an iterator of its lines as well
    def score(self, image: ImageLike) -> Score: ...  # type: ignore[overload-overlap]

    @overload
    def score(self, image: list[Any] | tuple[Any, ...]) -> list[Score]: ...

    @overload
    def score(self, image: Iterator[ImageLike]) -> Iterator[Score]: ...

    def score(self, image: Any) -> Score | list[Score] | Iterator[Score]:
        """Score one picture or several pictures.

        Pictures of the same size in a list or a batch are computed together.

        Args:
            image: One picture: a path; the bytes of a file; a file object; a PIL image; an array
                "h w" or "h w c", or a tensor "h w" or "c h w", of uint8, uint16, or floats in
                [0, 1]; with one or three channels. Or several: a list of pictures, whose sizes may
                differ, or a Series of pandas; a batch, an array "b h w c" or a tensor "b c h w";
                or an iterator of pictures.

        Returns:
            A `Score` with a map "h w" like the picture. For a list or a batch, a list of scores.
            For an iterator, an iterator that scores each picture when it is requested.

        Raises:
            BadImageError: A picture cannot be read, has no valid shape, or is too small or too
                large.
            BundleError: The numbers of the bundle are so large that the map is not finite.
        """
        if hasattr(image, "to_list"):  # a Series
            image = image.to_list()
        if isinstance(image, Iterator) and not hasattr(image, "read"):  # no file object
            return map(self._score_one, image)
        if isinstance(image, list | tuple) or getattr(image, "ndim", 0) == 4:
            return self._score_many(image)
        return self._score_one(image)

    def map(self, pixels: ImageLike) -> Float[np.ndarray, "h w"]:
        """Return the map of a picture in units of the rule or the fusion, not divided.

        Args:
            pixels: One picture, as in `score`.

        Raises:
            BadImageError: As in `score`.
            BundleError: As in `score`.
        """
        now = self._now
        return self._map_of(now, pixels, now.card.map_weights)

    def score_map(self, pixels: ImageLike) -> Float[np.ndarray, "h w"]:
        """Return the map that the score of a picture is taken of, in the units of `map`.

        A fused detector may add its parts for the score with other weights than for the map. For a
        plain detector it is `map`. Arguments and errors are those of `map`.
        """
        now = self._now
        return self._map_of(now, pixels, now.card.score_weights)

    def losses(self, pixels: ImageLike) -> dict[str, Float[np.ndarray, "_ _"]]:
        """Return what the map is computed from, by name, for each pixel.

        For a plain detector these are its losses, at its scale; one that the rule gives no weight
        is 0. For a fused detector they are the log tails of its parts, at the size of the picture,
        named by their methods; one that has no weight is 0.

        Args:
            pixels: As in `map`.

        Raises:
            BadImageError: As in `score`.
        """
        now, picture = self._now, self._pixels(pixels)
        with now.enough_memory(picture):
            if now.card.pipeline:
                found = now.losses_of(0, [picture])[0].cpu().numpy()
                return dict(zip(now.card.pipeline.method.loss_names, found, strict=True))
            return {
                name: next(now.values(at, [picture])).cpu().numpy()
                if now.losses[at]
                else np.zeros(picture.shape[:2], np.float32)
                for at, name in enumerate(part_names(now.bundle))
            }

    def _map_of(
        self, now: Ready, image: ImageLike, weights: tuple[float, ...]
    ) -> Float[np.ndarray, "h w"]:
        picture = self._pixels(image)
        with now.enough_memory(picture):
            return now.maps([picture], weights)[0][0]

    def _score_one(self, image: ImageLike) -> Score:
        now, picture = self._checked(), self._pixels(image)
        with now.enough_memory(picture):
            return self._scores(now, [picture])[0]

    def _score_many(self, images: Iterable[ImageLike]) -> list[Score]:
        """Score pictures, at most `WINDOW` at a time; those of the same size in one batch."""
        scores: list[Score] = []
        for window in _chunks(images, WINDOW):
            now = self._checked()
            pictures = [self._pixels(image) for image in window]
            found: dict[int, Score] = {}
            for alike in _of_one_size(pictures):
                with now.enough_memory(pictures[alike[0]]):
                    several = self._scores(now, [pictures[at] for at in alike])
                found |= dict(zip(alike, several, strict=True))
            scores += [found[at] for at in range(len(pictures))]
        return scores

    def _scores(self, now: Ready, pictures: Sequence[Shaped[np.ndarray, "h w c"]]) -> list[Score]:
        """Score pictures of the same size."""
        card, limits = now.card, now.card.limits
        sums = dict.fromkeys((card.map_weights, card.score_weights))  # often the same
        scores = []
        for pixels, maps in zip(pictures, now.maps(pictures, *sums), strict=True):
            score = float(image_score(torch.from_numpy(maps[-1]), card.top_fraction))
            map_ = calibrated(maps[0], limits.pixel)
            found = statistics_of(to_mode(pixels, card.mode), map_) if limits.statistics else {}
            known = limits.good_scores
            scores.append(
                Score(
                    map=map_,
                    score=calibrated(score, limits.picture),
                    p_value=p_value(score, known, limits.good_weights) if known else None,
                    look_again=calibrated(limits.look_again, limits.picture),
                    share_of_peak=limits.share_of_peak,
                    smallest_region=limits.smallest_region,
                    statistics=found,
                    warnings=warnings_of(found, limits.usual, now.bundle.texture),
                )
            )
        return scores

    def _pipeline(self, asked: str) -> Pipeline:
        """Return how a plain detector computes its map."""
        now = self._now
        if now.card.pipeline is None:
            raise ConfigError(
                f"The detector '{self.name}' is fused of {', '.join(part_names(now.bundle))}, and "
                f"each of them has a {asked} of its own. Ask its parts."
            )
        return now.card.pipeline

    def _pixels(self, image: ImageLike) -> Shaped[np.ndarray, "h w c"]:
        pixels = as_pixels(image)
        if self._now.card.mode == "L" and not self._warned_of_colour and has_colour(pixels):
            self._warned_of_colour = True
            warnings.warn(
                f"The detector '{self.name}' is grey: colour pictures are converted to grey before "
                "they are scored. This warning is given once.",
                stacklevel=4,
            )
        return pixels

    def _checked(self) -> Ready:
        """Return the bundle in use; start a check for a new one if `max_age_s` has passed."""
        age = time.monotonic() - self._looked
        if self._source and age > self._source.max_age_s:
            self._looked = time.monotonic()
            threading.Thread(target=self._look, daemon=True).start()
        return self._now

    def _look(self) -> None:
        """Refresh in a separate thread: no score waits for it, and a failure is a warning."""
        try:
            self.refresh()
        except ZooError as error:
            warnings.warn(f"The detector '{self.name}' was not refreshed: {error}", stacklevel=1)


def _of_one_size(pictures: Sequence[Shaped[np.ndarray, "_ _ _"]]) -> Iterator[list[int]]:
    """Yield the indices of pictures of the same size, as many as fit into a batch."""
    sizes: dict[tuple[int, ...], list[int]] = {}
    for at, pixels in enumerate(pictures):
        sizes.setdefault(pixels.shape[:2], []).append(at)
    for (height, width), places in sizes.items():
        yield from _chunks(places, max(1, BATCH_PIXELS // (height * width)))


def _chunks(items: Iterable[Any], count: int) -> Iterator[list[Any]]:
    """Yield lists of `count` items; the last one may be shorter."""
    rest = iter(items)
    while chunk := list(islice(rest, count)):
        yield chunk
