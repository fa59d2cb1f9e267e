"""The methods that learn nothing are fitted once for all promotions of the same pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from registry.bundle import Bundle
    from zoo.data.defects.validation import Window
    from zoo.detectors import Detector
    from zoo.promotion.comparison import Maps
    from zoo.training import Part, TrainingData


def once(folder: Path, make: Callable[[], None]) -> None:
    """Let one of several processes make a folder, for which the others wait."""
    made = Path(f"{folder}.made")
    with FileLock(f"{folder}.lock"):
        if not made.exists():
            make()
            made.touch()


class Memo:
    """What these functions return, computed once for the same pictures, windows and detector.

    Args:
        folder: Of the fits, for all processes that run tests at once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bundles: dict[str, list[Bundle]] = {}
        self.parts: dict[tuple[int, str], Part] = {}
        self.maps: list[tuple[Bundle, str, Maps]] = []

    def used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Give a promotion the same fits and the same maps, which take most of its time."""
        from zoo.promotion import promotion

        for name in ("untrained", "part_of", "window_maps"):
            monkeypatch.setattr(promotion, name, getattr(self, name))

    def untrained(
        self, data: TrainingData, *, say: Callable[[str], None] = lambda line: None
    ) -> list[Bundle]:
        from registry import bundle
        from zoo.training import untrained

        key = _key(data)
        folder = self.folder / f"untrained-{hashlib.sha256(key.encode()).hexdigest()}"

        def fit() -> None:
            for at, each in enumerate(untrained(data, say=say)):
                bundle.save(each, folder / f"{at:02}")

        if key not in self.bundles:
            once(folder, fit)
            self.bundles[key] = [bundle.load(each) for each in sorted(folder.iterdir())]
        return self.bundles[key]

    def part_of(self, made: Bundle, data: TrainingData) -> Part:
        from zoo.training import part_of

        key = id(made), _key(data)
        if key not in self.parts:
            self.parts[key] = part_of(made, data)
        return self.parts[key]

    def parts_of(self, data: TrainingData) -> list[Part]:
        """Return the methods that learn nothing."""
        return [self.part_of(each, data) for each in self.untrained(data, say=pytest.fail)]

    def window_maps(self, detector: Detector, windows: Sequence[Window]) -> Maps:
        from registry.bundle import same_detector
        from zoo.data.defects.validation import fingerprint
        from zoo.promotion.comparison import window_maps

        own = fingerprint(windows)
        for made, key, maps in self.maps:
            if key == own and same_detector(made, detector.bundle):
                return maps
        self.maps.append((detector.bundle, own, window_maps(detector, windows)))
        return self.maps[-1][2]


def _key(data: TrainingData) -> str:
    from zoo.training import provenance

    return json.dumps(provenance(data), sort_keys=True)
