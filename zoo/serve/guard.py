"""The gate before the application: keys, hosts and origins, bodies, headers, and the log.

It is plain ASGI and not a dependency of a route: a stranger is refused before the body is read.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from zoo.errors import RefusedError, visible
from zoo.https import is_loopback
from zoo.serve import refusals
from zoo.serve.bodies import ClientLeft, Memory, Message, Receive, drain, received
from zoo.serve.keys import Keys
from zoo.serve.service import Service

log = logging.getLogger("zoo.serve")

Scope = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_URL = 4096  # bytes of path and query
PUBLIC = {"/", "/livez", "/readyz"}  # answered without a key: nothing of a detector is in them
PUBLIC_FOLDER = "/static/"
QUIET = {"/livez", "/readyz", "/metrics"}  # asked for every few seconds; not logged if all is well
LEFT = 499  # as nginx logs it: the client left before the answer
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; "
    b"img-src 'self' blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    b"frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}


class Guard:
    """Lets a request through to the application, or refuses it; logs and counts either way."""

    def __init__(self, app: App, *, service: Service) -> None:
        """Stand before an application.

        Args:
            app: The application.
            service: With the keys; without any, it answers to the names of the loopback address
                only. With the metrics, where requests are counted.
        """
        self._app, self._service = app, service
        self._settings, self._keys, self._metrics = service.settings, service.keys, service.metrics
        self._memory = Memory(service.settings.most_waiting_bytes)
        service.metrics.body_bytes.set_function(lambda: self._memory.used)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection of ASGI: a request, or the start and the end of the service."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        turn = _Turn(scope, send, service=self._service)
        try:
            with self._memory.room() as room:
                replay = _replayed(await self._body(turn, receive, room), receive)
                await self._app(scope, replay, turn.send)
        except ClientLeft:
            turn.status = turn.status or LEFT
        except RefusedError as error:
            await turn.refuse(error, receive)
        except Exception:  # a fault of ours must not end in a traceback at the client
            log.exception("The request %s failed", turn.id)
            await turn.refuse(refusals.internal(), receive)
        finally:
            self._note(turn)

    async def _body(self, turn: _Turn, receive: Receive, room: Any) -> bytes:
        """Return the body of a request that may pass.

        Raises:
            RefusedError: It may not.
            ClientLeft: The client has left.
        """
        size = len(turn.scope.get("raw_path") or turn.path) + len(turn.scope["query_string"])
        if size > MOST_URL:
            raise RefusedError(
                f"The address has {size} bytes, and at most {MOST_URL} are read. Shorten it.",
                status=414,
                code="long_address",
            )
        if self._keys is None:
            _check_host(turn)
        elif turn.path not in PUBLIC and not turn.path.startswith(PUBLIC_FOLDER):
            turn.owner = _owner(turn, self._keys)
        _check_origin(turn)
        if turn.header(b"content-encoding", "identity").lower() != "identity":
            raise RefusedError(
                "A packed body is not read. Send the picture's file as it is, without "
                "Content-Encoding.",
                status=415,
                code="packed_body",
            )
        stated = turn.header(b"content-length", "")
        body = await received(
            receive,
            stated=int(stated) if re.fullmatch("[0-9]{1,20}", stated) else None,
            room=room,
            settings=self._settings,
        )
        turn.size, turn.is_read = len(body), True
        return body

    def _note(self, turn: _Turn) -> None:
        """Count and log a request that is over."""
        state = turn.scope.get("state", {})
        route = getattr(turn.scope.get("route"), "path", "none")
        status = turn.status or LEFT
        self._metrics.requests.labels(route, turn.method, status).inc()
        code = turn.refused or state.get("refused")
        if code:
            self._metrics.refused.labels(code).inc()
        elif status == 200 and turn.path in QUIET:
            return
        client = turn.scope.get("client") or ("-",)
        log.info(
            '%s "%s %s" %d %.3fs %dB%s%s id=%s',
            client[0],
            turn.method,
            visible(turn.raw_path),
            status,
            time.monotonic() - turn.begun,
            turn.size,
            f" key={turn.owner}" if turn.owner else "",
            visible(f" {code or state.get('note', '')}").rstrip(),
            turn.id,
        )


class _Turn:
    """One request while it is handled."""

    def __init__(self, scope: Scope, send: Send, *, service: Service) -> None:
        self.scope, self._send, self._service = scope, send, service
        self._headers = dict(reversed(scope["headers"]))  # the first of a name counts
        self.begun, self.status, self.size = time.monotonic(), 0, 0
        self.owner: str | None = None
        self.refused: str | None = None
        self.is_read = False
        asked = self.header(b"x-request-id", "")
        self.id = asked if _ID.fullmatch(asked) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = self.id

    @property
    def method(self) -> str:
        """The method, of those that there are: a metric has few labels."""
        known = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
        return self.scope["method"] if self.scope["method"] in known else "other"

    @property
    def path(self) -> str:
        """The path, decoded."""
        return str(self.scope["path"])

    @property
    def raw_path(self) -> str:
        """The path as it was sent, for the log; the query is not logged."""
        raw: bytes = self.scope.get("raw_path") or self.path.encode()
        return raw.decode("ascii", "backslashreplace")[:200]

    @property
    def key(self) -> str:
        """The key that was sent; empty if there is none."""
        scheme, _, value = self.header(b"authorization", "").partition(" ")
        return value.strip() if scheme.lower() == "bearer" else self.header(b"x-api-key", "")

    def header(self, name: bytes, default: str) -> str:
        """Return a header."""
        found = self._headers.get(name)
        return default if found is None else str(found.decode("latin-1"))

    async def send(self, message: Message) -> None:
        """Send a message of the application, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = list(message.get("headers", []))
            names = {name.lower() for name, _ in own}
            own += [(name, value) for name, value in HEADERS.items() if name not in names]
            own.append((b"x-request-id", self.id.encode()))
            if self._service.is_stopping and b"connection" not in names:
                own.append((b"connection", b"close"))
            message = {**message, "headers": own}
        await self._send(message)

    async def refuse(self, error: RefusedError, receive: Receive) -> None:
        """Answer with a refusal, unless an answer has begun."""
        self.refused = error.code
        if self.status:
            return
        response = refusals.answer(error)
        if not self.is_read and not await self._sent_all(receive, error):
            response.headers["Connection"] = "close"
        await response(self.scope, receive, self.send)

    async def _sent_all(self, receive: Receive, error: RefusedError) -> bool:
        """Let a client end what it sends; one that waits to be told to send is answered at once."""
        has_body = {b"content-length", b"transfer-encoding"} & set(self._headers)
        if not has_body:
            return True
        waits = self.header(b"expect", "").lower() == "100-continue"
        return error.status != 408 and not waits and await drain(receive)


