"""Reads from web servers over HTTPS, with limits on time and redirects, and errors in one line.

Plain HTTP is read from this machine only, or where the caller knows the SHA-256 of what it asks
for: anyone between two machines can change what goes over it. No redirect leads from HTTPS to HTTP.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from zoo.errors import ConfigError, StorageError, UnreachableError, one_line

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

TIMEOUT_S = 20.0  # without a byte; a reader of a broken network should not wait for minutes
CONNECT_S = 10.0
SLOWEST = 1024  # bytes a second, on average, once the timeout has passed
MOST_REDIRECTS = 5
MOST_WAIT_S = 60.0  # that a server may ask for before the next attempt
CHUNK = 2**16
_REDIRECTS = (301, 302, 303, 307, 308)
_LATER = (408, 425, 429)  # and all from 500 on: the same request may be answered later


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer of a web server, with its body still to be read.

    Attributes:
        url: Where it came from, after redirects.
        status: Of HTTP; below 500, and none that asks to come again later.
        headers: By name; upper and lower case are the same.
        length: Bytes that the body should have; None if the server does not say.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    length: int | None
    _response: BaseHTTPResponse
    _timeout_s: float

    @property
    def is_page(self) -> bool:
        """Whether it says that it is a web page, such as that of a login or of an error."""
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return kind in ("text/html", "application/xhtml+xml")

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it comes, without waiting until a chunk is full.

        urllib3 compares what came with the length that was stated.

        Raises:
            UnreachableError: It breaks off, ends early, or comes too slowly.
        """
        began, received = time.monotonic(), 0
        while True:
            with _translated(self.url):
                chunk = self._response.read1(CHUNK)
            if not chunk:
                break
            received += len(chunk)
            elapsed = time.monotonic() - began
            if elapsed > self._timeout_s and received < SLOWEST * elapsed:
                raise UnreachableError(
                    f"Cannot read {self.url}: it is too slow, with {received} bytes in "
                    f"{elapsed:.0f} seconds. Try again later."
                )
            yield chunk


class Client:
    """Asks web servers; connections are kept for the next request, and threads may share it."""

    def __init__(self, *, timeout_s: float = TIMEOUT_S, plain: bool = False) -> None:
        """Set the limits; proxies are those of the environment, as for other programs.

        Args:
            timeout_s: Seconds to wait for a byte.
            plain: Whether plain HTTP is allowed from other machines too: only if the caller knows
                the hash of what it asks for.
        """
        self._timeout_s, self._plain = timeout_s, plain
        self._pools: dict[str | None, PoolManager] = {}

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[Answer]:
        """Ask for an address, follow its redirects, and yield the answer.

        Args:
            url: The address.
            headers: Of the request.

        Raises:
            ConfigError: The address is none of HTTPS.
            StorageError: It leads to an address that is none of HTTPS, or in a circle.
            UnreachableError: There is no answer, or one that asks to come again later.
        """
        check_address(url, plain=self._plain)
        asked = url
        for _ in range(MOST_REDIRECTS + 1):
            with _translated(url):
                response = self._ask(url, headers or {})
            try:
                where = response.headers.get("Location")
                if response.status not in _REDIRECTS or not where:
                    yield self._answer(url, response)
                    return
            finally:
                response.close()
            url = self._next(asked, url, where)
        raise StorageError(
            f"Cannot read {asked}: it leads on to other addresses more than {MOST_REDIRECTS} "
            "times. Ask who runs that server, or give another address."
        )

    def _ask(self, url: str, headers: Mapping[str, str]) -> BaseHTTPResponse:
        own = {"User-Agent": "texture-zoo", "Accept-Encoding": "identity"}
        return self._pool(url).request(
            "GET", url, headers=own | dict(headers), preload_content=False, redirect=False
        )

    def _pool(self, url: str) -> PoolManager:
        from urllib.request import getproxies, proxy_bypass

        from urllib3 import PoolManager, ProxyManager, Timeout

        parts = urlsplit(url)
        host = parts.hostname or ""
        proxy = getproxies().get(parts.scheme)
        if is_loopback(host) or proxy_bypass(host):
            proxy = None
        if proxy not in self._pools:
            common: dict[str, Any] = {
                "timeout": Timeout(min(CONNECT_S, self._timeout_s), self._timeout_s),
                "retries": False,
            }
            made = ProxyManager(proxy, **common) if proxy else PoolManager(**common)
            self._pools[proxy] = made
        return self._pools[proxy]

    def _answer(self, url: str, response: BaseHTTPResponse) -> Answer:
        status = response.status
        if status in _LATER or status >= 500:
            raise UnreachableError(
                f"Cannot read {url}: the server answers {status} ({response.reason}). Try again "
                "later.",
                retry_after_s=_wait(response.headers.get("Retry-After", "")),
            )
        stated = response.headers.get("Content-Length", "")
        return Answer(
            url=url,
            status=status,
            headers=response.headers,
            length=int(stated) if stated.isascii() and stated.isdigit() else None,
            _response=response,
            _timeout_s=self._timeout_s,
        )

    def _next(self, asked: str, url: str, where: str) -> str:
        """Return the address that a redirect leads to."""
        found = urljoin(url, where)
        safe = urlsplit(url).scheme == "http" or urlsplit(found).scheme == "https"
        try:
            check_address(found, plain=self._plain)
        except ConfigError:
            safe = False
        if not safe:
            raise StorageError(
                f"Cannot read {asked}: it leads on to {found}, which is not HTTPS, so anyone on "
                "the way could change it. Ask who runs that server, or give another address."
            )
        return found


