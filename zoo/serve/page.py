"""The page for inspectors, and the routes that only it needs.

GET  /  and  /static/...                          one HTML, one ES module, one CSS
POST /v1/preview                                  a picture as 8-bit PNG, for TIFF and 16 bit
GET  /v1/detectors/{name}/scores                  good scores, and what each threshold costs
GET  /v1/journal                                  whether answers are kept, and pictures
POST /v1/detectors/{name}/marks                   an answer of a person, as JSON
PUT  /v1/detectors/{name}/marks/{picture}         the picture of an answer
"""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from PIL import Image
from starlette.staticfiles import StaticFiles

from zoo.data.images import as_pixels, to_rgb8
from zoo.detectors import GoodScores, good_scores
from zoo.errors import ConfigError, RefusedError
from zoo.serve.journal import Journal, Mark
from zoo.serve.pool import Served
from zoo.serve.routes import Name, refused
from zoo.serve.service import Service

T = TypeVar("T")

FILES = Path(__file__).with_name("page")
BINS, STEPS = 24, 181  # of the histogram; of the row of thresholds
# A map of 8 bits ends at twice its threshold, so a higher limit of the mask cannot be shown.
HIGHEST = 1.9
LOWEST_RATE = 1e-3  # the row of thresholds ends where no more false alarms are expected


def add_page(app: FastAPI, service: Service) -> None:
    """Add the page and its routes to the application."""
    known = service.settings
    journal = Journal(known.journal, most_bytes=known.most_journal_bytes) if known.journal else None

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> Response:
        return FileResponse(FILES / "index.html", media_type="text/html")

    app.mount("/static", StaticFiles(directory=FILES), name="static")

    @app.post(
        "/v1/preview",
        summary="A picture as browsers draw it: PNG of 8 bits",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, **refused(401, 408, 413, 422, 429, 500)},
    )
    async def preview(request: Request) -> Response:
        content = await request.body()
        shown = await service.in_turn(
            lambda: png8(content), picture=content, has_left=request.is_disconnected
        )
        return Response(shown, media_type="image/png")

    @app.get(
        "/v1/detectors/{name}/scores",
        summary="Good scores, and false alarms by threshold",
        responses=refused(401, 404, 500, 503),
    )
    async def scores(name: Name) -> JSONResponse:
        return JSONResponse(await asyncio.to_thread(lambda: scores_of(service.pool.served(name))))

    @app.get(
        "/v1/journal", summary="Whether answers are kept, and pictures", responses=refused(401)
    )
    async def about() -> JSONResponse:
        return JSONResponse({"on": journal is not None, "keep": known.keep})

    @app.post(
        "/v1/detectors/{name}/marks",
        status_code=201,
        summary="Keep an answer of a person about a picture",
        responses=refused(401, 404, 408, 409, 413, 422, 503, 507),
    )
    async def mark(name: Name, given: Mark) -> JSONResponse:
        texture = _texture(service, name)
        _check(given, name, known.most_megapixels)
        line = await asyncio.to_thread(_kept, journal, lambda own: own.write(texture, given))
        answer = {"time": line.time.isoformat(), "send_picture": known.keep != "none"}
        return JSONResponse(answer, 201)

    @app.put(
        "/v1/detectors/{name}/marks/{picture}",
        status_code=201,
        summary="Keep the picture of an answer",
        responses=refused(401, 404, 408, 409, 413, 422, 503, 507),
    )
    async def keep(name: Name, picture: str, request: Request) -> JSONResponse:
        texture = _texture(service, name)
        content = await request.body()
        if journal is not None and known.keep == "none":
            raise RefusedError(
                "This service keeps answers without their pictures. Start it with "
                "`--keep-pictures` to keep them too.",
                status=409,
                code="no_pictures",
            )
        if (await asyncio.to_thread(hashlib.sha256, content)).hexdigest() != picture:
            raise RefusedError(
                f"The picture that was sent does not have the SHA-256 {picture[:64]}. Send the "
                "bytes that were scored.",
                status=422,
                code="other_picture",
            )
        removed = await asyncio.to_thread(_kept, journal, lambda own: own.keep(texture, content))
        return JSONResponse({"removed": removed}, 201)


