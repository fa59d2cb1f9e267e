"""What the report of a detector shows: its card, its audit, its parts and its history."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry import bundle
from registry.bundle import Bundle
from registry.pointer import CHALLENGER, CHAMPION, PREVIOUS, Pointer
from registry.shelf import lineage, pointer_of
from registry.starters import ReadableShelf
from zoo import methods, words
from zoo.data.textures import Texture
from zoo.detectors import calibrated, card, card_words
from zoo.detectors.good_scores import good_scores
from zoo.evaluation import audit_shown
from zoo.evaluation.audit_shown import TEST
from zoo.report.charts import Level
from zoo.report.detector_page import Audited, DetectorPage, PartRow
from zoo.report.tiles import Tile, Tone, Verdict, on_test_pictures
from zoo.training import METRIC, ablation


@dataclass(frozen=True, kw_only=True)
class Named:
    """A detector of the shelf, for its report.

    Attributes:
        shelf: The shelf.
        name: What it was asked for.
        home: Where audits are kept.
    """

    shelf: ReadableShelf
    name: str
    home: Path


def gathered(
    named: Named, *, texture: Texture | None = None, say: Callable[[str], None]
) -> DetectorPage:
    """Return what the report of a detector shows. What is not there is left out, and said.

    Args:
        named: The detector.
        texture: Its test pictures, to be read again; None takes the audit of its promotion.
        say: Receives lines of progress.

    Raises:
        UnknownDetectorError: The shelf has no detector of that name.
        BundleError: The detector is damaged.
        BadImageError: A test picture cannot be read.
        EmptyFolderError: There is no test picture.
    """
    folder, version = named.shelf.resolve(named.name)
    made = bundle.load(folder)
    pointer = pointer_of(named.shelf, made.texture)
    if texture is not None:
        say("Reading the test pictures.")
        audited, made = audit_shown.now(made, texture)
    else:
        audited = audit_shown.before(made, folder.name, named.home)
    shown = card.of(made) | lineage(pointer, digest=folder.name)
    good, missing = good_scores(made), list[str]()
    if good is None:
        missing.append("This detector was made by a version that kept no scores of good pictures.")
    if audited is None and any(name.startswith(TEST) for name in made.metrics):
        missing.append(
            "The detector was audited elsewhere: its figures are in its card, and what it says of "
            f"each test picture is not here. `zoo report {named.name} --data DIR` reads them again."
        )
    parts = _parts(made)
    if parts and all(part.adds is None for part in parts if part.in_map):
        missing.append("What each part adds was not measured when this detector was made.")
    return DetectorPage(
        texture=made.texture,
        version=version,
        verdict=_verdict(pointer, version, audited),
        tiles=_tiles(made, shown, audited),
        sections=card_words.sections(_without_host(shown)),
        good=good.scores if good else (),
        levels=_levels(made),
        threshold_note=_threshold_note(made, shown),
        audited=audited,
        whole=made.metrics.get(METRIC),
        parts=parts,
        history=tuple(reversed(pointer.history)),
        missing=tuple(missing),
    )


def _verdict(pointer: Pointer, version: int, audited: Audited | None) -> Verdict:
    aliases = [alias for alias, at in pointer.aliases.items() if at == version]
    entry = next((each for each in reversed(pointer.history) if each.version == version), None)
    why = entry.reason if entry else ""
    text = "It has not been tried on test pictures here."
    if audited:
        text = on_test_pictures(*_counts(audited))
    if CHAMPION in aliases:
        since = f" since {words.date(entry.when)}" if entry else ""
        if audited and audited.doubts:
            doubts = " ".join(audited.doubts)
            return Verdict(word=f"In use{since}, with doubts", tone="warn", text=doubts, why=why)
        tone: Tone = "good" if audited else "plain"
        return Verdict(word=f"In use{since}", tone=tone, text=text, why=why)
    if CHALLENGER in aliases:
        word = "Refused: another detector is in use"
        return Verdict(word=word, tone="warn", text=text, why=why)
    word = "Replaced: it was in use before" if PREVIOUS in aliases else "Not in use"
    return Verdict(word=word, tone="plain", text=text, why=why)


Counts = tuple[int, int]  # pictures called defective, and all


def _counts(audited: Audited) -> tuple[Counts | None, Counts | None]:
    """Return the counts of the defective and of the good test pictures; None without any."""
    sides = []
    for scores, defective in ((audited.defective, True), (audited.good, False)):
        alarms = sum(row.alarms for row in audited.kinds if row.defective == defective)
        sides.append((alarms, len(scores)) if scores else None)
    return sides[0], sides[1]


def _tiles(made: Bundle, shown: Mapping[str, Any], audited: Audited | None) -> tuple[Tile, ...]:
    tiles = []
    found, alarms = _counts(audited) if audited else (None, None)
    if found:
        tone: Tone = "good" if found[0] == found[1] else "warn"
        value, note = f"{found[0]} of {found[1]}", "defective test pictures"
        tiles.append(Tile(label="Defects found", value=value, note=note, tone=tone))
    if audited and alarms:
        tone = "warn" if audited.doubts and alarms[0] else "plain"
        value, note = f"{alarms[0]} of {alarms[1]}", "good test pictures"
        tiles.append(Tile(label="False alarms", value=value, note=note, tone=tone))
    rate = made.threshold.get("false_alarm_rate")
    if isinstance(rate, int | float):
        ends = shown["threshold"].get("false_alarm_interval")
        note = "of good pictures"
        if ends:
            low, high = map(words.percent, ends)
            note = f"of good pictures; the true rate is between {low} and {high} (95 %)"
        tiles.append(Tile(label="False alarms, as set", value=words.percent(rate), note=note))
    if (ap := made.metrics.get(f"{TEST}pixel_ap")) is not None:
        tiles.append(Tile(label="Pixel AP", value=f"{ap:.3f}", note="real defects, test pictures"))
    if (ap := made.metrics.get(METRIC)) is not None:
        tiles.append(Tile(label="Validation AP", value=f"{ap:.3f}", note="painted defects"))
    return tuple(tiles)


def _levels(made: Bundle) -> tuple[Level, ...]:
    levels = []
    lower = made.threshold.get("look_again_value")
    if lower is not None:
        value = float(calibrated(lower, made.threshold["value"]))
        levels.append(Level(name="look again", value=value, tone="warn"))
    return (*levels, Level(name="defective", value=1.0, tone="bad"))


def _threshold_note(made: Bundle, shown: Mapping[str, Any]) -> str:
    known = made.threshold
    rate, images = known.get("false_alarm_rate"), known.get("images")
    if not isinstance(rate, int | float) or not isinstance(images, int):
        return "How the limit was set is not on record."
    text = (
        f"A score above 1 is called defective. The limit is set so that {words.percent(rate)} of "
        f"good pictures are, on {words.counted(images, 'good picture')}"
    )
    ends = shown["threshold"].get("false_alarm_interval")
    if ends:
        low, high = map(words.percent, ends)
        text += f"; with so many, the true rate is between {low} and {high} in 95 of 100 cases"
    text += "."
    second = known.get("look_again_rate")
    if isinstance(second, int | float):
        text += f" {words.percent(second)} are called 'look again' or defective."
    pixel = known.get("map_value")
    if isinstance(pixel, int | float) and known["value"]:
        text += (
            " Pixels have a limit of their own, above which they are outlined: "
            f"{pixel:.3g} in the map, where that of pictures is {known['value']:.3g}."
        )
    return text


def _parts(made: Bundle) -> tuple[PartRow, ...]:
    if not made.parts:
        return ()
    fusion = card.fusion_of(made)
    totals = sum(fusion.map_weights), sum(fusion.score_weights)
    return tuple(
        PartRow(
            name=name,
            method=methods.in_words(part.method),
            in_map=in_map / totals[0],
            in_score=in_score / totals[1],
            alone=part.metrics.get(METRIC),
            adds=part.metrics.get(ablation.ADDS),
            losses=_figures(part, ablation.LOSS),
            losses_add=_figures(part, ablation.LOSS_ADDS),
        )
        for name, part, in_map, in_score in zip(
            card.part_names(made), made.parts, fusion.map_weights, fusion.score_weights, strict=True
        )
    )


def _figures(part: Bundle, prefix: str) -> dict[str, float]:
    return {
        name.removeprefix(prefix): value
        for name, value in sorted(part.metrics.items())
        if name.startswith(prefix) and math.isfinite(value)
    }


def _without_host(shown: Mapping[str, Any]) -> dict[str, Any]:
    """Return a card without the machine of who decided: a report is mailed on."""
    own = shown.get("lineage", {})
    who = str(own.get("who", "")).partition("@")[0]
    return {**shown, "lineage": {**own, "who": who}}
