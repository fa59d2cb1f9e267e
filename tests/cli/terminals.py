"""A terminal for tests: a pseudo-terminal, and a screen that does what its escape codes say."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import wcwidth

from tests.processes import same_imports

SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


class Screen:
    """What a person sees: lines of text, as wide as the terminal.

    Attributes:
        width: Columns; a longer line goes on in the next one.
        colours: The codes of all colours that were used.
        modes: Every escape code that is none of a colour, of a movement or of an erasure.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.rows: list[list[str]] = [[]]
        self.row = self.column = 0
        self.colours: set[str] = set()
        self.modes: list[str] = []

    @property
    def text(self) -> str:
        """The lines, without spaces at their ends."""
        return "\n".join("".join(row).rstrip() for row in self.rows).rstrip("\n")

    def feed(self, text: str) -> None:
        """Do what a terminal does with a text."""
        at = 0
        while at < len(text):
            if found := SEQUENCE.match(text, at):
                self._do(found[1], found[2])
                at = found.end()
                continue
            self._put(text[at])
            at += 1

    def _do(self, number: str, act: str) -> None:
        if act == "m":
            self.colours.add(number)
        elif act == "A":
            self.row = max(self.row - int(number or 1), 0)
        elif act == "K" and number in ("", "0"):
            del self.rows[self.row][self.column :]
        elif act == "J" and number in ("", "0"):
            del self.rows[self.row][self.column :]
            del self.rows[self.row + 1 :]
        else:
            self.modes.append(f"{number}{act}")

    def _put(self, letter: str) -> None:
        assert letter != "\x1b", "a sequence that no test knows"
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self._down()
        else:
            wide = max(wcwidth.wcwidth(letter), 0)
            if self.column + wide > self.width:
                self._down()
                self.column = 0
            row = self.rows[self.row]
            row += [" "] * (self.column + wide - len(row))
            if wide:
                row[self.column : self.column + wide] = [letter, *[""] * (wide - 1)]
            else:
                row[self.column - 1] += letter
            self.column += wide

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append([])


def sized(file: int, width: int, height: int) -> None:
    """Give a pseudo-terminal a size."""
    fcntl.ioctl(file, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


@contextmanager
def terminal(width: int = 80, height: int = 24) -> Iterator[tuple[TextIO, Callable[[], str]]]:
    """Open a pseudo-terminal; yield a stream that writes to it, and what reads all that came."""
    ours, theirs = pty.openpty()
    sized(theirs, width, height)
    stream = os.fdopen(theirs, "w", encoding="utf-8")
    came: list[bytes] = []
    reader = threading.Thread(target=_read_all, args=(ours, came))
    reader.start()  # a terminal that nobody reads from blocks who writes to it
    taken = 0

    def read() -> str:
        nonlocal taken
        before = -1
        while before != len(came):
            before = len(came)
            time.sleep(0.05)
        found, taken = came[taken:], len(came)
        return b"".join(found).decode()

    try:
        yield stream, read
    finally:
        stream.close()
        reader.join()
        os.close(ours)


def _read_all(file: int, into: list[bytes]) -> None:
    while True:
        try:
            part = os.read(file, 65536)
        except OSError:  # the other side is closed
            return
        if not part:
            return
        into.append(part)


class Session:
    """A command in a pseudo-terminal of its own, as in a window.

    Attributes:
        screen: What it shows.
        process: The command.
    """

    def __init__(self, *command: str | Path, width: int = 80, env: Mapping[str, str] = {}) -> None:
        self.screen, self._read = Screen(width), ""
        self._ours, theirs = pty.openpty()
        sized(theirs, width, 24)
        environment = {**os.environ, **same_imports(), "TERM": "xterm", **(env or {})}
        environment = {name: value for name, value in environment.items() if value}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "zoo.cli", *map(str, command)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            preexec_fn=_with_its_terminal,  # no other thread of the tests has a lock
        )
        os.close(theirs)

    def until(self, said: str, *, timeout_s: float = 120.0) -> str:
        """Return the screen when it shows a text."""
        return self._wait(lambda: said in self.screen.text, timeout_s)

    def ended(self, *, timeout_s: float = 120.0) -> str:
        """Return the screen when the command has ended."""
        self._wait(lambda: self.process.poll() is not None, timeout_s)
        self._take()
        return self.screen.text

    def close(self) -> None:
        """Kill what still runs."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._ours)

    def _wait(self, done: Callable[[], bool], timeout_s: float) -> str:
        until = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < until, self.screen.text
            if not self._take() and self.process.poll() is not None and not done():
                raise AssertionError(self.screen.text)
        return self.screen.text

    def _take(self) -> bool:
        """Take what has come; return whether there was anything."""
        came = False
        while select.select([self._ours], [], [], 0.1)[0]:
            try:
                part = os.read(self._ours, 65536)
            except OSError:  # the command has closed the terminal
                break
            if not part:
                break
            came, self._read = True, self._read + part.decode("utf-8", "replace")
            whole, escape, rest = self._read.rpartition("\x1b")
            if escape and not SEQUENCE.match(escape + rest):  # a sequence that is not whole yet
                self._read = escape + rest
            else:
                whole, self._read = self._read, ""
            self.screen.feed(whole)
        return came


def _with_its_terminal() -> None:
    """Make standard input the terminal that sends Ctrl-C to this process."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
