"""Routes for whoever watches the service: alive, ready, metrics."""

from __future__ import annotations

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from zoo.errors import RefusedError
from zoo.serve import answers
from zoo.serve.routes import refused
from zoo.serve.service import Service


def add_health(app: FastAPI, service: Service) -> None:
    """Add the routes to an application."""

    @app.get(
        "/livez",
        summary="Whether the process answers; needs no key",
        responses={200: {"model": answers.Health}},
        response_class=JSONResponse,
    )
    async def livez() -> Response:
        return JSONResponse({"status": "alive"})

    @app.get(
        "/readyz",
        summary="Whether the detectors are loaded and have scored a drawn picture; needs no key",
        responses={200: {"model": answers.Health}, **refused(503)},
        response_class=JSONResponse,
    )
    async def readyz() -> Response:
        missing = service.missing()
        if missing is not None:
            raise RefusedError(missing, status=503, code="not_ready", retry_after_s=1)
        return JSONResponse({"status": "ready"})

    @app.get(
        "/metrics",
        summary="Metrics for Prometheus",
        responses={200: {"content": {"text/plain": {}}}, **refused(401)},
        response_class=Response,
    )
    async def metrics() -> Response:
        return Response(
            generate_latest(service.metrics.registry),
            headers={"Content-Type": CONTENT_TYPE_LATEST},
        )
