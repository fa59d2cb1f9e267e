"""Refusals: each error becomes a status of HTTP and `{"error": code, "message": sentence}`."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from zoo.errors import (
    BadImageError,
    ConfigError,
    RefusedError,
    StorageError,
    UnknownDetectorError,
    ZooError,
    one_line,
)
from zoo.words import shortened

log = logging.getLogger("zoo.serve")

LONGEST = 500  # characters of a message; a name in it may be longer
_TOLD = {  # errors whose messages name nothing of the machine
    BadImageError: (422, "bad_image"),
    UnknownDetectorError: (404, "unknown_detector"),
    ConfigError: (400, "bad_request"),
}
_ROUTES = "The routes are in /openapi.json."
RETRY_S = 10  # after the shelf or the journal could not be reached


def answer(error: RefusedError) -> JSONResponse:
    """Return the answer of a refusal."""
    response = JSONResponse(
        {"error": error.code, "message": shortened(one_line(error), LONGEST)}, error.status
    )
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def refusal(error: ZooError) -> RefusedError:
    """Return what a client is told of an error; paths and addresses stay in the log."""
    if isinstance(error, RefusedError):
        return error
    for kind, (status, code) in _TOLD.items():
        if isinstance(error, kind):
            return RefusedError(str(error), status=status, code=code)
    log.error("%s: %s", type(error).__name__, one_line(error))
    if isinstance(error, StorageError):
        return RefusedError(
            "What is stored cannot be reached now. Ask again later; the service's log says why.",
            status=503,
            code="storage",
            retry_after_s=RETRY_S,
        )
    return RefusedError(
        "The detector cannot answer. The service's log says why.", status=500, code="damaged"
    )


def internal() -> RefusedError:
    """Return the refusal for what is a fault of ours."""
    return RefusedError(
        "The service failed at this request. Its log has the reason, under the id of the request.",
        status=500,
        code="internal",
    )


def add_handlers(app: FastAPI) -> None:
    """Let the application answer every error in the one form."""
    app.add_exception_handler(ZooError, _of_ours)
    app.add_exception_handler(RequestValidationError, _of_values)
    app.add_exception_handler(HTTPException, _of_routes)


async def _of_ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ZooError)
    return _noted(request, refusal(error))


async def _of_values(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    wrong = "; ".join(
        f"{' '.join(map(str, each['loc']))}: {each['msg'].rstrip('.')}" for each in error.errors()
    )
    return _noted(
        request,
        RefusedError(f"{wrong}. Correct it. {_ROUTES}", status=422, code="bad_request"),
    )


async def _of_routes(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    path, method = request.url.path, request.method
    told = {
        404: ("not_found", f"There is nothing at '{path}'. {_ROUTES}"),
        405: ("wrong_method", f"'{path}' does not take {method}. {_ROUTES}"),
    }
    code, message = told.get(error.status_code, ("refused", str(error.detail)))
    response = _noted(request, RefusedError(message, status=error.status_code, code=code))
    response.headers.update(error.headers or {})
    return response


def _noted(request: Request, error: RefusedError) -> JSONResponse:
    """Return the answer, and leave its code for the log and the metrics."""
    request.state.refused = error.code
    return answer(error)
