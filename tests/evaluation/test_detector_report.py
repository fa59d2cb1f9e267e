"""What the report of a detector shows, checked against its card, its audit and the shelf."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from registry import bundle
from registry.bundle import Bundle
from registry.folder_shelf import FolderShelf
from registry.pointer import CHALLENGER, Entry
from registry.trials import AUDIT_CURVES, AUDIT_LOG, AUDIT_SHOWN
from tests.exams import publish
from tests.report.html_read import assert_self_contained
from zoo.data import textures
from zoo.detectors import Detector, calibrated
from zoo.evaluation import audit_log, audit_pictures, detector_report
from zoo.evaluation.audit import Scored, figures, score_test
from zoo.evaluation.detector_report import Named
from zoo.report import detector_page
from zoo.report.detector_page import DetectorPage


@pytest.fixture(scope="module")
def scored(tiny_bundle: Bundle, drawn_folder: Path) -> Scored:
    return score_test(Detector(tiny_bundle), textures.find(drawn_folder.parent, "weave"))


@pytest.fixture(scope="module")
def audited_home(
    tiny_bundle: Bundle,
    scored: Scored,
    drawn_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A home with an audited champion of `weave`; not to be changed."""
    home = tmp_path_factory.mktemp("home")
    target = home / "audited" / "x"
    audit_log.write(scored, target / AUDIT_LOG)
    audit_pictures.write(scored, textures.find(drawn_folder.parent, "weave"), target)
    bundle.save(bundle.with_metrics(tiny_bundle, figures(scored)), target)
    publish(FolderShelf(home / "shelf"), target, texture="weave", version=1)
    return home


@pytest.fixture
def home(audited_home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(audited_home, tmp_path / "home"))


def gathered(home: Path, name: str = "weave", data: Path | None = None) -> DetectorPage:
    texture = textures.find(data, "weave") if data else None
    named = Named(shelf=FolderShelf(home / "shelf"), name=name, home=home)
    return detector_report.gathered(named, texture=texture, say=lambda line: None)


@pytest.fixture(scope="module")
def shown(audited_home: Path) -> DetectorPage:
    return gathered(audited_home)


def test_the_audit_has_the_figures_of_the_card(shown: DetectorPage, scored: Scored) -> None:
    audited = shown.audited
    assert audited is not None
    expected = figures(scored)
    assert audited.image_auroc == pytest.approx(expected["test_image_auroc"], abs=1e-6)
    assert audited.figures["pixel_ap"] == expected["test_pixel_ap"]
    rows = {row.kind: row for row in audited.kinds}
    assert [row.defective for row in audited.kinds] == [True, False], "defects come first"
    assert rows["hole"].alarms == expected["test_detection_rate"] * 3
    assert rows["good"].alarms == expected["test_false_alarm_rate"] * 3
    assert (rows["hole"].pictures, rows["good"].pictures) == (3, 3)
    scores = scored.scores[scored.defective]
    assert rows["hole"].middle == pytest.approx(float(np.median(scores)), abs=1e-6)


def test_the_curve_of_the_pixels_encloses_their_average_precision(
    shown: DetectorPage, scored: Scored
) -> None:
    assert shown.audited is not None
    found = shown.audited.pixel
    assert found is not None
    steps = np.diff(np.array((0.0, *found.recall)))
    area = float(np.sum(steps * np.array(found.precision)))
    assert area == pytest.approx(figures(scored)["test_pixel_ap"], abs=0.01)


def test_the_pictures_nearest_to_an_error_are_kept_the_worst_first(
    shown: DetectorPage, scored: Scored, audited_home: Path
) -> None:
    assert shown.audited is not None
    defective = [each for each in scored.pictures if each.defective]
    lowest = min(defective, key=lambda each: each.score.score)
    first = shown.audited.misses[0]
    assert first.title == f"hole: {lowest.name}"
    assert first.says.startswith(f"Score {lowest.score.score:.2f}: ")
    good = [each for each in scored.pictures if not each.defective]
    highest = max(good, key=lambda each: each.score.score)
    assert shown.audited.alarms[0].title == f"good: {highest.name}"
    kept = sorted((audited_home / "audited" / "x" / AUDIT_SHOWN).iterdir())
    assert len(kept) == 6
    with Image.open(kept[0]) as picture:
        assert max(picture.size) <= 2 * 320 + 4
    assert len(assert_self_contained(detector_page.render(shown)).all("img")) == 6


def test_good_scores_and_limits_are_in_units_of_the_threshold(
    shown: DetectorPage, tiny_bundle: Bundle
) -> None:
    known = tiny_bundle.threshold
    expected = sorted(calibrated(np.array(known["scores"]), known["value"]).tolist())
    assert list(shown.good) == pytest.approx(expected)
    assert [(level.name, level.value) for level in shown.levels] == [("defective", 1.0)]


def test_both_limits_are_shown_where_there_are_two(home: Path, tiny_bundle: Bundle) -> None:
    value = tiny_bundle.threshold["value"]
    second = {"look_again_rate": 0.2, "look_again_value": 0.75 * value}
    made = replace(tiny_bundle, threshold=tiny_bundle.threshold | second)
    bundle.save(made, home / "two")
    publish(FolderShelf(home / "shelf"), home / "two", texture="weave", version=2)
    found = gathered(home)
    names = [(level.name, level.value) for level in found.levels]
    assert names == [("look again", pytest.approx(calibrated(0.75 * value, value))),
                     ("defective", 1.0)]  # fmt: skip
    assert "20 % are called 'look again' or defective." in found.threshold_note