def png8(content: bytes) -> bytes:
    """Return the file of a picture, of any format that is scored, as a PNG of 8 bits.

    Raises:
        BadImageError: It cannot be read.
    """
    pixels = as_pixels(content)
    plain = to_rgb8(pixels)
    shown = plain[..., 0] if pixels.shape[2] == 1 else plain
    disk = io.BytesIO()
    Image.fromarray(shown).save(disk, "png", compress_level=1)  # it is looked at once
    return disk.getvalue()


def scores_of(served: Served) -> dict[str, Any]:
    """Return the good scores of a detector as a histogram, and a row of thresholds, for JSON.

    Returns:
        `histogram` with `edges` and `counts`, and `thresholds` with the false alarms that are
        expected in 1,000 good pictures at each, both null for a detector that carries no scores.
        All in the units of a score, whose threshold is 1.
    """
    known = served.bundle.threshold
    found = good_scores(served.bundle)
    answer: dict[str, Any] = {
        "name": served.name,
        "version": served.version,
        "digest": served.digest,
        "false_alarm_rate": known["false_alarm_rate"],
        "smallest_region": int(known.get("smallest_region", 1)),
        "histogram": None,
        "thresholds": None,
    }
    if found is None:
        return answer
    high = _end(found)
    low = min(found.scores[0], 1.0)
    low -= 0.05 * (high - low)
    counts, edges = np.histogram(np.clip(found.scores, low, high), BINS, (low, high))
    # The detector's own threshold is one of the row, so that the page begins with it.
    limits = sorted({1.0, *np.linspace(low, high, STEPS).round(4).tolist()})
    alarms = 1000 * found.false_alarm_rates(limits)
    return answer | {
        "rule": found.rule,
        "pictures": len(found.scores),
        "independent": found.independent,
        "varied": found.varied,
        "histogram": {"edges": edges.round(5).tolist(), "counts": counts.tolist()},
        "thresholds": [
            {"threshold": limit, "false_alarms": round(each, 2)}
            for limit, each in zip(limits, alarms.tolist(), strict=True)
        ],
    }


def _end(found: GoodScores) -> float:
    """Return where the row of thresholds ends: beyond the good scores, and no alarm is expected."""
    begin = min(max(found.scores[-1], 1.1), HIGHEST)
    if found.rule == "conformal":  # no higher limit promises less
        return min(HIGHEST, begin * 1.25)
    ends = np.linspace(begin, HIGHEST, 100).tolist()
    rates = found.false_alarm_rates(ends)
    few = [end for end, rate in zip(ends, rates, strict=True) if rate < LOWEST_RATE]
    return float(few[0] if few else HIGHEST)


def _texture(service: Service, name: str) -> str:
    """Return the texture of a detector that is answered for; so no other name makes a folder.

    Raises:
        UnknownDetectorError: There is no such detector.
    """
    return service.pool.pointer(name).texture


def _check(given: Mark, name: str, most_megapixels: float) -> None:
    """Refuse a mark of another detector, or of a picture that is not scored here."""
    if given.detector != name:
        raise _refused(f"The mark is of the detector '{given.detector[:100]}', not of '{name}'.")
    if given.height * given.width > most_megapixels * 1e6:
        raise _refused(
            f"A picture has at most {most_megapixels:g} megapixels here, and the mark is of one of "
            f"{given.height}x{given.width}. Mark a smaller one."
        )


def _kept(journal: Journal | None, work: Callable[[Journal], T]) -> T:
    """Write to the journal.

    Raises:
        RefusedError: There is none, it is full, or it does not take what was sent.
        StorageError: It cannot be written.
    """
    if journal is None:
        raise RefusedError(
            "This service keeps no journal of answers. Start it with `zoo serve --journal`.",
            status=409,
            code="no_journal",
        )
    try:
        return work(journal)
    except ConfigError as error:
        raise _refused(str(error)) from error


def _refused(message: str) -> RefusedError:
    return RefusedError(message, status=422, code="bad_mark")
