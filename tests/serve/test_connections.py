"""Connections: slow, half, huge and broken requests, each refused or dropped in time."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import until
from tests.serve.services import Running, pictures, running, settings, shelf_with
from zoo.serve import bodies, connections

if TYPE_CHECKING:
    from registry.bundle import Bundle

HEAD = b"POST /v1/detectors/weave/score HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Iterator[Running]:
    """A server with short limits of time."""
    root = tmp_path_factory.mktemp("connected")
    shelf_with(root, [tiny_bundle])
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(connections, "HEADER_S", 1.0)
        monkeypatch.setattr(connections, "STALLED_S", 0.5)
        monkeypatch.setattr(connections, "MOST_CONNECTIONS", 20)
        known = settings(root, body_s=1.0, most_bytes=2**20, most_waiting_bytes=2**21)
        with running(known) as server:
            yield server


@contextmanager
def connected(server: Running) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as made:
        yield made


def answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Read one answer until its end, and return its status and JSON."""
    content = b""
    while b"\r\n\r\n" not in content:
        part = connection.recv(2**16)
        assert part, f"no answer: {content!r}"
        content += part
    head, _, body = content.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    size = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length"))
    while len(body) < size:
        body += connection.recv(2**16)
    return int(lines[0].split()[1]), json.loads(body)


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def scores(server: Running) -> None:
    """Send a good picture, and see it answered."""
    content = pictures(1)[0]
    with connected(server) as connection:
        connection.sendall(HEAD + f"Content-Length: {len(content)}\r\n\r\n".encode() + content)
        status, found = answer(connection)
    assert (status, found["verdict"]) == (200, "good")


BROKEN: dict[str, tuple[bytes, int, str]] = {
    "no HTTP": (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS perhaps\r\n\r\n",
        400,
        "no_http",
    ),
    "no version": (b"GET /livez\r\n\r\n", 400, "no_http"),
    "a long header": (HEAD + b"X: " + b"x" * 70_000, 431, "long_header"),
    "many headers": (HEAD + b"".join(b"X%d: y\r\n" % at for at in range(9000)), 431, "long_header"),
    "a header with a null": (HEAD + b"X: \0\r\n\r\n", 400, "no_http"),
    "two lengths": (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "no_http"),
    "no length": (HEAD + b"Content-Length: -1\r\n\r\n", 400, "no_http"),
    "two hosts": (HEAD + b"Host: b\r\n\r\n", 400, "no_http"),
    "another coding": (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 400, "no_http"),
    "a broken chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "no_http"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_request_is_refused_and_the_connection_closed(
    server: Running, name: str
) -> None:
    sent, status, code = BROKEN[name]
    with connected(server) as connection:
        connection.sendall(sent)
        found, refusal = answer(connection)
        assert (found, refusal["error"]) == (status, code)
        assert refusal["message"].endswith(".")
        assert is_closed(connection)
    scores(server)


