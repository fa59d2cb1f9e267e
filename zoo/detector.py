"""A detector ready to use: an image in, a map, a score and a yes or no out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from zoo import baselines
from zoo.baselines import Losses
from zoo.bundle import Bundle
from zoo.errors import BadImageError, BundleError, ConfigError
from zoo.networks import FCBiGAN, FCBiGANConfig
from zoo.patches import Preprocessing, prepare
from zoo.scoring import Calibration, Rule, anomaly_map, enlarge, fcbigan_losses, image_score
from zoo.textures import read_image

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = str | Path | Image | np.ndarray | Tensor

FCBIGAN = "fcbigan"
METHODS = (FCBIGAN, *baselines.NAMES)


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a detector says of one image.

    Attributes:
        map: Anomaly of each pixel, as high and wide as the image; higher is more anomalous.
        score: Anomaly of the image: the mean of the map's highest pixels.
        threshold: Where good ends, for the score and for the map alike.
    """

    map: Float[np.ndarray, "h w"]
    score: float
    threshold: float

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


class Detector:
    """A bundle brought to life on one device.

    Example:
        >>> import zoo
        >>> zoo.load("carpet").score("piece.png").is_anomalous  # doctest: +SKIP
        True
    """

    def __init__(self, bundle: Bundle, *, device: str | torch.device = "cpu") -> None:
        """Build the method that the bundle names.

        Raises:
            BundleError: Its method, its configuration or its weights do not fit this version.
            ConfigError: The device does not exist here.
        """
        self.bundle = bundle
        self.device = available(device)
        self.preprocessing = Preprocessing(**bundle.preprocessing)
        self.calibration = calibration_from(bundle.calibration)
        if bundle.method not in METHODS:
            raise BundleError(
                f"The bundle of '{bundle.texture}' is made by method '{bundle.method}'; this "
                f"version knows {', '.join(METHODS)}. Update texture-zoo."
            )
        try:
            self._losses = ready(bundle, self.device)
        except (RuntimeError, KeyError, TypeError) as error:
            raise BundleError(
                f"The weights of '{bundle.texture}' do not fit its configuration: {error}. "
                "Fetch or promote it again."
            ) from error

    @property
    def name(self) -> str:
        """The texture this detector is for."""
        return self.bundle.texture

    @cached_property
    def threshold(self) -> float:
        """The score above which an image is anomalous."""
        return float(self.bundle.threshold["value"])

    @overload
    def score(self, image: Picture) -> Score: ...

    @overload
    def score(self, image: list[Picture]) -> list[Score]: ...

    def score(self, image: Picture | list[Picture]) -> Score | list[Score]:
        """Score one image, or each of a list.

        Args:
            image: A path; a PIL image; an array `h w` or `h w c`, or a tensor `h w` or `c h w`,
                of bytes, 16-bit integers, or floats in [0, 1]; or a list of such.

        Returns:
            A `Score`, or a list of them for a list.

        Raises:
            BadImageError: It cannot be read, is no picture, or is too small for this detector.
        """
        if isinstance(image, list | tuple):
            return [self._score(each) for each in image]
        return self._score(image)

    def map(self, pixels: Shaped[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w"]:
        """Return the anomaly map of an image in memory, as high and wide as the image.

        Args:
            pixels: uint8 or uint16, one or three channels.

        Raises:
            BadImageError: The image is too small for this detector.
        """
        anomaly = anomaly_map(self.losses(pixels), self.calibration)
        return enlarge(anomaly, *pixels.shape[:2]).cpu().numpy()

    def losses(self, pixels: Shaped[np.ndarray, "h w c"]) -> Float[Tensor, "t h2 w2"]:
        """Return the method's losses of each pixel of the scaled image, before any rule."""
        x = prepare(pixels, self.preprocessing)
        patch = int(self.bundle.config.get("patch", 1))
        if min(x.shape[-2:]) < patch:
            need = -(-patch // self.preprocessing.scale)
            raise BadImageError(
                f"The image has {pixels.shape[0]}x{pixels.shape[1]} pixels; the detector "
                f"'{self.name}' was trained on patches that are {need:.0f}x{need:.0f} pixels "
                "large in it. Score larger images."
            )
        return self._losses(x.to(self.device))

    def _score(self, image: Picture) -> Score:
        anomaly = self.map(pixels_of(image))
        top = float(self.calibration.rule.top_fraction)
        score = image_score(torch.from_numpy(anomaly), top)
        return Score(map=anomaly, score=score, threshold=self.threshold)


def pixels_of(image: Picture) -> Shaped[np.ndarray, "h w c"]:
    """Bring whatever a user calls an image to `h w c`, uint8 or uint16.

    Raises:
        BadImageError: It is no picture: a wrong shape, type or range, or an unreadable file.
    """
    if isinstance(image, str | Path):
        return read_image(Path(image))
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
            f"An image is a path, a PIL image, an array or a tensor, not {type(image).__name__}."
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


def calibration_from(card: Mapping[str, Any]) -> Calibration:
    """Read a calibration from a bundle's card."""
    rule = dict(card["rule"])
    rule["weights"] = tuple(rule["weights"])
    return Calibration(
        rule=Rule(**rule),
        mean=tuple(card["mean"]),
        covariance=tuple(tuple(row) for row in card["covariance"]),
    )


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
    stride, views = int(config.pop("output_stride")), int(config.pop("views", 1))
    networks = FCBiGAN(
        FCBiGANConfig(**config), channels=Preprocessing(**bundle.preprocessing).channels
    )
    networks.load_state_dict(bundle.weights)
    networks = networks.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    used = calibration_from(bundle.calibration).rule.uses(losses=3)
    return lambda x: fcbigan_losses(networks, x, output_stride=stride, views=views, used=used)


def _baseline(bundle: Bundle, device: torch.device) -> Losses:
    weights = {name: tensor.to(device) for name, tensor in bundle.weights.items()}
    return baselines.named(bundle.method)(**bundle.config).ready(weights)
