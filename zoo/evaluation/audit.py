"""Measures a detector on the test images. No other module reads them.

Promotion measures a new detector, `benchmark` compares methods, and `search_audit` measures the
trials of a search that has ended. No figure from here is used in a training, a search or a
threshold. MLflow is not imported, because a benchmark would count its memory as the method's.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from zoo.data.images import content_key
from zoo.data.layouts import arranged, check_test
from zoo.data.testset import TestPicture, has_test, read_test
from zoo.data.textures import Texture
from zoo.detectors import Detector, Score
from zoo.scoring import metrics
from zoo.scoring.thresholds import expected_alarms, independent_images

SURPRISE = 0.025  # probability below which false alarms are more than chance


@dataclass(frozen=True, kw_only=True)
class ScoredPicture:
    """The result of one detector for one test image.

    Attributes:
        name: Path of the image relative to the texture's folder.
        kind: "good", or the type of the defect.
        mask: True is defective; None if the image has a label and no mask.
        key: A hash of the picture and its mask.
        score: What the detector says.
        seconds: Time to score it, without the time to read it.
    """

    name: str
    kind: str
    mask: Bool[np.ndarray, "h w"] | None
    key: str
    score: Score
    seconds: float

    @property
    def defective(self) -> bool:
        """Whether it shows a defect."""
        return self.mask is None or bool(self.mask.any())


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The results of one detector on all test images."""

    pictures: Sequence[ScoredPicture]

    @property
    def scores(self) -> Float[np.ndarray, " n"]:
        """One score an image."""
        return np.array([each.score.score for each in self.pictures])

    @property
    def alarms(self) -> Bool[np.ndarray, " n"]:
        """Whether the detector calls the image anomalous."""
        return np.array([each.score.is_anomalous for each in self.pictures], np.bool_)

    @property
    def defective(self) -> Bool[np.ndarray, " n"]:
        """Which images show a defect."""
        return np.array([each.defective for each in self.pictures], np.bool_)

    @property
    def located(self) -> bool:
        """Whether a mask shows where a defect is."""
        return any(each.mask is not None and each.defective for each in self.pictures)

    def with_masks(
        self,
    ) -> tuple[list[Float[np.ndarray, "_ _"]], list[Bool[np.ndarray, "_ _"]]]:
        """Return the maps and masks of all images but those that have a label only."""
        pairs = [(each.score.map, each.mask) for each in self.pictures if each.mask is not None]
        return [each for each, _ in pairs], [mask for _, mask in pairs]


def check(texture: Texture) -> list[str]:
    """Read every test image and its mask, so that a damaged file is found before the work starts.

    Without test images there must be no masks.

    Returns:
        Lines for the user about masks that may be wrong.

    Raises:
        BadImageError: An image cannot be read.
        BadMaskError: Images and masks do not belong together.
    """
    check_test(arranged(texture.root, texture.layout))
    pictures = read_test(texture) if has_test(texture) else ()
    black = [each.name for each in pictures if each.kind != "good" and not each.defective]
    if not black:
        return []
    return [
        f"{len(black)} test pictures of a kind of defect have a black mask, {black[0]} for one: "
        "they count as good. Mark the defects, if they have any."
    ]


def score_test(detector: Detector, texture: Texture) -> Scored:
    """Score the test images; each is read once, one after the other.

    Raises:
        EmptyFolderError: There is no test image.
        BadImageError: An image cannot be read.
        BadMaskError: An image has no mask.
    """
    pictures = []
    for picture in read_test(texture):
        began = time.perf_counter()
        score = detector.score(picture.pixels)
        seconds = time.perf_counter() - began
        truth = "defective" if picture.mask is None else content_key(picture.mask[:, :, None])
        pictures.append(
            ScoredPicture(
                name=picture.name,
                kind=picture.kind,
                mask=picture.mask,
                key=f"{content_key(picture.pixels)} {truth}",
                score=score,
                seconds=seconds,
            )
        )
    return Scored(pictures=pictures)


def read_again(texture: Texture, names: Collection[str]) -> Iterator[TestPicture]:
    """Yield the test pictures of these names: an audit does not keep what it has read.

    Raises:
        BadImageError: One cannot be read any more.
        BadMaskError: One has no mask any more.
    """
    return read_test(texture, only=names)


