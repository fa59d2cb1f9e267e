"""Using a detector needs torch and little else; asking for help needs not even that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from registry import bundle
from registry.bundle import Bundle
from registry.folder_shelf import FolderShelf
from tests.exams import publish
from tests.textures_drawn import draw, write

HEAVY = {"ray", "mlflow", "optuna", "boto3", "botocore"}


def imported(code: str, *arguments: str) -> set[str]:
    """Run code in a Python of its own, and return the packages that it has imported."""
    listing = "\nimport sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    ended = subprocess.run(
        [sys.executable, "-c", code + listing, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(ended.stdout.splitlines()[-1].split())


def test_importing_zoo_imports_neither_torch_nor_anything_heavier() -> None:
    found = imported("import zoo")
    assert "zoo" in found
    assert not found & (HEAVY | {"torch", "numpy", "PIL", "registry"})


def test_loading_and_scoring_import_nothing_that_only_a_search_needs(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    bundle.save(tiny_bundle, tmp_path / "b")
    publish(FolderShelf(tmp_path / "shelf"), tmp_path / "b", texture="weave", version=1)
    import numpy as np

    image = write(tmp_path / "a.png", draw(64, 72, np.random.default_rng(0)))
    found = imported(
        "import sys, zoo\n"
        "assert zoo.names(shelf=sys.argv[1]) == ['weave']\n"
        "score = zoo.load('weave', shelf=sys.argv[1]).score(sys.argv[2])\n"
        "assert score.map.shape == (64, 72)",
        str(tmp_path / "shelf"),
        str(image),
    )
    assert {"torch", "registry"} <= found
    assert not found & (HEAVY | {"search_spaces", "scipy", "sklearn", "skimage"})


def test_loading_a_detector_imports_nothing_that_only_training_or_scoring_needs(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    bundle.save(tiny_bundle, tmp_path / "b")
    publish(FolderShelf(tmp_path / "shelf"), tmp_path / "b", texture="weave", version=1)
    code = "import sys, zoo; zoo.load('weave', shelf=sys.argv[1])"
    found = imported(code, str(tmp_path / "shelf"))
    assert {"torch", "registry"} <= found
    assert not found & (HEAVY | {"cv2", "scipy", "sklearn", "skimage", "cryptography"})


@pytest.mark.parametrize(
    "arguments", [["--help"], *([name, "--help"] for name in ("search", "train", "score"))]
)
def test_help_imports_nothing_heavy_and_ends_with_an_example(arguments: list[str]) -> None:
    code = (
        "import sys; from zoo import cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "except SystemExit as end: assert end.code == 0, end.code"
    )
    assert not imported(code, *arguments) & (HEAVY | {"torch", "numpy", "scipy", "cv2", "PIL"})


def test_a_name_that_zoo_does_not_have_is_an_attribute_error() -> None:
    import zoo

    with pytest.raises(AttributeError, match="module 'zoo' has no attribute 'laod'"):
        zoo.laod  # noqa: B018  the access is what is tested
