"""The routes for programs: pictures to score, detectors, cards and histories."""

from __future__ import annotations

import asyncio
import math
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from registry.names import parsed
from registry.pointer import Entry
from registry.shelf import lineage
from zoo.detectors import card, card_words
from zoo.errors import RefusedError, did_you_mean
from zoo.serve import answers
from zoo.serve.pictures import Kind, Wanted, WithMap
from zoo.serve.pool import Served
from zoo.serve.service import Service

KINDS: dict[str, Kind] = {
    "application/json": "json",
    "image/png": "overlay",
    "application/x-npy": "map",
}
PICTURES = ("image/png", "image/jpeg", "image/tiff", "image/bmp", "image/webp")
Name = Annotated[str, Path(description="TEXTURE, TEXTURE@ALIAS, TEXTURE:VERSION or a digest")]
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def refused(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the refusals of a route, for OpenAPI."""
    words = {
        400: "Not as it should be",
        401: "A key is needed",
        404: "There is no such detector",
        406: "No such form of an answer",
        408: "The body came too slowly",
        409: "The service keeps no journal, or no pictures in it",
        413: "Too many bytes or pixels",
        415: "A packed body, or a form",
        422: "No picture that can be scored, or a value out of its range",
        429: "Busy; `Retry-After` says when to ask again",
        500: "The detector or the service failed; the log says why",
        503: "Not ready, or what is stored cannot be reached",
        507: "The journal is full",
    }
    return {each: {"model": answers.Refusal, "description": words[each]} for each in statuses}


def add_routes(app: FastAPI, service: Service) -> None:
    """Add the routes to an application."""
    routes = APIRouter(prefix="/v1/detectors")

    @routes.post(
        "/{name}/score",
        summary="Score a picture, which is the whole body",
        description="The body is the file of a picture: PNG, JPEG, TIFF, BMP, WEBP and others, of "
        "8 or 16 bits. `Accept: image/png` asks for the picture with its map over it, "
        "`Accept: application/x-npy` for the map as a file of NumPy, float32.",
        openapi_extra={
            "requestBody": {"required": True, "content": dict.fromkeys(PICTURES, _BINARY)}
        },
        responses={
            200: {
                "model": answers.Scored,
                "content": {"image/png": _BINARY, "application/x-npy": _BINARY},
            },
            **refused(400, 401, 404, 406, 408, 413, 415, 422, 429, 500, 503),
        },
        response_class=JSONResponse,
    )
    async def score(
        name: Name,
        request: Request,
        map_: Annotated[
            WithMap | None,
            Query(alias="map", description="The map in the JSON too, as Base64 of a file"),
        ] = None,
        rate: Annotated[
            float | None,
            Query(gt=0, lt=1, description="Share of good pictures that may be called defective"),
        ] = None,
    ) -> Response:
        _check_query(request, {"map", "rate"})
        wanted = Wanted(kind=_kind(request), with_map=map_, rate=rate)
        done = await service.score(
            name, await request.body(), wanted, has_left=request.is_disconnected
        )
        line = done.line
        request.state.note = f"{line['name']}:{line['version']} {line['verdict']} {line['score']}"
        if wanted.kind == "json":
            return JSONResponse({"request_id": request.state.request_id} | line)
        media = next(media for media, kind in KINDS.items() if kind == wanted.kind)
        about = {
            "X-Zoo-Verdict": line["verdict"],
            "X-Zoo-Score": str(line["score"]),
            "X-Zoo-Version": str(line["version"]),
            "X-Zoo-Digest": line["digest"],
        }
        return Response(done.file, media_type=media, headers=about)

    @routes.get(
        "",
        summary="The detectors that can be asked for",
        responses={200: {"model": answers.Names}, **refused(401, 500)},
        response_class=JSONResponse,
    )
    async def names() -> Response:
        return JSONResponse({"detectors": [_named(service, name) for name in service.pool.names()]})

    @routes.get(
        "/{name}",
        summary="The card of a detector: figures, thresholds, data, licence, and all that in words",
        responses={200: {"model": answers.Card}, **refused(401, 404, 500, 503)},
        response_class=JSONResponse,
    )
    async def show(name: Name) -> Response:
        return JSONResponse(await asyncio.to_thread(_card, service, name))

    @routes.get(
        "/{name}/history",
        summary="What was promoted, refused, rolled back and removed, when and why",
        responses={200: {"model": answers.History}, **refused(401, 404, 500)},
        response_class=JSONResponse,
    )
    async def history(name: Name) -> Response:
        pointer = service.pool.pointer(name)
        changes = [_change(entry) for entry in pointer.history]
        return JSONResponse({"texture": pointer.texture, "history": changes})

    app.include_router(routes)


def _check_query(request: Request, known: set[str]) -> None:
    """Refuse a parameter that there is not, or that is there twice: it would be without effect.

    Raises:
        RefusedError: There is one.
    """
    given = [name for name, _ in request.query_params.multi_items()]
    wrong = next((name for name in given if name not in known or given.count(name) > 1), None)
    if wrong is not None:
        raise RefusedError(
            f"The parameter '{wrong}' is there twice, or there is none of that name; there are "
            f"{', '.join(sorted(known))}.{did_you_mean(wrong[:50], known)} Correct it.",
            status=422,
            code="bad_request",
        )


def _kind(request: Request) -> Kind:
    """Return the form of the answer that the headers ask for.

    Raises:
        RefusedError: There is no such form, or the body is a form of a web page.
    """
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if sent == "multipart/form-data":
        raise RefusedError(
            "The picture is to be the whole body and not a field of a form. Send its file as it "
            "is, such as by `curl --data-binary @picture.png`.",
            status=415,
            code="form",
        )
    accept = request.headers.get("accept", "*/*")
    best: tuple[float, Kind] | None = None
    for part in accept.split(","):
        media, _, parameters = part.partition(";")
        found = _matching(media.strip().lower())
        share = _quality(parameters)
        if found is not None and share > 0 and (best is None or share > best[0]):
            best = share, found
    if best is None:
        raise RefusedError(
            f"No answer is of the kind '{accept[:100]}'. Accept {', '.join(KINDS)}.",
            status=406,
            code="no_such_form",
        )
    return best[1]


def _matching(media: str) -> Kind | None:
    if media in ("*/*", "", "application/*"):
        return "json"
    return "overlay" if media == "image/*" else KINDS.get(media)


def _quality(parameters: str) -> float:
    """Return how much a client likes a form, by the `q` of its Accept header."""
    for each in parameters.split(";"):
        name, _, value = each.partition("=")
        if name.strip().lower() == "q":
            try:
                found = float(value)
            except ValueError:
                return 0.0
            return found if 0 <= found <= 1 else 0.0
    return 1.0


def _named(service: Service, name: str) -> dict[str, Any]:
    version, digest = service.pool.version(name)
    pointer = service.pool.pointer(name)
    aliases = {} if service.settings.names else dict(pointer.aliases)
    loaded = any(each.name == name and each.digest == digest for each in service.pool.loaded())
    return {
        "name": name,
        "texture": parsed(name)[0],
        "version": version,
        "digest": digest,
        "loaded": loaded,
        "aliases": aliases,
    }


def _card(service: Service, name: str) -> dict[str, Any]:
    """Return the card of a detector, as figures and in words."""
    served = service.pool.served(name)
    shown = finite(card.of(served.bundle) | _lineage(service, served))
    return {
        "name": served.name,
        "texture": served.bundle.texture,
        "version": served.version,
        "digest": served.digest,
        "words": [
            {"title": section.title, "lines": [list(line) for line in section.lines]}
            for section in card_words.sections(shown)
        ],
        "card": shown,
    }


def _lineage(service: Service, served: Served) -> dict[str, Any]:
    """Return what the shelf says of a detector: `registry.shelf.lineage`, without who did it."""
    found = lineage(service.pool.pointer(served.name), digest=served.digest)
    found["lineage"] = {k: v for k, v in found["lineage"].items() if k not in ("who", "run")}
    return found


def _change(entry: Entry) -> dict[str, Any]:
    """Return an entry of the history as clients may see it."""
    known = {name: getattr(entry, name) for name in answers.Change.model_fields}
    shown: dict[str, Any] = finite(known)
    return shown


def finite(value: Any) -> Any:
    """Return a value for JSON, which has no infinite numbers and no NaN: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): finite(each) for name, each in value.items()}
    return [finite(each) for each in value] if isinstance(value, list | tuple) else value
