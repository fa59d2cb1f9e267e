"""How each part of a training earns its place, and whether the objective orders trainings rightly.

    python -m benchmarks.ablation leather=DIR wood=DIR --seeds 1 2 3 --megapixels 150 \
        --device cuda --at-once 8 --limit 200 --out DIR
    python -m benchmarks.ablation --table DIR/ablation.csv ...

The base is the first trial of the texture's search space, scored with one view; each variant
changes one thing, and the validation windows stay the same. The best of the reports by the
objective is measured on the test pictures. A row goes to `ablation.csv` as soon as a training has
ended; those of the base come first. The random numbers follow from the seed alone; on a GPU sums
have no fixed order, so that last digits differ.
"""

from __future__ import annotations

import argparse
import itertools
import math
import multiprocessing
import os
import pickle
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

import search_spaces
from benchmarks.ablation_tables import BASE, LOSSES, UNFAIR, Row, read, tables
from zoo.data import textures
from zoo.data.defects.families import held_out
from zoo.data.defects.fit_pictures import FitPictures
from zoo.data.defects.optics import Optics
from zoo.data.defects.placebo import Donors, donors_of, material
from zoo.data.testset import TestPicture, read_test
from zoo.errors import ZooError
from zoo.files import write_csv
from zoo.methods import Losses, Progress
from zoo.scoring import metrics
from zoo.scoring.aggregation import Calibration, anomaly_map
from zoo.scoring.maps import enlarge, image_score
from zoo.search.space import first_trials, fitting
from zoo.training import (
    METRIC,
    PreparedData,
    Settings,
    TrainingData,
    field_names,
    gather,
    settings,
    smallest_side,
)

TABLE = "ablation.csv"
MOST_PIXELS = 4_000_000  # of all test maps that are compared; every n-th row and column of more


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A training that differs from the base in one thing.

    Attributes:
        fields: Fields of the configuration with other values.
        camera: Whether defects pass through the camera of the texture; else through a perfect one.
        all_families: Whether every family is taught, also those that judge: the objective then no
            longer shows what is found of unknown families.
        anywhere: Whether placebos need not fit their surroundings.
        fewest_games: Whether there is one adversarial round a report only.
        apart: Whether each loss is measured on its own too.
    """

    fields: Mapping[str, float | bool] = field(default_factory=dict)
    camera: bool = True
    all_families: bool = False
    anywhere: bool = False
    fewest_games: bool = False
    apart: bool = False


VARIANTS: dict[str, Variant] = {
    BASE: Variant(apart=True),
    "perfect_camera": Variant(camera=False),
    "placebos_0": Variant(fields={"placebo_share": 0.0}),
    "variation_0": Variant(fields={"variation": 0.0}),
    "paint_only": Variant(fields={"placebo_share": 0.0, "variation": 0.0}, camera=False),
    "restoration": Variant(fields={"restoration": True}, apart=True),
    "much_game": Variant(fields={"defect_rounds": 16}, apart=True),
    "no_game": Variant(fewest_games=True),
    UNFAIR: Variant(all_families=True),
    "soft_defects": Variant(fields={"soft_defects": True}),
    "placebos_0.25": Variant(fields={"placebo_share": 0.25}),
    "variation_0.5": Variant(fields={"variation": 0.5}),
    "placebos_anywhere": Variant(anywhere=True),
    "clear_defects": Variant(fields={"faintest_defect": 0.4}),
    "not_pretrained": Variant(fields={"pretrained": False}),
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training.

    Attributes:
        texture: Name of the texture.
        variant: Name of the variant.
        seed: Of the training.
        gathered: File with the data of the texture.
        length: Of the training: `megapixels` and `reports`.
        device: Where to compute.
    """

    texture: str
    variant: str
    seed: int
    gathered: Path
    length: Mapping[str, float | int]
    device: str


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """The data of a texture, gathered once for all trainings.

    Attributes:
        data: As a search has it.
        donors: The material of placebos.
        test: The test pictures.
    """

    data: TrainingData
    donors: Donors
    test: Sequence[TestPicture]


