"""Bundles and pointers by somebody who wishes us ill: each refused, none run.

Hashes protect from accidents and not from an author, so what is forged here is signed. What nobody
thought of is drawn in `test_hostile_inputs.py`.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save as save_tensors

from registry import bundle
from registry.bundle import CARD, WEIGHTS, Bundle
from registry.folder_shelf import FolderShelf
from tests.forged import EDGES, afresh, torch_weights, with_value, with_values, with_weights
from zoo.data.statistics import STATISTICS
from zoo.detectors import Detector, card
from zoo.errors import BadImageError, BundleError

SECONDS = 5.0  # to refuse anything
MEGABYTES = 600  # beyond what torch takes, to refuse anything


class Bomb:
    """What leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.write_text, (self.trace, "it ran")


def with_text(content: bytes) -> Callable[[Path], None]:
    """Return what puts another card in its place."""

    def change(folder: Path) -> None:
        (folder / CARD).write_bytes(content)

    return change


def header(said: Any) -> bytes:
    """Return a safetensors file with this header and eight bytes of data."""
    text = json.dumps(said).encode()
    return struct.pack("<Q", len(text)) + text + bytes(8)


def tensor(shape: list[Any], *, dtype: str = "F32", end: int = 8) -> bytes:
    """Return a file of one tensor that claims a shape."""
    return header({"w": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}})


def torch_file(content: Any) -> bytes:
    """Return a file of torch.save, which is a zip with a pickle."""
    disk = io.BytesIO()
    torch.save(content, disk)
    return disk.getvalue()


