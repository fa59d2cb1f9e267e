"""The command `zoo`, with one module for each subcommand.

To add a command, add a module that holds what `Command` asks for, and its name to `COMMANDS`.
Answers go to stdout, progress and errors to stderr. What is slow to import is imported inside the
functions that need it, so `zoo --help` imports none of it.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn, Protocol, cast

from zoo.cli._signals import sigterm_is_ctrl_c
from zoo.cli._version import ShowVersion
from zoo.cli.output import put, say
from zoo.errors import ZooError, one_line
from zoo.files import storage_error

__all__ = ["main", "parser"]

COMMANDS = (  # in the order of the help
    "demo",
    "fetch",
    "data",
    "search",
    "train",
    "score",
    "serve",
    "drift",
    "journal",
    "names",
    "show",
    "report",
    "export",
    "history",
    "rollback",
    "runs",
    "promote",
    "recalibrate",
    "shelf",
    "sign",
    "bench",
    "audit",
    "cluster",
    "completion",
)
EXAMPLE = """\
zoo demo --out demo-data
  zoo search --category brick --data demo-data --time-budget 5m
  zoo score brick demo-data/brick/test/*/*.png --out maps"""


INTERRUPTED, TERMINATED = 128 + 2, 128 + 15  # exit codes, as a shell has them for the two signals


class Command(Protocol):
    """What the module of a command holds.

    Attributes:
        HELP: What the command does, without a capital and a full stop.
        EXAMPLE: A command line that works.
    """

    HELP: str
    EXAMPLE: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""

    def run(self, args: argparse.Namespace) -> None:
        """Run the command."""


class _Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line."""

    def error(self, message: str) -> NoReturn:
        say(f"{self.prog}: {message}. See `{self.prog} --help`.")
        sys.exit(2)

    def _print_message(self, message: str, file: object = None) -> None:
        for line in message.splitlines():
            put(line)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; docs/cli.md is made from it."""
    top = _Parser(
        prog="zoo",
        description="Find, keep and use anomaly detectors for textures.",
        epilog=f"example:\n  {EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument(
        "--version", action=ShowVersion, help="show the versions of zoo, torch and Python"
    )
    group = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name in COMMANDS:
        command = cast(Command, import_module(f"zoo.cli.{name}"))
        added = group.add_parser(
            name,
            help=command.HELP,
            description=f"{command.HELP[0].upper()}{command.HELP[1:]}.",
            epilog=f"example:\n  {command.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(added)
        added.set_defaults(run=command.run)
    return top


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command. A user's error is one line on stderr and exit code 2.

    Ctrl-C ends with 130, SIGTERM with 143. A search that keeps what it found ends with 0 on Ctrl-C.
    """
    words = sys.argv[1:] if argv is None else argv
    with sigterm_is_ctrl_c() as terminated:
        try:
            args = parser().parse_args(words)
            args.argv = words[1:]  # of the subcommand
            args.run(args)
        except ZooError as error:
            say(f"zoo: {one_line(error)}")
            sys.exit(2)
        except BrokenPipeError:
            sys.exit(0)
        except KeyboardInterrupt:
            say("zoo: interrupted")
            sys.exit(TERMINATED if terminated.is_set() else INTERRUPTED)
        except OSError as error:  # of a place that is not ours: the user's disk, rights or names
            if error.errno is None:
                raise
            say(f"zoo: {one_line(storage_error(f'Cannot do `zoo {shlex.join(words)}`', error))}")
            sys.exit(2)
        except MemoryError:
            say(
                f"zoo: There is not enough memory for `zoo {shlex.join(words)}`. Use smaller or "
                "fewer pictures, or a machine with more memory."
            )
            sys.exit(2)
    if terminated.is_set():
        sys.exit(TERMINATED)
