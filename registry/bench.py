"""Systems side by side: fitted anew with several seeds, and measured on the same test images.

Each fit has a process of its own, one after the other, so that its peak memory is its own and a
crash costs one row. The table is written again after every fit. Nothing is chosen by it: what has
been fitted here is thrown away.
"""

from __future__ import annotations

import csv
import hashlib
import io
import multiprocessing
import os
import platform
import resource
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cv2
import torch

from registry.audit import check, figures, score_test
from zoo import baselines, recipe, report, textures
from zoo.baselines import Method
from zoo.bundle import Bundle
from zoo.detector import FCBIGAN, Detector
from zoo.errors import BundleError, ConfigError, DataError, ZooError, did_you_mean
from zoo.patches import Preprocessing
from zoo.recipe import Materials, Settings
from zoo.textures import Texture

THESIS = "thesis"
PAGE, TABLE, FITS, PLOT = "bench.md", "bench.csv", "fits.csv", "bench.png"
# What is measured, its heading, and the decimals that mean something.
COLUMNS: Mapping[str, tuple[str, int]] = {
    "test_pixel_ap": ("pixel AP", 3),
    "test_pixel_auroc": ("pixel AUROC", 3),
    "test_aupro": ("AUPRO", 3),
    "test_image_auroc": ("image AUROC", 3),
    "val_pixel_ap": ("val_pixel_ap", 3),
    "fit_seconds": ("seconds to fit", 1),
    "test_seconds_per_image": ("seconds an image", 3),
    "peak_megabytes": ("peak MB", 0),
}
NANOFIBRES = "nanofibres"
_OF_FCBIGAN = {"carpet": 0.074, "grid": 0.098, "leather": 0.112, "tile": 0.138, "wood": 0.046}
_OF_F_ANOGAN = {"carpet": 0.025, "grid": 0.050, "leather": 0.156, "tile": 0.093, "wood": 0.159}
# Figure, system, texture. Source: Peccia 2021, Table 2 (AUPR on MVTec AD) and Table 1 (AUROC on
# NanoTWICE). `fcbigan` is the thesis' system with other settings, so it stands beside it too.
PUBLISHED: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "test_pixel_ap": {THESIS: _OF_FCBIGAN, FCBIGAN: _OF_FCBIGAN, "f_anogan": _OF_F_ANOGAN},
    "test_pixel_auroc": {
        THESIS: {NANOFIBRES: 0.95},
        FCBIGAN: {NANOFIBRES: 0.95},
        "sparse_dictionary": {NANOFIBRES: 0.93},
        "feature_dictionary": {NANOFIBRES: 0.97},
    },
}


@dataclass(frozen=True, kw_only=True)
class System:
    """One system, ready to be fitted with any seed.

    Attributes:
        name: In the table.
        made: FCBiGAN's settings, or a baseline with its configuration; None if there is no such.
        scale: Factor on both sides of an image.
        reason: Why it cannot be fitted; empty if it can.
    """

    name: str
    made: Settings | Method | None
    scale: float
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a bench is to do.

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
        plan: Of which it is a part.
        system: What to fit.
        seed: With what.
        fingerprint: The good pictures as they were when the bench began.
    """

    plan: Plan
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
    scale: float
    figures: Mapping[str, float]
    tested: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One system over its seeds.

    Attributes:
        system: Its name.
        scale: Factor on both sides of an image.
        mean: Of each figure, over the seeds that did not fail.
        spread: Sample standard deviation of each figure; nothing where one seed gave it.
        published: What the thesis says, by figure.
        note: Which seeds failed and why; empty if none did.
    """

    system: str
    scale: float
    mean: Mapping[str, float]
    spread: Mapping[str, float]
    published: Mapping[str, float]
    note: str


# -------------------------------------------------------------------------------------- the systems