def zip_bomb() -> bytes:
    """Return a megabyte that unzips to a gigabyte."""
    disk = io.BytesIO()
    with zipfile.ZipFile(disk, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", bytes(2**30))
    return disk.getvalue()


def in_the_place(name: str, make: Callable[[Path], None]) -> Callable[[Path], None]:
    """Return what puts something that is no file in a file's place."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


def sparse(path: Path) -> None:
    """Make a file that claims four gigabytes and takes none."""
    with path.open("wb") as file:
        file.truncate(2**32)


def not_finite(blob: bytes) -> bytes:
    """Return the weights with one that is not a number."""
    weights = torch_weights(blob)
    first = next(name for name, each in weights.items() if each.is_floating_point())
    weights[first].view(-1)[0] = torch.nan
    return save_tensors(weights)


TRACE = Path(os.environ.get("TMPDIR", "/tmp")) / f"zoo-trace-{os.getpid()}"
HOSTILE: dict[str, Callable[[Path], None]] = {
    "weights are a pickle": with_weights(lambda blob: pickle.dumps(Bomb(TRACE))),
    "weights are a file of torch": with_weights(lambda blob: torch_file(Bomb(TRACE))),
    "weights are tensors of torch": with_weights(lambda blob: torch_file(torch_weights(blob))),
    "weights are a zip bomb": with_weights(lambda blob: zip_bomb()),
    "weights are nothing": with_weights(lambda blob: b""),
    "weights are noise": with_weights(lambda blob: np.random.default_rng(0).bytes(len(blob))),
    "weights are cut": with_weights(lambda blob: blob[: len(blob) // 2]),
    "weights go on": with_weights(lambda blob: blob + bytes(2**20)),
    "weights are not finite": with_weights(not_finite),
    "weights are of another": with_weights(lambda blob: tensor([2])),
    "header beyond the file": with_weights(lambda blob: struct.pack("<Q", 2**63) + blob[8:]),
    "header of no JSON": with_weights(lambda blob: struct.pack("<Q", 8) + b"{{{{{{{{"),
    "header nested": with_weights(lambda blob: struct.pack("<Q", 200_000) + b"[" * 200_000),
    "shape too large": with_weights(lambda blob: tensor([2**40, 2**40])),
    "shape that overflows": with_weights(lambda blob: tensor([2**32, 2**32])),
    "shape negative": with_weights(lambda blob: tensor([-1])),
    "shape of words": with_weights(lambda blob: tensor(["two"])),
    "dtype unknown": with_weights(lambda blob: tensor([2], dtype="Q7")),
    "offsets beyond the file": with_weights(lambda blob: tensor([2**30], end=2**32)),
    "card is a pickle": with_text(pickle.dumps(Bomb(TRACE))),
    "card is nested": with_text(b"[" * 200_000),
    "card is nested and closed": with_text(b'{"a":' * 90_000 + b"1" + b"}" * 90_000),
    "card is a list": with_text(b"[]"),
    "card is a number of many digits": with_text(b"9" * 100_000),
    "card is not unicode": with_text(b"\xff\xfe{}"),
    "card is not finite": with_text(b'{"format": 1, "a": NaN}'),
    "card is a directory": in_the_place(CARD, lambda path: path.mkdir()),
    "card is a device": in_the_place(CARD, lambda path: path.symlink_to("/dev/zero")),
    "card is a pipe": in_the_place(CARD, os.mkfifo),
    "card is four gigabytes": in_the_place(CARD, sparse),
    "card is a loop": in_the_place(CARD, lambda path: path.symlink_to(path)),
    "weights are a device": in_the_place(WEIGHTS, lambda path: path.symlink_to("/dev/zero")),
    "weights are a pipe": in_the_place(WEIGHTS, os.mkfifo),
    "weights are four gigabytes": in_the_place(WEIGHTS, sparse),
    "weights are somebody's": in_the_place(WEIGHTS, lambda path: path.symlink_to("/etc/passwd")),
    "format newer": with_value("format", bundle.FORMAT + 1),
    "format a word": with_value("format", "1"),
    "texture a path": with_value("texture", ["../../etc"]),
    "method a path": with_value("method", "../../os"),
    "method a module": with_value("method", "os.system"),
    "config wide": with_value("config.width", 1024),
    "config wide and deep": with_value(
        "config", {"patch": 512, "depth": 6, "width": 1024, "latent_channels": 4096,
                   "discriminator_depth": 6, "output_stride": 1},
    ),
    "config without bounds": with_value("config.width", 10**12),
    "config unknown": with_value("config.__class__", "x"),
    "config a list": with_value("config", []),
    "config a word": with_value("config.depth", "2"),
    "output stride of nothing": with_value("config.output_stride", None),
    "mode unknown": with_value("preprocessing.mode", "CMYK"),
    "scale 0": with_value("preprocessing.scale", 0),
    "scale a word": with_value("preprocessing.scale", "1"),
    "scale huge": with_value("preprocessing.scale", 1e9),
    "threshold none": with_value("threshold.value", None),
    "threshold a word": with_value("threshold.value", "high"),
    "threshold not a number": with_value("threshold.value", "nan"),
    "scores of words": with_value("threshold.scores", ["1", "2"]),
    "scores as taken of words": with_value("threshold.scores_as_taken", ["1", "2"]),
    "groups of words": with_value("threshold.groups", ["a", "b"]),
    "statistics of words": with_value("threshold.statistics", {"brightness": ["1", "2"]}),
    "statistics of nothing": with_value("threshold.statistics", {"background": []}),
    "statistics without end": with_value("threshold.statistics", {"contrast": [0.5] * 20_000}),
    "statistics huge": with_value("threshold.statistics", {"sharpness": [1e300, 0.0]}),
    "statistics no list": with_value("threshold.statistics", {"sharpness": {"0": 1.0}}),
    "statistics a number": with_value("threshold.statistics", 3),
    "statistics none": with_value("threshold.statistics", None),
    "mean of words": with_value("calibration.mean", ["1", "2"]),
    "filter of nothing": with_value("calibration.rule.mean_filter", 2.5e300),
    "output stride huge": with_value("config.output_stride", 10**9),
    "views without end": with_value("config.views", 10**9),
    "threshold a list": with_value("threshold", [1]),
    "no rule": with_value("calibration", {}),
    "rule unknown": with_value("calibration.rule.aggregation", "eval"),
    "rule of too many": with_value("calibration.rule.weights", [0.1] * 9),
    "mean of too few": with_value("calibration.mean", []),
    "covariance ragged": with_value("calibration.covariance", [[1.0], [1.0, 2.0]]),
    "covariance of nothing": with_values(
        {
            "calibration.rule.aggregation": "mahalanobis",
            "calibration.covariance": [[1.0, 9.0], [9.0, 1.0]],
        }
    ),
    "top of everything": with_value("calibration.rule.top_fraction", 7),
    "unknown key": with_value("run_me", "import os"),
}  # fmt: skip


@pytest.fixture(scope="module")
def sound(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good bundle, to be copied."""
    made = tmp_path_factory.mktemp("sound") / "bundle"
    bundle.save(tiny_bundle, made)
    return made


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "bundle"))


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_bundle_is_refused_at_once_and_nothing_of_it_runs(how: str, folder: Path) -> None:
    HOSTILE[how](folder)
    began = time.monotonic()
    with pytest.raises(BundleError):
        Detector(bundle.load(folder))
    assert time.monotonic() - began < SECONDS
    assert not TRACE.exists()


