"""Gives thousands of hostile inputs to all that reads them, under a watch of time and memory.

    python -m benchmarks.fuzz [--inputs 20000] [--only "names,search spaces"] [--seed 0] [--guided]

The kinds are those of `tests/hostile_inputs.py`, and the bundles of each method of
`tests/hostile_methods.py`. Each kind has a process of its own. It ends the run, with its last
input, if one input computes for `SECONDS`, takes `MEGABYTES`, waits for `WAIT_S`, ends in an
exception that is no refusal in one line, or changes a file. Seconds are those of a processor, so
other work on the machine does not count. At the end is a table: the inputs of each kind, how many
were refused, the longest time of one, and the most memory above the start.

With --guided, atheris (`pip install atheris`; not needed otherwise) chooses the inputs of the same
strategies by the lines of our code that they reach.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS, MEGABYTES = 10.0, 1024.0  # of one input, at most
WAIT_S = 120.0  # on a clock: what waits does not compute
PATIENCE_S = 7200.0  # for all inputs of a kind
METHODS = "bundles of each method"
OURS = ("zoo", "registry", "search_spaces")


@dataclass(kw_only=True)
class Watch:
    """What the inputs of one kind took.

    Attributes:
        last: File that gets each input before it is tried.
        inputs: Their number.
        refused: How many were refused.
        seconds: The longest time of one.
        megabytes: The most memory of this process, above that at the start.
    """

    last: Path
    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0
    megabytes: float = 0.0

    def __post_init__(self) -> None:
        """Begin to count memory."""
        Path("/proc/self/clear_refs").write_text("5")
        self._start = most_megabytes()

    def tried(self, attempt: Any, given: object) -> None:
        """Try one input.

        Raises:
            SystemExit: It took too long or too much memory.
        """
        self.last.write_text(repr(given), "utf-8", errors="backslashreplace")
        # Both end the process where Python handles no signal, too, in a loop of C for example.
        faulthandler.dump_traceback_later(WAIT_S, exit=True)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        began = time.process_time()
        taken = attempt(given)
        seconds = time.process_time() - began
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()
        self.inputs += 1
        self.refused += not taken
        self.seconds = max(self.seconds, seconds)
        self.megabytes = max(self.megabytes, most_megabytes() - self._start)
        if self.megabytes > MEGABYTES:
            sys.exit(f"{self.megabytes:.0f} MB were taken")


def most_megabytes() -> float:
    """Return the most memory that this process has had since its count was reset."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", status)
    assert found
    return int(found[1]) / 1024


def try_kind(name: str, inputs: int, *, seed: int, guided: bool, folder: Path) -> None:
    """Try inputs of one kind in this process, and print what they took as JSON."""
    if guided:
        import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

        with atheris.instrument_imports(include=list(OURS)):
            from tests.hostile_inputs import KINDS, World
    else:
        from tests.hostile_inputs import KINDS, World
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    faulthandler.register(signal.SIGPROF, chain=True)  # says where, and ends the process
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", module="PIL")  # of what is odd in a file
    warnings.filterwarnings("ignore", message="The ..noload.. loader", category=DeprecationWarning)
    kind, world = KINDS[name], World(folder / "world")

    def attempt(value: object) -> bool:
        return kind.attempt(world, value)

    watch: Watch | None = None

    @seeded(seed)
    @settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(value=kind.inputs)
    def each(value: object) -> None:
        nonlocal watch
        if watch is None:  # what the first one imports is no memory of it
            attempt(value)
            watch = Watch(last=folder / "last")
        watch.tried(attempt, value)
        if guided and watch.inputs >= inputs:
            report(watch)
            os._exit(0)  # libFuzzer takes any other end of its process for a crash

    if guided:
        options = [f"-seed={seed + 1}", "-max_len=4096", "-timeout=0", "-rss_limit_mb=0"]
        options += [f"-artifact_prefix={folder}/"]  # and not the present folder
        atheris.Setup([sys.argv[0], *options], each.hypothesis.fuzz_one_input)  # type: ignore[attr-defined, unused-ignore]
        atheris.Fuzz()
    each()
    assert watch
    report(watch)


def report(watch: Watch) -> None:
    """Print what the inputs of a kind took, for the process that waits for it."""
    print(
        json.dumps([watch.inputs, watch.refused, watch.seconds, watch.megabytes]),
        flush=True,
    )


def try_methods(inputs: int) -> list[float]:
    """Try bundles of each method, and return what they took."""
    from tests.hostile_methods import BYTES
    from tests.hostile_methods import __name__ as module
    from zoo import methods

    names = [name for name, place in methods.METHODS.items() if place.startswith("zoo.")]
    found = [0, 0, 0.0, 0.0]
    for name in names:
        ended = subprocess.run(
            [sys.executable, "-m", module, name, str(inputs // len(names))],
            capture_output=True,
            text=True,
            check=False,
        )
        *lines, last = ended.stdout.splitlines() or [""]
        if ended.returncode:
            sys.exit(f"FAILED: {name} at {last}: {ended.stderr[-2000:]}")
        seconds, megabytes = json.loads(last)
        assert megabytes * 2**20 <= BYTES
        found[0] += len(lines)
        found[1] += sum(" -> refused" in line for line in lines)
        found[2:] = [max(found[2], seconds), max(found[3], megabytes)]
    return found


def in_a_process(name: str, inputs: int, args: argparse.Namespace) -> list[float]:
    """Try inputs of a kind in a process of its own, and return what they took."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.fuzz", "--kind", name, "--folder", folder]
        command += ["--inputs", str(inputs), "--seed", str(args.seed)]
        ended = subprocess.run(
            command + ["--guided"] * args.guided,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=PATIENCE_S,
        )
        lines = ended.stdout.splitlines()
        if ended.returncode or not lines:
            last = Path(folder, "last")
            at = last.read_text(errors="replace")[:2000] if last.exists() else "the start"
            sys.exit(f"FAILED: {name} with code {ended.returncode} at {at}\n{ended.stderr[-4000:]}")
        found: list[float] = json.loads(lines[-1])
        return found


def main(argv: Sequence[str] | None = None) -> None:
    """Try all kinds, one after the other, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=20_000, help="of all kinds together (20000)")
    parser.add_argument("--only", help="some of the kinds, with commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", action="store_true", help="let atheris choose the inputs")
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.kind:
        try_kind(args.kind, args.inputs, seed=args.seed, guided=args.guided, folder=args.folder)
        return
    from tests.hostile_inputs import KINDS

    shares = {name: kind.share for name, kind in KINDS.items()} | {METHODS: 1.5}
    chosen = args.only.split(",") if args.only else list(shares)
    whole, total, began = sum(shares[name] for name in chosen), 0, time.monotonic()
    print("| kind | inputs | refused | longest, s | most memory, MB |\n|---|---|---|---|---|")
    for name in chosen:
        inputs = math.ceil(args.inputs * shares[name] / whole)
        found = try_methods(inputs) if name == METHODS else in_a_process(name, inputs, args)
        total += int(found[0])
        print(f"| {name} | {found[0]:.0f} | {found[1]:.0f} | {found[2]:.2f} | {found[3]:.0f} |")
        sys.stdout.flush()
    print(f"{total} inputs in {(time.monotonic() - began) / 60:.0f} minutes; no failure.")


if __name__ == "__main__":
    main()
