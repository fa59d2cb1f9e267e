"""`zoo completion`: a script with which a shell completes commands, options and detectors."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from zoo.cli.output import put

HELP = "print a script with which bash, zsh or fish completes commands, options and detectors"
EXAMPLE = "zoo completion bash"
NAMES = "zoo names 2>/dev/null"  # its output is no terminal there, so it prints names alone
FILES, FOLDERS = ("FILE", "IMAGE", "PEM"), ("DIR", "BUNDLE")  # as all commands name them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "shell",
        choices=("bash", "zsh", "fish"),
        help="for which shell. Save what is printed: for bash as "
        "~/.local/share/bash-completion/completions/zoo, for zsh as _zoo in a folder of $fpath, "
        "for fish as ~/.config/fish/completions/zoo.fish",
    )


def run(args: argparse.Namespace) -> None:
    """Print the script. It is made from the parser, so it is that of this version."""
    import shtab

    from zoo.cli import parser

    top = parser()
    for action in actions(top):
        if action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar in FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.dest in ("name", "names") and not action.option_strings:
            action.complete = shtab.cmd(NAMES)  # type: ignore[attr-defined]
    for line in shtab.complete(top, shell=args.shell).splitlines():
        put(line)


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the options and arguments of a parser and of its subcommands."""
    for action in parser._actions:  # argparse has no public way to list them; shtab does the same
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from actions(each)
