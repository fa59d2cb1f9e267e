"""What a search has after some minutes: does a longer one find real defects better?

    python -m benchmarks.more_search wood=DIR:SEARCH leather=DIR:SEARCH --out docs/more_search.png

SEARCH is the folder of an ended search. For each number of minutes, the detector is made again from
the trials that had ended by then, as `zoo search` makes it, and measured on the test pictures. For
the last point the longer trainings that the detector of the search consists of are there too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from registry import bundle
from registry.bundle import Bundle
from registry.trials import CHAMPION
from zoo.cli._search_end import JOINED
from zoo.data import textures
from zoo.detectors import Detector
from zoo.evaluation.audit import audit
from zoo.evaluation.search_audit import AuditedTrial, kept_detectors
from zoo.files import write_csv
from zoo.training import (
    METRIC,
    Part,
    TrainingData,
    choose,
    gather,
    in_final_form,
    made,
    part_of,
    untrained,
    with_threshold,
)


def started(folder: Path) -> float:
    """Return when a search began, in seconds since 1970; its name says so."""
    return time.mktime(time.strptime("-".join(folder.name.split("-")[1:3]), "%Y%m%d-%H%M%S"))


def ended(trial: AuditedTrial) -> float:
    """Return when a trial made its last report."""
    return (trial.folder.parent.parent / "result.json").stat().st_mtime


def length(trained: Bundle) -> float:
    """Return the megapixels of a training; 0 for a method that learns nothing."""
    return float(trained.made_by["settings"].get("megapixels", 0))


class Parts:
    """The parts of the detectors of a search, each measured once."""

    def __init__(self, data: TrainingData) -> None:
        self.data, self.known = data, dict[Path, Part]()
        self.untrained = [part_of(each, data) for each in untrained(data, say=print)]

    def of(self, trial: AuditedTrial) -> Part:
        """Return a trial as a part."""
        if trial.folder not in self.known:
            whole = in_final_form(bundle.load(trial.folder), self.data)
            self.known[trial.folder] = part_of(whole, self.data)
        return self.known[trial.folder]

    def detector(self, trained: list[Part]) -> Bundle:
        """Return the detector that `zoo search` makes of these, as at its end."""
        ranked = sorted(trained, key=lambda part: -part.bundle.metrics[METRIC])[:JOINED]
        parts = [*self.untrained, *ranked]
        return with_threshold(made(parts, choose(parts, self.data), self.data), self.data)


def rows(place: str, minutes: list[float], save: Path | None) -> Iterator[dict[str, str | float]]:
    """Measure one search; a row for each time."""
    name, _, rest = place.partition("=")
    root, _, search = rest.partition(":")
    texture, folder = textures.find(Path(root), name), Path(search)
    data, trials = gather(texture), kept_detectors(folder, say=print)
    parts, began = Parts(data), started(folder)
    for each in sorted(minutes):
        done = [trial for trial in trials if ended(trial) - began <= 60 * each]
        done.sort(key=lambda trial: -trial.val_pixel_ap)
        detector = parts.detector([parts.of(trial) for trial in done[:JOINED]])
        yield {**row(name, each, done, detector), **audit(Detector(detector), texture)}
    best = folder / CHAMPION
    whole = ((best / bundle.CARD).stat().st_mtime - began) / 60
    usual = length(bundle.load(trials[0].folder))
    longer = [part_of(each, data) for each in bundle.load(best).parts if length(each) > usual]
    trials.sort(key=lambda trial: -trial.val_pixel_ap)
    detector = parts.detector([*longer, *(parts.of(trial) for trial in trials[:JOINED])])
    if save:
        bundle.save(detector, save / name)
    yield {**row(name, whole, trials, detector), **audit(Detector(detector), texture)}


def row(
    name: str, minutes: float, trials: list[AuditedTrial], detector: Bundle
) -> dict[str, str | float]:
    """Return the first columns."""
    return {
        "texture": name,
        "minutes": minutes,
        "trials": len(trials),
        "val_pixel_ap": detector.metrics[METRIC],
        "map": " + ".join(
            f"{part.method}@{part.preprocessing['scale']:g}"
            for part, weight in zip(detector.parts, detector.fusion["map_weights"], strict=True)
            if weight
        ),
    }


def draw(done: list[dict[str, str | float]], path: Path) -> None:
    """Draw a line for each texture."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name in dict.fromkeys(str(each["texture"]) for each in done):
        own = [each for each in done if each["texture"] == name]
        axes.plot(
            [float(each["minutes"]) for each in own],
            [float(each["test_pixel_ap"]) for each in own],
            marker="o",
            label=name,
        )
    axes.set(xlabel="minutes of search, two CPU cores", ylabel="test_pixel_ap", ylim=(0, 1))
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, write a table beside the plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("searches", nargs="+", metavar="NAME=DIR:SEARCH")
    parser.add_argument("--minutes", type=float, nargs="+", default=[2.5, 5, 10])
    parser.add_argument("--save", type=Path, metavar="DIR", help="keep the last detectors here")
    parser.add_argument("--out", type=Path, default=Path("more_search.png"))
    args = parser.parse_args()
    done = []
    for place in args.searches:
        for found in rows(place, args.minutes, args.save):
            done.append(found)
            write_csv(done, args.out.with_suffix(".csv"))
            draw(done, args.out)
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in found.items()})


if __name__ == "__main__":
    main()
