"""The card of a detector in words: what an inspector asks, without formatting.

A terminal, the page of the service and the HTML report show the same sections. A card may come from
others and from older versions: what is missing or is of another type is left out, and what a
terminal would act on is made visible. What HTML would act on is for the page to escape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo import methods
from zoo.data.statistics import STATISTICS, cause
from zoo.detectors import card_limits
from zoo.detectors.card_fields import Fields
from zoo.words import counted, date, duration, megabytes, percent

Line = tuple[str, str]  # a label, and a sentence or a value
_SIZES = ("small", "medium", "large")
_CONTRASTS = ("faint", "clear")
_OTHERS = ("baseline", "held_out", *_SIZES, *_CONTRASTS)  # strata that are no family of defects
_STATISTICS = {
    "red_green": "Red against green",
    "blue_yellow": "Blue against yellow",
    "background": "Anomaly of most pixels",
}


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of a card in words.

    Attributes:
        title: What it is about.
        lines: Pairs of a label, unique in the section, and a sentence.
    """

    title: str
    lines: tuple[Line, ...]


def sections(card: Mapping[str, Any]) -> tuple[Section, ...]:
    """Return a card in words; a section of which nothing is known is left out.

    Args:
        card: The result of `zoo.show`, or of `zoo.detectors.card.of`.

    Example:
        >>> sections({"texture": "wood", "megabytes": 3.2})[0].lines
        (('Material', 'wood'), ('Size', '3.2 MB'))
    """
    fields = Fields(card)
    parts: tuple[tuple[str, Callable[[Fields], list[Line]]], ...] = (
        ("The detector", _detector),
        ("Made from", _data),
        ("How it works", _method),
        ("How sure it is", _painted),
        ("On test pictures with real defects", _audit),
        ("When it says defective", _threshold),
        ("When it warns", _warnings),
        ("Known limits", lambda each: list(card_limits.limits(each))),
        ("Where it comes from", _origin),
    )
    found = ((title, tuple(lines(fields))) for title, lines in parts)
    return tuple(Section(title=title, lines=lines) for title, lines in found if lines)


def audit(figures: Mapping[str, Any]) -> tuple[Line, ...]:
    """Return the figures of an audit in words; none if there are none.

    Args:
        figures: As a promotion returns them: their names begin with `test_`.
    """
    test = {
        name.removeprefix("test_"): value
        for name, value in figures.items()
        if name.startswith("test_")
    }
    return tuple(_audit(Fields({"metrics": {"test": test}})))


def _detector(card: Fields) -> list[Line]:
    lines = _known(("Material", card.text("texture")))
    lineage = card.inner("lineage")
    version, aliases = lineage.whole("version"), lineage.texts("aliases")
    if version is not None:
        named = f" ({', '.join(aliases)})" if aliases else " (no longer in use by name)"
        lines.append(("Version", f"{version}{named}"))
    if (when := lineage.number("when")) is not None and date(when) != "-":
        lines.append(("Published", date(when, zone=True)))
    if (size := card.number("megabytes")) is not None and size >= 0:
        lines.append(("Size", megabytes(size)))
    seconds = card.number("seconds_per_image")
    if seconds is not None and seconds > 0:
        lines.append(("Speed", f"{duration(seconds)} a picture, on the machine of its audit"))
    return lines


def _data(card: Fields) -> list[Line]:
    data = card.inner("data")
    lines = _known(
        ("Pictures", data.text("split")),
        ("Learned from", data.text("fit")),
        ("Licence", data.text("licence")),
    )
    if (restricted := data.flag("non_commercial")) is not None:
        use = "not allowed by the licence of the pictures" if restricted else "not excluded"
        lines.append(("Commercial use", use))
    if again := data.size("recalibrated_on"):
        lines.append(
            ("Recalibrated", f"Its limits were set again on {counted(again, 'good picture')}.")
        )
    return lines + _known(("Camera", data.text("camera")))


def _method(card: Fields) -> list[Line]:
    parts = card.inner("parts").inners()
    if not parts:
        name = card.text("method")
        lines = [] if name is None else [("Method", _sentence(methods.in_words(name)))]
        return lines + _known(
            ("Looks at", _looks(card.inner("preprocessing"))),
            ("Brightness", card.text("intensities")),
            ("Map", _rule(card.inner("rule"))),
            ("Score", _top(card.inner("rule"))),
        )
    alike: dict[tuple[str, float], list[Fields]] = {}  # parts of one method, on one scale
    for name, part in parts:
        kind = (part.text("method") or name, part.number("scale") or 1.0)
        alike.setdefault(kind, []).append(part)
    totals = {key: _weight((part for _, part in parts), key) for key in _WEIGHTS}
    lines = [("Method", f"The sum of {counted(len(parts), 'detector')}, each part of it below.")]
    for (method, scale), same in alike.items():
        lines.append((_part_label(method, scale, len(same)), _part(method, scale, same, totals)))
    lines += _known(("Looks at", next(filter(None, (_looks(part) for _, part in parts)), None)))
    seen = list(dict.fromkeys(filter(None, (part.text("intensities") for _, part in parts))))
    return lines + _known(("Brightness", "; ".join(seen) or None), ("Score", _top(card)))