def test_the_trap_works() -> None:
    pickle.loads(pickle.dumps(Bomb(TRACE)))
    assert TRACE.read_text() == "it ran"
    TRACE.unlink()


def test_refusing_takes_no_memory(folder: Path, tmp_path: Path) -> None:
    for number, change in enumerate(HOSTILE.values()):
        shutil.copytree(folder, tmp_path / "all" / str(number))
        change(tmp_path / "all" / str(number))
    code = f"""
import resource, sys
from pathlib import Path
from registry import bundle
from zoo.detectors import Detector, card
from zoo.errors import BundleError
Detector(bundle.load(Path({str(folder)!r})))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for each in sorted(Path({str(tmp_path / "all")!r}).iterdir()):
    try:
        Detector(bundle.load(each))
    except BundleError:
        continue
    sys.exit(f"{{each}} was not refused")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < MEGABYTES


@pytest.mark.parametrize("digest", ["../../keep", "/etc", "a" * 63, "A" * 64, ""])
def test_a_pointer_that_points_outside_is_refused_and_what_is_there_stays(
    digest: str, tmp_path: Path
) -> None:
    (tmp_path / "keep").mkdir()
    (tmp_path / "shelf" / "textures").mkdir(parents=True)
    card = {"texture": "grid", "aliases": {"champion": 1}, "versions": {"1": digest}}
    (tmp_path / "shelf" / "textures" / "grid.json").write_text(json.dumps(card))
    with pytest.raises(BundleError, match="a digest is no SHA-256"):
        FolderShelf(tmp_path / "shelf").fetch("grid")
    assert (tmp_path / "keep").is_dir()


def enormous(blob: bytes) -> bytes:
    """Return the weights ten to the thirty as large, each of them finite."""
    return save_tensors(
        {name: each * 1e30 if each.is_floating_point() else each
         for name, each in torch_weights(blob).items()}
    )  # fmt: skip


def test_weights_too_large_to_compute_with_are_told_at_the_first_score(sound: Path) -> None:
    folder = afresh(sound, "enormous")
    with_weights(enormous)(folder)
    with pytest.raises(BundleError, match="'weave' gives this image an anomaly of (nan|-?inf)"):
        Detector(bundle.load(folder)).score(np.full((40, 48), 128, np.uint8))


NUMBERS: dict[str, Callable[[Any], Any]] = {
    "threshold.value": lambda edge: edge,
    "threshold.scores": lambda edge: [edge, edge],
    "threshold.statistics": lambda edge: {key: [edge, 0.5, -0.5] for key in STATISTICS},
    "calibration.mean": lambda edge: [edge, edge],
    "calibration.covariance": lambda edge: [[edge, 0.0], [0.0, edge]],
    "calibration.rule.weights": lambda edge: [edge, edge],
    "calibration.rule.top_fraction": lambda edge: edge,
    "calibration.rule.mean_filter": lambda edge: edge,
    "preprocessing.scale": lambda edge: edge,
}


@pytest.mark.parametrize("aggregation", ["linear", "max", "mahalanobis"])
@pytest.mark.parametrize("place", NUMBERS)
def test_at_the_edge_of_what_is_a_number_a_detector_scores_or_is_refused(
    sound: Path, place: str, aggregation: str
) -> None:
    scored = 0
    for edge in EDGES:
        folder = afresh(sound, "edge")
        said = {
            "calibration.rule.aggregation": aggregation,
            "calibration.rule.weights": [0.5, 0.5],
        }
        with_values(said | {place: NUMBERS[place](edge)})(folder)
        try:
            found = Detector(bundle.load(folder)).score(np.full((40, 48), 128, np.uint8))
        except (BundleError, BadImageError):
            continue
        assert np.isfinite(found.map).all(), (place, edge)
        assert np.isfinite(found.score), (place, edge)
        scored += 1
    assert scored < len(EDGES), "everything was taken for a number"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("calibration", {}),
        ("threshold", {}),
        ("data.fit", 3),
        ("metrics", {"val_pixel_ap": "high"}),
        ("metrics", {"val_pixel_ap": 10**400}),
        ("preprocessing.low", "dark"),
        ("made_by", {"settings": []}),
    ],
)
def test_whatever_a_card_holds_it_is_shown_or_refused(
    sound: Path, place: str, value: object
) -> None:
    folder = afresh(sound, "shown")
    with_value(place, value)(folder)
    if place == "made_by":
        assert card.of(bundle.load(folder))["made_by"] == {}
        return
    with pytest.raises(BundleError, match="'weave'"):
        card.of(bundle.load(folder))
