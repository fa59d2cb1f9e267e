"""Measures the service under load: `python -m benchmarks.serve_load BUNDLE --minutes 10`.

Clients send pictures, 256x256, each the next one as soon as the one before is answered. In turn
with them, in a process of its own, the bare loop scores the same files with a thread on each core.
Prints pictures a second of both and the ratio, the latency, the memory over time and the answers by
status. In the middle another champion is published; at the end, under load, the service gets
SIGTERM. Both must lose nothing that was accepted, and no score may be that of another detector.

Clients, service and bare loop are on one machine. What the clients take of its cores is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from registry import bundle
from registry.bundle import Bundle
from registry.folder_shelf import FolderShelf
from tests import exams
from zoo.data.images import picture_paths, read_image, to_rgb8

SIDE, PICTURES = 256, 32
NAME = "load"
OTHER_LIMIT = 1.25  # the second champion divides scores by so much more: they can be told apart
RUN = "import sys; from zoo.cli import main; main(sys.argv[1:])"


def files(folder: Path | None) -> list[bytes]:
    """Return PNG files of 256x256: pictures of a folder, reflected at their edges, or drawn ones.

    Drawn ones are strange to every detector, and so have many regions; usual pictures have none.
    """
    if folder is not None:
        paths = picture_paths(folder)[:PICTURES]
        pixels = [to_rgb8(read_image(path))[:SIDE, :SIDE] for path in paths]
        rooms = [[(0, SIDE - each.shape[0]), (0, SIDE - each.shape[1]), (0, 0)] for each in pixels]
        found = [np.pad(each, room, "reflect") for each, room in zip(pixels, rooms, strict=True)]
    else:
        noise = [np.random.default_rng(at).normal(128, 200, (SIDE, SIDE)) for at in range(PICTURES)]
        smooth = [cv2.GaussianBlur(each.astype(np.float32), (0, 0), 2) for each in noise]
        found = [each.clip(0, 255).astype(np.uint8) for each in smooth]
    return [cv2.imencode(".png", each)[1].tobytes() for each in found]


def publish(root: Path, made: Bundle, version: int) -> str:
    """Publish a bundle as the champion, and return its digest."""
    folder = root / f"made-{version}"
    bundle.save(replace(made, texture=NAME), folder)
    return exams.publish(FolderShelf(root / "shelf"), folder, texture=NAME, version=version)


def bare(folder: Path, contents: list[bytes], seconds: float) -> None:
    """Score for so many seconds at each line of stdin, and print pictures a second."""
    import torch

    from zoo.detectors import Detector

    detector = Detector(bundle.load(folder))
    count = len(os.sched_getaffinity(0))

    def loop(first: int) -> int:
        end, at = time.monotonic() + seconds, first
        while time.monotonic() < end:
            detector.score(contents[at % len(contents)])
            at += 1
        return at - first

    with ThreadPoolExecutor(count, initializer=lambda: torch.set_num_threads(1)) as pool:
        list(pool.map(detector.score, contents))
        print(json.dumps({"scores": [detector.score(each).score for each in contents]}), flush=True)
        for _ in sys.stdin:
            begun = time.monotonic()
            done = sum(pool.map(loop, range(count)))
            print(done / (time.monotonic() - begun), flush=True)


@dataclass
class Answers:
    """What the clients were answered.

    Attributes:
        latencies: Seconds of each answer with status 200.
        statuses: Number of answers by status.
        digests: Number of answers by digest.
        wrong: Scores that are not those of the detector of the digest.
        lost: Requests without an answer.
        expected: The score of each picture by each digest.
    """

    expected: dict[str, list[float]]
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    digests: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    lost: list[str] = field(default_factory=list)

    def add(self, at: int, status: int, body: bytes, seconds: float) -> None:
        """Note an answer."""
        self.statuses[status] += 1
        if status != 200:
            return
        self.latencies.append(seconds)
        answer = json.loads(body)
        self.digests[answer["digest"]] += 1
        known = self.expected.get(answer["digest"])
        if known is None or abs(known[at] - answer["score"]) > 1e-4 * max(1.0, abs(known[at])):
            self.wrong += 1


async def client(
    port: int, contents: list[bytes], first: int, answers: Answers, end: float
) -> None:
    """Send pictures one after the other until a time, or until nobody listens."""
    at, reader, writer = first, None, None
    while time.monotonic() < end:
        content = contents[at % len(contents)]
        if writer is None or reader is None:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return
        begun = time.monotonic()
        try:
            head = f"POST /v1/detectors/{NAME}/score HTTP/1.1\r\nHost: localhost\r\n"
            writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            size = next(int(x[15:]) for x in lines if x.startswith("content-length:"))
            body = await reader.readexactly(size)
        except (OSError, EOFError) as error:
            answers.lost.append(f"{type(error).__name__} after {time.monotonic() - begun:.2f} s")
            writer = None
            continue
        status = int(lines[0].split()[1])
        answers.add(at % len(contents), status, body, time.monotonic() - begun)
        at += 1
        if "connection: close" in lines:
            writer.close()
            writer = None
        if status in (429, 503):
            await asyncio.sleep(1)
    if writer is not None:
        writer.close()


async def load(
    port: int, contents: list[bytes], answers: Answers, *, clients: int, seconds: float
) -> float:
    """Let clients send for so many seconds, and return pictures a second until the last answer."""
    before, begun = len(answers.latencies), time.monotonic()
    end = begun + seconds
    firsts = range(clients)
    await asyncio.gather(*(client(port, contents, at, answers, end) for at in firsts))
    return (len(answers.latencies) - before) / (time.monotonic() - begun)


def megabytes(process: int) -> float:
    """Return the memory of a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmRSS"))


