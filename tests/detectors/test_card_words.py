"""The card in words: of every stored format, of a forced or doubtful detector, of a forged card."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import bundle
from tests.stored.placed import STORED
from zoo.detectors import card, card_words
from zoo.errors import visible
from zoo.words import LONGEST

FOLDERS = sorted(each.parent for each in STORED.rglob("bundle.json"))
SILENT = {("method",)}  # of a fused detector: it is "fusion", and its parts are listed
AUDIT = {
    "images": 26.0,
    "good_images": 8.0,
    "detection_rate": 1.0,
    "false_alarm_rate": 0.125,
    "image_auroc": 0.98,
    "pixel_ap": 0.675,
    "pixel_auroc": 0.969,
    "aupro": 0.932,
    "pixel_f1": 0.51,
    "pixel_f1_best": 0.67,
    "seconds_per_image": 0.09,
}
LINEAGE = {
    "version": 2,
    "aliases": ["champion"],
    "act": "promoted",
    "digest": "3" * 64,
    "reason": "It beats the champion.",
    "figures": {},
    "run": "b4691d",
    "who": "ann@press-3",
    "when": 1_795_871_006.3,
    "signed": False,
}


class Watched(Mapping[str, Any]):
    """A card that notes which of its values are read."""

    def __init__(self, values: Mapping[str, Any], read: set[tuple[str, ...]], at: Any = ()) -> None:
        self.values_, self.read, self.at = values, read, at

    def __getitem__(self, name: str) -> Any:
        value = self.values_[name]
        if isinstance(value, dict):
            return Watched(value, self.read, (*self.at, name))
        self.read.add((*self.at, name))
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)


def leaves(values: Mapping[str, Any], at: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for name, value in values.items():
        found |= leaves(value, (*at, name)) if isinstance(value, dict) else {(*at, name)}
    return found


def said(values: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    return {each.title: dict(each.lines) for each in card_words.sections(values)}


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    """A card with every field that a card can have, and an audit."""
    found = card.of(bundle.load(STORED / "formats" / "3"))
    statistics = {"brightness": "0.38 to 0.42; a warning below 0.35 and above 0.45"}
    more = {"statistics": statistics, "seconds_per_image": 0.09, "digest": "3" * 64}
    threshold = found["threshold"] | {
        "images": 11,
        "independent": 4,
        "look_again_rate": 0.1,
        "look_again_value": 1.2,
        "map_value": 2.6,
        "share_of_peak": 0.8,
        "smallest_region": 9,
        "varied": True,
        "set_on": "calibration and val",
    }
    data = found["data"] | {"camera": "sharp", "recalibrated_on": ["a", "b"]}
    metrics = found["metrics"] | {"test": AUDIT}
    metrics["val"] = metrics["val"] | {"image_auroc": 0.91, "pixel_ap_small": 0.5}
    return (
        found
        | more
        | {
            "threshold": threshold,
            "data": data,
            "metrics": metrics,
            "lineage": LINEAGE,
        }
    )


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda each: "-".join(each.parts[-2:]))
def test_every_value_of_a_card_of_every_stored_format_is_said(folder: Path) -> None:
    found = card.of(bundle.load(folder))
    read: set[tuple[str, ...]] = set()
    sections = card_words.sections(Watched(found, read))
    assert leaves(found) - read <= (SILENT if "parts" in found else set())
    assert sections[0].lines[0] == ("Material", "weave")
    for section in sections:
        labels = [label for label, _ in section.lines]
        assert len(set(labels)) == len(labels), section
    assert "14 good images" in said(found)["Made from"]["Pictures"]


def test_every_value_of_a_full_card_is_said(known: dict[str, Any]) -> None:
    read: set[tuple[str, ...]] = set()
    card_words.sections(Watched(known, read))
    once = {("lineage", "digest"), ("lineage", "figures"), ("metrics", "test", "seconds_per_image")}
    assert leaves(known) - read <= once, "what another field has too"


@pytest.mark.parametrize("best", [0.67, 0.51, 0.42])
def test_the_best_threshold_is_said_unless_the_outlines_are_better(
    known: dict[str, Any], best: float
) -> None:
    known = known | {"metrics": known["metrics"] | {"test": AUDIT | {"pixel_f1_best": best}}}
    line = said(known)["On test pictures with real defects"]["Outlines"]
    assert line.startswith("The overlap (F1) with hand-drawn ones is 0.51")
    assert (f"with the best threshold it would be {best:.2f}" in line) == (best >= 0.51)


def test_the_words_are_what_an_inspector_asks(known: dict[str, Any]) -> None:
    words = said(known)
    assert words["The detector"]["Version"] == "2 (champion)"
    assert words["The detector"]["Speed"].startswith("0.09 s a picture")
    assert words["The detector"]["Published"].startswith("2026-11-28 ")
    assert words["On test pictures with real defects"]["Defects found"] == "18 of 18 pictures"
    assert words["On test pictures with real defects"]["False alarms"] == "1 of 8 good pictures"
    sure = words["When it says defective"]
    assert sure["False alarms"] == "5 % of good pictures, as expected."
    assert sure["Outlines"] == "are of pixels with 80 % or more of the peak near them."
    assert sure["The true rate"].startswith("lies between 0 % and 34 %")
    assert sure["Set on"] == "11 good pictures, 4 of them independent."
    assert sure["Look again"].startswith("for 10 % of good pictures")
    assert "below 0.35 and above 0.45. The light" in words["When it warns"]["Brightness"]
    assert words["How sure it is"]["Kinds it never learned"] == "0.32"
    assert "of 100 pairs" in words["How sure it is"]["Whole pictures"].lower()


def changed(values: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a card with other values of some of its parts, by the names of the parts."""
    return values | {name: values[name] | fields[name] for name in fields}