def check_address(url: str, *, plain: bool = False) -> None:
    """Refuse an address that is neither HTTPS nor, on this machine, HTTP.

    Args:
        url: The address.
        plain: Whether plain HTTP from other machines is allowed too.

    Raises:
        ConfigError: It is none of these, or has a user in it.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port  # reading it checks it
    except ValueError as error:
        raise ConfigError(f"'{url}' is no address: {error}. Write https://HOST/PATH.") from error
    if not host or parts.scheme not in ("https", "http") or not url.isascii() or " " in url:
        raise ConfigError(f"'{url}' is no address of a web server. Write https://HOST/PATH.")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"'{url}' has a user or a password in it, which are not sent. Leave them out; what is "
            "read must be readable for everyone who can reach the server."
        )
    if parts.scheme == "http" and not plain and not is_loopback(host):
        raise ConfigError(
            f"'{url}' is plain HTTP: anyone on the way could change what is read. Write https://, "
            "or copy it to this machine."
        )


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine.

    Example:
        >>> is_loopback("localhost"), is_loopback("127.0.0.1"), is_loopback("::1")
        (True, True, True)
        >>> is_loopback("127.0.0.1.example.org")
        False
    """
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """Turn an error of urllib3 into ours."""
    from urllib3.exceptions import HTTPError, LocationValueError

    try:
        yield
    except LocationValueError as error:
        raise ConfigError(f"'{url}' is no address. Write https://HOST/PATH.") from error
    except (HTTPError, OSError) as error:
        raise UnreachableError(f"Cannot read {url}: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    """Return why there is no answer, and what to do."""
    from urllib3.exceptions import (
        IncompleteRead,
        NewConnectionError,
        ProtocolError,
        ProxyError,
        SSLError,
        TimeoutError,
    )

    cause = error.args[-1] if error.args else error
    said = one_line(cause)
    said = re.sub(r"^\w+\(host=[^)]*\): ", "", said).rstrip(".")[:200]  # an object of urllib3
    if isinstance(error, SSLError):
        return (
            f"its certificate or its encryption is not accepted ({said}); check the address and "
            "the clock of this machine, or name a certificate of your own in SSL_CERT_FILE"
        )
    if isinstance(error, ProxyError):
        return f"the proxy does not answer ({said}); check HTTPS_PROXY and NO_PROXY"
    if isinstance(error, TimeoutError) and not isinstance(error, NewConnectionError):
        return "the server does not answer in time; check the network, or try again later"
    if isinstance(cause, IncompleteRead) and cause.expected:
        return f"it broke off, with {cause.expected} bytes missing; try again"
    if isinstance(error, ProtocolError):
        return f"it broke off ({said}); try again"
    return f"{said}; check the address and the network"


def _wait(text: str) -> float | None:
    """Return the seconds that a server asks to wait, at most `MOST_WAIT_S`; a date is not read."""
    return min(float(text), MOST_WAIT_S) if text.isascii() and text.isdigit() else None
