"""What the report of a search shows, from its record, its folder and the history of its texture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry import bundle
from registry.bundle import Bundle
from registry.pointer import Entry
from registry.trials import CHAMPION, FLOOR, SEARCH_CONFIG, SearchRecord
from zoo import words
from zoo.data.defects.validation import CONTRAST_NAMES, SIZE_NAMES
from zoo.detectors import card, fusion_of
from zoo.errors import BundleError
from zoo.files import read_object
from zoo.report import windows
from zoo.report.pictures import Shot, stored
from zoo.report.search_page import OUTCOMES, CostRow, SearchPage, used
from zoo.report.tiles import Tile, Tone, Verdict, on_test_pictures
from zoo.search.importance import importance
from zoo.training import METRIC

MAPS, WINDOWS = "maps", "windows"  # folders in that of a search, and in `MAPS`
ALL_MAPS = "maps_on_val.png"  # in `MAPS`: a window of each family; older searches have only this
_STRATA = f"{METRIC}_"
_NO_STRATUM = ("held_out", "baseline", "trial", "untrained")
_NOT_TOLD = "not on record"


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the values of a report come from.

    Attributes:
        record: The search and its trials.
        folder: Of the search; None if it is gone.
        history: Of its texture on the shelf, oldest first.
        missing: What could not be read, a sentence each.
    """

    record: SearchRecord
    folder: Path | None
    history: tuple[Entry, ...] = ()
    missing: tuple[str, ...] = ()


def gathered(sources: Sources) -> SearchPage:
    """Return what the report of a search shows. What is not there is left out, and said."""
    record, folder = sources.record, sources.folder
    missing = list(sources.missing)
    best = _bundle(folder, CHAMPION, missing)
    untrained = record.figures.get(f"{METRIC}_untrained")
    if untrained is None and (floor := _bundle(folder, FLOOR, missing)):
        untrained = floor.metrics.get(METRIC)
    config = read_object(folder / SEARCH_CONFIG) if folder else {}
    decisions = _decisions(sources)
    own = next(
        (each for each in reversed(decisions) if record.run and each.run == record.run), None
    )
    value = best.metrics.get(METRIC) if best else record.figures.get(METRIC)
    kinds, looks = _strata(best.metrics if best else {})
    seconds = _seconds(record)
    cost = _cost(record)
    return SearchPage(
        record=record,
        verdict=_verdict(record, own, has_detector=best is not None),
        tiles=_tiles(record, own, value=value, untrained=untrained, cost=cost),
        facts=_facts(record, config, best),
        kinds=kinds,
        looks=looks,
        untrained=untrained,
        value=value,
        importance=importance(record.trials, folder),
        threads=_whole(config.get("threads")),
        cost=cost,
        seconds=seconds,
        decisions=decisions,
        shots=tuple(_shots(folder, missing)),
        missing=tuple(missing),
    )


def _bundle(folder: Path | None, name: str, missing: list[str]) -> Bundle | None:
    if folder is None or not (folder / name).is_dir():
        return None
    try:
        return bundle.load(folder / name)
    except BundleError as error:
        missing.append(f"The detector in the folder '{name}' cannot be read: {error}")
        return None


def _decisions(sources: Sources) -> tuple[Entry, ...]:
    """Return what was done with detectors of this search.

    The first champion, of the methods that learn nothing, has a run of its own: it is known by its
    time. Another promotion of the texture in that time is shown too.
    """
    record = sources.record
    own = [entry for entry in sources.history if record.run and entry.run == record.run]
    began, ended = record.began, record.ended
    if began is None:
        return tuple(own)
    last = max([entry.when for entry in own], default=began if ended is None else ended)
    acts = ("promoted", "forced", "refused")
    return tuple(
        entry
        for entry in sources.history
        if entry in own or (entry.act in acts and began <= entry.when <= last)
    )