_WEIGHTS = {"map_weight": "of the map", "score_weight": "of the verdict"}


def _part_label(method: str, scale: float, number: int) -> str:
    name = method.replace("_", " ") + ("" if scale == 1 else f" at {percent(scale)}")
    return name if number == 1 else f"{number} x {name}"


def _weight(parts: Iterable[Fields], name: str) -> float:
    return sum(max(part.number(name) or 0.0, 0.0) for part in parts)


def _part(method: str, scale: float, same: Sequence[Fields], totals: Mapping[str, float]) -> str:
    """Say what parts of one method and scale are, and what they add."""
    shares = [
        f"{percent(weight / totals[key])} {what}"
        for key, what in _WEIGHTS.items()
        if (weight := _weight(same, key))
    ]
    small = f", at {percent(scale)} of the size" if 0 < scale < 1 else ""
    words = _sentence(methods.in_words(method))[:-1]
    return f"{words}{small}: {' and '.join(shares) or 'not used'}."


def _looks(preprocessing: Fields) -> str | None:
    mode, scale = preprocessing.text("mode"), preprocessing.number("scale")
    seen = {"L": "brightness, not colour", "RGB": "colour"}.get(mode or "")
    if seen and scale is not None and 0 < scale < 1:
        return f"{seen}; pictures are reduced to {percent(scale)} of their size"
    return seen


def _rule(rule: Fields) -> str | None:
    """Say how the losses of a plain detector become a map."""
    size, weights = rule.whole("mean_filter"), rule.numbers_of("weights")
    joined = _JOINED.get(rule.text("aggregation") or "")
    if joined and weights:
        joined += f" ({', '.join(f'{each:.2g}' for each in weights)})"
    smooth = f"smoothed over {size} x {size} pixels" if size is not None and size > 1 else None
    return ", ".join(filter(None, (joined, smooth))) or None


_JOINED = {
    "mahalanobis": "the distance of all losses of a pixel from those of good material",
    "linear": "the sum of the losses of a pixel, by weight",
    "max": "the largest loss of a pixel",
}


def _top(rule: Fields) -> str | None:
    share = rule.number("top_fraction")
    if share is None or not 0 < share <= 1:
        return None
    return f"the mean of the {percent(share)} of the pixels that stand out most"


def _painted(card: Fields) -> list[Line]:
    found = card.inner("metrics").inner("val")
    if not (figures := found.numbers()):
        return []
    families = {
        name.removeprefix("pixel_ap_").replace("_", " "): value
        for name, value in figures.items()
        if name.startswith("pixel_ap_") and name.removeprefix("pixel_ap_") not in _OTHERS
    }
    lines = []
    if (ap := figures.get("pixel_ap")) is not None:
        lines.append(
            (
                "Painted defects",
                f"It marks them with a precision of {ap:.2f} on average (1 is every pixel right, "
                "near 0 is chance). They are painted on good pictures that it did not learn from.",
            )
        )
    if (ranked := figures.get("image_auroc")) is not None:
        lines.append(("Whole pictures", _pairs(ranked, "a painted defect")))
    lines += _known(
        ("By size", _listed(figures, _SIZES)),
        ("By contrast", _listed(figures, _CONTRASTS)),
        ("By kind", _by_kind(families)),
    )
    if (other := figures.get("pixel_ap_held_out")) is not None:
        lines.append(("Kinds it never learned", f"{other:.2f}"))
    if (other := figures.get("pixel_ap_baseline")) is not None:
        lines.append(("Best method without training", f"{other:.2f} on the same pictures"))
    seconds = card.inner("metrics").inner("train").number("seconds")
    return lines + _known(("Training took", duration(seconds) if seconds else None))


def _pairs(auroc: float, what: str) -> str:
    return (
        f"Of 100 pairs of a good picture and one with {what}, the one with the defect gets the "
        f"higher score in {100 * auroc:.0f}."
    )


def _listed(figures: Mapping[str, float], names: Sequence[str]) -> str | None:
    known = [(name, figures[f"pixel_ap_{name}"]) for name in names if f"pixel_ap_{name}" in figures]
    return ", ".join(f"{name} {value:.2f}" for name, value in known) or None


def _by_kind(families: Mapping[str, float]) -> str | None:
    ordered = sorted(families.items(), key=lambda each: -each[1])
    return ", ".join(f"{name} {value:.2f}" for name, value in ordered) or None


