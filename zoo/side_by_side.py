"""Searches of several textures at once on one Ray, each a process with a record of its own.

Every search asks Ray for as many workers as there are, and Ray gives the next free one to whoever
waits for it: no worker idles while any texture has a trial left. A search that fails or is killed
takes no other with it, and each is resumed and audited like any other.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import EmptyFolderError
from zoo.textures import MVTEC_TEXTURES


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How the search of one texture ended.

    Attributes:
        answer: What `zoo search --json` printed; empty if it failed.
        code: Its exit code.
    """

    answer: Mapping[str, Any]
    code: int


def textures_in(data: Path) -> list[str]:
    """Return which of MVTec's five textures a folder holds.

    Raises:
        EmptyFolderError: None of them.
    """
    found = [name for name in MVTEC_TEXTURES if (data / name).is_dir()]
    if not found:
        raise EmptyFolderError(
            f"`--category all` searches for {', '.join(MVTEC_TEXTURES)}, and {data} holds no "
            "folder of those names. Name the one texture you have with --category."
        )
    return found


def search(
    names: Sequence[str], options: Sequence[str], *, say: Callable[[str], None]
) -> dict[str, Ended]:
    """Run `zoo search` for each name at once, and return how each ended.

    On Ctrl-C, which a terminal sends to all of them, each keeps what it has found and ends.

    Args:
        names: Of textures.
        options: Of `zoo search`, the same for all; with the address of one Ray.
        say: Receives each line that any of them says, after its name.
    """
    command = [sys.executable, "-m", "zoo.cli", "search", *options, "--json", "--category"]
    running = {
        name: subprocess.Popen(
            [*command, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for name in names
    }
    listeners = [
        threading.Thread(target=_pass_on, args=(name, process, say))
        for name, process in running.items()
    ]
    for listener in listeners:
        listener.start()
    printed = {name: _answer(process) for name, process in running.items()}
    for listener in listeners:
        listener.join()
    return {
        name: Ended(
            answer=json.loads(printed[name]) if printed[name].strip() else {},
            code=process.returncode,
        )
        for name, process in running.items()
    }


def _answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    while True:
        try:
            printed = process.stdout.read()
            process.wait()
            return printed
        except KeyboardInterrupt:  # they have heard it too, and are ending
            continue


def _pass_on(name: str, process: subprocess.Popen[str], say: Callable[[str], None]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        say(f"{name}: {line.rstrip()}")
