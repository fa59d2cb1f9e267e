"""Reading pictures starts fast: it does not import the packages that only painting needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

READING = ["images", "textures", "splits", "testset"]
PAINTING = {"cv2", "scipy", "skimage", "sklearn", "matplotlib"}


@pytest.mark.parametrize(
    ("modules", "absent"),
    [(READING, PAINTING | {"torch"}), (["preprocessing", "patches"], PAINTING)],
)
def test_reading_and_preparing_import_nothing_that_only_painting_needs(
    modules: list[str], absent: set[str]
) -> None:
    code = f"import sys; from zoo.data import {', '.join(modules)}; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    imported = set(ended.stdout.split())
    assert {f"zoo.data.{module}" for module in modules} <= imported
    assert not imported & absent