def _verdict(record: SearchRecord, own: Entry | None, *, has_detector: bool) -> Verdict:
    """Return the answer of the report.

    Args:
        record: The search.
        own: The last decision on its detector.
        has_detector: Whether it made one.
    """
    version = f"version {own.version} of '{record.texture}'" if own else ""
    words_of: dict[str, tuple[str, Tone]] = {
        "promoted": (f"Promoted: {version}", "good"),
        "forced": (f"Promoted by force: {version}", "warn"),
        "refused": ("Refused: the champion stays", "warn"),
    }
    if own and own.act in words_of:
        word, tone = words_of[own.act]
        text = on_test_pictures(*_counts(own.figures)) or "It was not tried on test pictures."
        return Verdict(word=word, tone=tone, text=text, why=own.reason)
    if record.running:
        text = "The search has not ended. This report shows what is on record so far."
        return Verdict(word="Running", tone="plain", text=text)
    if not has_detector:
        ended = "The trials below say why." if record.trials else "No trial began in its time."
        text = f"The search has no detector. {ended}"
        return Verdict(word="No detector", tone="bad", text=text)
    if record.outcome == "interrupted":
        text = "The search was stopped. What it had found is kept, and can be promoted."
        return Verdict(word="Interrupted, not promoted", tone="warn", text=text)
    if not record.run:
        text = "Without MLflow's record of the search, nothing here says whether it was promoted."
        return Verdict(word="It has a detector", tone="plain", text=text)
    text = "The search has a detector. No promotion of it is on record."
    return Verdict(word="Not promoted", tone="plain", text=text)


Counts = tuple[int, int]  # pictures called defective, and all


def _counts(figures: Mapping[str, float]) -> tuple[Counts | None, Counts | None]:
    """Return the counts of the defective and of the good test pictures; None without any."""
    good = round(figures.get("test_good_images", 0))
    defective = round(figures.get("test_images", 0)) - good
    sides = ((defective, "test_detection_rate"), (good, "test_false_alarm_rate"))
    found = [
        (round(figures[name] * number), number) if number > 0 and name in figures else None
        for number, name in sides
    ]
    return found[0], found[1]


def _tiles(
    record: SearchRecord,
    own: Entry | None,
    *,
    value: float | None,
    untrained: float | None,
    cost: Sequence[CostRow],
) -> tuple[Tile, ...]:
    tiles = []
    if value is not None:
        note = "painted defects; 1 is every pixel right"
        if untrained is not None:
            note = f"painted defects; without training it is {untrained:.3f}"
        tiles.append(Tile(label="Validation AP", value=f"{value:.3f}", note=note))
    found, alarms = _counts(own.figures) if own else (None, None)
    if found:
        tone: Tone = "good" if found[0] == found[1] else "warn"
        value_, note = f"{found[0]} of {found[1]}", "test pictures, read after the choice"
        tiles.append(Tile(label="Real defects found", value=value_, note=note, tone=tone))
    if alarms:
        value_ = f"{alarms[0]} of {alarms[1]}"
        tiles.append(Tile(label="False alarms", value=value_, note="good test pictures"))
    if record.trials:
        whole = sum(trial.outcome == "finished" for trial in record.trials)
        value_, note = str(len(record.trials)), f"{whole} of them whole"
        tiles.append(Tile(label="Trials", value=value_, note=note))
    if (seconds := _seconds(record)) is not None:
        note = f"{words.duration(cost[-1].cpu_s)} of CPU in the trials" if cost else ""
        tiles.append(Tile(label="Duration", value=words.duration(seconds), note=note))
    return tuple(tiles)