class Bench:
    """A texture in one process: what all its trainings share, prepared once."""

    def __init__(self, gathered: Gathered, start: Mapping[str, Any], device: str) -> None:
        self.gathered, self.start, self.device = gathered, start, torch.device(device)
        self.prepared = PreparedData(gathered.data, start["scale"], self.device)

    @cached_property
    def test(self) -> list[Tensor]:
        """The test pictures, prepared."""
        return self.prepared.prepared([picture.pixels for picture in self.gathered.test])

    @cached_property
    def thinned(self) -> int:
        """The step of the rows and columns of test maps that are compared."""
        pixels = sum(p.mask.size for p in self.gathered.test if p.mask is not None)
        return max(1, math.ceil(math.sqrt(pixels / MOST_PIXELS)))

    def pictures(self, variant: Variant) -> FitPictures:
        """Return the pictures to train on, with what the variant changes of their paint."""
        data, donors = self.gathered.data, self.gathered.donors
        made = FitPictures(
            [picture.pixels for picture in data.splits.fit],
            self.prepared.preprocessing,
            device=self.device,
            optics=data.optics if variant.camera else Optics(white=data.optics.white),
            unseen=frozenset() if variant.all_families else held_out(data.validation_seed),
        )
        made.donors = replace(donors, foretold=1.0, limit=np.inf) if variant.anywhere else donors
        return made

    def settings(self, variant: Variant, length: Mapping[str, float | int]) -> Settings:
        """Return the configuration of a variant."""
        values = dict(self.start) | {"views": 1} | dict(length) | dict(variant.fields)
        if variant.fewest_games:
            step = values["batch"] * values["patch"] ** 2
            whole = values["megapixels"] * 1e6 / (step * values["reports"])
            values["defect_rounds"] = max(1, round(whole) - 1)
        return settings(values)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A map of some of the losses.

    Attributes:
        picks: Places of these losses.
        calibration: How they become a map.
        figures: On the validation windows.
    """

    picks: list[int]
    calibration: Calibration
    figures: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The best report of a training.

    Attributes:
        losses: Its loss function.
        report: Number of the report.
        reading: Its map.
        train_seconds: Of the whole training, without the measurements.
        val_seconds: Of the measurements of all reports.
    """

    losses: Losses
    report: int
    reading: Reading
    train_seconds: float = 0.0
    val_seconds: float = 0.0


def first_trial(texture: str, side: int) -> dict[str, Any]:
    """Return the first trial of a search for pictures whose shortest side is `side` pixels."""
    space = search_spaces.load(texture, known=field_names())
    space, _ = fitting(space, side, widen=True)
    fixed = {k: v for k, v in space.fields.items() if isinstance(v, bool | int | float | str)}
    return fixed | first_trials(space)[0]


def store(place: str, folder: Path) -> tuple[str, Path]:
    """Gather the data of a texture, NAME=DIR, and return its name and the file with them."""
    name, _, root = place.partition("=")
    texture = textures.find(Path(root), name)
    data = gather(texture)
    gathered = Gathered(
        data=data,
        donors=donors_of(material([each.pixels for each in data.splits.fit], data.optics)),
        test=list(read_test(texture)),
    )
    path = folder / f"{name}.pickle"
    path.write_bytes(pickle.dumps(gathered))
    return name, path


@cache
def bench(path: Path, device: str) -> Bench:
    """Return the texture of a file that `store` wrote, read once for each process."""
    gathered: Gathered = pickle.loads(path.read_bytes())  # written by this run
    start = first_trial(gathered.data.texture, smallest_side(gathered.data))
    return Bench(gathered, start, device)


def trained(place: Bench, variant: Variant, wanted: Settings, seed: int) -> Trained:
    """Train, and return the best report by the objective."""
    method, pictures = wanted.method.in_training, place.pictures(variant)
    best: list[Trained] = []
    measuring, began = 0.0, time.perf_counter()

    def measure(progress: Progress) -> None:
        nonlocal measuring
        started = time.perf_counter()
        weights = {name: each.detach().clone() for name, each in progress.weights.items()}
        losses = method.scorer(weights)
        calibration, figures, _ = place.prepared.measure(losses)
        if not best or figures[METRIC] > best[0].reading.figures[METRIC]:
            picks = list(range(len(method.loss_names)))
            reading = Reading(picks=picks, calibration=calibration, figures=figures)
            best[:] = [Trained(losses=losses, report=progress.report, reading=reading)]
        measuring += time.perf_counter() - started

    generator = torch.Generator(place.device).manual_seed(seed)
    wanted.method.fit(pictures, generator=generator, report=measure)
    whole = time.perf_counter() - began
    return replace(best[0], train_seconds=whole - measuring, val_seconds=measuring)


def alone(place: Bench, losses: Losses, pick: int) -> Reading:
    """Return the best map of a single loss."""
    calibration, figures, _ = place.prepared.measure(lambda x: losses(x)[:, pick : pick + 1])
    return Reading(picks=[pick], calibration=calibration, figures=figures)


def on_test(
    place: Bench, losses: Losses, readings: Mapping[str, Reading]
) -> dict[str, tuple[float | None, float | None]]:
    """Return the average precision of pixels and the AUROC of pictures of each map, on test."""
    step, pictures = place.thinned, place.gathered.test
    values: dict[str, list[np.ndarray]] = {name: [] for name in readings}
    scores: dict[str, list[float]] = {name: [] for name in readings}
    for picture, x in zip(pictures, place.test, strict=True):
        found = losses(x[None])[0]
        for name, reading in readings.items():
            map_ = anomaly_map(found[reading.picks], reading.calibration)
            map_ = enlarge(map_, *picture.pixels.shape[:2])
            scores[name].append(float(image_score(map_, reading.calibration.rule.top_fraction)))
            if picture.mask is not None:
                values[name].append(map_[::step, ::step].cpu().numpy().ravel())
    masks = [p.mask[::step, ::step].ravel() for p in pictures if p.mask is not None]
    pixels = np.concatenate(masks) if masks else np.zeros(0, np.bool_)
    defective = np.array([picture.defective for picture in pictures])
    return {
        name: (
            metrics.average_precision(np.concatenate(values[name]), pixels)
            if pixels.any()
            else None,
            None if defective.all() else metrics.auroc(np.array(scores[name]), defective),
        )
        for name in readings
    }


