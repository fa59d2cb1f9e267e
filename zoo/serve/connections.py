"""Connections of HTTP/1.1 with the bounds that uvicorn does not set.

uvicorn waits for ever for the header of a first request, and for a client that does not read its
answer. It answers what is no HTTP in plain text. It runs on h11 here, which bounds the size of a
header; httptools does not.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger("zoo.serve")

HEADER_S = 10.0  # for the header of a request, from its first byte or the start of the connection
STALLED_S = 30.0  # without a byte that the client took of its answer
MOST_HEADER = 2**15  # bytes
MOST_CONNECTIONS = 500  # a process may usually have a thousand files open
_SENTENCES = {
    400: ("no_http", "This is no request of HTTP that can be read. Look at the program that sent."),
    431: (
        "long_header",
        f"The header of a request has at most {MOST_HEADER} bytes. Shorten it.",
    ),
    408: ("slow_header", f"The header did not arrive within {HEADER_S:g} seconds. Send it again."),
    503: ("connections", "Too many connections are open. Connect again later."),
}


class Connection(H11Protocol):
    """One connection: its header in time, its answer read, and refusals as JSON."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a header, or refuse a connection too many."""
        super().connection_made(transport)
        self._header_timer: asyncio.TimerHandle | None = None
        self._stalled_timer: asyncio.TimerHandle | None = None
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse(503)
            return
        self._await_header()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._unset("_header_timer")
        self._unset("_stalled_timer")
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read, and wait for the rest of a header that has begun."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._unset("_header_timer")
        elif self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._await_header()

    def on_response_complete(self) -> None:
        """Watch whether the client reads the answer, and wait for its next request."""
        super().on_response_complete()
        self._watch(None)

    def send_400_response(self, msg: str) -> None:
        """Refuse what h11 has refused; uvicorn calls it while that error is handled."""
        self._refuse(getattr(sys.exc_info()[1], "error_status_hint", 400))

    def _await_header(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(HEADER_S, self._late)

    def _late(self) -> None:
        self._header_timer = None
        if not self.transport.is_closing():
            self._refuse(408)

    def _watch(self, before: int | None) -> None:
        """Abort the connection if nothing of the answer was taken since the last look."""
        self._unset("_stalled_timer")
        left = self.transport.get_write_buffer_size()
        if not left:
            return
        if left == before:
            log.warning("A client did not read its answer; %d bytes are dropped", left)
            self.transport.abort()
            return
        self._stalled_timer = self.loop.call_later(STALLED_S, self._watch, left)

    def _refuse(self, status: int) -> None:
        """Send a refusal, unless an answer has begun, and close the connection."""
        status = status if status in _SENTENCES else 400
        code, message = _SENTENCES[status]
        client = self.client[0] if self.client else "-"
        log.info("%s refused before a request: %d %s", client, status, code)
        body = json.dumps({"error": code, "message": message}).encode()
        events: list[Any] = [
            h11.Response(
                status_code=status,
                reason=HTTPStatus(status).phrase.encode(),
                headers=[
                    (b"content-type", b"application/json"),
                    (b"content-length", str(len(body)).encode()),
                    (b"connection", b"close"),
                ],
            ),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ]
        try:
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:  # an answer has begun
            pass
        self.transport.close()

    def _unset(self, name: str) -> None:
        timer = getattr(self, name)
        if timer is not None:
            timer.cancel()
            setattr(self, name, None)
