"""A web server on the loopback address that hands out files, or answers as a test says."""

from __future__ import annotations

import email.utils
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

Reply = Callable[[BaseHTTPRequestHandler], bool]


@dataclass(kw_only=True)
class Site:
    """What a server hands out.

    Attributes:
        root: Folder of the files; a path is decoded once, as every web server does.
        reply: Asked first; answers a request itself and returns True, or returns False.
        ranges: Whether a part of a file can be asked for.
        tags: Whether files have an ETag.
        asked: The method and path of each request, and its header Range and If-None-Match.
        statuses: The status of each answer that `root` gave.
    """

    root: Path
    reply: Reply = lambda request: False
    ranges: bool = True
    tags: bool = True
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        """The paths that were asked for."""
        return [path for path, _, _ in self.asked]

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        headers = request.headers
        self.asked.append(
            (request.path, headers.get("Range", ""), headers.get("If-None-Match", ""))
        )
        if not self.reply(request):
            status, content, stated = self._answer(request)
            self.statuses.append(status)  # before the client has it
            send(request, status, content, stated)

    def _answer(self, request: BaseHTTPRequestHandler) -> tuple[int, bytes | None, dict[str, str]]:
        path = self.root / unquote(urlsplit(request.path).path).lstrip("/")
        if not path.is_file():
            return 404, b"no such file", {"Content-Type": "text/plain"}
        content, modified = path.read_bytes(), path.stat().st_mtime_ns
        tag = f'"{modified:x}-{len(content):x}"'
        headers = {"Last-Modified": email.utils.formatdate(modified / 1e9, usegmt=True)}
        if self.tags:
            headers["ETag"] = tag
        if self.tags and request.headers.get("If-None-Match") == tag:
            return 304, None, headers
        begin = range_of(request)
        same = request.headers.get("If-Range", tag) in (tag, headers["Last-Modified"])
        if not self.ranges or begin is None or not same:
            return 200, content, headers
        if begin >= len(content):
            headers["Content-Range"] = f"bytes */{len(content)}"
            return 416, b"", headers
        headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        return 206, content[begin:], headers


def range_of(request: BaseHTTPRequestHandler) -> int | None:
    """Return where the part that is asked for begins; None if all is asked for."""
    stated = request.headers.get("Range", "")
    return int(stated.removeprefix("bytes=").rstrip("-")) if stated else None


def send(
    request: BaseHTTPRequestHandler,
    status: int,
    content: bytes | None,
    headers: dict[str, str] | None = None,
) -> int:
    """Send an answer and return its status; a `Content-Length` in the headers may be a lie."""
    request.send_response(status)
    stated = headers or {}
    if content is not None and "Content-Length" not in stated:
        stated = stated | {"Content-Length": str(len(content))}
    for name, value in stated.items():
        request.send_header(name, value)
    request.end_headers()
    with suppress(ConnectionError):
        request.wfile.write(content or b"")
        request.wfile.flush()
    if len(content or b"") != int(stated.get("Content-Length", len(content or b""))):
        request.close_connection = True
    return status


def endless(request: BaseHTTPRequestHandler) -> bool:
    """Answer with a body in chunks that goes on far beyond all limits of the tests.

    It ends somewhere, so that a reader without a limit fails its test and fills no disk.
    """
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    with suppress(ConnectionError):
        for _ in range(2**27 // 2**16):
            request.wfile.write(b"10000\r\n" + b" " * 2**16 + b"\r\n")
        request.wfile.write(b"0\r\n\r\n")
    request.close_connection = True
    return True


def silent(seconds: float) -> Reply:
    """Return a reply that says nothing for so long, and then closes the connection."""

    def reply(request: BaseHTTPRequestHandler) -> bool:
        time.sleep(seconds)
        request.close_connection = True
        return True

    return reply


@contextmanager
def serving(site: Site, certificate: Path | None = None) -> Iterator[str]:
    """Run a server on a free port and yield its address; with a certificate, it speaks TLS."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_GET(self) -> None:
            site.handle(self)

        def handle_one_request(self) -> None:
            with suppress(ConnectionError):
                super().handle_one_request()

        def log_message(self, format: str, *args: object) -> None:
            """Write no log."""

    open_: list[socket.socket] = []

    class Server(ThreadingHTTPServer):
        def process_request(self, request: Any, client_address: Any) -> None:
            open_.append(request)
            super().process_request(request, client_address)

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up is no error."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        for each in open_:  # connections that a client keeps for its next request
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def new_certificate(folder: Path) -> Path:
    """Write a certificate for the loopback address with its key, and return the file."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    os.chmod(path, 0o600)
    return path