def names_of(asked: str) -> tuple[str, ...]:
    """Return the systems that a comma-separated list names; `all` is all but the thesis' preset.

    Raises:
        ConfigError: One is unknown.
    """
    usual = (FCBIGAN, *baselines.NAMES)
    if asked == "all":
        return usual
    names = tuple(dict.fromkeys(name.strip() for name in asked.split(",")))
    for name in names:
        if name not in (*usual, THESIS):
            raise ConfigError(
                f"There is no method '{name}'; there are {', '.join((*usual, THESIS))}, and `all`."
                f"{did_you_mean(name, (*usual, THESIS))}"
            )
    return names


def systems(
    names: Sequence[str],
    values: Iterable[tuple[str, Any]],
    *,
    scale: float,
    refitted: Bundle | None,
) -> tuple[System, ...]:
    """Build the systems, so that a wrong value is refused before anything is fitted.

    Args:
        names: What `names_of` returned.
        values: Fields to be set, as ("METHOD.FIELD", value).
        scale: Of the baselines; FCBiGAN keeps that of its configuration.
        refitted: Whose configuration `fcbigan` takes; None if there is no such bundle.

    Raises:
        ConfigError: A field is unknown or a value out of its range.
    """
    wanted: dict[str, dict[str, Any]] = {name: {} for name in names}
    for path, value in values:
        name, dot, field = path.partition(".")
        if not dot or name not in wanted:
            raise ConfigError(
                f"--set takes METHOD.FIELD=VALUE here, with a method of this bench, not '{path}'. "
                f"It has {', '.join(names)}.{did_you_mean(name, names)}"
            )
        wanted[name][field] = value
    return tuple(_system(name, wanted[name], scale, refitted) for name in names)


def _system(name: str, values: Mapping[str, Any], scale: float, refitted: Bundle | None) -> System:
    if name not in (FCBIGAN, THESIS):
        scale = values.get("scale", scale)
        own = {field: value for field, value in values.items() if field != "scale"}
        found = System(name=name, made=_baseline(name, own), scale=scale)
    else:
        try:
            base = recipe.thesis() if name == THESIS else _configuration(refitted)
        except BundleError as error:
            return System(name=name, made=None, scale=scale, reason=str(error))
        made = recipe.with_values(base, values)
        found = System(name=name, made=made, scale=made.scale)
    Preprocessing(mode="L", scale=found.scale)  # refuses a scale that cannot be
    return found


def _configuration(refitted: Bundle | None) -> Settings:
    if refitted is None:
        raise BundleError(
            "There is no champion whose configuration could be fitted anew. Make one with "
            "`zoo search`, or name a bundle with --bundle."
        )
    return recipe.settings_of(refitted)


def _baseline(name: str, values: Mapping[str, Any]) -> Method:
    """Build a baseline, its values checked against the kinds of its defaults."""
    made = baselines.named(name)
    usual = made()
    known = [field.name for field in fields(usual)]  # type: ignore[arg-type]  # each is a dataclass
    for field, value in values.items():
        if field not in known:
            raise ConfigError(
                f"{name} has no setting '{field}'; it has {', '.join([*known, 'scale'])}."
                f"{did_you_mean(field, known)}"
            )
        kind = type(getattr(usual, field))
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise ConfigError(
                f"{name}.{field} takes a value such as {getattr(usual, field)!r}, not {value!r}. "
                "Change it."
            )
    return made(**values)


# --------------------------------------------------------------------------------- one fit, one row


def run(plan: Plan, texture: Texture, *, out: Path, say: Callable[[str], None]) -> list[Row]:
    """Fit and measure every system with every seed, and leave the tables and the plot in `out`.

    Everything is written again after each fit, so that an interruption keeps what is done.

    Args:
        plan: What to do.
        texture: The good pictures, as `textures.find` read them.
        out: Folder for what is found; must not hold a bench already.
        say: Receives a line before and after each fit.

    Raises:
        ConfigError: The folder holds another bench.
        DataError: There are no test images, or one of them or its mask is damaged.
        StorageError: The folder cannot be written.
    """
    if not textures.has_test(texture):
        raise DataError(
            f"There are no test images of '{texture.name}' in {texture.root}, so nothing can be "
            "compared. Give a data set with test/<kind> and ground_truth/<kind>."
        )
    if (out / PAGE).exists():
        raise ConfigError(f"{out} holds a bench already. Name another folder with --out.")
    check(texture)
    done: list[Fit] = []
    for system in plan.systems:
        if system.reason:
            say(f"{system.name}: failed: {_line(system.reason)}")
            done.append(_failed(system, None, system.reason))
            _write(done, plan, texture, out)
            continue
        for seed in plan.seeds:
            say(f"{texture.name}: {system.name}, seed {seed}, scale {system.scale:g} ...")
            job = Job(plan=plan, system=system, seed=seed, fingerprint=texture.fingerprint)
            done.append(_in_a_process(job))
            say(f"{texture.name}: {system.name}, seed {seed}: {_told(done[-1])}")
            _write(done, plan, texture, out)
    return summary(done, texture)


