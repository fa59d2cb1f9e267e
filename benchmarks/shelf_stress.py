"""Runs many writers and readers of one shelf, kills some of them, and checks for lost data.

    python -m benchmarks.shelf_stress [--seconds 60] [--writers 6] [--readers 3] [--faults 0.03]

Runs once with a folder and once with S3 (moto in its own process). A share of the S3 requests gets
a response 500 or 503, no response, half a response, or no response after the work was done. Writers
promote bundles as `zoo.promotion` does, each against the champion that it read, roll back, remove
versions and collect unused objects. Readers fetch the champion and check every byte. Meanwhile
writers are killed with -9 and replaced. At the end all pointers, objects and lines of the history
are checked. A writer that was killed, or that got no response of S3, may have written one line that
it did not count.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import boto3

from registry import bundle, maintenance
from registry.pointer import CHAMPION, Entry, Pointer
from registry.shelf import Shelf, names_on, open_shelf, pointer_of
from tests.exams import drawn_bundle
from tests.faulty import Fault, Faulty, running
from tests.processes import aws_at, free_port
from zoo.errors import PromotionError, StorageError, UnknownDetectorError

TEXTURE, BUNDLES = "grid", 12
FAULTS: tuple[Fault, ...] = ("500", "503", "silence", "reset", "lost")
GRACE_S = 2.0  # grace time of the collector; a day in normal use


class Tally:
    """The actions of one process, one line each, in its own file, so that a kill loses no other."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(folder / str(os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, what: str) -> None:
        """Write a line at once."""
        os.write(self._file, f"{what}\n".encode())


def promote(shelf: Shelf, folder: Path, number: int) -> None:
    """Make a bundle the champion, if the champion has not changed since."""
    known = names_on(shelf).get(TEXTURE, {})
    digest = bundle.digest(folder)

    def edit(old: Pointer) -> Pointer:
        entry = Entry(act="promoted", version=old.next_version(), reason=f"writer {number}")
        return old.with_champion(digest, entry, against=known.get(CHAMPION))

    shelf.change(TEXTURE, edit, folder=folder)


def write(url: str, folders: list[Path], number: int, tallies: Path) -> None:
    """Change the shelf until the end, and count the changes."""
    tally = Tally(tallies)
    rng, shelf = random.Random(number), open_shelf(url)
    while True:
        act = rng.choices(("promoted", "rolled_back", "removed", "collected"), (8, 2, 3, 1))[0]
        try:
            if act == "promoted":
                promote(shelf, rng.choice(folders), number)
            elif act == "rolled_back":
                shelf.change(TEXTURE, lambda old: old.rolled_back("stress"))
            elif act == "removed":
                versions = sorted(pointer_of(shelf, TEXTURE).versions)
                version = rng.choice(versions[:-3] or versions)
                shelf.change(TEXTURE, lambda old, at=version: old.without(at, "stress"))  # type: ignore[misc]
            else:
                maintenance.collect(shelf, grace_s=GRACE_S)
            tally.note(act)
        except (PromotionError, UnknownDetectorError):
            tally.note("refused")
        except StorageError:
            tally.note("told")


def read(url: str, tallies: Path) -> None:
    """Fetch the champion until the end; an incomplete bundle is a failure."""
    tally = Tally(tallies)
    shelf = open_shelf(url)
    while True:
        try:
            bundle.load(shelf.fetch(TEXTURE))
            tally.note("read")
        except UnknownDetectorError:
            time.sleep(0.01)
        except StorageError:
            tally.note("told, read")
        except Exception as error:
            tally.note(f"FAILED: {error}")


def stress(url: str, root: Path, args: argparse.Namespace) -> None:
    """Run the stress test on one shelf and print the result."""
    folders = [drawn_bundle(root / f"b{n}", seed=n) for n in range(BUNDLES)]
    context, rng, tallies = multiprocessing.get_context("spawn"), random.Random(0), root / "tallies"

    def writer(number: int) -> Any:
        made = context.Process(target=write, args=(url, folders, number, tallies), daemon=True)
        made.start()
        return made

    readers = [
        context.Process(target=read, args=(url, tallies), daemon=True) for _ in range(args.readers)
    ]
    for reader in readers:
        reader.start()
    writers = [writer(number) for number in range(args.writers)]
    numbers, ends = args.writers, time.monotonic() + args.seconds
    while time.monotonic() < ends:
        time.sleep(args.kill_every)
        victim = rng.randrange(len(writers))
        writers[victim].kill()
        writers[victim].join()
        writers[victim], numbers = writer(numbers), numbers + 1
    for process in (*writers, *readers):
        process.kill()
        process.join()
    lines = [line for file in tallies.iterdir() for line in file.read_text().splitlines()]
    report(url, Counter(lines), numbers)


def report(url: str, counts: Counter[str], killed: int) -> None:
    """Compare the counts with the content of the shelf."""
    shelf = open_shelf(url)
    pointer = pointer_of(shelf, TEXTURE)
    lines = Counter(entry.act for entry in pointer.history)
    bad = [each.problem for each in maintenance.verify(shelf) if each.problem]
    failed = sum(number for what, number in counts.items() if what.startswith("FAILED"))
    print(f"{url.split('://')[0] if '://' in url else 'folder'}: {dict(counts.most_common())}")
    for act in ("promoted", "rolled_back", "removed"):
        more = lines[act] - counts[act]
        print(f"  {act:<12} counted {counts[act]:>6}, lines in the history {lines[act]:>6}")
        if more < 0:
            print(f"  LOST: {-more}")
    uncounted = sum(lines.values()) - sum(counts[act] for act in lines)
    most = killed + counts["told"]
    print(f"  killed {killed}, told that it failed {counts['told']} of the writes and ", end="")
    print(f"{counts['told, read']} of the reads; lines not counted {uncounted} (at most {most})")
    print(f"  reads {counts['read']}, of which not whole {failed}; damaged versions {len(bad)}")
    for what in counts:
        if what.startswith("FAILED"):
            print(f"  {what}")
    sound = not failed and not bad and 0 <= uncounted <= most
    print(f"  {'nothing was lost' if sound else 'SOMETHING WAS LOST'}", flush=True)


def main() -> None:
    """Test a folder shelf, then an S3 shelf."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="for each shelf (60)")
    parser.add_argument("--writers", type=int, default=6)
    parser.add_argument("--readers", type=int, default=3)
    parser.add_argument("--faults", type=float, default=0.03, help="share of S3 responses (0.03)")
    parser.add_argument("--kill-every", type=float, default=2.0, help="seconds (2)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        stress(str(root / "shelf"), root, args)
        port = free_port()
        endpoint, rng = f"http://127.0.0.1:{port}", random.Random(0)

        def choose(verb: str, path: str) -> Fault:
            return rng.choice(FAULTS) if rng.random() < args.faults else "none"

        command = [str(Path(sys.executable).parent / "moto_server"), "-p", str(port)]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        faulty = Faulty(endpoint, choose)
        try:
            time.sleep(3.0)
            with mock.patch.dict(os.environ, aws_at(endpoint, root)):
                boto3.client("s3").create_bucket(Bucket="zoo")
            with running(faulty) as between:
                environment = aws_at(between, root) | {"ZOO_HOME": str(root / "home")}
                with mock.patch.dict(os.environ, environment):
                    stress("s3://zoo/shelf", root / "s3", args)
            print(f"  errors injected {len(faulty.injected)}: {dict(Counter(faulty.injected))}")
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    main()
