"""Make the starters, the detectors that are part of the package: `make starters`.

Each is trained on a photograph of `zoo demo` with fixed seeds, and promoted as any detector is: by
its validation windows, against the starter before it and against what learns nothing, and then
audited on the demo's test pictures. What wins is published in zoo/starters, which is the folder of
a shelf. Figures that are times are left out, so the same machine makes the same bytes, and a
detector that is the champion already changes nothing. How the settings were chosen, and why grass
and gravel have none, is in docs/experiments.md, "The starters".
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from typing import Any

from registry import bundle
from registry.bundle import Bundle
from registry.folder_shelf import FolderShelf
from registry.pointer import CHAMPION, Pointer
from registry.publish import publish
from zoo.data import demo, textures
from zoo.home import STARTERS, home, tracking_uri
from zoo.promotion import Registry, promote
from zoo.training import finish, gather, settings, train_best

SETTINGS: dict[str, Any] = {
    "width": 8,
    "patch": 64,
    "depth": 3,
    "discriminator_depth": 3,
    "segmenter_depth": 4,
    "latent_channels": 8,
    "reconstruction_penalty": 10.0,
    "penalty_reaches_generator": True,
    "learning_rate": 4e-4,
    "discriminator_norm": "batch",
    "batch": 16,
    "ema": 0.9,
    "defect_rounds": 64,
    "defect_learning_rate": 2e-3,
    "defect_ema": 0.995,
    "placebo_share": 0.5,
    "megapixels": 200.0,
    "fixed_patches": 0,
    "output_stride": 4,
    "views": 4,
    "rotations": False,
    "variation": 1.0,
}
NAMES: tuple[demo.Photograph, ...] = ("brick",)
TIMES = ("train_seconds", "test_seconds_per_image")


def main() -> None:
    """Make the starters; what is done is on stderr."""
    shelf = FolderShelf(home() / "shelf")
    shutil.rmtree(home() / "shelf", ignore_errors=True)
    if STARTERS.is_dir():
        shutil.copytree(STARTERS, home() / "shelf")
    for name in NAMES:
        _challenge(name, shelf)
    done = publish(shelf, STARTERS)
    _say(f"Written: {', '.join(done.written) or 'nothing'}; removed: {len(done.removed)} files.")


def _challenge(name: demo.Photograph, shelf: FolderShelf) -> None:
    """Train one, let it challenge the starter of today, and keep nothing else of its texture."""
    licence = f"CC0 1.0; photograph: {demo.SOURCES[name]}, cut by scikit-image"
    texture = textures.find(demo.make(home() / "data", texture=name), name, licence=licence)
    data = gather(texture)
    wanted = settings(SETTINGS)
    _say(f"Training {name} on {len(data.splits.fit)} pictures; this takes minutes.")
    made = finish(train_best(data, wanted, seed=0), data)
    bundle.save(_timeless(made), home() / name)
    registry = Registry(shelf=shelf, tracking_uri=tracking_uri())
    done = promote(home() / name, texture, registry=registry, say=_say)
    _say(done.decision.reason)
    if done.decision.promoted:
        target = home() / f"{name}-published"
        digest = bundle.save(_timeless(bundle.load(shelf.fetch(name))), target)
        shelf.change(name, lambda old: _only_champion(old, digest), folder=target)
    elif CHAMPION in shelf.pointer(name).aliases:
        shelf.change(name, lambda old: _only_champion(old, old.digests()[CHAMPION]))
    else:
        sys.exit(f"'{name}' has no starter, and this one is refused: change its settings.")


def _timeless(made: Bundle) -> Bundle:
    """Return a bundle without the figures that differ each time."""
    return replace(made, metrics=_without_times(made.metrics))


def _only_champion(pointer: Pointer, digest: str) -> Pointer:
    """Return a pointer whose one version is the champion, with this digest."""
    version = pointer.aliases[CHAMPION]
    history = [
        replace(entry, digest=digest) if entry.version == version else entry
        for entry in pointer.history
        if entry.act != "refused"
    ]
    return replace(
        pointer,
        aliases={CHAMPION: version},
        versions={version: digest},
        history=tuple(replace(entry, figures=_without_times(entry.figures)) for entry in history),
    )


def _without_times(figures: Any) -> dict[str, float]:
    return {name: value for name, value in figures.items() if name not in TIMES}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