def measure(job: Job) -> Fit:
    """Fit one system and measure it, in the process that is for nothing else.

    The peak of memory is read after the fit and the first map, before the test images: their maps
    and the figures made of them are the bench's, not the system's.

    Raises:
        ZooError: It cannot be fitted, or the pictures are no longer those of the plan.
    """
    texture = textures.find(job.plan.data, job.plan.category)
    if texture.fingerprint != job.fingerprint:
        raise DataError(
            f"The good pictures in {texture.root} are no longer those that the bench began with. "
            "Begin it again."
        )
    materials = recipe.gather(texture)
    began = time.perf_counter()
    made = _fitted(job.system, materials, job.seed)
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


def _fitted(system: System, materials: Materials, seed: int) -> Bundle:
    """Fit a system; of FCBiGAN's reports the best on *val* stands, as in a search."""
    if isinstance(system.made, Settings):
        # The thesis knows no validation: its last report stands.
        made = recipe.trained(materials, system.made, seed=seed, last=system.name == THESIS)
        return recipe.finish(made, materials)
    assert system.made is not None
    return recipe.baseline(materials, system.made, name=system.name, scale=system.scale, seed=seed)


def _in_a_process(job: Job) -> Fit:
    """Run one fit in a fresh process, and say so if it ends without a word."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(job, sender))
    _start(process, job.plan.threads)
    sender.close()
    try:
        fit: Fit = receiver.recv()
        return fit
    except EOFError:
        process.join()
        return _failed(
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
    torch.set_num_threads(job.plan.threads)
    cv2.setNumThreads(job.plan.threads)
    try:
        sender.send(measure(job))
    except ZooError as error:
        sender.send(_failed(job.system, job.seed, str(error)))


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


def _failed(system: System, seed: int | None, reason: str) -> Fit:
    return Fit(system=system.name, seed=seed, scale=system.scale, figures={}, reason=_line(reason))


def _line(text: str) -> str:
    return " ".join(text.split())


def _told(fit: Fit) -> str:
    if fit.reason:
        return f"failed: {fit.reason}"
    ap = fit.figures.get("test_pixel_ap")
    said = "no defects to test" if ap is None else f"pixel AP {ap:.3f}"
    return f"{said}, fitted in {fit.figures['fit_seconds']:.1f} s"


# ---------------------------------------------------------------------------------------- the table


def summary(done: Sequence[Fit], texture: Texture) -> list[Row]:
    """Return a row for each system: mean and spread over its seeds, with what is published."""
    found = []
    for system in dict.fromkeys(fit.system for fit in done):
        fits = [fit for fit in done if fit.system == system]
        good = [fit.figures for fit in fits if not fit.reason]
        values = {name: [each[name] for each in good if name in each] for name in COLUMNS}
        failed = [fit for fit in fits if fit.reason]
        which = ", ".join(str(fit.seed) for fit in failed if fit.seed is not None)
        note = f"failed{f' (seed {which})' if which else ''}: {failed[0].reason}" if failed else ""
        found.append(
            Row(
                system=system,
                scale=fits[0].scale,
                mean={name: statistics.fmean(each) for name, each in values.items() if each},
                spread={n: statistics.stdev(each) for n, each in values.items() if len(each) > 1},
                published=published(system, texture),
                note=note,
            )
        )
    return found


def published(system: str, texture: Texture) -> dict[str, float]:
    """Return what the thesis reports of a system on this texture, by figure; mostly nothing."""
    keys = {"mvtec": texture.name.lower(), "nanotwice": NANOFIBRES}
    key = keys.get(texture.layout, "")
    return {
        figure: of_system[system][key]
        for figure, of_system in PUBLISHED.items()
        if key in of_system.get(system, {})
    }


def page(rows: Sequence[Row], header: Sequence[str]) -> str:
    """Return the table as Markdown, with what was compared on what above it."""
    headings = [heading for heading, _ in COLUMNS.values()]
    lines = [
        *header,
        "",
        "| method | scale | " + " | ".join(headings) + " | Peccia 2021 | note |",
        "|---" * 2 + "|---:" * len(headings) + "|---" * 2 + "|",
    ]
    for row in rows:
        said = [f"{COLUMNS[name][0]} {value:.3f}" for name, value in row.published.items()]
        cells = [row.system, f"{row.scale:g}", *(_cell(row, name) for name in COLUMNS)]
        cells += [", ".join(said), row.note.replace("|", "\\|")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(row: Row, name: str) -> str:
    if name not in row.mean:
        return "-"
    decimals = COLUMNS[name][1]
    spread = f" ± {row.spread[name]:.{decimals}f}" if name in row.spread else ""
    return f"{row.mean[name]:.{decimals}f}{spread}"


def header_of(done: Sequence[Fit], plan: Plan, texture: Texture) -> list[str]:
    """Say what was compared on which pictures, and where."""
    tested = next((fit.tested for fit in done if fit.tested), "none tested")
    made_by = ", ".join(f"{name} {version}" for name, version in recipe.versions().items())
    seeds = ", ".join(map(str, plan.seeds))
    return [
        f"### {texture.name}",
        "",
        f"{len(texture.pictures)} good pictures ({texture.fingerprint[:19]}), {tested}. "
        f"Seeds {seeds}: mean ± standard deviation over them. Seconds to fit include choosing the "
        "rule on val; peak MB are the process's, Python, torch and the pictures included. "
        f"{os.cpu_count()} cores, threads for a fit: {plan.threads}; {platform.system()} "
        f"{platform.machine()}; {made_by}.",
    ]


def _write(done: Sequence[Fit], plan: Plan, texture: Texture, out: Path) -> None:
    rows = summary(done, texture)
    report.write(page(rows, header_of(done, plan, texture)), out / PAGE)
    report.write(_csv(_summary_line(row, texture.name) for row in rows), out / TABLE)
    report.write(_csv(_fit_line(fit, texture.name) for fit in done), out / FITS)
    shown = [
        report.Panel(
            title=f"{texture.name}: {COLUMNS[name][0]}",
            values={
                row.system: [
                    fit.figures[name]
                    for fit in done
                    if fit.system == row.system and name in fit.figures
                ]
                for row in rows
            },
            published={row.system: row.published[name] for row in rows if name in row.published},
        )
        for name in ("test_pixel_ap", "test_pixel_auroc", "test_aupro")
    ]
    report.panels(shown, out / PLOT)


def _summary_line(row: Row, texture: str) -> dict[str, Any]:
    line: dict[str, Any] = {"texture": texture, "method": row.system, "scale": row.scale}
    for name in COLUMNS:
        line |= {name: row.mean.get(name), f"{name}_sd": row.spread.get(name)}
    said = {f"published_{name}": row.published.get(name) for name in PUBLISHED}
    return line | said | {"note": row.note}


def _fit_line(fit: Fit, texture: str) -> dict[str, Any]:
    line = {"texture": texture, "method": fit.system, "seed": fit.seed, "scale": fit.scale}
    return line | {name: fit.figures.get(name) for name in COLUMNS} | {"failed": fit.reason}


def _csv(lines: Iterable[Mapping[str, Any]]) -> str:
    written, text = list(lines), io.StringIO()
    writer = csv.DictWriter(text, list(written[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(written)
    return text.getvalue()