def _owner(turn: _Turn, keys: Keys) -> str:
    """Return the label of the key of a request; refuse one without a key that is accepted."""
    owner = keys.owner(turn.key)
    if owner is None:
        found = "This one is not known" if turn.key else "There is none"
        raise RefusedError(
            f"A key is needed, as `Authorization: Bearer KEY` or `X-API-Key: KEY`. {found}. Ask "
            "whoever runs the service for one.",
            status=401,
            code="no_key",
        )
    return owner


def _check_host(turn: _Turn) -> None:
    """Refuse a page whose name leads to this machine: without keys, being here is the only key."""
    host = turn.header(b"host", "")
    if not is_loopback(re.sub(r":[0-9]*$", "", host).strip("[]")):
        raise RefusedError(
            f"The service answers to localhost and not to '{host}', because it has no keys. Ask "
            "for localhost, or run it with keys.",
            status=421,
            code="wrong_host",
        )


def _check_origin(turn: _Turn) -> None:
    """Refuse what a page of another site sends by the browser of somebody who may."""
    if turn.method in _SAFE_METHODS:
        return
    origin, site = turn.header(b"origin", ""), turn.header(b"sec-fetch-site", "none")
    host = turn.header(b"host", "").lower()
    is_other = bool(origin) and origin.lower().rpartition("//")[2] != host
    if is_other or site.lower() not in ("none", "same-origin"):
        raise RefusedError(
            "A page of another site may not send this. Send it from the page of the service, or "
            "from a program.",
            status=403,
            code="other_site",
        )


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return what gives the application a body that was read, and then what `receive` gives."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return parts.pop() if parts else await receive()

    return replay
