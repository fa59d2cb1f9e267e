"""A proxy between a client and S3 or MLflow that injects faults into some requests."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

# The faults: none; an error response of S3; no response; a connection that is reset in the middle
# of the response; a response that is lost after the work was done; a connection that is reset at
# once.
Fault = Literal["none", "500", "503", "silence", "reset", "lost", "away"]
SILENCE_S = 1.0


class Faulty:
    """Forwards requests to `endpoint`; `choose` chooses the fault of each."""

    def __init__(self, endpoint: str, choose: Callable[[str, str], Fault]) -> None:
        self.endpoint, self.choose = urlsplit(endpoint), choose
        self.injected: list[Fault] = []

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        length = int(request.headers.get("Content-Length") or 0)
        body = request.rfile.read(length)
        fault = self.choose(request.command, request.path)
        if fault != "none":
            self.injected.append(fault)
        if fault in ("500", "503"):
            request.send_response(int(fault))
            request.send_header("Content-Length", "0")
            request.end_headers()
        elif fault == "silence":
            time.sleep(SILENCE_S)
            request.close_connection = True
        elif fault == "away":
            _reset(request)
        else:
            self._pass_on(request, body, fault)

    def _pass_on(self, request: BaseHTTPRequestHandler, body: bytes, fault: Fault) -> None:
        connection = http.client.HTTPConnection(self.endpoint.hostname or "", self.endpoint.port)
        with closing(connection) as there:
            there.request(request.command, request.path, body, dict(request.headers))
            answer = there.getresponse()
            content = answer.read()
        if fault == "lost":
            _reset(request)
            return
        request.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection"):
                request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content[: len(content) // 2] if fault == "reset" else content)
        if fault == "reset":
            request.wfile.flush()
            _reset(request)


@contextmanager
def running(faulty: Faulty) -> Iterator[str]:
    """Run the proxy on a free port, and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            with suppress(ConnectionError):
                super().handle_one_request()

        def log_message(self, format: str, *args: object) -> None:
            """Write no log."""

    for verb in ("GET", "PUT", "HEAD", "DELETE", "POST", "PATCH"):
        setattr(Handler, f"do_{verb}", lambda self: faulty.handle(self))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _reset(request: BaseHTTPRequestHandler) -> None:
    """Close a connection as a crash does: with a reset."""
    linger = struct.pack("ii", 1, 0)
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    request.connection.close()
    request.close_connection = True
