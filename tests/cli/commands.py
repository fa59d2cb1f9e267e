"""Runs commands in tests: in a home of the test's own, and those that must be refused."""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from registry.folder_shelf import FolderShelf
from tests import textures_drawn
from zoo.cli import main

SETTINGS = textures_drawn.TINY | {"megapixels": 0.1, "reports": 1, "output_stride": 2}
TRAIN = ["train", "--preset", "thesis", "--threads", "1"]
TRAIN += [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
FORCE = ["--force", "--because", "a second of training is below what learns nothing"]


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A home with one promoted detector, which tests must only read.

    Attributes:
        home: The home.
        data: The folder that contains `weave`.
        made: Where `zoo train` put the detector.
        trained: What `zoo train` answered.
        promoted: What `zoo promote` answered.
    """

    home: Path
    data: Path
    made: Path
    trained: dict[str, Any]
    promoted: dict[str, Any]

    @property
    def images(self) -> list[Path]:
        """All test images, good ones first."""
        return sorted((self.data / "weave" / "test").rglob("*.png"))


def move_in(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `home` the user's home, and nothing else of the environment count."""
    for name in ("ZOO_SHELF", "ZOO_STORAGE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ZOO_HOME", str(home))


def refused(capsys: pytest.CaptureFixture[str], *command: str | Path) -> str:
    """Run a command that must be refused, and return the one line that says why."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main([str(part) for part in command])
    assert exit_.value.code == 2
    *progress, line = capsys.readouterr().err.splitlines()
    assert line.startswith("zoo")
    assert not any(each.startswith(("zoo", "Traceback")) for each in progress)
    return line


def search_refused(capsys: pytest.CaptureFixture[str], data: Path, *more: str | Path) -> str:
    """Run a search that must be refused, and return why."""
    return refused(capsys, "search", "--category", "weave", "--data", data, *more)


def champion(home: Path) -> Path:
    """Return the bundle of the champion of `weave` in a home."""
    return FolderShelf(home / "shelf").fetch("weave")


@contextmanager
def without_privileges() -> Iterator[None]:
    """Let root obey the permissions of files, as every other user must."""
    libc, header = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0)
    before = (ctypes.c_uint32 * 6)()
    libc.capget(header, before)
    after = (ctypes.c_uint32 * 6)(*before)
    after[0] &= ~(1 << 1 | 1 << 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH of what counts now
    libc.capset(header, after)
    try:
        yield
    finally:
        libc.capset(header, before)


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes, which is a full disk to whoever writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
