"""Detectors in processes that are made by fork: multiprocessing, gunicorn, DataLoader workers."""

from __future__ import annotations

import os
from functools import cache
from typing import Protocol, runtime_checkable
from weakref import WeakSet

import torch


@runtime_checkable
class Forked(Protocol):
    """What has to be changed in a process that was made by fork."""

    def after_fork(self) -> None:
        """Replace what the new process cannot use."""


_alive: WeakSet[Forked] = WeakSet()


def prepare(one: Forked) -> None:
    """Make sure that torch and this object work in a process that is made by fork later."""
    _register()
    _alive.add(one)


@cache
def _register() -> None:
    os.register_at_fork(after_in_child=_in_child)


def _in_child() -> None:
    # The thread that forks still counts on the other threads of libgomp, which the new process does
    # not have: it would wait for them forever. OpenCV and OpenBLAS make their threads again.
    torch.set_num_threads(1)
    for one in list(_alive):
        one.after_fork()
