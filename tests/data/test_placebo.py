"""Placebos: good material that fits its place, with the edges of a defect."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from zoo.data.defects.brush import Brush, Pixels, Plane
from zoo.data.defects.families import FAMILIES, Family
from zoo.data.defects.fit_pictures import FitPictures, Style
from zoo.data.defects.optics import Optics
from zoo.data.defects.painting import MARGIN
from zoo.data.defects.placebo import Donors, donors_of, placebo
from zoo.data.preprocessing import Preprocessing, prepare


def grid(phase: float, *, side: int = 320) -> np.ndarray:
    """Draw a mesh of wires."""
    rows, columns = np.mgrid[:side, :side]
    wires = np.cos((rows + phase) / 5.5) + np.cos((columns + 2 * phase) / 6.5)
    noise = np.random.default_rng(int(phase)).normal(0, 0.01, (side, side))
    return np.asarray((0.5 + 0.2 * wires + noise).clip(0, 1), np.float32)[..., None]


def grain(seed: int, *, side: int = 320) -> np.ndarray:
    """Draw grain in which any place is as good as another."""
    noise = np.random.default_rng(seed).normal(size=(side, side)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return np.asarray((0.5 + 0.15 * soft / soft.std()).clip(0, 1), np.float32)[..., None]


def made(
    donors: Donors, image: np.ndarray, count: int = 12, side: int = 48
) -> list[tuple[np.ndarray, np.ndarray]]:
    found = [
        placebo(image, rng=np.random.default_rng(seed), side=side, donors=donors)
        for seed in range(count)
    ]
    return [each for each in found if each is not None]


def test_material_must_fit_its_place_in_a_grid_and_not_in_grain() -> None:
    arranged = donors_of([grid(phase) for phase in (0, 7, 19, 31)])
    loose = donors_of([grain(seed) for seed in range(4)])
    assert arranged.arranged
    assert not loose.arranged
    assert arranged.foretold < 0.4 < 0.8 < loose.foretold


def test_a_placebo_in_a_grid_continues_the_wires() -> None:
    donors = donors_of([grid(phase) for phase in (0, 7, 19, 31)])
    image = grid(11)
    found = made(donors, image)
    assert len(found) >= 3, "half of the places have surroundings that fit too badly"
    random = donors.__class__(images=donors.images, foretold=1.0, limit=np.inf)
    fitting, elsewhere = (
        np.mean([np.abs(painted - image)[mask].mean() for painted, mask in each])
        for each in (found, made(random, image))
    )
    assert fitting < 0.5 * elsewhere


def test_where_nothing_fits_there_is_no_placebo() -> None:
    donors = donors_of([grid(phase) for phase in (0, 7, 19, 31)])
    strict = Donors(images=donors.images, foretold=donors.foretold, limit=0.0)
    assert not made(strict, grid(11))
    assert not made(Donors(images=[grain(0, side=40)], foretold=1.0, limit=np.inf), grain(1))


def test_a_placebo_changes_pixels_only_around_its_mask_and_keeps_the_mean_tone() -> None:
    donors, image = donors_of([grain(seed) for seed in range(4)]), grain(9)
    found = made(donors, image)
    assert len(found) == 12
    for painted, mask in found:
        around = cv2.dilate(mask.astype(np.uint8), np.ones((2 * MARGIN + 1,) * 2, np.uint8)) > 0
        assert not ((painted != image).any(axis=2) & ~around).any()
        assert (painted != image).any(axis=2)[mask].mean() > 0.5
    tones = [painted[mask].mean() - image[mask].mean() for painted, mask in found]
    assert np.abs(tones).mean() < 0.03


def test_no_simple_classifier_of_gradients_tells_a_placebo_that_went_through_the_camera() -> None:
    """Bound: an AUROC of .65; without the camera, whose sharpness is the grain's, above .8.

    Gradients only: the drawn grain has no noise, so its second differences show any edit.
    """
    from sklearn.linear_model import LogisticRegression

    from zoo.scoring.metrics import auroc

    donors = donors_of([grain(seed) for seed in range(6)])

    def features(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        ring = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0
        slopes = np.hypot(*np.gradient(image[..., 0]))[ring]
        return np.array([slopes.mean(), slopes.max(), slopes.std()])

    def told(optics: Optics | None) -> float:
        rows, labels = [], []
        for seed in range(160):
            image, rng = grain(100 + seed, side=96), np.random.default_rng(seed)
            found = placebo(image, rng=rng, side=40, donors=donors, optics=optics)
            assert found is not None
            rows += [features(found[0], found[1]), features(image, found[1])]
            labels += [True, False]
        x, y = np.array(rows), np.array(labels)
        x = (x - x.mean(axis=0)) / x.std(axis=0)
        model = LogisticRegression().fit(x[:160], y[:160])
        return auroc(model.decision_function(x[160:]), y[160:])

    assert told(Optics(blur=2.0)) < 0.65
    assert told(None) > 0.8


# ------------------------------------------------------------------------- paintings of a training


@pytest.fixture
def pictures() -> FitPictures:
    pixels = [np.rint(grain(seed) * 255).astype(np.uint8) for seed in range(3)]
    return FitPictures(
        pixels, Preprocessing(mode="L", scale=0.5, low=0.1), device=torch.device("cpu")
    )


def test_fit_pictures_are_the_prepared_pictures(pictures: FitPictures) -> None:
    assert len(pictures) == 3
    expected = prepare(pictures.pixels[1], pictures.preprocessing)
    assert torch.equal(pictures[1], expected)
    assert FitPictures.of(pictures) is pictures
    plain = FitPictures.of([expected])
    assert torch.equal(plain[0], expected)
    assert plain.preprocessing.scale == 1.0


@pytest.mark.parametrize("placebos", [0.0, 1.0])
def test_a_painting_is_made_at_full_size_and_marks_what_is_defective(
    pictures: FitPictures, placebos: float
) -> None:
    edits = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        painting = pictures.painting(32, rng, Style(placebos=placebos, soft=True))
        assert painting.before.shape == painting.after.shape == (1, 64, 64)
        assert painting.mask.shape == painting.edited.shape == (64, 64)
        assert painting.mask.any()
        assert painting.edited[painting.mask].all()
        changed = ((painting.after - painting.before).abs() > 0.02)[0].numpy()
        around = cv2.dilate(painting.edited.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        assert (changed & ~around).mean() < 0.01
        edits.append(bool((painting.edited & ~painting.mask).any()))
    assert any(edits) == bool(placebos)


def test_families_that_are_not_to_be_seen_are_never_painted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: set[str] = set()

    def spying(name: str) -> Family:
        family = FAMILIES[name]

        def paint(patch: Pixels, brush: Brush) -> tuple[Pixels, Plane]:
            seen.add(name)
            return family.paint(patch, brush)

        return replace(family, paint=paint)

    unseen = frozenset({"stain", "scratch", "disorder"})
    made = FitPictures(
        [np.rint(grain(0) * 255).astype(np.uint8)],
        Preprocessing(mode="L"),
        device=torch.device("cpu"),
        unseen=unseen,
    )
    for name in list(FAMILIES):
        monkeypatch.setitem(FAMILIES, name, spying(name))
    for seed in range(60):
        made.painting(32, np.random.default_rng(seed))
    assert seen == set(FAMILIES) - unseen
