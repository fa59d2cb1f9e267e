"""The data of a training: the split, the validation windows, the prepared pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from zoo.data import textures
from zoo.data.defects.families import held_out
from zoo.data.defects.fit_pictures import FitPictures
from zoo.data.defects.optics import Optics, measure_optics
from zoo.data.defects.validation import Window, validation_set
from zoo.data.preprocessing import Preprocessing, intensity_range, prepare
from zoo.data.splits import Splits, split
from zoo.data.survey import warnings_of
from zoo.errors import BadImageError
from zoo.methods import Losses
from zoo.scoring import metrics, objective
from zoo.scoring.aggregation import Calibration, Rule, anomaly_map, calibrate
from zoo.scoring.maps import enlarge, image_score
from zoo.scoring.selection import candidates, choose
from zoo.scoring.thresholds import Rates, Threshold, fit_threshold

RATES = Rates()
GOOD_PICTURES = 60  # that thresholds are set on, if there are more
STATISTICS_IMAGES = 8  # calibration images for mean and covariance: millions of pixels


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The data of a training: pictures in memory, without the test pictures.

    Attributes:
        texture: Name of the texture.
        mode: Grey or colour.
        splits: Good pictures for *fit*, *val* and *calibration*.
        validation: Windows of the *val* pictures with synthetic defects.
        validation_seed: Seed of the synthetic defects.
        optics: The camera of the pictures.
        notes: Lines for the user about the pictures, and about what could not be measured.
        intensities: `low` and `high` of the preprocessing, fitted to the *fit* pictures.
        fingerprint: Hash of the data.
        licence: Licence of the data.
    """

    texture: str
    mode: str
    splits: Splits
    validation: tuple[Window, ...]
    validation_seed: int
    optics: Optics
    notes: tuple[str, ...]
    intensities: tuple[float, float]
    fingerprint: str
    licence: str

    @property
    def strata(self) -> list[tuple[str, ...]]:
        """The strata of each validation window; none of one without a defect."""
        return [window.strata for window in self.validation]

    @property
    def good(self) -> tuple[textures.Picture, ...]:
        """Good pictures that no training has seen: what thresholds are set on.

        Those of *val* are among them. A detector was chosen on their synthetic defects, which
        makes its scores of them hardly lower, and few pictures set a threshold badly.
        """
        return (*self.splits.calibration, *self.splits.val)[:GOOD_PICTURES]

    @property
    def good_groups(self) -> list[int]:
        """The group of relatives of each of these pictures; each is its own if all are relatives.

        Several draws of one picture are relatives in any case.
        """
        groups = self.splits.groups_of(self.good)
        return groups if len(set(groups)) > 1 else list(range(len(groups)))


def gather(
    texture: textures.Texture, *, split_seed: int = 0, validation_seed: int = 0
) -> TrainingData:
    """Split the good pictures and paint the validation defects; the seeds determine the result."""
    return data_of(texture, split(texture, seed=split_seed), validation_seed=validation_seed)


def data_of(texture: textures.Texture, splits: Splits, *, validation_seed: int = 0) -> TrainingData:
    """Measure the camera and paint the validation defects of pictures that are split already."""
    optics, notes = studied(texture, splits)
    return TrainingData(
        texture=texture.name,
        mode=texture.mode,
        splits=splits,
        validation=validation_set(splits.val, seed=validation_seed, optics=optics),
        validation_seed=validation_seed,
        optics=optics,
        notes=notes,
        intensities=intensity_range([picture.pixels for picture in splits.fit]),
        fingerprint=texture.fingerprint,
        licence=texture.licence,
    )


def studied(texture: textures.Texture, splits: Splits) -> tuple[Optics, tuple[str, ...]]:
    """Return the camera of a texture, and lines for the user about its pictures."""
    optics, notes = measure_optics(splits.fit)
    if texture.found > len(texture.pictures):
        used = f"{texture.found:,} good pictures; {len(texture.pictures):,} of them are used"
        notes.append(f"The folder has {used}, evenly over their names.")
    return optics, (*warnings_of(texture.pictures, splits.independent), *notes)


