"""The pictures of a training are prepared when they are used, with the values of all others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.textures_drawn import draw
from zoo.data.defects.fit_pictures import FitPictures, Style, canvas_of
from zoo.data.images import Mode
from zoo.data.patches import Patches
from zoo.data.preprocessing import Preprocessing, prepare

CPU = torch.device("cpu")


def pictures(mode: Mode, dtype: type[np.unsignedinteger], scale: float) -> FitPictures:
    rng, top = np.random.default_rng(0), np.iinfo(dtype).max
    pixels = []
    for height, width in ((41, 53), (64, 48)):
        grey = draw(height, width, rng).astype(np.float64).reshape(height, width, -1)[:, :, :1]
        channels = [grey / 255, 1 - grey / 255, grey / 510][: 3 if mode == "RGB" else 1]
        pixels.append(np.rint(np.concatenate(channels, axis=2) * top).astype(dtype))
    preprocessing = Preprocessing(mode=mode, scale=scale, low=0.07, high=0.83)
    return FitPictures(pixels, preprocessing, device=CPU)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(("dtype", "stored"), [(np.uint8, torch.uint8), (np.uint16, torch.int16)])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_patches_are_those_of_the_prepared_pictures_bit_by_bit(
    mode: Mode, dtype: type[np.unsignedinteger], stored: torch.dtype, scale: float
) -> None:
    source = pictures(mode, dtype, scale)
    prepared = [prepare(each, source.preprocessing) for each in source.pixels]
    canvas = canvas_of(source)
    assert canvas.pixels.dtype == (stored if scale == 1 else torch.float32)
    drawn = [
        Patches(each, patch=16, generator=torch.Generator().manual_seed(1), rotations=True).draw(40)
        for each in (canvas, prepared)
    ]
    assert drawn[0].equal(drawn[1])
    assert len(set(drawn[0].ravel().tolist())) > 100


def test_a_slice_has_the_pictures_of_its_places() -> None:
    source = pictures("L", np.uint8, 1.0)
    assert [each.shape for each in source[1:]] == [(1, 64, 48)]
    assert source[1:][0].equal(source[-1])


def test_faint_defects_change_less_than_clear_ones() -> None:
    source = pictures("L", np.uint8, 1.0)
    changes = {}
    for contrasts in ((0.05, 0.2), (0.8, 1.0)):
        style = Style(contrasts=contrasts)
        painted = [source.painting(16, np.random.default_rng(turn), style) for turn in range(40)]
        changes[contrasts] = np.mean(
            [float((each.after - each.before).abs()[0, each.mask].mean()) for each in painted]
        )
    assert changes[0.05, 0.2] < 0.8 * changes[0.8, 1.0]
