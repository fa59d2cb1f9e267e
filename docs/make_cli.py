"""Print docs/cli.md, which is made from the help of every command; `make docs` writes it."""

from __future__ import annotations

import argparse
import os

from zoo.cli import parser


def page() -> str:
    """Return the page, with one section for each command."""
    top = parser()
    made = "`make docs` makes this page from the help of each command."
    opening = f"# The command line\n\n{made}\n\n{_block(top)}"
    sections = [f"## `{command.prog}`\n\n{_block(command)}" for command in _commands(top)]
    return "\n\n".join([opening, *sections])


def _commands(top: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    return [
        command
        for action in top._actions
        if isinstance(action, argparse._SubParsersAction)
        for command in action.choices.values()
    ]


def _block(command: argparse.ArgumentParser) -> str:
    return f"```text\n{command.format_help().strip()}\n```"


if __name__ == "__main__":
    os.environ["COLUMNS"] = "100"  # argparse would ask the terminal
    print(page())
