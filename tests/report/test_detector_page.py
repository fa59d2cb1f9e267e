"""The page of a detector, made from plain values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from registry.pointer import Entry
from tests.report.html_read import Read, assert_self_contained
from zoo.detectors.card_words import Section
from zoo.report import detector_page
from zoo.report.charts import Level
from zoo.report.detector_page import Audited, DetectorPage, KindRow, PartRow
from zoo.report.pictures import Shot, jpeg
from zoo.report.tiles import Tile, Verdict, on_test_pictures
from zoo.scoring.curves import curves

HOSTILE = '"><script>alert(1)</script><img src=x onerror=b()>\u202e'
PICTURE = jpeg(np.random.default_rng(0).integers(0, 256, (90, 190, 3)).astype(np.uint8))
SCORES, LABELS = np.array([2.0, 0.9, 1.5, 0.5]), np.array([True, True, False, False])
AUDITED = Audited(
    kinds=(
        KindRow(kind="hole", defective=True, pictures=2, alarms=1, middle=1.45, pixel_ap=0.625),
        KindRow(kind="good", defective=False, pictures=2, alarms=1, middle=1.0, pixel_ap=None),
    ),
    good=(0.5, 1.5),
    defective=(0.9, 2.0),
    image=curves(SCORES, LABELS),
    image_ap=0.875,
    image_auroc=0.75,
    pixel=curves(SCORES, LABELS),
    figures={"pixel_ap": 0.5, "pixel_auroc": 0.9},
    misses=(Shot(content=PICTURE, title="hole: a.png", says="Score 0.90: good, missed"),),
    alarms=(Shot(content=PICTURE, title="good: b.png", says="Score 1.50: defective"),),
    doubts=("It calls 1 of 2 good test pictures anomalous.",),
)  # fmt: skip


def report(**changed: object) -> DetectorPage:
    made = DetectorPage(
        texture="wood",
        version=3,
        verdict=Verdict(word="In use", tone="good", text="It finds all.", why="It wins."),
        tiles=(Tile(label="Defects found", value="1 of 2", tone="warn"),),
        sections=(Section(title="The detector", lines=(("Material", "wood"),)),),
        good=(0.5, 0.75, 0.875),
        levels=(Level(name="look again", value=0.8), Level(name="defective", value=1.0)),
        threshold_note="The limit is set on 3 good pictures.",
        audited=AUDITED,
        whole=0.625,
        parts=(
            PartRow(
                name="fcbigan", method="a network", in_map=0.75, in_score=1.0, alone=0.5,
                adds=0.25, losses={"segmenter": 0.5, "reconstruction": 0.125},
                losses_add={"segmenter": 0.375},
            ),
            PartRow(
                name="memory", method="patches", in_map=0.25, in_score=0.0, alone=0.25, adds=-0.125
            ),
        ),
        history=(Entry(act="promoted", version=3, reason="It wins.", when=1e9, who="me@pc"),),
        missing=(),
    )  # fmt: skip
    return replace(made, **changed)  # type: ignore[arg-type]  # a test names its fields


def read(**changed: object) -> Read:
    return assert_self_contained(detector_page.render(report(**changed)))


@pytest.fixture(scope="module")
def page() -> Read:
    """The page of `report()`."""
    return read()


def titles(page: Read) -> list[str]:
    return [element.text for element in page.all("title")]


def test_each_kind_of_test_picture_has_a_row(page: Read) -> None:
    assert page.table("Kind")[1:] == [
        ["hole", "2", "1 of 2", "1.45", "0.625"],
        ["good", "2", "1 of 2", "1.00", "-"],
    ]
    assert "Take care. It calls 1 of 2 good test pictures anomalous." in page.words()


def test_curves_have_their_areas_beside_them(page: Read) -> None:
    found = titles(page)
    assert "Precision over recall. whole pictures, AP 0.875; pixels, AP 0.500." in found
    assert "ROC curves. whole pictures, AUROC 0.750; pixels, AUROC 0.900." in found


def test_without_the_curves_of_the_pixels_those_of_pictures_are_drawn() -> None:
    found = titles(read(audited=replace(AUDITED, pixel=None)))
    assert "Precision over recall. whole pictures, AP 0.875." in found
    assert not any("Precision" in each for each in titles(read(audited=None)))


def test_the_histogram_has_both_limits(page: Read) -> None:
    expected = "Limits: look again 0.80; defective 1.00."
    assert any(each.endswith(expected) for each in titles(page))
    assert not any("Histogram" in each for each in titles(read(good=())))


def test_each_part_has_what_it_adds_and_its_losses(page: Read) -> None:
    assert page.table("Part")[1:] == [
        ["fcbigan", "75 %", "100 %", "0.500", "0.250", "a network"],
        ["memory", "25 %", "0 %", "0.250", "-0.125", "patches"],
    ]
    assert any("fcbigan 0.250; memory -0.125" in each for each in titles(page))
    assert any("segmenter 0.500; reconstruction 0.125" in each for each in titles(page))
    assert "Without one of them it would lose: segmenter 0.375." in page.words()


def test_pictures_have_what_was_said_of_them_and_the_worst_come_first(page: Read) -> None:
    alts = [picture.attributes["alt"] for picture in page.all("img")]
    assert alts == ["hole: a.png. Score 0.90: good, missed", "good: b.png. Score 1.50: defective"]


def test_gone_pictures_and_a_missing_audit_are_said() -> None:
    gone = replace(AUDITED, misses=(), alarms=(), pictures_note="They are gone.")
    assert read(audited=gone).words().count("They are gone.") == 2
    assert "has no audit here" in read(audited=None).words()


def test_the_machine_of_who_decided_is_not_on_the_page(page: Read) -> None:
    assert "me@pc" not in page.page


def test_hostile_names_are_text_wherever_they_are() -> None:
    made = report(
        texture=HOSTILE,
        verdict=Verdict(word=HOSTILE, tone="bad", text=HOSTILE, why=HOSTILE),
        tiles=(Tile(label=HOSTILE, value=HOSTILE, note=HOSTILE),),
        sections=(Section(title=HOSTILE, lines=((HOSTILE, HOSTILE),)),),
        levels=(Level(name=HOSTILE, value=1.0),),
        threshold_note=HOSTILE,
        audited=replace(
            AUDITED,
            kinds=(replace(AUDITED.kinds[0], kind=HOSTILE),),
            misses=(Shot(content=PICTURE, title=HOSTILE, says=HOSTILE),),
            doubts=(HOSTILE,),
        ),
        parts=(replace(report().parts[0], name=HOSTILE, method=HOSTILE, losses={HOSTILE: 0.5}),),
        history=(Entry(act="refused", version=1, reason=HOSTILE, when=1e9, who=HOSTILE),),
        missing=(HOSTILE,),
    )
    rendered = detector_page.render(made)
    assert "<script" not in rendered
    assert "\u202e" not in rendered
    assert len(assert_self_contained(rendered).all("img")) == 2


def test_the_sentence_of_the_test_pictures_leaves_out_what_there_was_not() -> None:
    assert on_test_pictures(None, None) == ""
    assert on_test_pictures((1, 2), None) == "On test pictures it finds 1 of 2 defects."
    assert (
        on_test_pictures(None, (0, 3))
        == "On test pictures it calls 0 of 3 good pictures defective."
    )
