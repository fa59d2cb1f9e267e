"""Lines of an answer, with colours or without, on standard output."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from zoo.files import storage_error


def put_line(text: str) -> None:
    """Write a line to stdout as it is; names and texts of others are made visible before.

    Raises:
        BrokenPipeError: Nobody reads the answer any more.
        StorageError: It cannot be written, because of a full disk for example.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        with suppress(OSError):  # what is left in Python's buffer fails again when Python ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise storage_error("Cannot write the answer to standard output", error) from error
