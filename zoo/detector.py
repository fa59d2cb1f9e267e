"""A detector ready to use: an image in, a map, a score and a yes or no out."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from zoo import baselines
from zoo.baselines import Losses
from zoo.bundle import Bundle, load
from zoo.errors import BadImageError, BundleError, ConfigError, ZooError
from zoo.networks import FCBiGAN, FCBiGANConfig
from zoo.patches import Preprocessing, prepare
from zoo.scoring import (
    VIEWS,
    Calibration,
    Rule,
    anomaly_map,
    enlarge,
    fcbigan_losses,
    image_score,
    joined,
    p_value,
)
from zoo.textures import from_bytes, has_colour, read_image

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = str | Path | bytes | Image | np.ndarray | Tensor

FCBIGAN = "fcbigan"
METHODS = (FCBIGAN, *baselines.NAMES)
# What a card can say that is whole, but no detector.
_UNFIT = (
    ArithmeticError,
    AttributeError,
    ConfigError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
# Numbers of a card, thresholds other than 0 and anomalies have room in float32 within these, and so
# has an anomaly divided by a threshold.
LARGEST, SMALLEST, BEYOND = 1e12, 1e-20, 1e18
MOST_PIXELS = 2**28  # of an image, 16384 both ways: its maps alone need some ten gigabytes


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a detector says of one image.

    Attributes:
        map: Anomaly of each pixel, as high and wide as the image; higher is more anomalous.
        score: Anomaly of the image: the mean of the map's highest pixels.
        p_value: How many good images, as a share, score as high or higher: the calibration images
            and this one. None where there were too few of them to set the threshold by rank.
        threshold: Where good ends, for the score and for the map alike: scores are calibrated so
            that it is 1.
    """

    map: Float[np.ndarray, "h w"]
    score: float
    p_value: float | None = None
    threshold: float = 1.0

    @property
    def is_anomalous(self) -> bool:
        """Whether the image is above the threshold."""
        return self.score > self.threshold

    @property
    def mask(self) -> Bool[np.ndarray, "h w"]:
        """Which pixels are above the threshold."""
        return np.asarray(self.map > self.threshold)

    def __repr__(self) -> str:
        """Say all but the pixels, for a prompt."""
        height, width = self.map.shape
        return (
            f"Score(score={self.score:.4g}, threshold={self.threshold:.4g}, "
            f"is_anomalous={self.is_anomalous}, map={height}x{width})"
        )


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a detector came from, so that it can follow its name.

    Attributes:
        folder: Of its bundle; on a shelf it is named by its content.
        now: Returns the folder of the bundle that the name stands for now.
        max_age_s: Look there while scoring, this many seconds after the last look.
    """

    folder: Path
    now: Callable[[], Path]
    max_age_s: float = math.inf


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """A bundle and what was built of it; replaced whole, so that no score is made of two."""

    bundle: Bundle
    preprocessing: Preprocessing
    calibration: Calibration
    losses: Losses


class Detector:
    """A bundle brought to life on one device.

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
        """Build the method that the bundle names. It may be used by many threads at once.

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
        self._told_of_colour = False

    @property
    def bundle(self) -> Bundle:
        """What it was built from."""
        return self._now.bundle

    @property
    def preprocessing(self) -> Preprocessing:
        """What happens to an image first."""
        return self._now.preprocessing

    @property
    def calibration(self) -> Calibration:
        """How losses become a map."""
        return self._now.calibration

    @property
    def name(self) -> str:
        """The texture this detector is for."""
        return self.bundle.texture

    @property
    def threshold(self) -> float:
        """Where good ends on the map, before scores are calibrated to have it at 1."""
        return float(self.bundle.threshold["value"])

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
    def score(self, image: Picture) -> Score: ...

    @overload
    def score(self, image: list[Picture]) -> list[Score]: ...

    @overload
    def score(self, image: Iterator[Picture]) -> Iterator[Score]: ...

    def score(
        self, image: Picture | list[Picture] | Iterator[Picture]
    ) -> Score | list[Score] | Iterator[Score]:
        """Score one image, or each of many; their sizes may differ.

        Args:
            image: A path; the bytes of a file; a PIL image; an array `h w` or `h w c`, or a tensor
                `h w` or `c h w`, of bytes, 16-bit integers, or floats in [0, 1]; or a list or an
                iterator of such.

        Returns:
            A `Score`; a list of them for a list; for an iterator one that scores as it is asked.

        Raises:
            BadImageError: It cannot be read, is no picture, or is too small or too large.
            BundleError: The detector's numbers are whole, but so large that none comes of them.
        """
        if isinstance(image, list | tuple):
            return [self._score(each) for each in image]
        if isinstance(image, Iterator):
            return map(self._score, image)
        return self._score(image)

    def map(self, pixels: Shaped[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w"]:
        """Return the map of an image in memory before it is calibrated: as the rule has it.

        Args:
            pixels: uint8 or uint16, one or three channels.

        Raises:
            BadImageError: The image is too small for this detector.
            BundleError: As in `score`.
        """
        return self._map(self._now, pixels)

    def losses(self, pixels: Shaped[np.ndarray, "h w c"]) -> Float[Tensor, "t h2 w2"]:
        """Return the method's losses of each pixel of the scaled image, before any rule."""
        return self._losses(self._now, pixels)

    def _losses(self, now: _Ready, pixels: Shaped[np.ndarray, "h w c"]) -> Float[Tensor, "t h2 w2"]:
        height, width = pixels.shape[:2]
        if height * width > MOST_PIXELS:
            raise BadImageError(
                f"The image has {height}x{width} pixels; {MOST_PIXELS / 1e6:.0f} megapixels are "
                "the most that is scored at once. Cut it into pieces."
            )
        x = prepare(pixels, now.preprocessing)
        patch = int(now.bundle.config.get("patch", 1))
        if min(x.shape[-2:]) < patch:
            need = -(-patch // now.preprocessing.scale)
            raise BadImageError(
                f"The image has {height}x{width} pixels; the detector '{now.bundle.texture}' was "
                f"trained on patches that are {need:.0f}x{need:.0f} pixels large in it. Score "
                "larger images."
            )
        return now.losses(x.to(self.device))

    def _map(self, now: _Ready, pixels: Shaped[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w"]:
        anomaly = anomaly_map(self._losses(now, pixels), now.calibration)
        found = enlarge(anomaly, *pixels.shape[:2]).cpu().numpy()
        if not -BEYOND < found.min() <= found.max() < BEYOND:
            raise BundleError(
                f"The detector '{self.name}' gives this image an anomaly of {found.max():.3g}: "
                "its calibration or its weights are damaged. Fetch or promote it again."
            )
        return found

    def _score(self, image: Picture) -> Score:
        age = time.monotonic() - self._looked
        if self._source and age > self._source.max_age_s:
            self._looked = time.monotonic()
            threading.Thread(target=self._look, daemon=True).start()
        now, pixels = self._now, pixels_of(image)
        if now.preprocessing.mode == "L" and not self._told_of_colour and has_colour(pixels):
            self._told_of_colour = True
            warnings.warn(
                f"The detector '{self.name}' is grey: colour is turned to grey before it is "
                "scored. This is said once.",
                stacklevel=3,
            )
        anomaly, known = self._map(now, pixels), now.bundle.threshold
        top_fraction = float(now.calibration.rule.top_fraction)
        score = float(image_score(torch.from_numpy(anomaly), top_fraction))
        good = known.get("scores", ()) if known["rule"] == "conformal" else ()
        end = float(known["value"])
        return Score(
            map=calibrated(anomaly, end),
            score=calibrated(score, end),
            p_value=p_value(score, good) if good else None,
        )

    def _look(self) -> None:
        """Refresh, in a thread of its own: nobody waits for it, and a failure is only told."""
        try:
            self.refresh()
        except ZooError as error:
            warnings.warn(f"The detector '{self.name}' stays as it is: {error}", stacklevel=1)

    def _built(self, bundle: Bundle) -> _Ready:
        if bundle.method not in METHODS:
            raise BundleError(
                f"The bundle of '{bundle.texture}' is made by method '{bundle.method}'; this "
                f"version knows {', '.join(METHODS)}. Update texture-zoo."
            )
        try:
            calibration = calibration_from(bundle.calibration)
            preprocessing = Preprocessing(**bundle.preprocessing)
            _numbers(bundle.threshold["value"], *bundle.threshold.get("scores", ()))
            if 0 < abs(bundle.threshold["value"]) < SMALLEST:
                raise ValueError(f"the threshold is {bundle.threshold['value']!r}")
            str(bundle.threshold["rule"])
            losses = ready(bundle, self.device)
        except _UNFIT as error:
            raise BundleError(
                f"The weights of '{bundle.texture}' do not fit its configuration: {error}. "
                "Fetch or promote it again."
            ) from error
        return _Ready(
            bundle=bundle, preprocessing=preprocessing, calibration=calibration, losses=losses
        )


def calibrated(raw: Any, threshold: float) -> Any:
    """Bring a map or a score to where the threshold is 1, keeping the order.

    0 stays 0, which is the average of good pixels for rules that add z-scores. A threshold of 0 or
    below, where that cannot be, is moved to 1 instead.

    Example:
        >>> calibrated(6.0, 3.0), calibrated(-1.0, -2.0), calibrated(0.5, 0.0)
        (2.0, 1.5, 1.5)
    """
    return raw / threshold if threshold > 0 else 1 + (raw - threshold) / (abs(threshold) or 1.0)


def pixels_of(image: Picture) -> Shaped[np.ndarray, "h w c"]:
    """Bring whatever a user calls an image to `h w c`, uint8 or uint16.

    Raises:
        BadImageError: It is no picture: a wrong shape, type or range, or an unreadable file.
    """
    if isinstance(image, str) and "://" in image:
        raise BadImageError(
            f"'{image}' is an address, and nothing is downloaded here. Pass a path, or the bytes "
            "of the file."
        )
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return from_bytes(bytes(image))
    if isinstance(image, Tensor):
        # NumPy has no bfloat16, and 16-bit floats would overflow below.
        wide = image.float() if image.is_floating_point() else image
        array = wide.detach().cpu().numpy()
        array = np.moveaxis(array, 0, 2) if array.ndim == 3 else array
    elif isinstance(image, np.ndarray):
        array = image
    elif hasattr(image, "getexif"):
        from zoo.textures import from_pil

        return from_pil(image)
    else:
        raise BadImageError(
            "An image is a path, the bytes of a file, a PIL image, an array or a tensor, not "
            f"{type(image).__name__}."
        )
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3) or 0 in array.shape:
        raise BadImageError(
            f"An image is grey (h w) or has 1 or 3 channels (arrays h w c, tensors c h w); this "
            f"one has shape {tuple(image.shape)}. Reorder its axes or drop what is not colour."
        )
    return _integers(array)


def available(device: str | torch.device) -> torch.device:
    """Return the device, after a look whether it exists on this machine.

    Raises:
        ConfigError: There is no such device here.
    """
    try:
        torch.empty(1, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"There is no device '{device}' here. Use 'cpu'"
            + (", or 'cuda'." if torch.cuda.is_available() else ".")
        ) from error


def _numbers(*values: Any) -> None:
    """Refuse what a card has in the place of numbers."""
    for value in values:
        if not isinstance(value, int | float) or not abs(value) <= LARGEST:
            raise ValueError(f"{value!r:.40} is no number that a card can have")


def calibration_from(card: Mapping[str, Any]) -> Calibration:
    """Read a calibration from a bundle's card."""
    rule = dict(card["rule"])
    rule["weights"] = tuple(rule["weights"])
    losses = len(card["mean"])
    _numbers(*card["mean"], *(each for row in card["covariance"] for each in row))
    _numbers(*rule["weights"], rule["top_fraction"])
    if not isinstance(rule["mean_filter"], int):
        raise TypeError(f"mean_filter is {rule['mean_filter']!r}")
    rows = [len(row) for row in card["covariance"]]
    if rows != [losses] * losses or len(rule["weights"]) not in (0, losses):
        raise ValueError(f"the calibration is of {losses} losses, and not all of it is")
    made = Calibration(
        rule=Rule(**rule),
        mean=tuple(card["mean"]),
        covariance=tuple(tuple(row) for row in card["covariance"]),
    )
    joined(torch.zeros(losses, 1, 1), made)  # a covariance may be none, though it is numbers
    return made


def _integers(array: Shaped[np.ndarray, "h w c"]) -> Shaped[np.ndarray, "h w c"]:
    if array.dtype in (np.uint8, np.uint16):
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    if not np.issubdtype(array.dtype, np.floating):
        raise BadImageError(
            f"Pixels are uint8, uint16 or floats in [0, 1], not {array.dtype}. Convert them."
        )
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):
        raise BadImageError(
            f"Float pixels must lie in [0, 1]; these lie in [{low:g}, {high:g}]. Rescale them, or "
            "pass bytes."
        )
    return (array.astype(np.float32) * 65535).round().astype(np.uint16)


def ready(bundle: Bundle, device: torch.device) -> Losses:
    """Build a bundle's method; it gives each pixel of a prepared image its losses.

    A loss that the bundle's rule gives no weight is 0, and its work is not done.
    """
    return (_fcbigan if bundle.method == FCBIGAN else _baseline)(bundle, device)


def _fcbigan(bundle: Bundle, device: torch.device) -> Losses:
    config = dict(bundle.config)
    stride, views = config.pop("output_stride"), config.pop("views", 1)
    # Without memory of their own: what is too large for its weights costs nothing to refuse.
    with torch.device("meta"):
        networks = FCBiGAN(
            FCBiGANConfig(**config), channels=Preprocessing(**bundle.preprocessing).channels
        )
    if stride not in networks.config.output_strides or views not in range(1, len(VIEWS) + 1):
        raise ValueError(f"output_stride is {stride!r} and views is {views!r}")
    networks.load_state_dict(bundle.weights, assign=True)
    networks = networks.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    calibration = calibration_from(bundle.calibration)
    if len(calibration.mean) != 2 + (networks.segmenter is not None):
        raise ValueError(f"the calibration is of {len(calibration.mean)} losses")
    used = calibration.rule.uses(losses=3)
    return lambda x: fcbigan_losses(networks, x, output_stride=stride, views=views, used=used)


def _baseline(bundle: Bundle, device: torch.device) -> Losses:
    weights = {name: tensor.to(device) for name, tensor in bundle.weights.items()}
    return baselines.named(bundle.method)(**bundle.config).ready(weights)
