"""Measures the time until a new process has loaded a detector, and the time to import torch.

    python -m benchmarks.cold_start [--times 9]

The detector is on a shelf in a folder, with its files in the system cache. Prints medians and their
ratio.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from registry.shelf import open_shelf
from tests.exams import publish

BUNDLE = Path(__file__).parents[1] / "tests" / "stored" / "formats" / "1"
CLOCK = "import time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"
WAYS = {
    "import torch": "import torch",
    "import zoo": "import zoo",
    "zoo.load": "import zoo; zoo.load('weave', shelf={shelf!r})",
}


def main() -> None:
    """Time each import, one after the other, several times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=9)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as shelf:
        publish(open_shelf(shelf), BUNDLE, texture="weave", version=1)
        seconds: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(args.times):
            for name, code in WAYS.items():
                command = [sys.executable, "-c", CLOCK.format(code.format(shelf=shelf))]
                ended = subprocess.run(command, check=True, capture_output=True, text=True)
                seconds[name].append(float(ended.stdout))
    torch_s = statistics.median(seconds["import torch"])
    for name, each in seconds.items():
        middle = statistics.median(each)
        print(f"{name:<14}{middle:>8.3f} s {middle / torch_s:>7.2f}")


if __name__ == "__main__":
    main()
