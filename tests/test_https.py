"""Reads from web servers: limits, redirects, and what each failure says."""

from __future__ import annotations

import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.web_server import Reply, Site, endless, new_certificate, send, serving, silent
from zoo.errors import ConfigError, StorageError, UnreachableError
from zoo.https import Client, check_address


def read(url: str, *, timeout_s: float = 5.0, plain: bool = False) -> bytes:
    with Client(timeout_s=timeout_s, plain=plain).get(url) as answer:
        return b"".join(answer.chunks())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.txt").write_bytes(b"content")
    return Site(root=tmp_path / "files")


def redirect(where: str, status: int = 302) -> Reply:
    def reply(request: BaseHTTPRequestHandler) -> bool:
        send(request, status, b"", {"Location": where})
        return True

    return reply


def test_a_file_is_read_with_its_status_and_headers(site: Site, address: str) -> None:
    with Client().get(f"{address}/a.txt") as answer:
        assert (answer.status, answer.length) == (200, 7)
        assert answer.headers["etag"].startswith('"')
        assert b"".join(answer.chunks()) == b"content"
    with Client().get(f"{address}/b.txt") as answer:
        assert answer.status == 404


@pytest.mark.parametrize("url", ["http://example.org/x", "http://127.0.0.1.example.org/"])
def test_plain_http_is_for_this_machine_and_for_what_has_a_known_hash(url: str) -> None:
    with pytest.raises(ConfigError, match=f"'{url}' is plain HTTP.*Write https://"):
        check_address(url)
    check_address(url, plain=True)
    check_address("http://127.0.0.1:1/x")
    check_address("https://example.org/x")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://example.org/x", "is no address of a web server"),
        ("file:///etc/passwd", "is no address of a web server"),
        ("https:///x", "is no address of a web server"),
        ("https://exa mple.org/", "is no address of a web server"),
        ("https://[::1", "is no address: Invalid IPv6 URL"),
        ("https://localhost:99999/", "is no address: Port out of range"),
        ("https://me:word@example.org/", "has a user or a password in it"),
    ],
)
def test_what_is_no_address_is_refused(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as refused:
        check_address(url)
    assert "word" not in str(refused.value).replace("password", "")


def test_a_redirect_is_followed_and_a_circle_is_not(site: Site, address: str) -> None:
    def once(request: BaseHTTPRequestHandler) -> bool:
        return request.path == "/old" and redirect("/a.txt", 301)(request)

    site.reply = once
    assert read(f"{address}/old") == b"content"
    site.reply = redirect("/old")
    with pytest.raises(StorageError, match="leads on to other addresses more than 5 times"):
        read(f"{address}/old")


def test_a_redirect_from_https_to_http_is_refused(
    site: Site, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = new_certificate(tmp_path)
    with serving(site, certificate) as secure:
        with pytest.raises(UnreachableError, match="certificate or its encryption is not accepted"):
            read(f"{secure}/a.txt")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert read(f"{secure}/a.txt") == b"content"
        site.reply = lambda request: (
            request.path == "/old" and redirect(f"{address}/a.txt")(request)
        )
        for plain in (False, True):
            with pytest.raises(StorageError, match=rf"leads on to {address}/a.txt, .* not HTTPS"):
                read(f"{secure}/old", plain=plain)
        site.reply = lambda request: request.path == "/old" and redirect(f"{secure}/a.txt")(request)
        assert read(f"{address}/old") == b"content"


@pytest.mark.parametrize("where", ["file:///etc/passwd", "http://example.org/", "gopher://a/"])
def test_a_redirect_to_what_could_not_be_asked_for_is_refused(
    site: Site, address: str, where: str
) -> None:
    site.reply = redirect(where)
    with pytest.raises(StorageError, match=f"leads on to {where}"):
        read(f"{address}/a.txt")


def test_a_body_that_breaks_off_is_no_body(site: Site, address: str) -> None:
    def half(request: BaseHTTPRequestHandler) -> bool:
        send(request, 200, b"half", {"Content-Length": "8"})
        return True

    site.reply = half
    with pytest.raises(UnreachableError, match=rf"Cannot read {address}/a.txt: .*4"):
        read(f"{address}/a.txt")


def test_a_server_that_is_silent_is_not_waited_for_longer_than_the_timeout(
    site: Site, address: str
) -> None:
    site.reply = silent(3.0)
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="does not answer in time"):
        read(f"{address}/a.txt", timeout_s=0.2)
    assert time.monotonic() - began < 2.0


@pytest.mark.parametrize("chunked", [True, False])
def test_a_server_that_drips_is_given_up(site: Site, address: str, chunked: bool) -> None:
    def drip(request: BaseHTTPRequestHandler) -> bool:
        request.send_response(200)
        if chunked:
            request.send_header("Transfer-Encoding", "chunked")
        else:
            request.send_header("Content-Length", "1000000")
        request.end_headers()
        if chunked:
            request.wfile.write(b"fffff\r\n")
        for _ in range(100):
            request.wfile.write(b"x")
            request.wfile.flush()
            time.sleep(0.05)
        request.close_connection = True
        return True

    site.reply = drip
    with pytest.raises(UnreachableError, match="too slow, with"):
        read(f"{address}/a.txt", timeout_s=0.3)


def test_an_endless_body_is_read_in_pieces_so_that_its_reader_can_stop(
    site: Site, address: str
) -> None:
    site.reply = endless
    received = 0
    with Client().get(f"{address}/a.txt") as answer:
        for chunk in answer.chunks():
            received += len(chunk)
            if received > 10**6:
                break
    assert received > 10**6


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [(503, "7", 7.0), (429, "100000", 60.0), (500, "Wed, 21 Oct 2026", None), (502, "", None)],
)
def test_what_may_be_answered_later_says_when(
    site: Site, address: str, status: int, header: str, seconds: float | None
) -> None:
    def later(request: BaseHTTPRequestHandler) -> bool:
        send(request, status, b"", {"Retry-After": header})
        return True

    site.reply = later
    with pytest.raises(UnreachableError, match=f"the server answers {status} ") as refused:
        read(f"{address}/a.txt")
    assert refused.value.retry_after_s == seconds


def test_a_host_that_is_not_there_is_named(address: str) -> None:
    with pytest.raises(UnreachableError, match="Cannot read http://127.0.0.1:9/: .*refused"):
        read("http://127.0.0.1:9/")


def test_a_proxy_of_the_environment_is_used_but_not_for_this_machine(
    site: Site, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", address)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert read(f"{address}/a.txt") == b"content"
    assert site.paths == ["/a.txt"]  # a proxy would be asked for the whole address
    assert read("http://example.org/a.txt", plain=True) == b"content"
    assert site.paths[-1] == "http://example.org/a.txt"
    with pytest.raises(UnreachableError, match="the proxy does not answer .*HTTPS_PROXY"):
        read("https://example.org/a.txt")