def started(root: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start the service, wait until it is ready, and return it and its port."""
    environment = os.environ | {"ZOO_HOME": str(root), "ZOO_SHELF": str(root / "shelf")}
    command = [sys.executable, "-c", RUN, "serve", NAME, "--port", "0", "--refresh", "1"]
    with (root / "serve.log").open("w") as log:
        process = subprocess.Popen([*command, "--wait", "60s"], stderr=log, env=environment)
    while True:
        text = (root / "serve.log").read_text()
        found = re.search(r"://127.0.0.1:(\d+)/", text)
        if found and asyncio.run(_is_ready(int(found[1]))):
            return process, int(found[1])
        if process.poll() is not None:
            sys.exit(text)
        time.sleep(0.2)


async def _is_ready(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return b" 200 " in answer[:20]


@dataclass
class Turns:
    """What was measured in each turn: pictures a second, megabytes, cores of the clients."""

    rates: list[float] = field(default_factory=list)
    bares: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    clients: list[float] = field(default_factory=list)

    def add(
        self,
        service: int,
        loop: subprocess.Popen[bytes],
        send: Callable[..., Coroutine[Any, Any, float]],
        seconds: float,
    ) -> None:
        """Let the clients send, then the bare loop score, and print a line."""
        assert loop.stdin is not None
        assert loop.stdout is not None
        begun, busy = time.monotonic(), time.process_time()
        self.rates.append(asyncio.run(send(seconds=seconds)))
        self.clients.append((time.process_time() - busy) / (time.monotonic() - begun))
        self.memory.append(megabytes(service))
        loop.stdin.write(b"go\n")
        loop.stdin.flush()
        self.bares.append(float(loop.stdout.readline()))
        print(
            f"{self.rates[-1]:.1f} a second, bare {self.bares[-1]:.1f}, ratio "
            f"{self.ratios[-1]:.2f}, {self.memory[-1]:.0f} MB, clients {self.clients[-1]:.2f} "
            "cores",
            flush=True,
        )

    @property
    def ratios(self) -> list[float]:
        """Pictures a second of the service, in those of the bare loop."""
        return [rate / one for rate, one in zip(self.rates, self.bares, strict=True)]


def measure(args: argparse.Namespace, root: Path) -> None:
    """Run all turns, and print; no process is left, whatever happens."""
    made, contents = bundle.load(args.bundle), files(args.pictures)
    value = made.threshold["value"] * OTHER_LIMIT
    other = replace(made, threshold=dict(made.threshold) | {"value": value})
    digest = publish(root, made, 1)
    with ending(
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.serve_load", "--bare", *sys.argv[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    ) as loop:
        assert loop.stdout is not None
        scores = json.loads(loop.stdout.readline())["scores"]
        answers, turns = Answers({digest: scores}), Turns()
        process, port = started(root)
        with ending(process):
            send = partial(load, port, contents, answers, clients=args.clients)
            asyncio.run(send(seconds=3))  # warm
            answers.latencies.clear()
            count = max(2, round(args.minutes * 60 / args.slice))
            for turn in range(count):
                if turn == count // 2:
                    known = [each / OTHER_LIMIT for each in scores]
                    answers.expected[publish(root, other, 2)] = known
                turns.add(process.pid, loop, send, args.slice)
            summary(answers, turns, clients=args.clients)
            after, code = asyncio.run(_end(process, send, answers))
    said = (root / "serve.log").read_text().count("Traceback")
    lost = len(answers.lost)
    print(f"SIGTERM under load: {after} answers after it, {lost} lost, exit code {code}")
    print(f"scores of another detector {answers.wrong}, tracebacks in the log {said}")
    print(f"answers by status {dict(answers.statuses)}, by digest {[*answers.digests.values()]}")
    print(*answers.lost[:3], sep="\n")


@contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Kill a process at the end of the block if it has not ended."""
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def summary(answers: Answers, turns: Turns, *, clients: int) -> None:
    """Print the figures of all turns."""
    p50, p99 = np.quantile(answers.latencies, [0.5, 0.99])
    quarter = max(1, len(turns.memory) // 4)
    first, last = turns.memory[quarter : 2 * quarter], turns.memory[-quarter:]
    ratios = turns.ratios
    print(f"{clients} clients, {SIDE}x{SIDE}, {len(os.sched_getaffinity(0))} cores")
    print(
        f"pictures a second {statistics.median(turns.rates):.1f}, bare loop "
        f"{statistics.median(turns.bares):.1f}"
    )
    print(f"ratio {statistics.median(ratios):.2f}, of turns {min(ratios):.2f} to {max(ratios):.2f}")
    print(f"latency p50 {p50:.2f} s, p99 {p99:.2f} s")
    print(
        f"memory {statistics.mean(first or last):.0f} MB in the second quarter of the turns, "
        f"{statistics.mean(last):.0f} MB in the last"
    )


async def _end(
    process: subprocess.Popen[bytes],
    send: Callable[..., Coroutine[Any, Any, float]],
    answers: Answers,
) -> tuple[int, int]:
    """Send SIGTERM while the clients send; return the answers after it, and the exit code."""
    running = asyncio.create_task(send(seconds=60.0))
    await asyncio.sleep(2)
    before = sum(answers.statuses.values())
    process.send_signal(signal.SIGTERM)
    await running
    after = sum(answers.statuses.values()) - before
    return after, await asyncio.to_thread(process.wait)


def main() -> None:
    """Start the service and the bare loop, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="folder of the detector")
    parser.add_argument("--minutes", type=float, default=10.0, help="of load (10)")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--slice", type=float, default=15.0, help="seconds of a turn of load (15)")
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="pictures to send (default: drawn ones)"
    )
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare:
        bare(args.bundle, files(args.pictures), args.slice / 2)
        return
    with tempfile.TemporaryDirectory() as root:
        measure(args, Path(root))


if __name__ == "__main__":
    main()
