"""Where bfloat16 is used: on a device that multiplies in it faster than in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_single: ContextVar[bool] = ContextVar("single", default=False)


def half_precision(device: torch.device) -> bool:
    """Return whether a device multiplies in bfloat16 faster than in float32.

    False within `single_precision`, and where a method is traced for another runtime.
    """
    if _single.get() or torch.compiler.is_compiling():
        return False
    on_cpu = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # not in every torch
    return device.type == "cuda" or (device.type == "cpu" and bool(on_cpu()))


@contextmanager
def single_precision() -> Iterator[None]:
    """Compute in float32 in this thread, to compare with what always does."""
    token = _single.set(True)
    try:
        yield
    finally:
        _single.reset(token)
