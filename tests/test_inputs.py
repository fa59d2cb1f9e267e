"""What never ends, or has no size, in place of a file: refused at once, in one line, everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from registry import bundle, signing
from registry.bundle import Bundle
from registry.folder_shelf import FolderShelf
from search_spaces import load_file
from tests.data.pictures_written import drawn, write
from zoo.data.images import jpeg_tables, picture_paths, read_image
from zoo.detectors import Detector
from zoo.errors import BadImageError, ConfigError, ZooError
from zoo.evaluation import stream
from zoo.files import read_regular
from zoo.report import overlays

ROOT = Path(__file__).parents[1]


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    """Make a file that claims four terabytes and takes none."""
    with path.open("wb") as file:
        file.truncate(2**42)


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, "it is a pipe and not a regular file"),
    "a device": (endless, "it is a device and not a regular file"),
    "a folder": (Path.mkdir, "it is a folder and not a regular file"),
    "a link to itself": (
        lambda path: path.symlink_to(path),
        "Too many levels of symbolic links|its symbolic links lead in a circle",
    ),
    "a huge file": (sparse, "MB are read"),
}


def read_bundle(path: Path) -> None:
    for name in set(bundle.FILES) - {path.name}:
        (path.parent / name).write_bytes(b"{}")
    bundle.load(path.parent)


# Where each input is in a folder, and what reads it.
READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a picture": ("a.png", read_image),
    "a space": ("a.yaml", lambda path: load_file(path, known=["patch"])),
    "scores": ("a.jsonl", lambda path: stream.read([path])),
    "a card": (bundle.CARD, read_bundle),
    "weights": (bundle.WEIGHTS, read_bundle),
    "a private key": ("a.pem", lambda path: signing.sign("weave", "", path)),
    "a pointer": (
        "textures/weave.json", lambda path: FolderShelf(path.parents[1]).pointer("weave")
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("what", READERS)
def test_what_may_never_end_is_refused_as_every_input(what: str, kind: str, tmp_path: Path) -> None:
    (make, said), (place, read) = ODD[kind], READERS[what]
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    make(path)
    with pytest.raises(ZooError, match=said) as told:
        read(path)
    assert path.name in str(told.value)
    assert len(str(told.value).splitlines()) == 1
    assert str(told.value).endswith(".")


@pytest.mark.parametrize("kind", ["a pipe", "a device", "a huge file"])
def test_what_looks_at_a_picture_does_not_wait_for_what_may_never_end(
    kind: str, tmp_path: Path
) -> None:
    make, _ = ODD[kind]
    make(tmp_path / "a.png")
    assert jpeg_tables(tmp_path / "a.png") is None
    assert not overlays.is_ours(tmp_path / "a.png")
    listed = picture_paths(tmp_path)
    assert listed == ([tmp_path / "a.png"] if kind == "a huge file" else [])


def test_a_cluster_file_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    from zoo.search import cluster_file

    os.mkfifo(tmp_path / "cluster.yaml")
    with pytest.raises(ConfigError, match="cluster.yaml cannot be read .it is a pipe"):
        cluster_file.check(tmp_path / "cluster.yaml")


def test_a_file_of_the_system_that_states_no_size_is_refused() -> None:
    with pytest.raises(OSError, match="grows while it is read"):
        read_regular(Path("/proc/self/status"), most=10**6)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_a_picture_of_too_many_pixels_is_refused_by_its_header(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / f"a{suffix}", drawn(48, 64))
    monkeypatch.setenv("ZOO_MAX_MEGAPIXELS", "0.003")
    with pytest.raises(BadImageError, match=r"48x64 pixels, and at most 0.003 megapixels"):
        read_image(path)
    monkeypatch.setenv("ZOO_MAX_MEGAPIXELS", "0.0031")
    assert read_image(path).shape == (48, 64, 1)


@pytest.mark.parametrize("text", ["0", "-1", "many", "nan", "inf"])
def test_a_limit_of_pixels_that_is_none_is_refused(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_MAX_MEGAPIXELS", text)
    with pytest.raises(ConfigError, match=f"ZOO_MAX_MEGAPIXELS must be .* not '{text}'"):
        read_image(write(tmp_path / "a.png", drawn()))


def test_a_picture_that_does_not_fit_into_memory_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((12_000, 12_000), np.uint8)).save(path)
    code = f"""
import resource
from pathlib import Path
from zoo.data.images import read_image
from zoo.errors import BadImageError
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 10**8, taken + 10**8))
try:
    read_image(Path({str(path)!r}))
except BadImageError as error:
    print(error)
"""
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert told == (
        f"{path} cannot be read as a picture: there is not enough memory for it. Remove it or "
        "replace it.\n"
    )


def test_wherever_memory_ends_a_score_and_a_batch_are_refused_in_one_line() -> None:
    code = """
import json, resource
from pathlib import Path
import numpy as np
import torch
from tests.hostile_methods import drawn
from zoo.detectors import Detector
from zoo.errors import BadImageError
torch.set_num_threads(1)
detector = Detector(drawn("local_statistics", {"step": 1}, channels=1))
one = np.zeros((900, 800), np.uint8)
batch = np.stack([one] * 3)[..., None]
asked = {"score": lambda: detector.score(one).regions, "batch": lambda: detector.score(batch)}
for each in asked.values():
    each()
found = []
for megabytes in (5, 30, 60, 90, 120, 600):
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for name, each in asked.items():
        resource.setrlimit(resource.RLIMIT_AS, (taken + megabytes * 10**6, -1))
        try:
            each()
            end = "scored"
        except BadImageError as error:
            end = str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
        found.append((name, end))
print(json.dumps(found))
"""
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    refused = (
        "There is not enough memory on cpu for an image of 900x800 pixels. Cut it into pieces, or "
        "score fewer at a time."
    )
    assert {end for _, end in found} == {"scored", refused}


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: 25 MB")])
@pytest.mark.parametrize("where", ["ready.prepare", "ready.enlarge", "detector.image_score"])
@pytest.mark.parametrize("several", [False, True])
def test_too_little_memory_at_any_step_of_a_score_is_told(
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    where: str,
    several: bool,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    detector, picture = Detector(tiny_bundle), np.zeros((64, 72), np.uint8)
    monkeypatch.setattr(f"zoo.detectors.{where}", full)
    with pytest.raises(BadImageError, match="not enough memory on cpu for an image of 64x72"):
        detector.score([picture] * 2 if several else picture)