def row_of(job: Job) -> Row | None:
    """Train and measure; None if the variant is the base on this texture."""
    place, variant = bench(job.gathered, job.device), VARIANTS[job.variant]
    wanted = place.settings(variant, job.length)
    same = wanted == place.settings(VARIANTS[BASE], job.length)
    if variant.fields and variant.camera and same:
        return None
    if variant.anywhere and not place.gathered.donors.arranged:
        return None
    made = trained(place, variant, wanted, job.seed)
    readings = {"rule": made.reading}
    if variant.apart:
        readings |= {name: alone(place, made.losses, at) for at, name in enumerate(LOSSES)}
    began = time.perf_counter()
    test = on_test(place, made.losses, readings)
    rule = made.reading.calibration.rule
    row: Row = {
        "texture": job.texture,
        "variant": job.variant,
        "seed": job.seed,
        "megapixels": job.length["megapixels"],
        "report": made.report,
        "train_seconds": made.train_seconds,
        "megapixels_per_second": job.length["megapixels"] / made.train_seconds,
        "val_seconds": made.val_seconds,
        "test_seconds": time.perf_counter() - began,
        "rule": f"{rule.aggregation} {'/'.join(map(str, rule.weights))} {rule.mean_filter}",
        "val_pixel_ap": made.reading.figures[METRIC],
        "val_image_auroc": made.reading.figures.get("val_image_auroc"),
        "test_pixel_ap": test["rule"][0],
        "test_image_auroc": test["rule"][1],
    }
    for name in LOSSES:
        reading = readings.get(name)
        row[f"val_pixel_ap_{name}"] = reading.figures[METRIC] if reading else None
        row[f"test_pixel_ap_{name}"] = test[name][0] if reading else None
    return row


def settle(threads: int) -> None:
    """Set the threads of a process."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def jobs(args: argparse.Namespace, files: Mapping[str, Path]) -> Iterator[Job]:
    """Yield the trainings: the base with all seeds first, then seed by seed every variant."""
    others = [name for name in args.variants if name != BASE]
    first = [(BASE, seed) for seed in args.seeds] if BASE in args.variants else []
    rest = [(name, seed) for seed, name in itertools.product(args.seeds, others)]
    for (variant, seed), (texture, path) in itertools.product(first + rest, files.items()):
        yield Job(
            texture=texture,
            variant=variant,
            seed=seed,
            gathered=path,
            length={"megapixels": args.megapixels, "reports": args.reports},
            device=args.device,
        )


def run(args: argparse.Namespace, folder: Path) -> list[Row]:
    """Train side by side until all is done or the time is over; each row is written at once."""
    began, rows = time.monotonic(), list[Row]()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # of the processes that are started now
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        args.at_once, mp_context=spawn, initializer=settle, initargs=(args.threads,)
    ) as pool:
        stored = [pool.submit(store, place, folder) for place in args.textures]
        left = jobs(args, dict(each.result() for each in stored))
        print(f"gathered after {time.monotonic() - began:.0f} s", flush=True)
        running: dict[Future[Row | None], Job] = {}
        while True:
            if time.monotonic() - began < args.limit:
                for job in itertools.islice(left, args.at_once - len(running)):
                    running[pool.submit(row_of, job)] = job
            if not running:
                return rows
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(done)
                what = f"{time.monotonic() - began:.0f} s: {job.texture} {job.variant} {job.seed}"
                try:
                    row = done.result()
                except (ZooError, RuntimeError) as error:  # diverged, or the GPU's memory is full
                    print(f"{what}: {error}", flush=True)
                    continue
                if row is None:
                    print(f"{what}: the same as the base", flush=True)
                    continue
                rows.append(row)
                write_csv(rows, args.out / TABLE)
                short = {k: round(v, 3) for k, v in row.items() if isinstance(v, float)}
                print(f"{what}: {short}", flush=True)


def main() -> None:
    """Train and measure, or read rows; print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("textures", nargs="*", metavar="NAME=DIR")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--megapixels", type=float, default=150.0)
    parser.add_argument("--reports", type=int, default=4, help="the best on val is taken (4)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--at-once", type=int, default=1, help="processes side by side (1)")
    parser.add_argument("--threads", type=int, default=1, help="of each process (1)")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds; then none starts")
    parser.add_argument("--out", type=Path, default=Path("ablation"))
    parser.add_argument("--table", type=Path, nargs="+", metavar="CSV", help="of earlier runs")
    args = parser.parse_args()
    if args.table:
        tables(read(args.table))
        return
    if not args.textures:
        parser.error("name a texture, NAME=DIR, or a table of an earlier run with --table")
    with tempfile.TemporaryDirectory() as folder:
        rows = run(args, Path(folder))
    tables(rows)


if __name__ == "__main__":
    main()