def _audit(card: Fields) -> list[Line]:
    figures = card.inner("metrics").inner("test").numbers()
    images, good = figures.get("images"), figures.get("good_images")
    lines = []
    if images is not None and good is not None:
        defective = round(images - good)
        if (rate := figures.get("detection_rate")) is not None:
            lines.append(("Defects found", f"{round(rate * defective)} of {defective} pictures"))
        if (rate := figures.get("false_alarm_rate")) is not None:
            lines.append(("False alarms", f"{round(rate * good)} of {round(good)} good pictures"))
    if (ranked := figures.get("image_auroc")) is not None:
        lines.append(("Whole pictures", _pairs(ranked, "a real defect")))
    if (f1 := figures.get("pixel_f1")) is not None:
        best = figures.get("pixel_f1_best")
        better = best is not None and best >= f1  # outlines can be better than any threshold
        most = f"; with the best threshold it would be {best:.2f}" if better else ""
        lines.append(("Outlines", f"The overlap (F1) with hand-drawn ones is {f1:.2f}{most}."))
    others = {"pixel_ap": "average precision", "pixel_auroc": "AUROC", "aupro": "AUPRO"}
    known = [f"{words} {figures[name]:.3f}" for name, words in others.items() if name in figures]
    return lines + _known(("Pixels, as published", ", ".join(known) or None))


def _threshold(card: Fields) -> list[Line]:
    known = card.inner("threshold")
    rate, images = known.number("false_alarm_rate"), known.whole("images")
    lines = []
    if rate is not None and 0 < rate < 1:
        lines.append(("False alarms", f"{percent(rate)} of good pictures, as expected."))
        if ends := known.interval("false_alarm_interval"):
            low, high = map(percent, ends)
            lines.append(
                ("The true rate", f"lies between {low} and {high}, in 95 of 100 such detectors.")
            )
    second = known.number("look_again_rate")
    if second is not None and 0 < second < 1:
        lines.append(("Look again", f"for {percent(second)} of good pictures, with the above."))
    if images is not None:
        alone = known.whole("independent")
        groups = f", {alone} of them independent" if alone is not None and alone < images else ""
        lines.append(("Set on", f"{counted(images, 'good picture')}{groups}."))
    lines += _known(("How", _RULES.get(known.text("rule") or "")))
    if known.flag("varied"):
        lines.append(("Holds under", "small changes of light, contrast, focus and noise."))
    area = known.whole("smallest_region")
    if area is not None and area > 1:
        lines.append(("Smallest region", f"{counted(area, 'pixel')}; smaller ones are not listed."))
    share = known.number("share_of_peak")
    if share is not None and 0 < share <= 1:
        lines.append(
            ("Outlines", f"are of pixels with {percent(share)} or more of the peak near them.")
        )
    return lines + _limits(known)


_RULES = {
    "conformal": "by rank among scores of good pictures, which holds for scores of any kind.",
    "normal": "by mean and spread of scores of good pictures: there are too few for a rank.",
}


def _limits(known: Fields) -> list[Line]:
    labels = {"value": "picture", "look_again_value": "look again", "map_value": "pixel"}
    values = [(words, known.number(name)) for name, words in labels.items()]
    said = ", ".join(f"{words} {value:.4g}" for words, value in values if value is not None)
    return _known(("Limits", f"{said} (scores and maps are divided by them)" if said else None))


def _warnings(card: Fields) -> list[Line]:
    lines = []
    known = card.inner("statistics")
    for name in STATISTICS:
        if text := known.text(name):
            label = _STATISTICS.get(name, name.capitalize())
            if "inf" in text:  # one good picture gives no limit
                text = text.partition(";")[0] + "; no warning"
            lines.append((label, f"Good pictures had {text}. {cause(name)} may then differ."))
    return lines


def _origin(card: Fields) -> list[Line]:
    lineage, data = card.inner("lineage"), card.inner("data")
    act = lineage.text("act")
    versions = card.inner("made_by").scalars().items()
    said = ", ".join(
        f"{name.replace('_', '-')} {value}" for name, value in versions if name != "settings"
    )
    return _known(
        ("Decision", act.replace("_", " ") if act else None),
        ("Reason", lineage.text("reason")),
        ("Decided by", lineage.text("who")),
        ("Search run", lineage.text("run")),
        ("Made by", said or None),
        ("Configuration", _configuration(card)),
        ("Bundle", card.text("digest")),
        ("Pictures", data.text("fingerprint")),
        ("Validation windows", data.text("validation")),
        ("Seeds", _seeds(data)),
    )


def _configuration(card: Fields) -> str | None:
    known = card.inner("config").scalars().items()
    return ", ".join(f"{name} {value}" for name, value in known) or None


def _seeds(data: Fields) -> str | None:
    seeds = {"split": data.whole("split_seed"), "validation": data.whole("validation_seed")}
    return ", ".join(f"{name} {seed}" for name, seed in seeds.items() if seed is not None) or None


def _known(*lines: tuple[str, str | None]) -> list[Line]:
    """Return the lines whose value is known."""
    return [(label, value) for label, value in lines if value]


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."
