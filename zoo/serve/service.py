"""What the routes of the service share: settings, detectors, metrics, and the turns of pictures."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import torch

from zoo.data.images import stated_size
from zoo.errors import RefusedError
from zoo.serve.bodies import ClientLeft
from zoo.serve.keys import Keys
from zoo.serve.metrics import Metrics
from zoo.serve.pictures import Answer, Wanted, answered, limits_of
from zoo.serve.pool import Pool, canonical
from zoo.serve.settings import Settings

T = TypeVar("T")

log = logging.getLogger("zoo.serve")

LARGE = 2**24  # pixels of a picture that is scored while no other large one is, for the memory


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The detector that a picture is for.

    Attributes:
        name: As a client asked for it.
        version: What the name stands for now.
        digest: Of the bundle.
    """

    name: str
    version: int
    digest: str


@runtime_checkable
class Elsewhere(Protocol):
    """Scores pictures in other processes."""

    async def answered(self, asked: Asked, content: bytes, wanted: Wanted) -> Answer:
        """Score a picture; errors as in `zoo.serve.pictures.answered`, and `RefusedError`."""


async def _stays() -> bool:
    return False


class Service:
    """The parts of a running service.

    Attributes:
        settings: Its settings.
        pool: Its detectors.
        keys: Those that it accepts; None asks for none.
        metrics: What it counts.
        is_stopping: Whether it finishes what was accepted, and then ends.
    """

    def __init__(self, settings: Settings, *, elsewhere: Elsewhere | None = None) -> None:
        """Read the keys and open the shelf; nothing is loaded yet.

        Args:
            settings: Its settings.
            elsewhere: What scores the pictures; None for this process.

        Raises:
            ZooError: As in `Pool` and `Keys`.
        """
        self.settings, self.metrics = settings, Metrics()
        self.keys = Keys(settings.keys) if settings.keys else None
        self.pool = Pool(settings, builds=elsewhere is None)
        self._elsewhere = elsewhere
        self.is_stopping = False
        self._is_loaded = False
        self.metrics.ready.set_function(lambda: self.missing() is None)
        self._turns, self._large = asyncio.Semaphore(settings.workers), asyncio.Lock()
        self._workers = ThreadPoolExecutor(
            settings.workers,
            "score",
            initializer=lambda: torch.set_num_threads(settings.threads),
        )

    async def score(
        self,
        name: str,
        content: bytes,
        wanted: Wanted,
        *,
        has_left: Callable[[], Awaitable[bool]] = _stays,
    ) -> Answer:
        """Score a picture when it is its turn.

        Args:
            name: Of a detector.
            content: The file of the picture.
            wanted: What to answer with.
            has_left: Tells whether nobody waits for the answer any more.

        Raises:
            UnknownDetectorError: There is no detector of that name.
            BadImageError: The picture cannot be read or scored.
            RefusedError: It has too many pixels, or it was not its turn in time.
            ClientLeft: Nobody waits for the answer any more.
        """
        version, digest = self.pool.version(name)
        if self._elsewhere is None:

            def work() -> Answer:
                return answered(self.pool.served(name), content, wanted)

            done = await self.in_turn(work, picture=content, has_left=has_left)
        else:
            await self._pixels(content)
            asked = Asked(name=canonical(name), version=version, digest=digest)
            done = await self._elsewhere.answered(asked, content, wanted)
        line, count = done.line, self.metrics
        count.pictures.labels(line["name"], line["version"], line["verdict"]).inc()
        count.scores.labels(line["name"]).observe(line["score"])
        count.seconds.labels(line["name"]).observe(line["seconds"])
        return done

    async def in_turn(
        self,
        work: Callable[[], T],
        *,
        picture: bytes | None = None,
        has_left: Callable[[], Awaitable[bool]] = _stays,
    ) -> T:
        """Run what decodes or scores a picture in a thread, a few at the same time.

        Args:
            work: What to run.
            picture: The file that it decodes, whose stated size is checked first.
            has_left: As in `score`.

        Raises:
            BadImageError: The file is no picture.
            RefusedError: The picture has too many pixels, or it was not its turn in `wait_s`.
            ClientLeft: As in `score`.
        """
        is_large = picture is not None and await self._pixels(picture) > LARGE
        begun = time.monotonic()
        async with self._turn(is_large):
            self.metrics.waited.observe(time.monotonic() - begun)
            if await has_left():
                raise ClientLeft
            with self.metrics.scoring.track_inprogress():
                return await asyncio.get_running_loop().run_in_executor(self._workers, work)

    async def follow(self) -> None:
        """Load the detectors, then look for new champions and changed keys until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self._refresh)
            except Exception:  # a fault of ours must not end the following of champions
                log.exception("The detectors were not refreshed")
            self._is_loaded = True
            await asyncio.sleep(self.settings.refresh_s)

    def missing(self) -> str | None:
        """Return what is missing before pictures can be scored; None if nothing is."""
        if self.is_stopping:
            return "The service is about to end."
        if not self._is_loaded:
            return "The detectors are being loaded."
        broken = sorted(self.pool.broken())
        if self.pool.loaded() and not (self.settings.names and broken):
            return None
        if broken:
            return f"{', '.join(broken)} cannot be loaded; the service's log says why."
        return "The shelf has no detector yet."

    def close(self) -> None:
        """End the threads after what they compute now."""
        self._workers.shutdown()

    def _refresh(self) -> None:
        if self.keys is not None:
            self.keys.refresh()
        self.pool.refresh()
        info = self.metrics.detector
        info.clear()
        for each in self.pool.loaded():
            limits_of(each.bundle, None)  # the first time imports SciPy
            info.labels(each.name, each.version, each.digest).set(1)

    async def _pixels(self, picture: bytes) -> int:
        """Return the number of pixels that a file states.

        Raises:
            BadImageError: It is no picture.
            RefusedError: They are too many.
        """
        height, width = await asyncio.to_thread(stated_size, picture)
        most = self.settings.most_megapixels
        if height * width > most * 1e6:
            raise RefusedError(
                f"The picture has {height}x{width} pixels, and at most {most:g} megapixels are "
                "scored here. Cut it into pieces, or make it smaller.",
                status=413,
                code="too_many_pixels",
            )
        return height * width

    @asynccontextmanager
    async def _turn(self, is_large: bool) -> AsyncIterator[None]:
        """Wait for a turn, and for other large pictures before a large one.

        Raises:
            RefusedError: It did not come in time.
        """
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(self.settings.wait_s):
                    if is_large:
                        await held.enter_async_context(self._large)
                    await held.enter_async_context(self._turns)
            except TimeoutError:
                raise RefusedError(
                    f"The service is busy: it was not this picture's turn within "
                    f"{self.settings.wait_s:g} seconds. Send it again later.",
                    status=429,
                    code="busy",
                    retry_after_s=max(1, round(self.settings.wait_s / 4)),
                ) from None
            yield
