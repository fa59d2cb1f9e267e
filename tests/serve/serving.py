"""A service of two small detectors for the tests of the page and of its routes."""

from __future__ import annotations

import io
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI
from PIL import Image

from registry import bundle
from registry.bundle import Bundle
from registry.folder_shelf import FolderShelf
from tests import textures_drawn
from tests.exams import publish
from tests.processes import free_port
from zoo.detectors import Detector
from zoo.scoring.thresholds import Rates, fit_threshold

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Chromium asks nobody else for anything with these.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def browser_path() -> str:
    """Return the path of a Chromium; without one the tests of the page fail."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert found, (
        "There is no Chromium for the tests of the page: install it, such as by "
        "`apt-get install chromium`, or leave them out by `-m 'not browser'`."
    )
    return found


def stock(shelf: Path, weave: Bundle) -> None:
    """Publish `weave`, whose limit is a bound, and `yarn`, whose limit is a rank with a band."""
    raw, detector = weave.threshold["value"], Detector(weave)
    rng = np.random.default_rng(7)
    pictures = [textures_drawn.draw(64, 72, rng) for _ in range(39)]
    scores = [each.score * raw for each in detector.score(pictures)]
    found = fit_threshold(scores, Rates(false_alarms=0.05, look_again=0.4))
    yarn = replace(weave, texture="yarn", threshold=weave.threshold | asdict(found))
    for each in (weave, yarn):
        folder = shelf.parent / f"made-{each.texture}"
        bundle.save(each, folder)
        publish(FolderShelf(shelf), folder, texture=each.texture, version=1)


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Run an application in a thread; yield its address."""
    port = free_port()
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def file_of(pixels: np.ndarray, kind: str = "png") -> bytes:
    """Return the file of a picture: grey of 8 or 16 bits, or colour of 8."""
    disk = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(disk, kind)
    return disk.getvalue()
