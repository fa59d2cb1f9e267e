"""`zoo --version`: what is installed, as a report of a fault should say it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from zoo.cli.output import put


class ShowVersion(argparse.Action):
    """Prints the versions of the zoo, of torch and of Python, and ends; torch is not imported."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        """Take the names of the option and its help."""
        super().__init__(option_strings, dest=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        """Print one line."""
        import platform
        from importlib import metadata

        put(
            f"texture-zoo {metadata.version('texture-zoo')} "
            f"(torch {metadata.version('torch')}, Python {platform.python_version()})"
        )
        parser.exit()
