"""Scores mutated bundles of one method under limits: `python -m tests.hostile_methods NAME [MANY]`.

It is a process of its own, so that the limits hold for nothing else, and so that a score without
end can be ended. What is tried is printed first, so the last line tells what ended the process. At
the end is a line with the longest seconds of one on a processor, and the most megabytes above
the start.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.bundle import Bundle
from zoo import methods
from zoo.detectors import Detector
from zoo.errors import BadImageError, BundleError, ConfigError

EXAMPLES = int(os.environ.get("ZOO_EXAMPLES", "6"))
BYTES = 2**30  # beyond what a sound bundle takes
SECONDS = 60  # for one bundle; the slowest sound one takes less than one
MOST = 2**18  # numbers in a tensor that is made to fit a mutated configuration
PICTURE = np.random.default_rng(0).integers(0, 255, (70, 83), np.uint8)
SMALL: dict[str, dict[str, Any]] = {
    "fcbigan": {"width": 4, "latent_channels": 2},
    "bigan": {"width": 2, "latent": 3},
    "f_anogan": {"width": 2, "latent": 3},
    "random_features": {"width": 4},
    "sparse_dictionary": {"patch": 7, "atoms": 16},
}
WHOLE = (-1, 0, 1, 2, 7, 8, 15, 32, 48, 69, 511, 2047, 4096, 10**6, 2**31 - 1, 10**10, 10**400)
OTHERS: tuple[Any, ...] = (-0.5, 1e-300, 0.5, 1e300, None, True, "batch", [], "1")
CHANGES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "with an axis more": lambda array: array[None],
    "twice": lambda array: np.concatenate([np.atleast_1d(array)] * 2),
    "twice along its last axis": lambda array: np.concatenate([np.atleast_1d(array)] * 2, axis=-1),
    "empty": lambda array: np.atleast_1d(array)[:0],
    "turned": lambda array: np.array(array.T, order="C"),
    **{f"of {kind}": partial(np.ndarray.astype, dtype=kind)
       for kind in ("f8", "f4", "f2", "i8", "i4", "u1", "?")},
    **{f"all {value}": partial(np.full_like, fill_value=value)
       for value in (0, -1, 1e-30, 1e10, 3e38)},
}  # fmt: skip
Case = tuple[str, Bundle]


def drawn(name: str, config: dict[str, Any], *, channels: int) -> Bundle:
    """Return a bundle of a method with weights of the right shapes, drawn at random.

    Raises:
        ConfigError: The configuration is not allowed.
        MemoryError: The weights would be large.
    """
    method, rng = methods.built(methods.named(name), config), np.random.default_rng(0)
    sizes: dict[str, int] = {}
    weights: dict[str, np.ndarray] = {}
    for key, shape in method.shapes(channels).items():
        known = [sizes.setdefault(s, 8) if isinstance(s, str) else s for s in shape]
        if np.prod(known, dtype=float) > MOST:
            raise MemoryError(key)
        if key.endswith("num_batches_tracked"):
            weights[key] = np.zeros(known, np.int64)
        elif len(known) < 2:
            weights[key] = np.ones(known, np.float32)
        else:
            values = rng.standard_normal(known) / np.sqrt(np.prod(known[1:]))
            weights[key] = values.astype(np.float32)
    count = len(method.loss_names)
    rule = {"aggregation": "max", "weights": [1.0] * count, "mean_filter": 3, "top_fraction": 0.01}
    return Bundle(
        texture="weave",
        method=name,
        config=methods.flat(method),
        preprocessing={"mode": "RGB" if channels == 3 else "L", "scale": 1.0},
        calibration={"mean": [0.0] * count, "covariance": np.eye(count).tolist(), "rule": rule},
        threshold={"value": 1.0, "false_alarm_rate": 0.05, "rule": "max", "images": 3},
        metrics={},
        data={},
        made_by={},
        weights=weights,
    )


def each_alone(sound: Bundle) -> Iterator[Case]:
    """Yield bundles with one field or one tensor changed, and what was changed."""
    for field, value in product(sound.config, WHOLE + OTHERS):
        yield from changed(sound, {field: value})
    for at, (key, array) in enumerate(sound.weights.items()):
        yield f"without {key}", replace(sound, weights=_without(sound.weights, key))
        for turn, (how, change) in enumerate(CHANGES.items()):
            few = len(sound.weights) < 25  # of the many of a large network, each has one change
            if few or turn == at % len(CHANGES):
                yield f"{key} {how}", replace(sound, weights=sound.weights | {key: change(array)})


def changed(sound: Bundle, changes: dict[str, Any]) -> Iterator[Case]:
    """Yield a bundle with another configuration: with its weights, and with weights that fit."""
    yield str(changes), replace(sound, config=sound.config | changes)
    channels = 3 if sound.preprocessing["mode"] == "RGB" else 1
    try:
        fitting = drawn(sound.method, sound.config | changes, channels=channels)
    except (ConfigError, TypeError, OverflowError, ValueError, MemoryError):
        return
    if _shapes(fitting) != _shapes(sound):
        yield f"{changes} and weights that fit", fitting


def _shapes(made: Bundle) -> dict[str, tuple[int, ...]]:
    return {key: array.shape for key, array in made.weights.items()}


def _without(weights: Mapping[str, np.ndarray], key: str) -> dict[str, np.ndarray]:
    return {other: array for other, array in weights.items() if other != key}


def ended(made: Bundle) -> str:
    """Score with a bundle: it is refused in one line, or the map is one of the picture."""
    signal.alarm(SECONDS)
    try:
        found = Detector(made).score(PICTURE)
    except (BundleError, BadImageError) as error:
        return f"refused: {error}"
    finally:
        signal.alarm(0)
    assert found.map.shape == PICTURE.shape
    assert np.isfinite(found.map).all()
    assert np.isfinite(found.score)
    return "scored"


def _most_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(name: str, many: int | None = None) -> None:
    """Try many bundles of one method, and print what became of them.

    Args:
        name: The method.
        many: How many are tried, at least; by default `EXAMPLES` beside those of `each_alone`.
    """
    torch.set_num_threads(1)
    sound = drawn(name, SMALL.get(name, {}), channels=3)
    assert ended(sound) == "scored"
    before, longest = _most_megabytes(), 0.0
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + BYTES, taken + BYTES))
    ends: Counter[str] = Counter()

    def tried(case: Case) -> None:
        nonlocal longest
        said, made = case
        print(said[:200], end=" -> ", flush=True)
        began = time.process_time()
        end = ended(made)
        longest = max(longest, time.process_time() - began)
        print(end, flush=True)
        assert "\n" not in end
        ends[end.partition(":")[0]] += 1

    for case in each_alone(sound):
        tried(case)

    whole = [field for field, value in sound.config.items() if type(value) is int]

    @settings(
        max_examples=EXAMPLES if many is None else max(1, many - ends.total()),
        derandomize=many is None and "ZOO_EXAMPLES" not in os.environ,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.dictionaries(
            st.sampled_from(whole), st.sampled_from(WHOLE), min_size=min(2, len(whole)), max_size=3
        )
    )
    def several_together(changes: dict[str, Any]) -> None:
        for case in changed(sound, changes):
            tried(case)

    several_together()
    assert min(ends["refused"], ends["scored"]) > 10, ends
    print(json.dumps([longest, _most_megabytes() - before]))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
