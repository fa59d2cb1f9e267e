"""What all commands write: answers on stdout, progress on stderr.

Names, cards and histories may come from others. What a terminal would act on is made visible. A
terminal gets colours and lines that fit; a file or another program gets whole lines.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from zoo.cli._stdout import put_line
from zoo.cli._tables import lines, row_of, sections, table
from zoo.cli._terminal import Style, columns, is_terminal, shown
from zoo.errors import visible, without_secrets
from zoo.words import in_words

__all__ = [
    "Style",
    "agreeing",
    "answer",
    "columns",
    "is_terminal",
    "lines",
    "put",
    "put_json",
    "put_line",
    "row_of",
    "say",
    "sections",
    "shown",
    "table",
]


def say(line: str) -> None:
    """Write a line of progress to stderr; stdout is for answers.

    A search does not end because its log is full or its terminal is gone.
    """
    with suppress(OSError):
        print(visible(without_secrets(line)), file=sys.stderr, flush=True)


def put(line: object = "") -> None:
    """Write a line of an answer to stdout.

    Raises:
        BrokenPipeError: Nobody reads the answer any more.
        StorageError: It cannot be written, because of a full disk for example.
    """
    put_line(shown(str(line), sys.stdout))


def put_json(value: object) -> None:
    """Write a value as one line of JSON to stdout; errors as in `put`."""
    put(json.dumps(value).replace("\x7f", "\\u007f"))  # the one control character that is left


def answer(values: Mapping[str, Any], *, as_json: bool) -> None:
    """Print an answer: one JSON object, or a line in words for each value."""
    if as_json:
        put_json(values)
    else:
        lines([in_words(name, value) for name, value in values.items()])


def agreeing(warnings: Sequence[Sequence[str]]) -> list[str]:
    """Return one line for the warnings of several images that agree up to the first colon.

    Args:
        warnings: Those of each image.
    """
    found: dict[str, list[str]] = {}
    for line in itertools.chain.from_iterable(warnings):
        found.setdefault(line.partition(":")[0], []).append(line)
    return [f"{len(same)} of {len(warnings)} images: {same[0]}" for same in found.values()]
