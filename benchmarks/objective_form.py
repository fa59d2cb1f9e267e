"""Which form of the objective ranks detectors as real defects do? Chosen by leaving one out.

    python -m benchmarks.objective_form wood=DIR:SEARCH leather=DIR:SEARCH ...

SEARCH is the folder of an audited search (`zoo audit --search`, or `benchmarks.real_defects`). Its
trials and its methods that learn nothing are ranked by each form on the validation windows, and by
the average precision on the test pictures that `audit.csv` holds. For each texture, the form with
the highest mean rank correlation on the other textures is named, with its correlation on this one.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from registry import bundle
from registry.trials import UNTRAINED
from zoo.data import textures
from zoo.data.defects.families import FAMILIES
from zoo.data.defects.validation import PLACEBO, Window
from zoo.detectors import Detector
from zoo.evaluation.search_audit import TABLE, kept_detectors
from zoo.files import write_csv
from zoo.scoring import metrics, objective
from zoo.scoring.metrics import Counts
from zoo.training import gather
from zoo.training.fit import THIN

Form = Callable[["Measured"], float]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One detector on the validation windows.

    Attributes:
        counts: The pixels of each window by value.
        windows: The windows.
        scores: The score of each window.
    """

    counts: Counts
    windows: Sequence[Window]
    scores: np.ndarray

    def kept(self, wanted: Callable[[Window], bool]) -> Measured:
        """Return the figures of some windows only."""
        rows = np.array([wanted(window) for window in self.windows])
        return Measured(
            counts=Counts(anomalous=self.counts.anomalous[rows], normal=self.counts.normal[rows]),
            windows=[w for w, row in zip(self.windows, rows, strict=True) if row],
            scores=self.scores[rows],
        )

    @property
    def strata(self) -> dict[str, float]:
        """The average precision of each stratum."""
        return objective.stratum_average_precision(
            self.counts, [window.strata for window in self.windows]
        )

    @property
    def image_auroc(self) -> float:
        """How well scores separate windows with and without a defect."""
        found = objective.image_auroc(self.scores, [window.strata for window in self.windows])
        assert found is not None
        return found

    @property
    def pooled(self) -> float:
        """The average precision of all pixels of all windows."""
        sums = [
            np.asarray(each).sum(axis=0) for each in (self.counts.anomalous, self.counts.normal)
        ]
        area = metrics.areas(sums[0][None], sums[1][None].astype(np.float64), metrics.PREVALENCE)
        return float(area[0])


def mean(values: Mapping[str, float]) -> float:
    """Return the mean over the strata."""
    return float(np.mean(list(values.values())))


def worst(values: Mapping[str, float]) -> float:
    """Return the mean over the quarter of the strata with the lowest values."""
    ordered = sorted(values.values())
    return float(np.mean(ordered[: max(len(ordered) // 4, 1)]))


def geometric(values: Mapping[str, float]) -> float:
    """Return the geometric mean over the strata."""
    return float(np.exp(np.mean(np.log(np.maximum(list(values.values()), 1e-3)))))


def families(values: Mapping[str, float], *, wanted: bool) -> dict[str, float]:
    """Return the strata that are families of defects, or the others: sizes and contrasts."""
    return {name: value for name, value in values.items() if (name in FAMILIES) == wanted}


FORMS: dict[str, Form] = {
    "mean of strata (the objective)": lambda found: mean(found.strata),
    "without variation": lambda found: mean(found.kept(lambda w: not w.varied).strata),
    "varied only": lambda found: mean(found.kept(lambda w: w.varied).strata),
    "without placebos": lambda found: mean(found.kept(lambda w: w.family != PLACEBO).strata),
    "neither": lambda found: mean(
        found.kept(lambda w: not w.varied and w.family != PLACEBO).strata
    ),
    "families": lambda found: mean(families(found.strata, wanted=True)),
    "sizes and contrasts": lambda found: mean(families(found.strata, wanted=False)),
    "worst quarter of strata": lambda found: worst(found.strata),
    "geometric mean of strata": lambda found: geometric(found.strata),
    "pooled pixels": lambda found: found.pooled,
    "image AUROC": lambda found: found.image_auroc,
    "mean of strata and image AUROC": lambda found: mean(found.strata) + 2 * found.image_auroc - 1,
}


def correlations(place: str) -> dict[str, float]:
    """Return the rank correlation of each form with the test AP, for one search."""
    name, _, rest = place.partition("=")
    root, _, search = rest.partition(":")
    folder, data = Path(search), gather(textures.find(Path(root), name))
    with (folder / TABLE).open() as file:
        test = {row["trial"]: float(row["test_pixel_ap"]) for row in csv.DictReader(file)}
    found = {each.trial: each.folder for each in kept_detectors(folder, say=print)}
    found |= {path.name: path for path in (folder / UNTRAINED).iterdir()}
    masks = [window.mask[::THIN, ::THIN] for window in data.validation]
    values: dict[str, list[float]] = {form: [] for form in FORMS}
    truth = []
    for trial, path in found.items():
        if trial not in test:
            continue
        detector = Detector(bundle.load(path))
        scored = [detector.score(window.image) for window in data.validation]
        measured = Measured(
            counts=metrics.count([each.map[::THIN, ::THIN] for each in scored], masks, bins=512),
            windows=data.validation,
            scores=np.array([each.score for each in scored]),
        )
        for form, figure in FORMS.items():
            values[form].append(figure(measured))
        truth.append(test[trial])
    return {form: float(spearmanr(each, truth).statistic) for form, each in values.items()}


def main() -> None:
    """Print a table of forms and textures, and what leaving each texture out would choose."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("searches", nargs="+", metavar="NAME=DIR:SEARCH")
    parser.add_argument("--out", type=Path, default=Path("objective_form.csv"))
    args = parser.parse_args()
    table = dict[str, dict[str, float]]()
    for place in args.searches:
        name = place.partition("=")[0]
        table[name] = correlations(place)
        print(name, {form: round(value, 3) for form, value in table[name].items()}, flush=True)
    rows = [
        {"form": form} | {name: column[form] for name, column in table.items()} for form in FORMS
    ]
    write_csv(rows, args.out)
    if len(table) < 2:
        return
    for left_out, column in table.items():
        others = [each for name, each in table.items() if name != left_out]
        chosen = max(FORMS, key=lambda form: float(np.mean([each[form] for each in others])))
        print(f"{left_out} left out: '{chosen}' has {column[chosen]:.3f} on it")


if __name__ == "__main__":
    main()
