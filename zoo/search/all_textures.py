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

from zoo.data import fetch, layouts
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
    """Return the textures that a folder holds: MVTec's five first, then others by their names.

    A folder of one of MVTec's five names counts even if it has no pictures: its search says so.
    `objects_in` are left out.

    Raises:
        EmptyFolderError: There is none.
    """
    of_mvtec = [name for name in MVTEC_TEXTURES if (data / name).is_dir()]
    objects = objects_in(data)
    others = [name for name in _arranged_in(data) if name not in {*MVTEC_TEXTURES, *objects}]
    if not of_mvtec and not others:
        found = f" {', '.join(objects)} are objects." if objects else ""
        raise EmptyFolderError(
            f"`--category all` searches for every texture in a folder, such as "
            f"{', '.join(MVTEC_TEXTURES)}, and {data} holds no folder of one.{found} Name what you "
            "have with --category."
        )
    return [*of_mvtec, *others]


def objects_in(data: Path) -> list[str]:
    """Return what is arranged as a texture in a folder, and is an object of a known data set."""
    known = {name for each in fetch.load().values() for name in each.others}
    return [name for name in _arranged_in(data) if name in known]


def _arranged_in(data: Path) -> list[str]:
    return layouts.textures_in(data) if data.is_dir() else []


def search(
    names: Sequence[str], options: Sequence[str], *, say: Callable[[str, str], None]
) -> dict[str, Ended]:
    """Run `zoo search` for all textures at once, and return how each search ended.

    On Ctrl-C, which a terminal sends to every process, and on SIGTERM, which is passed on, each
    search keeps its results and ends.

    Args:
        names: Of the textures.
        options: Of `zoo search`, with the address of a Ray; the same for all.
        say: Receives the name of the texture and a line of progress, for each line; and at the end
            of each search an empty line.
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
    name: str, process: subprocess.Popen[str], say: Callable[[str, str], None]
) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text := line.rstrip():
            say(name, text)
    say(name, "")
