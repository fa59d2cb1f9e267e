"""SIGTERM, as service managers and batch systems send it, stops a command as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from zoo.errors import Terminated


@contextmanager
def sigterm_is_ctrl_c() -> Iterator[threading.Event]:
    """Let SIGTERM do what Ctrl-C does until the block ends, and yield whether it was received.

    Signals belong to the main thread; in another one the block changes nothing.
    """
    received = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        received.set()
        ctrl_c = signal.getsignal(signal.SIGINT)
        if callable(ctrl_c) and ctrl_c is not signal.default_int_handler:
            ctrl_c(signal.SIGINT, frame)  # that of Ray Tune, which saves the state of a search
        else:  # in the background of a script, SIGINT is ignored
            raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