def test_the_verdict_follows_from_the_pointer(home: Path, tiny_bundle: Bundle) -> None:
    shelf = FolderShelf(home / "shelf")
    assert gathered(home).verdict.word.startswith("In use since ")
    assert gathered(home).verdict.text.startswith("On test pictures it finds ")
    bundle.save(replace(tiny_bundle, made_by={"seed": 1}), home / "second")
    digest = bundle.digest(home / "second")
    refused = Entry(act="refused", version=2, reason="Too low.")
    shelf.change(
        "weave",
        lambda old: old.with_version(digest, CHALLENGER, refused),
        folder=home / "second",
    )
    found = gathered(home, "weave:2")
    assert (found.verdict.word, found.verdict.why) == (
        "Refused: another detector is in use",
        "Too low.",
    )
    assert found.audited is None
    assert [entry.act for entry in found.history] == ["refused", "promoted"]
    champion = Entry(act="promoted", version=2, reason="Better.")
    before = bundle.digest(home / "audited" / "x")
    shelf.change("weave", lambda old: old.with_champion(digest, champion, against=before))
    assert gathered(home, "weave:1").verdict.word == "Replaced: it was in use before"


def test_without_its_audit_a_detector_says_so_and_with_data_it_is_measured_now(
    home: Path, drawn_folder: Path, shown: DetectorPage
) -> None:
    shutil.rmtree(home / "audited")
    found = gathered(home)
    assert found.audited is None
    assert any("audited elsewhere" in line for line in found.missing)
    assert "not been tried on test pictures here" in found.verdict.text
    again = gathered(home, data=drawn_folder.parent)
    assert again.audited is not None
    assert shown.audited is not None
    assert again.audited.kinds == shown.audited.kinds
    assert again.audited.misses == shown.audited.misses
    assert not any("audited elsewhere" in line for line in again.missing)
    assert not (home / "audited").exists(), "nothing is kept of it"


def test_pictures_and_curves_that_are_gone_are_said(home: Path) -> None:
    shutil.rmtree(home / "audited" / "x" / AUDIT_SHOWN)
    (home / "audited" / "x" / AUDIT_CURVES).unlink()
    found = gathered(home).audited
    assert found is not None
    assert found.misses == found.alarms == ()
    assert "`zoo report NAME --data DIR` reads them again" in found.pictures_note
    assert found.pixel is None
    page = assert_self_contained(detector_page.render(gathered(home)))
    assert found.pictures_note in page.words()
    [curve] = [each.text for each in page.all("title") if each.text.startswith("Precision")]
    assert "whole pictures, AP" in curve
    assert "pixels" not in curve


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        "[1]",
        '{"image": "a"}',
        '{"image": "a", "kind": "good", "defective": 1, "is_anomalous": false, "score": 1}',
        '{"image": "a", "kind": "good", "defective": true, "is_anomalous": false, "score": NaN}',
        "[" * 5000,
    ],
)
def test_a_damaged_line_of_the_log_is_left_out(home: Path, line: str) -> None:
    path = home / "audited" / "x" / AUDIT_LOG
    path.write_text(f"{path.read_text()}{line}\n")
    found = gathered(home).audited
    assert found is not None
    assert sum(row.pictures for row in found.kinds) == 6


@pytest.mark.parametrize("content", ["", "{}", '{"recall": [2], "precision": [1]}', "[]"])
def test_a_damaged_curve_is_as_none(home: Path, content: str) -> None:
    (home / "audited" / "x" / AUDIT_CURVES).write_text(content)
    found = gathered(home).audited
    assert found is not None
    assert found.pixel is None


def test_a_kind_of_defect_without_a_visible_defect_counts_as_good(home: Path) -> None:
    path = home / "audited" / "x" / AUDIT_LOG
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    holes = [line for line in lines if line["kind"] == "hole"]
    holes[0] |= {"defective": False, "pixel_ap": None}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = gathered(home).audited
    assert found is not None
    assert {(row.kind, row.pictures) for row in found.kinds} == {
        ("hole", 2),
        ("good", 3),
        ("hole, without a defect", 1),
    }


def test_false_alarms_beyond_the_rate_are_said_at_the_top(home: Path, tiny_bundle: Bundle) -> None:
    numbers = {
        "test_images": 60.0, "test_good_images": 40.0, "test_false_alarm_rate": 0.75,
        "test_detection_rate": 1.0,
    }  # fmt: skip
    worse = home / "audited" / "worse"
    shutil.copytree(home / "audited" / "x", worse)
    bundle.save(bundle.with_metrics(tiny_bundle, numbers), worse)
    publish(FolderShelf(home / "shelf"), worse, texture="weave", version=2)
    found = gathered(home)
    assert found.verdict.word.endswith(", with doubts")
    assert found.verdict.tone == "warn"
    assert "calls 30 of 40 good test pictures anomalous" in found.verdict.text


def test_the_nearest_are_the_lowest_defective_and_the_highest_good_pictures() -> None:
    missed, alarms = audit_pictures.nearest(
        [True, False, True, False, False], [0.5, 0.9, 0.1, 2.0, 0.9]
    )
    assert missed == [2, 0]
    assert alarms == [3, 4, 1]
    assert audit_pictures.nearest([False] * 20, list(map(float, range(20)))) == (
        [],
        [19, 18, 17, 16, 15, 14],
    )
    close = [0.5 - 1e-9 * at for at in range(20)]
    as_kept = [round(score, audit_pictures.DIGITS) for score in close]
    assert audit_pictures.nearest([True] * 20, close) == audit_pictures.nearest(
        [True] * 20, as_kept
    )
