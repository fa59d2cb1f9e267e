"""Searches for several textures at once on one Ray, each in a process of its own.

Every search asks Ray for as many workers as there are, and Ray gives each free worker to the next
trial that waits for one, so no worker is idle while any texture has a trial left. If one search
fails or is killed, the others go on, and each can be resumed and audited like any other.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.data.textures import MVTEC_TEXTURES
from zoo.errors import EmptyFolderError, Terminated


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How the search for one texture ended.

    Attributes:
        answer: The answer of `zoo search --json`; empty if the search failed.
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
    """Run `zoo search` for all textures at once, and return how each search ended.

    On Ctrl-C, which a terminal sends to every process, and on SIGTERM, which is passed on, each
    search keeps its results and ends.

    Args:
        names: Of the textures.
        options: Of `zoo search`, with the address of a Ray; the same for all.
        say: Receives each line of progress, with the name of the texture in front.
    """
    command = [sys.executable, "-m", "zoo.cli", "search", *options, "--json", "--category"]
    processes = {
        name: subprocess.Popen(
            [*command, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for name in names
    }
    threads = [
        threading.Thread(target=_forward_progress, args=(name, process, say))
        for name, process in processes.items()
    ]
    for thread in threads:
        thread.start()
    answers = answers_of(processes)
    for thread in threads:
        thread.join()
    return {
        name: Ended(
            answer=json.loads(answers[name]) if answers[name].strip() else {},
            code=process.returncode,
        )
        for name, process in processes.items()
    }


def answers_of(processes: Mapping[str, subprocess.Popen[str]]) -> dict[str, str]:
    """Return what each process has printed, when all have ended; SIGTERM is their Ctrl-C."""
    answers: dict[str, str] = {}
    while len(answers) < len(processes):
        name, process = next(each for each in processes.items() if each[0] not in answers)
        assert process.stdout is not None
        try:
            printed = process.stdout.read()
            process.wait()
            answers[name] = printed
        except Terminated:
            for each in processes.values():
                each.send_signal(signal.SIGINT)
        except KeyboardInterrupt:  # the searches have received it too, and are ending
            continue
    return answers


def _forward_progress(
    name: str, process: subprocess.Popen[str], say: Callable[[str], None]
) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        say(f"{name}: {line.rstrip()}")