@pytest.mark.parametrize("begin", [b"", b"GET /li", HEAD], ids=["nothing", "a part", "no end"])
def test_a_header_that_does_not_end_is_given_up(server: Running, begin: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(begin)
        status, refusal = answer(connection)
        assert (status, refusal["error"]) == (408, "slow_header")
        assert is_closed(connection)


def test_a_header_that_comes_in_drops_is_given_up_even_after_a_request(server: Running) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer(connection)[0] == 200
        begun = time.monotonic()
        connection.settimeout(0.2)
        content = b""
        while time.monotonic() - begun < 20:
            try:
                connection.sendall(b"G")
                content += connection.recv(2**16)
            except TimeoutError:
                continue
            except ConnectionError:
                break
            if content:
                break
        assert b" 408 " in content
        assert time.monotonic() - begun < 10


def test_a_connection_that_waits_between_requests_is_kept(server: Running) -> None:
    with connected(server) as connection:
        for _ in range(2):
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert answer(connection)[0] == 200
            time.sleep(1.3)  # more than a header may take


@pytest.mark.parametrize("coding", [b"Content-Length: 5000\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_body_that_does_not_end_is_given_up(server: Running, coding: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(HEAD + coding + b"\r\n5\r\nabcde\r\n")
        status, refusal = answer(connection)
        assert (status, refusal["error"]) == (408, "slow_body")
        assert "did not arrive within 1 seconds" in refusal["message"]
        assert is_closed(connection)
    scores(server)


def test_a_client_that_leaves_in_the_middle_is_forgotten(server: Running) -> None:
    for _ in range(40):  # more than connections may be open
        with connected(server) as connection:
            connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * 1000)
    until(lambda: _is_free(server), what="their places are not given back")
    scores(server)


def test_a_stated_length_is_refused_before_the_body_is_sent(server: Running) -> None:
    with connected(server) as connection:
        connection.sendall(HEAD + b"Content-Length: 2000000000\r\nExpect: 100-continue\r\n\r\n")
        begun = time.monotonic()
        status, refusal = answer(connection)
        assert (status, refusal["error"]) == (413, "too_large")
        assert time.monotonic() - begun < bodies.DRAIN_S
        assert is_closed(connection)


def test_who_sends_all_of_a_body_that_is_too_large_still_reads_why(server: Running) -> None:
    with connected(server) as connection:
        connection.sendall(HEAD + b"Content-Length: 3000000\r\n\r\n" + bytes(3_000_000))
        status, refusal = answer(connection)
        assert (status, refusal["error"]) == (413, "too_large")
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer(connection)[0] == 200, "the body was read to its end, so it goes on"


def test_chunks_are_counted(server: Running) -> None:
    chunk = b"10000\r\n" + bytes(2**16) + b"\r\n"
    with connected(server) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 20 + b"0\r\n\r\n")
        status, refusal = answer(connection)
        assert (status, refusal["error"]) == (413, "too_large")
    scores(server)


def test_bodies_of_all_requests_together_are_bounded(server: Running) -> None:
    held = []
    for _ in range(2):
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        connection.sendall(HEAD + b"Content-Length: 1048576\r\n\r\n")
        held.append(connection)
    time.sleep(0.2)
    with connected(server) as connection:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" + bytes(1000))
        status, refusal = answer(connection)
        assert (status, refusal["error"]) == (429, "full")
    for each in held:
        each.close()
    until(lambda: _is_free(server), what="the memory is not given back")
    scores(server)


def _is_free(server: Running) -> bool:
    with connected(server) as connection:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" + bytes(1000))
        return answer(connection)[0] == 422


def test_connections_are_bounded_and_free_again_when_closed(server: Running) -> None:
    held = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(20)]
    time.sleep(0.2)
    with connected(server) as connection:
        status, refusal = answer(connection)
        assert (status, refusal["error"]) == (503, "connections")
        assert is_closed(connection)
    for each in held:
        each.close()
    time.sleep(0.2)
    scores(server)


def test_an_answer_that_nobody_reads_is_dropped(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        for _ in range(2000):  # the buffers of two sockets hold some megabytes
            try:
                connection.setblocking(False)
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
            except OSError:
                break
        until(lambda: "did not read its answer" in caplog.text, what="it is kept for ever")
    scores(server)


def test_pipelined_requests_are_answered_in_their_order(server: Running) -> None:
    asked = [b"/livez", b"/nothing", b"/readyz", b"/v1/detectors"]
    with connected(server) as connection:
        connection.sendall(
            b"".join(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % u for u in asked)
        )
        content = b""
        while content.count(b"HTTP/1.1 ") < 4 or not content.endswith(b"}"):
            content += connection.recv(2**16)
    assert [each[:3] for each in content.split(b"HTTP/1.1 ")[1:]] == [
        b"200",
        b"404",
        b"200",
        b"200",
    ]


def test_nothing_is_left_behind(server: Running) -> None:
    """After all of the above, no thread is added for each request."""
    for _ in range(5):
        scores(server)
    assert threading.active_count() < 60
