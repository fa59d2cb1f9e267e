"""What Python code hands over as a picture: taken as it is, or refused with what is accepted."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest
import torch
from PIL import Image

from registry.bundle import Bundle
from tests.data.pictures_written import drawn, write
from zoo.data.images import as_pixels
from zoo.detectors import Detector
from zoo.errors import BadImageError

PIXELS = drawn()[..., 0]  # 48 by 64, grey
DEEP = PIXELS.astype(np.uint16) * 257


class Somewhere:
    """A path of another library."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


def on_disk(folder: Path) -> Path:
    return write(folder / "a.png", PIXELS[..., None])


def mapped(folder: Path) -> np.ndarray:
    np.save(folder / "a.npy", PIXELS)
    return np.asanyarray(np.load(folder / "a.npy", mmap_mode="r"))


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def closed(folder: Path) -> Any:
    file = on_disk(folder).open("rb")
    file.close()
    return file


ALIKE: dict[str, tuple[Callable[[Path], Any], np.ndarray]] = {
    "text": (lambda folder: str(on_disk(folder)), PIXELS),
    "a path of another library": (lambda folder: Somewhere(on_disk(folder)), PIXELS),
    "bytes": (lambda folder: on_disk(folder).read_bytes(), PIXELS),
    "a buffer": (lambda folder: memoryview(on_disk(folder).read_bytes()), PIXELS),
    "BytesIO": (lambda folder: io.BytesIO(on_disk(folder).read_bytes()), PIXELS),
    "a Pillow image": (lambda folder: Image.fromarray(PIXELS), PIXELS),
    "a mapped array": (mapped, PIXELS),
    "a read-only array": (lambda folder: read_only(PIXELS), PIXELS),
    "negative strides": (lambda folder: PIXELS[::-1, ::-1].copy()[::-1, ::-1], PIXELS),
    "in Fortran's order": (lambda folder: np.asfortranarray(PIXELS), PIXELS),
    "every second pixel": (lambda folder: PIXELS.repeat(2, 0).repeat(2, 1)[::2, ::2], PIXELS),
    "big-endian": (lambda folder: DEEP.astype(">u2"), DEEP),
    "float16": (lambda folder: (PIXELS > 99).astype(np.float16), (PIXELS > 99) * np.uint16(65535)),
    "big-endian floats": (lambda folder: (DEEP / 65535).astype(">f8"), DEEP),
    "booleans": (lambda folder: PIXELS > 99, (PIXELS > 99) * np.uint8(255)),
    "a matrix": (lambda folder: PIXELS.view(np.matrix), PIXELS),
    "masked, nothing hidden": (lambda folder: np.ma.masked_array(PIXELS, mask=False), PIXELS),
    "a tensor": (lambda folder: torch.from_numpy(PIXELS)[None], PIXELS),
    "a tensor with a gradient": (
        lambda folder: torch.from_numpy(DEEP / np.float32(65535)).requires_grad_(), DEEP
    ),
    "a tensor of 16-bit floats": (
        lambda folder: torch.from_numpy(PIXELS > 99).bfloat16(), (PIXELS > 99) * np.uint16(65535)
    ),
}  # fmt: skip
REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "floats to 255": (lambda folder: PIXELS.astype(np.float32), "these lie in [60, 23"),
    "NaN": (lambda folder: np.full((48, 64), np.nan), "these lie in [nan, nan]"),
    "infinity": (lambda folder: np.full((48, 64), np.inf), "these lie in [inf, inf]"),
    "whole numbers": (lambda folder: PIXELS.astype(np.int64), "not int64"),
    "complex numbers": (lambda folder: PIXELS * 1j, "not complex128"),
    "objects": (lambda folder: PIXELS.astype(object), "not object"),
    "an array of paths": (lambda folder: np.array(["a.png"]), "shape (1,) and type <U5"),
    "nothing": (lambda folder: np.zeros((0, 5), np.uint8), "shape (0, 5)"),
    "a number": (lambda folder: np.uint8(3), "not uint8"),
    "an array of no axis": (lambda folder: np.array(3, np.uint8), "shape () and type uint8"),
    "hidden values": (
        lambda folder: np.ma.masked_less(PIXELS, 100), "mask hides"
    ),
    "a tensor without data": (lambda folder: torch.empty(48, 64, device="meta"), "on meta"),
    "a sparse tensor": (lambda folder: torch.eye(9).to_sparse(), "torch.sparse_coo"),
    "a tensor with the channels last": (
        lambda folder: torch.zeros(48, 64, 3), "shape (48, 64, 3)"
    ),
    "a file of text": (lambda folder: io.StringIO("words"), "open for reading bytes ('rb')"),
    "a closed file": (closed, "I/O operation on closed file"),
    "an empty file": (lambda folder: io.BytesIO(), "it is empty"),
    "a mapping": (lambda folder: {"image": PIXELS}, "not dict"),
    "none": (lambda folder: None, "not NoneType"),
    "a table": (lambda folder: pd.DataFrame(PIXELS), "not DataFrame"),
    "a set": (lambda folder: {"a.png"}, "not set"),
}  # fmt: skip


