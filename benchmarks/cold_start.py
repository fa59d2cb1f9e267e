"""Measures what a new process takes to load a detector, beside the import of torch.

    python -m benchmarks.cold_start [--times 9]

The detector is on a shelf in a folder, with its files in the system cache. Prints medians of the
seconds of a processor (user and system), which other work on the machine changes less than those on
a clock, and the median of the ratios to the import of torch just before. The bars are 1.1 for
`zoo.load`, and 0.15 s on a clock of an idle machine for `zoo --help`.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from registry.shelf import open_shelf
from tests.exams import publish

BUNDLE = Path(__file__).parents[1] / "tests" / "stored" / "formats" / "1"
FIRST = "import torch"


def ways(shelf: str) -> dict[str, list[str]]:
    """Return the commands that are measured, by name."""
    load = f"import zoo; zoo.load('weave', shelf={shelf!r})"
    return {
        FIRST: ["-c", "import torch"],
        "nothing": ["-c", "pass"],
        "import zoo": ["-c", "import zoo"],
        "zoo.load": ["-c", load],
        "zoo --help": ["-m", "zoo.cli", "--help"],
    }


def measured(command: Sequence[str]) -> tuple[float, float]:
    """Run Python, and return its seconds of a processor, and on a clock.

    Modules are compiled once, as an installation does it, whatever the environment says.
    """
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL, env=env)
    after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, seconds


def main() -> None:
    """Run each command, one after the other, several times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=9)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as shelf:
        publish(open_shelf(shelf), BUNDLE, texture="weave", version=1)
        commands = ways(shelf)
        for command in commands.values():  # its files are in the cache then
            measured(command)
        taken = [
            {name: measured(each) for name, each in commands.items()} for _ in range(args.times)
        ]
    print(f"{'':<14}{'processor, s':>14}{'clock, s':>10}{'of torch':>10}")
    print(f"(others on this machine: load {os.getloadavg()[0]:.0f})")
    for name in commands:
        processor, clock = (statistics.median(one[name][at] for one in taken) for at in (0, 1))
        ratio = statistics.median(one[name][0] / one[FIRST][0] for one in taken)
        print(f"{name:<14}{processor:>14.3f}{clock:>10.3f}{ratio:>10.2f}")


if __name__ == "__main__":
    main()