class PreparedData:
    """The pictures of a texture at one scale: prepared once, used for every checkpoint."""

    def __init__(self, data: TrainingData, scale: float, device: torch.device) -> None:
        self.data = data
        low, high = data.intensities
        self.preprocessing = Preprocessing(
            mode="RGB" if data.mode == "RGB" else "L", scale=scale, low=low, high=high
        )
        self.device = device
        self.masks = [window.mask for window in data.validation]
        self.strata = data.strata

    def prepared(self, pictures: Sequence[np.ndarray]) -> list[Float[Tensor, "c _ _"]]:
        """Bring pictures to mode, scale and device."""
        return [prepare(pixels, self.preprocessing).to(self.device) for pixels in pictures]

    @cached_property
    def fit(self) -> FitPictures:
        """The images to train on."""
        return FitPictures(
            [picture.pixels for picture in self.data.splits.fit],
            self.preprocessing,
            device=self.device,
            optics=self.data.optics,
            unseen=held_out(self.data.validation_seed),
        )

    @cached_property
    def good(self) -> list[Float[Tensor, "c _ _"]]:
        """The first calibration images, for the statistics of the losses."""
        pictures = self.data.splits.calibration[:STATISTICS_IMAGES]
        return self.prepared([picture.pixels for picture in pictures])

    @cached_property
    def windows(self) -> list[Float[Tensor, "c _ _"]]:
        """The validation windows."""
        return self.prepared([window.image for window in self.data.validation])

    @cached_property
    def small_masks(self) -> list[Bool[np.ndarray, "_ _"]]:
        """The validation masks at the scale of the windows, with partly defective pixels."""
        return [
            cv2.resize(mask.astype(np.float32), x.shape[:-3:-1], interpolation=cv2.INTER_AREA) > 0
            for mask, x in zip(self.masks, self.windows, strict=True)
        ]

    def measure(
        self, losses: Losses, rule: Rule | None = None
    ) -> tuple[Calibration, dict[str, float], Threshold]:
        """Calibrate a rule, chosen on *val* if none is given, and measure the losses with it.

        Returns:
            The calibration, the metrics on *val*, and the threshold.
        """
        # Rules are compared on the CPU: it is many small steps, for which a GPU would be slower.
        good = [losses(x[None])[0].cpu() for x in self.good]
        val = [losses(x[None])[0].cpu() for x in self.windows]
        if rule:
            calibration = calibrate(rule, good)
        else:
            rules = candidates(losses=len(good[0]))
            calibration = choose(rules, good, val, self.small_masks, self.strata)
        maps = [
            enlarge(anomaly_map(each, calibration), *mask.shape).numpy()
            for each, mask in zip(val, self.masks, strict=True)
        ]
        top = calibration.rule.top_fraction
        scores = [float(image_score(anomaly_map(each, calibration), top)) for each in good]
        found = fit_threshold(scores, RATES)
        threshold = replace(found, set_on="calibration")
        return calibration, validation_figures(maps, self.data.validation, top), threshold


def validation_figures(
    maps: Sequence[Float[np.ndarray, "_ _"]], windows: Sequence[Window], top_fraction: float
) -> dict[str, float]:
    """Return `val_pixel_ap`, the objective, the average precision of each stratum, and more.

    The objective is the mean over strata of pixel average precision at a fixed prevalence.
    `val_image_auroc` compares windows with a defect with the good ones and the placebos.

    Args:
        maps: The map of each window.
        windows: The validation windows.
        top_fraction: Share of the highest pixels whose mean is the score of a window.
    """
    strata = [window.strata for window in windows]
    counts = metrics.count(maps, [window.mask for window in windows])
    each = objective.stratum_average_precision(counts, strata)
    scores = [float(image_score(torch.from_numpy(map_), top_fraction)) for map_ in maps]
    ranked = objective.image_auroc(np.array(scores), strata)
    figures = {"val_pixel_ap": objective.of_map(each)}
    if ranked is not None:
        figures["val_image_auroc"] = ranked
    return figures | {f"val_pixel_ap_{stratum}": value for stratum, value in each.items()}


def smallest_side(data: TrainingData) -> int:
    """Return the shortest side of all good pictures and regions, in pixels."""
    return int(min(min(picture.pixels.shape[:2]) for picture in _pictures(data)))


def check_sizes(data: TrainingData, *, patch: int, scale: float) -> None:
    """Refuse pictures that are smaller than a patch, before any work.

    Raises:
        BadImageError: A picture is too small.
    """
    for picture in _pictures(data):
        height, width = picture.pixels.shape[:2]
        if round(min(height, width) * scale) < patch:
            need = -(-patch // scale)
            raise BadImageError(
                f"{picture.name} has {height}x{width} pixels; a patch of {patch} "
                f"at scale {scale} needs {need:.0f}x{need:.0f}. Use larger images, a "
                "smaller patch or a larger scale."
            )


def _pictures(data: TrainingData) -> list[textures.Picture]:
    return [*data.splits.fit, *data.splits.val, *data.splits.calibration]