def _facts(
    record: SearchRecord, config: Mapping[str, Any], best: Bundle | None
) -> tuple[tuple[str, str], ...]:
    """Return what was searched; nothing of the machine that did it."""
    known = {**record.params, **{name: str(value) for name, value in config.items()}}
    data = best.data if best else {}
    budget = record.params.get("time_budget_s") or known.get("time_budget_s", "")
    facts = {
        "Texture": record.texture,
        "Pictures": str(data.get("split") or _split(record.params) or _NOT_TOLD),
        "Licence": str(data.get("licence") or record.params.get("licence") or _NOT_TOLD),
        "Camera": str(data.get("camera") or _NOT_TOLD),
        "Fingerprint of the pictures": known.get("fingerprint", _NOT_TOLD),
        "The detector": _made_of(best) if best else "none",
        "Validation windows": record.params.get("validation_windows", _NOT_TOLD),
        "Search space": record.params.get("space", _NOT_TOLD),
        "Time allowed": words.duration(float(budget)) if _is_number(budget) else _NOT_TOLD,
        "Trials allowed": known.get("trials", _NOT_TOLD),
        "Reports of a whole trial": known.get("reports", _NOT_TOLD),
        "Seed": known.get("seed", _NOT_TOLD),
        "Made with": ", ".join(f"{name} {each}" for name, each in record.versions.items())
        or _NOT_TOLD,
    }
    return tuple(facts.items())


def _made_of(best: Bundle) -> str:
    """Return the parts of a detector with their shares of the map and of the score."""
    if not best.parts:
        return best.method
    fusion, names = fusion_of(best), card.part_names(best)
    texts = []
    for what, weights in (("map", fusion.map_weights), ("score", fusion.score_weights)):
        shares = {
            name: weight / sum(weights)
            for name, weight in zip(names, weights, strict=True)
            if weight
        }
        ordered = sorted(shares.items(), key=lambda each: -each[1])
        listed = ", ".join(f"{words.percent(share)} {name}" for name, share in ordered)
        texts.append(f"{what}: {listed}")
    return "; ".join(texts)


def _split(params: Mapping[str, str]) -> str:
    names = ("fit", "val", "calibration")
    if not all(name in params for name in names):
        return ""
    return ", ".join(f"{params[name]} for {name}" for name in names)


def _strata(metrics: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the objective of each kind of defect, the best first, and of each size, contrast."""
    found = {
        name.removeprefix(_STRATA): value
        for name, value in metrics.items()
        if name.startswith(_STRATA) and name.removeprefix(_STRATA) not in _NO_STRATUM
    }
    looks = {name: found.pop(name) for name in (*SIZE_NAMES, *CONTRAST_NAMES) if name in found}
    return dict(sorted(found.items(), key=lambda each: -each[1])), looks


def _cost(record: SearchRecord) -> tuple[CostRow, ...]:
    """Return a row for each outcome, and one for all; none if nothing is on record."""
    usage = [
        (OUTCOMES[trial.outcome], used(trial, "cpu_seconds"), used(trial, "gpu_seconds") or 0.0)
        for trial in record.trials
    ]
    known = [(name, cpu, gpu) for name, cpu, gpu in usage if cpu is not None]
    if not known:
        return ()
    rows = []
    for name in [*OUTCOMES.values(), "all"]:
        mine = known if name == "all" else [each for each in known if each[0] == name]
        if mine:
            rows.append(
                CostRow(
                    name=name,
                    trials=len(mine),
                    cpu_s=sum(cpu for _, cpu, _ in mine),
                    gpu_s=sum(gpu for _, _, gpu in mine),
                )
            )
    return tuple(rows)


def _seconds(record: SearchRecord) -> float | None:
    """Return how long a search took, from its begin to its end; without its pauses if it paused."""
    if record.began is None or record.ended is None:
        return record.figures.get("seconds")
    return max(0.0, record.ended - record.began)


def _shots(folder: Path | None, missing: list[str]) -> list[Shot]:
    if folder is None:
        return []
    if found := windows.load(folder / MAPS / WINDOWS):
        return found
    content = stored(folder / MAPS / ALL_MAPS)
    if content is None:
        missing.append("The search kept no pictures of validation windows.")
        return []
    missing.append(
        "The search kept its validation windows as one picture, without what was said of each."
    )
    return [Shot(content=content, title="Validation windows and their maps", says="")]


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _is_number(text: str) -> bool:
    try:
        return float(text) >= 0
    except ValueError:
        return False
