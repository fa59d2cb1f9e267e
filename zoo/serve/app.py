"""The web application: `build(settings)` makes it, for uvicorn or any other ASGI server."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from PIL import Image

from zoo.detectors import Score
from zoo.errors import BadImageError, RefusedError, UnknownDetectorError, ZooError
from zoo.serve.pool import Served
from zoo.serve.service import Service
from zoo.serve.settings import Settings

log = logging.getLogger("zoo.serve")


def build(settings: Settings) -> FastAPI:
    """Return the application; its `state.service` is the `Service` that the routes share.

    Raises:
        ZooError: As in `Pool`.
    """
    service = Service(settings)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(_follow(service))
        yield
        following.cancel()
        await asyncio.to_thread(service.close)

    app = FastAPI(title="texture-zoo", docs_url=None, redoc_url=None, lifespan=running)
    app.state.service = service
    app.add_exception_handler(ZooError, _refusal)

    @app.post("/v1/detectors/{name}/score")
    async def score(name: str, request: Request, map: bool = False) -> Response:
        content, begun = await request.body(), time.monotonic()

        def work() -> tuple[Served, Score]:
            served = service.pool.served(name)
            return served, served.detector.score(content)

        served, found = await service.in_turn(work)
        answer = answer_of(served, found, seconds=time.monotonic() - begun)
        if map:
            answer["map"] = base64.b64encode(grey_png(found)).decode()
        return JSONResponse(answer)

    if find_spec("zoo.serve.page"):
        from zoo.serve.page import add_page  # type: ignore[import-not-found,unused-ignore]

        add_page(app, service)
    return app


async def _follow(service: Service) -> None:
    while True:
        await asyncio.to_thread(service.pool.refresh)
        await asyncio.sleep(service.settings.refresh_s)


async def _refusal(request: Request, error: Exception) -> JSONResponse:
    status, code = 503, "storage"
    if isinstance(error, RefusedError):
        status, code = error.status, error.code
    elif isinstance(error, BadImageError):
        status, code = 422, "bad_image"
    elif isinstance(error, UnknownDetectorError):
        status, code = 404, "unknown_detector"
    return JSONResponse({"error": code, "message": str(error)}, status)


def answer_of(served: Served, found: Score, *, seconds: float) -> dict[str, Any]:
    """Return the answer to a picture, for JSON."""
    height, width = found.map.shape
    known = served.detector.bundle.threshold
    line = found.as_json()
    line["thresholds"] = {
        "picture": line.pop("threshold"),
        "look_again": found.look_again,
        "pixel": found.threshold,
        "smallest_region": found.smallest_region,
        "false_alarm_rate": known["false_alarm_rate"],
    }
    return {
        "name": served.name,
        "version": served.version,
        "digest": served.digest,
        **line,
        "anomalous_share": line["anomalous_pixels"] / (height * width),
        "height": height,
        "width": width,
        "seconds": round(seconds, 4),
        "request_id": uuid.uuid4().hex,
    }


def grey_png(found: Score) -> bytes:
    """Return the map as a grey PNG of 8 bits, in which 128 is the threshold."""
    heat = (found.map - found.threshold) / (2 * found.threshold) + 0.5
    disk = io.BytesIO()
    Image.fromarray((heat.clip(0, 1) * 256).clip(0, 255).astype(np.uint8)).save(disk, "png")
    return disk.getvalue()
