"""The client of the service: sends files, several at once, and tries again while it is busy.

It needs neither torch nor FastAPI.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
import re
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import numpy as np
import urllib3
from jaxtyping import Float
from numpy.lib import format as npy
from pydantic import ValidationError

from zoo.data.images import content_of
from zoo.errors import BadImageError, ConfigError, RefusedError, StorageError, one_line
from zoo.files import TEXT, read_regular, reading
from zoo.serve.answers import Scored
from zoo.words import shortened

AT_ONCE = 8  # requests; a service with more cores is asked by several clients
AHEAD = 2  # files that are sent ahead of the one that is asked for, for each at once
CONNECT_S, READ_S = 10.0, 180.0  # for a connection; for an answer, whose picture waits its turn
BUSY_TRIES, LOST_TRIES = 20, 4  # after 429 and 503; after a connection that was refused or broke
LONGEST_WAIT_S = 30  # between two tries, whatever the service says
_KEY = re.compile("[!-~]{1,200}")
_OF_PICTURE = {408, 413, 415, 422}  # the picture is refused; others may be taken


class Remote(NamedTuple):
    """What became of a file: an answer, with its map if that was asked for, or an error."""

    path: Path
    answer: Scored | None
    map: Float[np.ndarray, "h w"] | None
    error: BadImageError | None


class Client:
    """A service at an address; may be used by several threads, and is closed after a block."""

    def __init__(self, address: str, *, key: str | None = None) -> None:
        """Take the address; nothing is sent yet.

        Args:
            address: Such as `https://inspection.example:8443`.
            key: Sent with each request; nowhere else, and not after a redirect.

        Raises:
            ConfigError: The address or the key is none.
        """
        self.address = _checked(address)
        if key is not None and not _KEY.fullmatch(key):
            raise ConfigError(
                "The key of the service has blanks or signs that no key has. Copy it again, as "
                "`zoo serve --new-key` printed it."
            )
        self._headers = {"Accept": "application/json", "User-Agent": "texture-zoo"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._pool = urllib3.PoolManager(
            maxsize=AT_ONCE,
            block=True,
            timeout=urllib3.Timeout(connect=CONNECT_S, read=READ_S),
            retries=urllib3.Retry(
                total=None,
                connect=LOST_TRIES,
                read=LOST_TRIES,
                other=LOST_TRIES,
                redirect=0,
                status=BUSY_TRIES,
                status_forcelist=(429, 503),
                allowed_methods=None,  # scoring a picture twice changes nothing
                backoff_factor=0.5,
                backoff_max=LONGEST_WAIT_S,
                backoff_jitter=0.5,
                retry_after_max=LONGEST_WAIT_S,
                raise_on_status=False,
                raise_on_redirect=False,
            ),
        )

    def __enter__(self) -> Client:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self._pool.clear()

    def score(self, name: str, content: bytes, *, with_map: bool = False) -> Scored:
        """Return the answer to a picture.

        Args:
            name: Of a detector.
            content: The file of the picture.
            with_map: Whether the answer is to have the map, as a file of NumPy.

        Raises:
            BadImageError: The service does not take the picture.
            RefusedError: It refuses, and would refuse every other picture; or it stays busy.
            StorageError: It cannot be reached.
        """
        url = f"{self.address}/v1/detectors/{quote(name, safe='')}/score"
        try:
            response = self._pool.request(
                "POST",
                url + "?map=float32" * with_map,
                body=content,
                headers=self._headers | {"Content-Type": "application/octet-stream"},
            )
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None) or error
            why = shortened(one_line(reason), 200).rstrip(".")
            raise StorageError(
                f"The service at {self.address} cannot be reached: {why}. Start it, or correct the "
                "address."
            ) from error
        if response.status != 200:
            raise self._refusal(response.status, response.data)
        try:
            return Scored.model_validate_json(response.data)
        except ValidationError as error:
            raise self._no_service(f"its answer has {error.error_count()} faults") from error

    def _refusal(self, status: int, body: bytes) -> BadImageError | RefusedError:
        try:
            found = json.loads(body)
            code, message = str(found["error"]), shortened(str(found["message"]), 600)
        except (ValueError, LookupError, TypeError, RecursionError):
            return self._no_service(f"it answers with status {status}")
        if status in _OF_PICTURE:
            return BadImageError(message)
        return RefusedError(
            f"The service at {self.address} refuses: {message}", status=status, code=code
        )

    def _no_service(self, found: str) -> RefusedError:
        return RefusedError(
            f"{self.address} does not answer as a service of texture-zoo: {found}. Correct the "
            "address, or look at what is between.",
            status=502,
            code="no_service",
        )


def score_files(
    client: Client, name: str, paths: Sequence[Path], *, with_maps: bool = False
) -> Generator[Remote]:
    """Send files and return the answers in their order, each as soon as it and those before came.

    Args:
        client: The service.
        name: Of a detector.
        paths: The files. One that cannot be read or scored comes with its error.
        with_maps: Whether the answers are to have their maps.

    Raises:
        RefusedError: As in `Client.score`.
        StorageError: As in `Client.score`.
    """

    def sent(path: Path) -> Remote:
        try:
            answer = client.score(name, content_of(path), with_map=with_maps)
            return Remote(path, answer, _map(answer) if with_maps else None, None)
        except BadImageError as error:
            named = error if str(path) in str(error) else BadImageError(f"{path}: {error}")
            return Remote(path, None, None, named)

    pool = ThreadPoolExecutor(min(AT_ONCE, len(paths)), "send")
    waiting: deque[Future[Remote]] = deque()
    try:
        for path in paths:
            waiting.append(pool.submit(sent, path))
            if len(waiting) > AHEAD * AT_ONCE:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # also if the caller stops early
        pool.shutdown(cancel_futures=True)


def _checked(address: str) -> str:
    """Return the address of a service without what is not used of it.

    Raises:
        ConfigError: It is none.
    """
    try:
        parts = urlsplit(address)
        known = parts.hostname and parts.port != 0 and not parts.username
    except ValueError:  # brackets or a port that are none
        known = False
    if not known or parts.scheme not in ("http", "https"):
        raise ConfigError(
            f"'{address}' is no address of a service. Write http://HOST:PORT or "
            "https://HOST:PORT, and the key into a file."
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def read_key(path: Path) -> str:
    """Return the key in the first line of a file.

    Raises:
        StorageError: It cannot be read.
        ConfigError: It is empty.
    """
    with reading(f"the key {path}"):
        lines = read_regular(path, most=TEXT).decode("utf-8", "replace").split()
    if not lines:
        raise ConfigError(f"{path} is empty. Write the key of the service into it.")
    return lines[0]


def _map(answer: Scored) -> Float[np.ndarray, "h w"]:
    """Return the map of an answer.

    Raises:
        RefusedError: It has none, or it is not of the size of the picture.
    """
    try:
        packed = base64.b64decode(answer.map or "", validate=True)
        stream, size = io.BytesIO(packed), (answer.height, answer.width)
        # numpy.load would take the memory that a header states before it reads.
        npy.read_magic(stream)
        shape, by_columns, dtype = npy.read_array_header_1_0(stream)
        if shape == size and dtype == np.dtype(np.float32) and not by_columns:
            found = np.frombuffer(packed, np.float32, offset=stream.tell(), count=math.prod(size))
            return found.reshape(size)
        what = f"it has shape {shape} and type {dtype}"
    except (ValueError, binascii.Error) as error:
        what = one_line(error)
    raise RefusedError(
        f"The service sent no map of {answer.height}x{answer.width} pixels: {what}. Update it.",
        status=502,
        code="no_service",
    )
