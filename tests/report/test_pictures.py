"""Pictures in a page: small, within a budget, and what is no picture is left out."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.report.pictures import Pictures, Shot, jpeg, small, stored

NOISE = np.random.default_rng(0).integers(0, 256, (100, 150, 3)).astype(np.uint8)


def shot(content: bytes) -> Shot:
    return Shot(content=content, title="t", says="s")


def test_a_placed_picture_is_the_one_that_was_given() -> None:
    [placed] = Pictures().place([shot(jpeg(NOISE))])
    kind, _, text = str(placed.address).partition(",")
    assert kind == "data:image/jpeg;base64"
    content = base64.b64decode(text)
    assert content == jpeg(NOISE)
    assert Image.open(io.BytesIO(content)).size == (placed.width, placed.height) == (150, 100)


def test_what_does_not_fit_into_the_budget_is_left_out_and_counted() -> None:
    one = len(base64.b64encode(jpeg(NOISE))) + 40
    budget = Pictures(2 * one)
    assert len(budget.place([shot(jpeg(NOISE))] * 5)) == 2
    assert budget.left_out == 3


def test_what_is_no_picture_is_left_out() -> None:
    contents = [b"", b"<svg onload='x()'/>", b"\xff\xd8\xff and no more", b"\x89PNG\r\n\x1a\n!"]
    budget = Pictures()
    assert budget.place([shot(each) for each in contents]) == []
    assert budget.left_out == len(contents)


def test_a_large_picture_is_reduced_and_a_small_one_is_not() -> None:
    assert small(NOISE, 75).shape == (50, 75, 3)
    assert small(NOISE, 150) is NOISE
    assert small(NOISE[:1], 10).shape == (1, 10, 3)


def test_a_stored_picture_that_is_gone_or_too_large_is_none(tmp_path: Path) -> None:
    (tmp_path / "large.jpg").write_bytes(bytes(2**21 + 1))
    (tmp_path / "a.jpg").write_bytes(b"content")
    assert stored(tmp_path / "a.jpg") == b"content"
    assert stored(tmp_path / "large.jpg") is None
    assert stored(tmp_path / "absent.jpg") is None
    assert stored(tmp_path) is None
