"""The report of a detector: what is on the page, and the page made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from markupsafe import Markup

from registry.pointer import Entry
from zoo.detectors.card_words import Section
from zoo.report import charts, page
from zoo.report.charts import Level, Line
from zoo.report.pictures import Pictures, Placed, Shot
from zoo.report.tiles import Tile, Verdict
from zoo.scoring.curves import Curves

TEMPLATE = "detector.html.j2"


@dataclass(frozen=True, kw_only=True)
class KindRow:
    """The test pictures of one kind.

    Attributes:
        kind: "good", or the type of the defect.
        defective: Whether they show a defect.
        pictures: Number of them.
        alarms: How many are called defective.
        middle: The median of their scores.
        pixel_ap: Mean of the average precision of the pixels of each; None without masks.
    """

    kind: str
    defective: bool
    pictures: int
    alarms: int
    middle: float
    pixel_ap: float | None


@dataclass(frozen=True, kw_only=True)
class Audited:
    """What a detector says of the test pictures.

    Attributes:
        kinds: A row for each kind, defects first.
        good: Scores of the good pictures.
        defective: Those of the others.
        image: Curves of whole pictures; None without both sides.
        image_ap: The average precision of whole pictures.
        image_auroc: Their AUROC.
        pixel: Curves of the pixels; None if they were not kept.
        figures: Figures of the audit, by name, without `test_`.
        misses: The defective pictures with the lowest scores.
        alarms: The good pictures with the highest scores.
        pictures_note: Why pictures are missing; empty if none is.
        doubts: Why the verdicts cannot be trusted, a sentence each.
    """

    kinds: tuple[KindRow, ...]
    good: tuple[float, ...]
    defective: tuple[float, ...]
    image: Curves | None
    image_ap: float | None
    image_auroc: float | None
    pixel: Curves | None
    figures: Mapping[str, float]
    misses: tuple[Shot, ...] = ()
    alarms: tuple[Shot, ...] = ()
    pictures_note: str = ""
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PartRow:
    """One part of a sum.

    Attributes:
        name: Its name.
        method: What it does, in words.
        in_map: Its share of the map.
        in_score: Its share of the score.
        alone: Its objective alone; None if it is not known.
        adds: How much the objective of the sum is lower without it; None if it is not known.
        losses: The objective of each of its losses alone.
        losses_add: How much its objective is lower without each loss that its map depends on.
    """

    name: str
    method: str
    in_map: float
    in_score: float
    alone: float | None
    adds: float | None
    losses: Mapping[str, float] = field(default_factory=dict)
    losses_add: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DetectorPage:
    """All that the report of a detector shows.

    Attributes:
        texture: What it is for.
        version: Its number on the shelf.
        verdict: Whether it is in use, and why.
        tiles: The figures that matter most.
        sections: The card in words.
        good: Scores of the good pictures that set its threshold, in units of the threshold.
        levels: The limits, in the same units.
        threshold_note: How the limits were set.
        audited: What it says of the test pictures; None if it was not audited.
        whole: The objective of the whole detector; None if it is not known.
        parts: The parts, if it is a sum.
        history: What was done with the detectors of this texture, the newest first.
        missing: What the report lacks, a sentence each.
    """

    texture: str
    version: int
    verdict: Verdict
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]
    good: tuple[float, ...]
    levels: tuple[Level, ...]
    threshold_note: str
    audited: Audited | None
    whole: float | None
    parts: tuple[PartRow, ...]
    history: tuple[Entry, ...]
    missing: tuple[str, ...] = ()


def render(report: DetectorPage, *, pictures: Pictures | None = None) -> str:
    """Return the page.

    Args:
        report: What it shows.
        pictures: The budget of its pictures.
    """
    budget = pictures or Pictures()
    audited = report.audited
    # The worst of both sides first, so that a small budget takes the least telling ones.
    misses: list[Placed] = budget.place(audited.misses) if audited else []
    alarms: list[Placed] = budget.place(audited.alarms) if audited else []
    return page.rendered(
        TEMPLATE,
        {
            "title": f"{report.texture}, version {report.version}",
            "kind": "Report of a detector",
            "report": report,
            "histogram": _histogram(report),
            "rates": _rates(audited) if audited else (),
            "parts": _parts(report),
            "losses": _losses(report),
            "misses": misses,
            "alarms": alarms,
            "left_out": budget.left_out,
        },
    )


def _histogram(report: DetectorPage) -> Markup | None:
    if not report.good:
        return None
    marks: list[tuple[str, str, list[float]]] = []
    if report.audited:
        for name, tone, scores in (
            ("good", "good", report.audited.good),
            ("defect", "bad", report.audited.defective),
        ):
            if scores:
                marks.append((name, tone, list(scores)))
    return charts.histogram(report.good, report.levels, marks)


def _rates(audited: Audited) -> tuple[Markup, ...]:
    """Return the precision-recall and the ROC chart, if there are curves."""
    sides = [("whole pictures", audited.image, audited.image_ap, audited.image_auroc, False)]
    figures = audited.figures
    sides.append(
        ("pixels", audited.pixel, figures.get("pixel_ap"), figures.get("pixel_auroc"), True)
    )
    known = [each for each in sides if each[1] is not None]
    if not known:
        return ()
    precision, false = [], []
    for name, found, ap, auroc, broken in known:
        assert found is not None
        first = (0.0, *found.recall), (found.precision[0], *found.precision)
        precision.append(
            Line(name=f"{name}, AP {page.figure(ap)}", x=first[0], y=first[1], broken=broken)
        )
        false.append(
            Line(
                name=f"{name}, AUROC {page.figure(auroc)}",
                x=found.false_rate,
                y=found.true_rate,
                broken=broken,
            )
        )
    return charts.precision_recall(precision), charts.roc(false)


def _parts(report: DetectorPage) -> Markup | None:
    adds = {part.name: part.adds for part in report.parts if part.adds is not None}
    if not adds:
        return None
    return charts.bars(adds, "parts", label="what each part adds to the validation AP")


def _losses(report: DetectorPage) -> list[tuple[PartRow, Markup]]:
    found = []
    for at, part in enumerate(report.parts):
        if part.losses:
            label = f"validation AP of each loss of {part.name} alone"
            found.append((part, charts.bars(part.losses, f"losses-{at}", label=label)))
    return found
