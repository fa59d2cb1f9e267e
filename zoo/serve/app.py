"""The web application: `build(settings)` makes it, for uvicorn or any other ASGI server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import metadata
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from zoo.serve import guard, health, page, refusals, routes
from zoo.serve.service import Elsewhere, Service
from zoo.serve.settings import Settings

DESCRIPTION = """Detectors of anomalies in textures: send a picture, get a verdict, a score, the
regions and a map. Scores and maps have 1 as their threshold. Every refusal is an object with
`error`, a code for programs, and `message`, a sentence."""
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def build(settings: Settings, *, elsewhere: Elsewhere | None = None) -> FastAPI:
    """Return the application; its `state.service` is the `Service` that the routes share.

    The documentation pages of FastAPI are off: they load scripts from elsewhere. `/openapi.json`
    is there.

    Args:
        settings: Of the service.
        elsewhere: What scores the pictures; None for this process.

    Raises:
        ZooError: As in `Service`.
    """
    service = Service(settings, elsewhere=elsewhere)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(service.follow())
        yield
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="texture-zoo",
        description=DESCRIPTION,
        version=metadata.version("texture-zoo"),
        docs_url=None,
        redoc_url=None,
        lifespan=running,
        redirect_slashes=False,
    )
    app.state.service = service
    refusals.add_handlers(app)
    routes.add_routes(app, service)
    health.add_health(app, service)
    page.add_page(app, service)
    app.add_middleware(guard.Guard, service=service)
    _describe(app, has_keys=service.keys is not None)
    return app


def _describe(app: FastAPI, *, has_keys: bool) -> None:
    """Let `/openapi.json` tell of the keys, which are asked for before the routes."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            if has_keys:
                app.openapi_schema.setdefault("components", {})["securitySchemes"] = SCHEMES
                app.openapi_schema["security"] = [{name: []} for name in SCHEMES]
                for path in guard.PUBLIC & set(app.openapi_schema["paths"]):
                    for route in app.openapi_schema["paths"][path].values():
                        route["security"] = []
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]
