"""What `zoo serve` may be told: which detectors, on which device, and its limits."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zoo.errors import ConfigError

Keep = Literal["none", "marked"]
MOST_PIXELS = 2**28  # detectors refuse larger pictures


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of the service; they check themselves.

    Attributes:
        shelf: Address of the shelf; None is that of `zoo.home.shelf_address`.
        names: The names that are answered for, as `zoo.load` takes them. Empty for every name of
            the shelf; the champions are then loaded at the start.
        device: Where to compute.
        most_detectors: Detectors in memory; beyond it the one that was asked for longest ago goes.
        most_bytes: Bytes of the body of a request.
        most_waiting_bytes: Bytes of the bodies in memory, all requests together.
        most_megapixels: Size of a picture, read from its header before it is decoded.
        at_once: Pictures that are scored at the same time. None is one for each core on a CPU, and
            two on a GPU, so that one is decoded while the other is scored.
        wait_s: How long a picture waits for its turn before the request is refused.
        body_s: How long the body of a request may take to arrive.
        refresh_s: Seconds between two looks for new champions, and for changed keys.
        keys: A file of digests of keys, as `zoo.serve.keys` writes it. None asks for no key, which
            is for the loopback address only.
        journal: Folder of the journal of what inspectors answered; None keeps none.
        keep: Pictures in the journal: none, or those that an inspector has marked.
        most_journal_bytes: Size of the journal with its pictures.
    """

    shelf: str | None = None
    names: tuple[str, ...] = ()
    device: str = "cpu"
    most_detectors: int = 16
    most_bytes: int = 2**25
    most_waiting_bytes: int = 2**29
    most_megapixels: float = 50.0
    at_once: int | None = None
    wait_s: float = 10.0
    body_s: float = 30.0
    refresh_s: float = 10.0
    keys: Path | None = None
    journal: Path | None = None
    keep: Keep = "none"
    most_journal_bytes: int = 2**30

    def __post_init__(self) -> None:
        """Refuse values that make no service."""
        for name in (
            "most_detectors",
            "most_bytes",
            "most_waiting_bytes",
            "at_once",
            "most_journal_bytes",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be a whole number above 0, not {value}. Change it.")
        for name in ("most_megapixels", "wait_s", "body_s", "refresh_s"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ConfigError(f"{name} must be a number above 0, not {value}. Change it.")
        if self.most_megapixels * 1e6 > MOST_PIXELS:
            raise ConfigError(
                f"most_megapixels is {self.most_megapixels:g}, and a detector scores at most "
                f"{MOST_PIXELS // 10**6} megapixels at once. Lower it."
            )
        if len(self.names) > self.most_detectors:
            raise ConfigError(
                f"{len(self.names)} detectors are named, and at most {self.most_detectors} are "
                "kept in memory. Raise most_detectors, or name fewer."
            )
        if self.keep != "none" and self.journal is None:
            raise ConfigError(
                "Pictures are to be kept, and there is no journal. Name its folder, or keep none."
            )

    @property
    def is_on_cpu(self) -> bool:
        """Whether the device is the CPU."""
        return self.device.partition(":")[0] == "cpu"

    @property
    def workers(self) -> int:
        """Number of pictures that are scored at the same time."""
        return self.at_once or (cores() if self.is_on_cpu else 2)

    @property
    def threads(self) -> int:
        """Threads of torch for each picture: times `workers`, the cores."""
        return max(1, cores() // self.workers)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))
