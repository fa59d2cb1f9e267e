"""One fit of a benchmark, in its own process."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import cv2
import torch

from zoo.data import textures
from zoo.detectors import Detector
from zoo.errors import DataError, ZooError, one_line
from zoo.evaluation.audit import figures, score_test
from zoo.training import Settings, finish, gather, train_best


@dataclass(frozen=True, kw_only=True)
class System:
    """One system, ready to be fitted with any seed.

    Attributes:
        name: Name of a method or of a preset, as the table shows it.
        settings: The configuration to fit; None if there is none.
        last: Take the last checkpoint, not the best one on *val*.
        reason: Why it cannot be fitted; empty if it can.
    """

    name: str
    settings: Settings | None
    last: bool = False
    reason: str = ""

    @property
    def scale(self) -> float | None:
        """Factor on both sides of a picture."""
        return self.settings.scale if self.settings else None


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """The configuration of a benchmark.

    Attributes:
        data: Folder of the data set, as the user gave it.
        category: Name of the texture in it.
        systems: The systems to fit.
        seeds: Each system is fitted once with each seed.
        threads: Number of threads of each fit.
    """

    data: Path
    category: str
    systems: tuple[System, ...]
    seeds: tuple[int, ...]
    threads: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """The input of the process of one fit.

    Attributes:
        config: The benchmark that the fit belongs to.
        system: The system to fit.
        seed: The seed of the fit.
        fingerprint: Of the good pictures at the start of the benchmark.
    """

    config: BenchmarkConfig
    system: System
    seed: int
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The result of one fit.

    Attributes:
        system: Name of the system.
        seed: The seed of the fit; None if there was no fit.
        scale: Factor on both sides of an image.
        figures: The metrics by name; empty if the fit failed.
        tested: Number and fingerprint of the test images, as text; empty if the fit failed.
        reason: Why the fit failed; empty if it did not.
    """

    system: str
    seed: int | None
    scale: float | None
    figures: Mapping[str, float]
    tested: str = ""
    reason: str = ""


def measure(job: Job) -> Fit:
    """Fit one system and measure it; runs in a process that does nothing else.

    The peak memory is read after the fit and the first map, before the test images are scored: the
    memory for their maps and metrics belongs to the benchmark, not to the system.

    Raises:
        ZooError: The system cannot be fitted, or the good pictures have changed.
    """
    assert job.system.settings is not None
    texture = textures.find(job.config.data, job.config.category)
    if texture.fingerprint != job.fingerprint:
        raise DataError(
            f"The good pictures in {texture.root} have changed since the benchmark started. "
            "Start it again."
        )
    data = gather(texture)
    began = time.perf_counter()
    checkpoint = train_best(data, job.system.settings, seed=job.seed, last=job.system.last)
    finished = finish(checkpoint, data)
    seconds = time.perf_counter() - began
    detector = Detector(finished)
    detector.map(texture.pictures[0].pixels)
    peak = peak_megabytes()
    scored = score_test(detector, texture)
    keys = hashlib.sha256(
        "\n".join(sorted(each.key for each in scored.pictures)).encode()
    ).hexdigest()
    return Fit(
        system=job.system.name,
        seed=job.seed,
        scale=job.system.scale,
        figures=figures(scored)
        | {
            "val_pixel_ap": finished.metrics["val_pixel_ap"],
            "fit_seconds": seconds,
            "peak_megabytes": peak,
        },
        tested=f"{len(scored.pictures)} to test, {int(scored.defective.sum())} of them defective "
        f"(sha256:{keys[:12]})",
    )


def peak_megabytes() -> float:
    """Return the peak memory of this process in megabytes, with Python and torch.

    On Linux `ru_maxrss` starts at the value of the parent process, so /proc is read instead.
    """
    try:
        status = Path("/proc/self/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024
    except (OSError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1024**2 if sys.platform == "darwin" else 1024)


def fit_in_a_process(job: Job) -> Fit:
    """Run one fit in a new process; a process that ends without a result is a failed fit."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(job, sender))
    _start(process, job.config.threads)
    sender.close()
    try:
        fit: Fit = receiver.recv()
        return fit
    except EOFError:
        process.join()
        return failed(
            job.system,
            job.seed,
            f"Its process ended with code {process.exitcode}"
            + ("." if process.exitcode != -signal.SIGKILL else ", killed: short of memory?"),
        )
    finally:
        process.kill()
        process.join()
        receiver.close()


def _answer(job: Job, sender: Connection) -> None:
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    torch.set_num_threads(job.config.threads)
    cv2.setNumThreads(job.config.threads)
    try:
        sender.send(measure(job))
    except ZooError as error:
        sender.send(failed(job.system, job.seed, str(error)))


def _end_with_the_parent() -> None:
    """End this process when the process of the benchmark has ended, whatever the reason."""
    if parent := multiprocessing.parent_process():
        wait([parent.sentinel])
        os._exit(1)


def _start(process: BaseProcess, threads: int) -> None:
    """Start a process that ignores Ctrl-C, with this number of threads in numeric libraries.

    The process inherits both at its start. Setting them inside the process would be too late.
    """
    limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(dict.fromkeys(limits, str(threads)))
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def failed(system: System, seed: int | None, reason: str) -> Fit:
    """Return the result of a fit that failed."""
    return Fit(
        system=system.name, seed=seed, scale=system.scale, figures={}, reason=one_line(reason)
    )


def summarised(fit: Fit) -> str:
    """Return a one-line summary of a fit."""
    if fit.reason:
        return f"failed: {fit.reason}"
    ap = fit.figures.get("test_pixel_ap")
    quality = "no defects to test" if ap is None else f"pixel AP {ap:.3f}"
    return f"{quality}, fitted in {fit.figures['fit_seconds']:.1f} s"
