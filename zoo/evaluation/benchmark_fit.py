"""One fit of a benchmark, in a process of its own."""

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

from registry.bundle import Bundle
from zoo.data import textures
from zoo.detectors import Detector
from zoo.errors import DataError, ZooError, one_line
from zoo.evaluation.audit import figures, score_test
from zoo.training import Settings, TrainingData, finish, gather, train_best


@dataclass(frozen=True, kw_only=True)
class System:
    """One system, ready to be fitted with any seed.

    Attributes:
        name: In the table: of a method or of a preset.
        settings: What is fitted; None if it cannot be.
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
    """What a benchmark does.

    Attributes:
        data: Folder of the data set, as a user gave it.
        category: Name of the texture in it.
        systems: What is fitted.
        seeds: Each system is fitted once with each.
        threads: Of each fit.
    """

    data: Path
    category: str
    systems: tuple[System, ...]
    seeds: tuple[int, ...]
    threads: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """One fit, as its process receives it.

    Attributes:
        config: Of which it is a part.
        system: What to fit.
        seed: With what.
        fingerprint: The good pictures as they were when the bench began.
    """

    config: BenchmarkConfig
    system: System
    seed: int
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What came of one fit.

    Attributes:
        system: Its name.
        seed: What it was fitted with; None if it was not.
        scale: Factor on both sides of an image.
        figures: What was measured, by name; empty if it failed.
        tested: The test images in words, their number and fingerprint; empty if it failed.
        reason: Why it failed; empty if it did not.
    """

    system: str
    seed: int | None
    scale: float | None
    figures: Mapping[str, float]
    tested: str = ""
    reason: str = ""


def measure(job: Job) -> Fit:
    """Fit one system and measure it, in the process that is for nothing else.

    The peak of memory is read after the fit and the first map, before the test images: their maps
    and the figures made of them are the bench's, not the system's.

    Raises:
        ZooError: It cannot be fitted, or the pictures are no longer those of the config.
    """
    texture = textures.find(job.config.data, job.config.category)
    if texture.fingerprint != job.fingerprint:
        raise DataError(
            f"The good pictures in {texture.root} are no longer those that the bench began with. "
            "Begin it again."
        )
    data = gather(texture)
    began = time.perf_counter()
    made = _fitted(job.system, data, job.seed)
    seconds = time.perf_counter() - began
    detector = Detector(made)
    detector.map(texture.pictures[0].pixels)
    peak = peak_megabytes()
    scored = score_test(detector, texture)
    keys = hashlib.sha256("\n".join(sorted(scored.keys)).encode()).hexdigest()
    return Fit(
        system=job.system.name,
        seed=job.seed,
        scale=job.system.scale,
        figures=figures(scored)
        | {
            "val_pixel_ap": made.metrics["val_pixel_ap"],
            "fit_seconds": seconds,
            "peak_megabytes": peak,
        },
        tested=f"{len(scored.keys)} to test, {int(scored.defective.sum())} of them defective "
        f"(sha256:{keys[:12]})",
    )


def peak_megabytes() -> float:
    """Return the most memory that this process has held at once, Python and torch included.

    Linux starts `ru_maxrss` at what the parent held, so there its own count is asked first.
    """
    try:
        status = Path("/proc/self/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024
    except (OSError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1024**2 if sys.platform == "darwin" else 1024)


def _fitted(system: System, data: TrainingData, seed: int) -> Bundle:
    """Fit a system; of its checkpoints the best on *val* counts, as in a search, or the last."""
    assert system.settings is not None
    return finish(train_best(data, system.settings, seed=seed, last=system.last), data)


def fit_in_a_process(job: Job) -> Fit:
    """Run one fit in a fresh process, and say so if it ends without a word."""
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
    threading.Thread(target=_end_with_the_bench, daemon=True).start()
    torch.set_num_threads(job.config.threads)
    cv2.setNumThreads(job.config.threads)
    try:
        sender.send(measure(job))
    except ZooError as error:
        sender.send(failed(job.system, job.seed, str(error)))


def _end_with_the_bench() -> None:
    """End this process when the bench's own has ended, by whatever signal."""
    if bench := multiprocessing.parent_process():
        wait([bench.sentinel])
        os._exit(1)


def _start(process: BaseProcess, threads: int) -> None:
    """Start a process that hears no Ctrl-C and whose numeric libraries keep to so many threads.

    It has both from us at its start; set in the process, either would come too late.
    """
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"))
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(dict.fromkeys(limits, str(threads)))
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, heard)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def failed(system: System, seed: int | None, reason: str) -> Fit:
    """Return the result of a fit that failed."""
    return Fit(
        system=system.name, seed=seed, scale=system.scale, figures={}, reason=one_line(reason)
    )


def summarised(fit: Fit) -> str:
    """Return the result of a fit in a few words."""
    if fit.reason:
        return f"failed: {fit.reason}"
    ap = fit.figures.get("test_pixel_ap")
    said = "no defects to test" if ap is None else f"pixel AP {ap:.3f}"
    return f"{said}, fitted in {fit.figures['fit_seconds']:.1f} s"
