"""What the routes of the service share: the settings, the detectors, and the turns of pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from zoo.errors import RefusedError
from zoo.serve.pool import Pool
from zoo.serve.settings import Settings

T = TypeVar("T")


class Service:
    """The parts of a running service.

    Attributes:
        settings: Its settings.
        pool: Its detectors.
    """

    def __init__(self, settings: Settings) -> None:
        """Open the shelf; errors as in `Pool`."""
        self.settings, self.pool = settings, Pool(settings)
        self._turns = asyncio.Semaphore(settings.workers)
        self._workers = ThreadPoolExecutor(
            settings.workers,
            "score",
            initializer=lambda: torch.set_num_threads(settings.threads),
        )

    async def in_turn(self, work: Callable[[], T]) -> T:
        """Run what decodes or scores a picture in a thread, a few at the same time.

        Raises:
            RefusedError: It was not its turn within `wait_s`.
        """
        try:
            async with asyncio.timeout(self.settings.wait_s):
                await self._turns.acquire()
        except TimeoutError:
            raise RefusedError(
                f"The service is busy: no turn in {self.settings.wait_s:g} seconds. Send the "
                "picture again later.",
                status=429,
                code="busy",
                retry_after_s=max(1, round(self.settings.wait_s / 2)),
            ) from None
        try:
            return await asyncio.get_running_loop().run_in_executor(self._workers, work)
        finally:
            self._turns.release()

    def close(self) -> None:
        """End the threads after what they compute now."""
        self._workers.shutdown()
