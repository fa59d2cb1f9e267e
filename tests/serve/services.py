"""What the tests of the service share: shelves with detectors, applications and running servers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.testclient import TestClient

from registry import bundle
from registry.folder_shelf import FolderShelf
from tests import textures_drawn
from tests.exams import publish
from tests.processes import until
from zoo.serve.settings import Settings, cores

if TYPE_CHECKING:
    from registry.bundle import Bundle

HERE = "http://127.0.0.1"
SECONDS = 60.0  # for what should happen at once, on a slow machine


def shelf_with(root: Path, bundles: Sequence[Bundle], *, texture: str = "weave") -> FolderShelf:
    """Publish bundles as versions 1, 2, ... of a texture; the last one is the champion."""
    shelf = FolderShelf(root / "shelf")
    for version, each in enumerate(bundles, 1):
        promote(root, replace(each, texture=texture), version=version)
    return shelf


def promote(root: Path, made: Bundle, *, version: int) -> str:
    """Publish a bundle on the shelf under a folder as the champion, and return its digest."""
    folder = root / "made" / f"{made.texture}-{version}"
    bundle.save(made, folder)
    publish(FolderShelf(root / "shelf"), folder, texture=made.texture, version=version)
    return bundle.digest(folder)


def settings(root: Path, **others: Any) -> Settings:
    """Return settings for the shelf under a folder; each picture has one thread."""
    return Settings(shelf=str(root / "shelf"), **({"at_once": cores()} | others))


def pictures(count: int, *, seed: int = 0) -> list[bytes]:
    """Return PNG files of the drawn texture, every other one with a hole."""
    import io

    from PIL import Image

    rng, found = np.random.default_rng(seed), []
    for at in range(count):
        size = textures_drawn.HEIGHT, textures_drawn.WIDTH
        pixels = (
            textures_drawn.draw_hole(*size, rng)[0] if at % 2 else textures_drawn.draw(*size, rng)
        )
        disk = io.BytesIO()
        Image.fromarray(pixels[..., 0]).save(disk, "png")
        found.append(disk.getvalue())
    return found


@contextmanager
def client_of(known: Settings) -> Iterator[TestClient]:
    """Yield a client of an application in this process, which is ready."""
    from zoo.serve.app import build

    with TestClient(build(known), base_url=HERE) as client:
        until(lambda: client.get("/readyz").status_code == 200, what="it is not ready")
        yield client


@dataclass(frozen=True)
class Running:
    """A server in a thread of this process.

    Attributes:
        address: Its address.
        port: Its port.
        stop: Lets it finish what was accepted, and end.
    """

    address: str
    port: int
    stop: Callable[[], None]


@contextmanager
def running(known: Settings) -> Iterator[Running]:
    """Yield a server at a free port, which is ready."""
    from zoo.serve import server
    from zoo.serve.app import build

    with server.listen("127.0.0.1", 0) as listening:
        app = build(known)
        made = server.server_of(app)
        port = listening.getsockname()[1]
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listening]})
        thread.start()

        def stop() -> None:
            made.should_exit = True

        try:
            until(lambda: app.state.service.missing() is None, what="it is not ready")
            yield Running(f"{HERE}:{port}", port, stop)
        finally:
            stop()
            thread.join(SECONDS)
            assert not thread.is_alive()