def pixel_ap(scored: Scored) -> float:
    """Return the average precision over all pixels, with their own share of defective pixels.

    Raises:
        DataError: No pixel is defective, or none is good.
    """
    return metrics.average_precision(*_pooled(scored))


def figures(scored: Scored) -> dict[str, float]:
    """Return the metrics of the scored test images.

    Returns:
        Always `test_images`, `test_good_images` and `test_seconds_per_image`. With defective images
        also `test_detection_rate` and, if there are masks, `test_pixel_ap` (at the share of
        defective pixels that the test set has, as in published tables), `test_pixel_auroc`,
        `test_aupro`, `test_pixel_f1` of the outlines and `test_pixel_f1_best` of the best
        threshold. With good images also `test_false_alarm_rate`. With both also
        `test_image_auroc`.
    """
    defective, seconds = scored.defective, [each.seconds for each in scored.pictures]
    found = {
        "test_images": float(defective.size),
        "test_seconds_per_image": float(np.mean(seconds)),
    }
    if scored.located:
        scores, labels = _pooled(scored)
        found["test_pixel_ap"] = metrics.average_precision(scores, labels)
        found["test_pixel_auroc"] = metrics.auroc(scores, labels)
        found["test_aupro"] = metrics.aupro(*scored.with_masks())
        found["test_pixel_f1"] = metrics.f1(_outlined(scored), labels)
        found["test_pixel_f1_best"] = metrics.best_f1(scores, labels)
    if defective.any():
        found["test_detection_rate"] = float(scored.alarms[defective].mean())
    found["test_good_images"] = float((~defective).sum())
    if not defective.all():
        found["test_false_alarm_rate"] = float(scored.alarms[~defective].mean())
    if defective.any() and not defective.all():
        found["test_image_auroc"] = metrics.auroc(scored.scores, defective)
    return found


def doubts(found: Mapping[str, float], threshold: Mapping[str, Any]) -> list[str]:
    """Return why the verdicts of a detector cannot be trusted, by its audit; empty if they can.

    Args:
        found: The result of `audit`.
        threshold: That of the bundle: its expected rate of false alarms, and from how many good
            pictures it was set.

    Returns:
        A line if so many good test images are called anomalous that it happens in fewer than
        `SURPRISE` of all cases at the stated rate, and a line if no defective one is.
    """
    lines = []
    good, rate = int(found.get("test_good_images", 0)), float(threshold["false_alarm_rate"])
    alarms = round(found.get("test_false_alarm_rate", 0.0) * good)
    expected = expected_alarms(good, images=independent_images(threshold), false_alarm_rate=rate)
    if alarms and expected.sf(alarms - 1) < SURPRISE:
        lines.append(
            f"It calls {alarms} of {good} good test pictures anomalous, where {rate:.0%} are "
            "expected: the good pictures it was calibrated on are not like them. Search with good "
            "pictures of the same line, or recalibrate it with `zoo recalibrate`."
        )
    if found.get("test_detection_rate") == 0:
        defective = int(found["test_images"]) - good
        lines.append(
            f"It calls none of {defective} defective test pictures anomalous. Search for longer, "
            "or with more good pictures."
        )
    return lines


def audit(detector: Detector, texture: Texture) -> dict[str, float]:
    """Measure a detector on the test images; each is read once, one after the other.

    Returns:
        The metrics, as `figures` returns them.

    Raises:
        EmptyFolderError: There is no test image.
        BadImageError: An image cannot be read.
        BadMaskError: An image has no mask.
    """
    return figures(score_test(detector, texture))


def _pooled(scored: Scored) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Return the scores and labels of all pixels of all images with a mask."""
    maps, masks = scored.with_masks()
    scores = np.concatenate([each.ravel() for each in maps])
    return scores, np.concatenate([mask.ravel() for mask in masks])


def _outlined(scored: Scored) -> Bool[np.ndarray, " n"]:
    """Return which pixels of the same images the detector calls anomalous, in the same order."""
    own = [each.score.mask for each in scored.pictures if each.mask is not None]
    return np.concatenate([each.ravel() for each in own])