def test_what_a_user_must_know_is_said(known: dict[str, Any]) -> None:
    plain = said(known)["Known limits"]
    assert plain["Few pictures"] == "Its threshold was set on 4 independent good pictures."
    assert plain["Signature"] == "Nobody has signed it."
    assert plain["No gain by training"] == "0.41 on painted defects, 0.71 without."
    assert not plain.keys() & {"Forced", "Refused", "Doubts", "Misses defects", "Not audited"}
    limits = {
        "Forced": changed(known, lineage={"act": "forced"}),
        "Refused": changed(known, lineage={"act": "refused", "aliases": ["challenger"]}),
        "Replaced": changed(known, lineage={"aliases": []}),
        "Doubts": changed(known, lineage={"reason": "It is the first. But: It calls 8 of 8."}),
        "Misses defects": changed(known, metrics={"test": AUDIT | {"detection_rate": 0.0}}),
        "False alarms": changed(known, metrics={"test": AUDIT | {"false_alarm_rate": 0.5}}),
        "Not audited": changed(known, metrics={"test": {}}),
        "No warnings": known | {"statistics": {}},
        "Licence": changed(known, data={"licence": "unknown"}),
        "Not varied": changed(known, threshold={"varied": False}),
    }
    for name, forged in limits.items():
        assert name not in plain
        assert name in said(forged)["Known limits"], name
    many = changed(known, threshold={"independent": 200, "rule": "conformal", "images": 200})
    assert "Few pictures" not in said(many)["Known limits"]
    assert said(limits["Misses defects"])["Known limits"]["Misses defects"].startswith(
        "It found none of 18"
    )


def test_a_detector_that_was_never_on_a_shelf_has_no_lineage(known: dict[str, Any]) -> None:
    words = said({name: value for name, value in known.items() if name != "lineage"})
    assert "Version" not in words["The detector"]
    assert "Signature" not in words["Known limits"]
    assert "Decision" not in words["Where it comes from"]


def test_parts_of_one_method_are_said_together() -> None:
    part = {"method": "fcbigan", "scale": 1.0, "map_weight": 1.0, "score_weight": 0.0}
    parts = {"a": part, "b": part, "c": part | {"scale": 0.5, "map_weight": 2.0}}
    words = said({"parts": parts})["How it works"]
    assert words["2 x fcbigan"].endswith(": 50 % of the map.")
    assert words["fcbigan at 50 %"].endswith("at 50 % of the size: 50 % of the map.")
    assert words["Method"].startswith("The sum of 3 detectors")


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["\x1b[2J", "a\nb", "‮evil", "\ud800", "x" * 9000, "<b>", 10**400, -1, 1e300]),
    st.lists(st.one_of(st.floats(), st.text(max_size=3), st.none()), max_size=3),
    st.dictionaries(st.text(max_size=5), st.one_of(st.floats(), st.text(max_size=5)), max_size=3),
)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_value_of_a_forged_card_breaks_it_or_reaches_the_terminal(
    known: dict[str, Any], data: st.DataObject
) -> None:
    forged = json.loads(json.dumps(known))
    paths = sorted(leaves(known) | {(name,) for name in known})
    for path in data.draw(st.lists(st.sampled_from(paths), min_size=1, max_size=6)):
        inner = forged
        for name in path[:-1]:
            inner = inner.get(name) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner[path[-1]] = data.draw(ODD)
    rows = [line for section in card_words.sections(forged) for line in section.lines]
    for label, sentence in rows:
        for text in (label, sentence):
            assert visible(text) == text
            assert 0 < len(text) <= 3 * LONGEST + 200
            text.encode()


@pytest.mark.parametrize("whole", [{}, {"texture": 5}, {"parts": []}, {"metrics": {"val": [1]}}])
def test_a_card_of_nothing_says_nothing_wrong(whole: dict[str, Any]) -> None:
    titles = [each.title for each in card_words.sections(whole)]
    assert set(titles) <= {"Known limits"}


def test_a_number_that_is_none_is_left_out() -> None:
    for odd in (math.nan, math.inf, "5", True, -1.0):
        values = {"megabytes": odd, "seconds_per_image": odd, "lineage": {"when": odd}}
        assert "The detector" not in said(values)
