"""Pictures and plots for people: what a detector sees, and how detectors compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from PIL import Image

from zoo.bundle import storage_error, write_whole
from zoo.detector import Score
from zoo.textures import to_mode, unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAT = 0.55  # opacity of the hottest pixel over the picture
SHOWN = 256  # pixels; smaller images are enlarged for the eye
RED, GREEN = (255, 40, 40), (60, 255, 60)


def overlay(pixels: Shaped[np.ndarray, "h w c"], score: Score) -> UInt8[np.ndarray, "h w 3"]:
    """Lay the map over its image: warmer is more anomalous, outlined in red above the threshold.

    The colour scale is the detector's, not the image's: half way is the threshold. A good image
    therefore stays cool.
    """
    picture = (unit(to_mode(pixels, "RGB")) * 255).round().astype(np.uint8)
    reach = max(abs(score.threshold), 1e-9)
    heat = np.clip((score.map - score.threshold) / (2 * reach) + 0.5, 0, 1)
    # OpenCV speaks BGR.
    colour = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    alpha = HEAT * np.clip(heat * 2 - 0.4, 0, 1)[:, :, None]
    mixed = (picture * (1 - alpha) + colour * alpha).astype(np.uint8)
    return outlined(mixed, score.mask, RED)


def outlined(
    picture: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    colour: tuple[int, int, int],
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a mask's outline."""
    lines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    width = max(1, round(min(mask.shape) / 256))
    drawn = cv2.drawContours(np.ascontiguousarray(picture), lines, -1, colour, width)
    return np.asarray(drawn, dtype=np.uint8)


def side_by_side(
    pixels: Shaped[np.ndarray, "h w c"], score: Score, truth: Bool[np.ndarray, "h w"] | None = None
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Put the image, its true mask outlined in green if it is known, beside its overlay.

    Images with a side under 256 pixels are shown enlarged.
    """
    picture = (unit(to_mode(pixels, "RGB")) * 255).round().astype(np.uint8)
    left = picture if truth is None else outlined(picture, truth, GREEN)
    gap = np.full((picture.shape[0], 4, 3), 255, np.uint8)
    pair = np.concatenate([left, gap, overlay(pixels, score)], axis=1)
    times = max(1, SHOWN // min(picture.shape[:2]))
    return pair.repeat(times, axis=0).repeat(times, axis=1)


def save(picture: UInt8[np.ndarray, "h w 3"], path: Path) -> Path:
    """Write a picture, its folder made if need be.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    except OSError as error:
        raise storage_error(f"Cannot write the picture {path.name}", error) from error
    return path


def stacked(pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> UInt8[np.ndarray, "h w 3"]:
    """Put pictures under one another, the narrower ones filled up with white."""
    width = max(picture.shape[1] for picture in pictures)
    rows = [
        np.pad(picture, ((0, 4), (0, width - picture.shape[1]), (0, 0)), constant_values=255)
        for picture in pictures
    ]
    return np.concatenate(rows)


def write(text: str, path: Path) -> Path:
    """Write a table or a page, replaced in one step, its folder made if need be.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())
    except OSError as error:
        raise storage_error(f"Cannot write {path.name}", error) from error
    return path


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One figure of several systems, to be drawn beside others.

    Attributes:
        title: Of the figure.
        values: What each system reached, once a seed; empty if it failed.
        published: What a paper says, by system.
    """

    title: str
    values: Mapping[str, Sequence[float]]
    published: Mapping[str, float]


def panels(drawn: Sequence[Panel], path: Path) -> Path:
    """Draw figures side by side: a bar for the mean, a dot a seed, a diamond where published.

    All panels have the same systems in the same order.

    Raises:
        StorageError: The plot cannot be written.
    """
    systems = list(drawn[0].values)
    figure = _figure(4.2 * len(drawn) + 1.5, 0.45 * len(systems) + 1.6)
    for number, (panel, axes) in enumerate(
        zip(drawn, figure.subplots(1, len(drawn), squeeze=False)[0], strict=True)
    ):
        for row, name in enumerate(systems):
            values = list(panel.values[name])
            if values:
                axes.barh(row, sum(values) / len(values), color="#9bb7d4")
                axes.plot(values, [row] * len(values), "o", color="#1f3b57", markersize=4)
            if name in panel.published:
                axes.plot(panel.published[name], row, "D", color="#c8372d", markersize=6)
        axes.set(title=panel.title, xlim=(0, 1), ylim=(len(systems) - 0.5, -0.5))
        axes.set_yticks(range(len(systems)), systems if number == 0 else [""] * len(systems))
    known = any(panel.published for panel in drawn)
    key = "bar: mean; dot: one seed" + "; red diamond: published (Peccia 2021)" * known
    figure.supxlabel(key, fontsize=8)
    return _saved(figure, path)


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """Points of two figures, some of them with a name.

    Attributes:
        title: What they are.
        labels: Of the two axes, horizontal first.
        across: Horizontal values.
        up: Vertical values.
        marked: Index of the points that have a name.
    """

    title: str
    labels: tuple[str, str]
    across: Sequence[float]
    up: Sequence[float]
    marked: Mapping[str, int]


def scatter(cloud: Cloud, path: Path) -> Path:
    """Draw points, and those that have a name as such.

    Raises:
        StorageError: The plot cannot be written.
    """
    figure = _figure(6.0, 5.0)
    axes = figure.subplots()
    axes.plot(cloud.across, cloud.up, "o", color="#9bb7d4", markeredgecolor="#1f3b57")
    for (name, at), look in zip(cloud.marked.items(), ("*", "D", "s", "^"), strict=False):
        axes.plot(cloud.across[at], cloud.up[at], look, label=name, color="#c8372d", alpha=0.7)
    axes.set(title=cloud.title, xlabel=cloud.labels[0], ylabel=cloud.labels[1])
    axes.legend()
    return _saved(figure, path)


def _figure(width: float, height: float) -> Figure:
    """Make an empty figure in inches, without pyplot: it would keep it, and choose a screen."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _saved(figure: Figure, path: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png")
    except OSError as error:
        raise storage_error(f"Cannot write the plot {path.name}", error) from error
    return path
