"""The camera of a texture: measured on drawn pictures whose camera is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from zoo.data import textures
from zoo.data.defects.fit_pictures import FitPictures, Style
from zoo.data.defects.optics import Optics, measure_optics
from zoo.data.defects.painting import Look, paint
from zoo.data.defects.validation import validation_set
from zoo.data.preprocessing import Preprocessing, intensity_range
from zoo.data.textures import Picture


def board(*, blur: float, noise: float = 0.01, gain: float = 0.0, seed: int = 0) -> Picture:
    """Draw even squares of random tones through a known camera."""
    rng = np.random.default_rng(seed)
    tones = (rng.random((12, 16)) * 0.6 + 0.2).astype(np.float32)
    image = cv2.resize(tones, (480, 360), interpolation=cv2.INTER_NEAREST)
    image = cv2.GaussianBlur(image, (0, 0), blur)
    image = image + rng.normal(size=image.shape) * np.sqrt(noise**2 + gain * image)
    pixels = np.rint(image.clip(0, 1) * 65535).astype(np.uint16)[..., None]
    return Picture(name=f"{seed}.png", pixels=pixels, key=str(seed))


@pytest.mark.parametrize("blur", [0.7, 1.0, 1.5, 2.0])
def test_the_spread_of_edges_is_measured_to_a_fifth(blur: float) -> None:
    optics, notes = measure_optics([board(blur=blur, noise=0.005, seed=seed) for seed in range(3)])
    assert optics.blur == pytest.approx(blur, rel=0.2)
    assert not notes


@pytest.mark.parametrize("noise", [0.005, 0.02])
def test_the_noise_is_measured_to_a_fifth(noise: float) -> None:
    optics, _ = measure_optics([board(blur=1.5, noise=noise, seed=seed) for seed in range(3)])
    assert optics.noise_at(0.5) == pytest.approx(noise, rel=0.2)
    assert optics.correlation < 0.1


def test_noise_that_grows_with_the_light_is_seen_to_grow() -> None:
    optics, _ = measure_optics([board(blur=1.5, noise=0.003, gain=4e-4)])
    assert optics.noise_at(0.8) > 1.2 * optics.noise_at(0.2)


def test_pictures_without_edges_have_no_sharpness_and_a_line_says_so() -> None:
    rng = np.random.default_rng(0)
    even = np.rint(20000 + 500 * rng.normal(size=(200, 240, 1))).astype(np.uint16)
    optics, notes = measure_optics([Picture(name="a.png", pixels=even, key="a")])
    assert optics.blur is None
    assert len(notes) == 1
    assert "sharpness of the pictures cannot be measured: they have only" in notes[0]
    assert "no edge shows the sharpness" in str(optics)


def test_pictures_that_are_out_of_focus_have_no_sharpness_and_a_line_says_so() -> None:
    optics, notes = measure_optics([board(blur=9.0, noise=1e-4)])
    assert optics.blur is None
    assert len(notes) == 1


def steepest(optics: Optics) -> list[float]:
    """Return the steepest slope of each of 24 holes in an even picture, as a share of its depth."""
    even, found = np.full((96, 96, 1), 0.5, np.float32), []
    for seed in range(24):
        rng, look = np.random.default_rng(seed), Look(size=0.5, contrast=1.0)
        after, _ = paint(even, "hole", rng=rng, look=look, donor=even, optics=optics)
        change = np.abs(after - even)[..., 0]
        found.append(float(np.hypot(*np.gradient(change)).max() / change.max()))
    return found


def test_where_the_sharpness_is_unknown_defects_are_painted_from_sharp_to_soft() -> None:
    sharp, unknown = steepest(Optics()), steepest(Optics(blur=None))
    assert max(unknown) > 0.7 * max(sharp)
    assert min(unknown) < 0.6 * min(sharp)


def test_the_tables_of_jpeg_files_and_the_step_of_the_intensities_are_found(
    tmp_path: Path,
) -> None:
    pixels = (board(blur=1.0).pixels // 257).astype(np.uint8)[..., 0] // 4 * 4
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=60)
    Image.fromarray(pixels).save(tmp_path / "b.png")
    found = {each.name: each for each in textures.find(tmp_path, tmp_path.name).pictures}
    jpeg, _ = measure_optics([found["a.jpg"]])
    plain, _ = measure_optics([found["b.png"]])
    assert jpeg.tables == found["a.jpg"].tables
    assert jpeg.tables is not None
    assert len(jpeg.tables[0]) == 64
    assert plain.tables is None
    assert plain.step == pytest.approx(4 / 255)


def test_a_second_file_of_the_same_kind_hardly_changes_a_picture(
    tmp_path: Path,
) -> None:
    pixels = (board(blur=1.0, noise=0.03).pixels // 257).astype(np.uint8)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "a.jpg", quality=40)
    (picture,) = textures.find(tmp_path, tmp_path.name).pictures
    optics, _ = measure_optics([picture])
    again = optics.filed(picture.pixels)
    first = np.abs(picture.pixels.astype(int) - pixels).mean()
    second = np.abs(again.astype(int) - picture.pixels).mean()
    assert first > 1
    assert second < 0.1 * first


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_drawn_grain_has_the_strength_and_the_fineness_of_the_cameras(correlation: float) -> None:
    optics = Optics(noise=0.02, noise_gain=1e-3, correlation=correlation)
    level = np.full((300, 300, 1), 0.5, np.float32)
    grain = optics.grain(level, np.random.default_rng(0))[..., 0]
    assert grain.std() == pytest.approx(optics.noise_at(0.5), rel=0.05)
    neighbours = np.corrcoef(grain[:, 1:].ravel(), grain[:, :-1].ravel())[0, 1]
    assert neighbours == pytest.approx(correlation, abs=0.12)


def test_a_defect_is_no_sharper_than_the_camera() -> None:
    image = np.full((160, 160, 1), 0.5, np.float32)

    def steepest(blur: float) -> float:
        optics = Optics(blur=blur)
        slopes = []
        for seed in range(8):
            look = Look(size=0.4, contrast=1.0)
            rng = np.random.default_rng(seed)
            painted, _ = paint(image, "hole", rng=rng, look=look, donor=image, optics=optics)
            change = (painted - image)[..., 0]
            slopes.append(np.abs(np.diff(change)).max() / np.ptp(change))
        return float(np.mean(slopes))

    assert steepest(2.0) < 0.55 * steepest(0.5)
    # The slope of a step that is blurred with a standard deviation of 2 pixels.
    assert steepest(2.0) < 1.3 / (2.0 * np.sqrt(2 * np.pi))


# ------------------------------------------------------------------------------ 12 bits in 16


def in_bits(picture: Picture, bits: int) -> Picture:
    """Return a picture of 16 bits as a camera of fewer writes it into a file of 16."""
    return replace(picture, pixels=picture.pixels >> (16 - bits))


def test_a_camera_of_12_bits_is_measured_as_one_of_16() -> None:
    whole = [board(blur=1.5, seed=seed) for seed in range(3)]
    deep, _ = measure_optics(whole)
    optics, notes = measure_optics([in_bits(picture, 12) for picture in whole])
    assert (deep.white, optics.white) == (1.0, 4095 / 65535)
    assert optics.blur == pytest.approx(deep.blur, rel=0.02)
    assert optics.noise_at(0.5) == pytest.approx(deep.noise_at(0.5), rel=0.02)
    assert not notes
    assert "white is 0.0625 of what the file allows" in str(optics)


@pytest.mark.parametrize("bits", [10, 12])
def test_validation_and_training_paint_on_few_bits_as_on_all(bits: int) -> None:
    whole = [board(blur=1.5, seed=seed) for seed in range(4)]
    few = [in_bits(picture, bits) for picture in whole]
    sets = [
        validation_set(each, seed=0, optics=measure_optics(each)[0], per_family=4, window=128)
        for each in (whole, few)
    ]
    assert len(sets[0]) == len(sets[1]) > 20
    top = 2**bits - 1
    for one, other in zip(*sets, strict=True):
        assert (one.family, one.varied) == (other.family, other.varied)
        assert (one.mask == other.mask).mean() > 0.99
        difference = np.abs(one.image / 65535 - other.image / top)
        assert difference.mean() < 0.005, (one.family, one.varied)
    paintings = []
    for pictures in (whole, few):
        pixels = [each.pixels for each in pictures]
        low, high = intensity_range(pixels)
        source = FitPictures(
            pixels,
            Preprocessing(mode="L", scale=1.0, low=low, high=high),
            device=torch.device("cpu"),
            optics=measure_optics(pictures)[0],
        )
        rng = np.random.default_rng(1)
        paintings.append([source.painting(48, rng, Style(placebos=0.5)) for _ in range(8)])
    for first, second in zip(*paintings, strict=True):
        assert (first.after - second.after).abs().mean() < 0.02
        assert (first.mask == second.mask).mean() > 0.98