@pytest.fixture(scope="module")
def detector(tiny_bundle: Bundle) -> Detector:
    return Detector(tiny_bundle)


@pytest.mark.parametrize("name", ALIKE)
def test_whatever_holds_a_picture_scores_as_its_pixels_do(
    name: str, detector: Detector, tmp_path: Path
) -> None:
    given, truth = ALIKE[name]
    np.testing.assert_array_equal(as_pixels(given(tmp_path))[..., 0], truth)
    expected = detector.score(truth)
    found = detector.score(given(tmp_path))
    np.testing.assert_array_equal(found.map, expected.map)
    assert detector.score([given(tmp_path), truth])[0].score == pytest.approx(expected.score)
    np.testing.assert_array_equal(detector.map(given(tmp_path)), detector.map(truth[..., None]))
    np.testing.assert_array_equal(detector.score_map(given(tmp_path)), detector.score_map(truth))
    assert {each.shape for each in detector.losses(given(tmp_path)).values()} == {truth.shape}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("act", ["score", "map", "score_map", "losses"])
def test_what_is_no_picture_is_refused_with_its_type_and_what_is_accepted(
    name: str, act: str, detector: Detector, tmp_path: Path
) -> None:
    given, said = REFUSED[name]
    with pytest.raises(BadImageError, match=re.escape(said)) as told:
        getattr(detector, act)(given(tmp_path))
    assert len(str(told.value).splitlines()) == 1
    assert str(told.value).endswith(".")


def test_a_file_object_is_one_picture_and_not_its_lines(detector: Detector, tmp_path: Path) -> None:
    with on_disk(tmp_path).open("rb") as file:
        found = detector.score(file)
    np.testing.assert_array_equal(found.map, detector.score(PIXELS).map)


def test_a_series_of_paths_is_several_pictures(detector: Detector, tmp_path: Path) -> None:
    paths = pd.Series([on_disk(tmp_path), str(on_disk(tmp_path))], index=[7, 3])
    assert [each.score for each in detector.score(paths)] == [detector.score(PIXELS).score] * 2


def test_a_generator_that_fails_midway_gives_what_came_before_and_its_own_error(
    detector: Detector,
) -> None:
    def camera() -> Iterator[np.ndarray]:
        yield PIXELS
        raise ConnectionError("the camera is gone")

    scores = detector.score(camera())
    assert next(scores).score == detector.score(PIXELS).score
    with pytest.raises(ConnectionError, match="the camera is gone"):
        next(scores)


def test_a_list_of_nothing_has_no_scores_and_what_is_given_is_not_changed(
    detector: Detector,
) -> None:
    assert detector.score([]) == []
    given = PIXELS.copy()
    detector.score([given, given[::-1]])
    np.testing.assert_array_equal(given, PIXELS)
