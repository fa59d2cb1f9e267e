"""Bodies of requests: read whole, within bounds of size, of time and of memory for all together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from zoo.errors import RefusedError
from zoo.serve.settings import Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

DRAIN_S = 2.0  # how long what a refused client still sends is read, so that it reads the answer
FULL_RETRY_S = 2  # when to send a picture again that there was no memory for


class ClientLeft(Exception):  # noqa: N818  # no error: nobody waits for an answer
    """The client has closed the connection."""


class Memory:
    """Bytes of bodies that are in memory, all requests together. For one event loop."""

    def __init__(self, most: int) -> None:
        """Set the bound."""
        self._most, self.used = most, 0

    @contextmanager
    def room(self) -> Iterator[Room]:
        """Yield what a request takes its room from; it is given back at the end of the block."""
        own = Room(memory=self)
        try:
            yield own
        finally:
            self.used -= own.taken

    def has(self, size: int) -> bool:
        """Return whether so many bytes more are within the bound."""
        return self.used + size <= self._most


@dataclass
class Room:
    """The part of the memory that one request has taken.

    Attributes:
        memory: The whole.
        taken: Bytes.
    """

    memory: Memory
    taken: int = field(default=0)

    def grow(self, size: int) -> None:
        """Take as many bytes as make `size`, if they are not taken yet.

        Raises:
            RefusedError: There is no room.
        """
        more = size - self.taken
        if more <= 0:
            return
        if not self.memory.has(more):
            raise RefusedError(
                "The service holds as many pictures as fit into its memory. Send this one again "
                "later.",
                status=429,
                code="full",
                retry_after_s=FULL_RETRY_S,
            )
        self.memory.used += more
        self.taken += more


async def received(
    receive: Receive, *, stated: int | None, room: Room, settings: Settings
) -> bytes:
    """Return the body of a request.

    Args:
        receive: Gives its parts.
        stated: Bytes by the header; None if it does not say.
        room: Where the memory for it is taken from.
        settings: With `most_bytes` and `body_s`.

    Raises:
        RefusedError: It is too large or too slow, or there is no room for it.
        ClientLeft: The client has left before its end.
    """
    if stated is not None and stated > settings.most_bytes:
        raise _too_large(settings, f"has {stated}")
    room.grow(stated or 0)
    parts, size = [], 0
    try:
        async with asyncio.timeout(settings.body_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeft
                part = message.get("body", b"")
                size += len(part)
                if size > settings.most_bytes:
                    raise _too_large(settings, "goes on")
                room.grow(size)
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise RefusedError(
            f"The body of the request did not arrive within {settings.body_s:g} seconds; "
            f"{size} bytes did. Send it again over a faster connection, or a smaller picture.",
            status=408,
            code="slow_body",
        ) from None


async def drain(receive: Receive) -> bool:
    """Read and drop what a refused client still sends, for a moment; return whether all came.

    A connection that is closed with bytes unread is reset, and the client loses the answer.
    """
    try:
        async with asyncio.timeout(DRAIN_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return False
                if not message.get("more_body", False):
                    return True
    except TimeoutError:
        return False


def _too_large(settings: Settings, found: str) -> RefusedError:
    return RefusedError(
        f"The body of a request has at most {settings.most_bytes} bytes; this one {found}. Send a "
        "smaller picture, or one that is compressed.",
        status=413,
        code="too_large",
    )
