"""What the report of a search shows: from MLflow, from the files of the search, or from either."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from registry import bundle
from registry.pointer import Entry
from registry.runs.records import search_record
from registry.runs.store import open_store
from registry.trials import SearchRecord
from tests.report.html_read import assert_self_contained
from tests.stored.placed import STORED, place
from zoo.data.defects.validation import GOOD, PLACEBO
from zoo.detectors import Score, card
from zoo.report import search_page, windows
from zoo.report.search_page import SearchPage
from zoo.search import search_report, trial_files
from zoo.search.search_report import MAPS, WINDOWS, Sources
from zoo.training import TrainingData
from zoo.words import percent

NAME = "weave-20261127-090727"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of version 0.1, with a search of three trials."""
    return place("home", tmp_path_factory.mktemp("stored"))


@pytest.fixture(scope="module")
def folder(home: Path) -> Path:
    return home / "searches" / NAME


@pytest.fixture(scope="module")
def record(home: Path) -> SearchRecord:
    found = search_record(open_store(f"sqlite:///{home / 'mlflow.db'}"), NAME)
    assert found is not None
    return found


def gathered(
    record: SearchRecord, folder: Path | None, history: Sequence[Entry] = ()
) -> SearchPage:
    return search_report.gathered(Sources(record=record, folder=folder, history=tuple(history)))


def entry(record: SearchRecord, act: str, **changed: object) -> Entry:
    made = Entry(act="promoted", version=2, reason="Why.", run=record.run, when=record.ended or 0.0)
    return replace(made, act=act, **changed)  # type: ignore[arg-type]  # a test names its fields


def test_an_old_search_has_a_report_with_what_it_kept(record: SearchRecord, folder: Path) -> None:
    found = gathered(record, folder)
    best = bundle.load(folder / "best")
    assert found.value == best.metrics["val_pixel_ap"]
    assert len(found.record.trials) == 3
    facts = dict(found.facts)
    assert facts["Texture"] == "weave"
    assert facts["Fingerprint of the pictures"] == best.data["fingerprint"]
    assert facts["Time allowed"] == "5 min"
    assert facts["The detector"] == "fcbigan"
    assert found.missing == ("The search kept no pictures of validation windows.",)
    page = assert_self_contained(search_page.render(found))
    assert len(page.table("Trial")) == 1 + 3
    assert "3 trials are whole. To say" in page.words() or "of 3 trials are whole" in page.words()


def test_its_figures_are_those_of_mlflow(record: SearchRecord, folder: Path) -> None:
    found = gathered(record, folder)
    total = found.cost[-1]
    assert (total.name, total.trials) == ("all", 3)
    assert total.cpu_s == pytest.approx(record.figures["cpu_seconds"])
    assert sum(row.trials for row in found.cost[:-1]) == 3
    best = max(trial.best or 0.0 for trial in record.trials)
    rows = assert_self_contained(search_page.render(found)).table("Trial")[1:]
    assert rows[0][3] == f"{best:.3f}"


def test_the_machine_is_not_told(record: SearchRecord, folder: Path) -> None:
    nodes = {trial.usage["node"] for trial in record.trials}
    assert nodes
    shown = replace(
        record,
        trials=tuple(
            replace(trial, usage={**trial.usage, "node": "the-host"}) for trial in record.trials
        ),
    )
    page = search_page.render(
        gathered(shown, folder, [entry(record, "promoted", who="me@the-host")])
    )
    assert "the-host" not in page


@pytest.mark.parametrize(
    ("act", "word"),
    [
        ("promoted", "Promoted: version 2 of 'weave'"),
        ("forced", "Promoted by force: version 2 of 'weave'"),
        ("refused", "Refused: the champion stays"),
    ],
)
def test_the_verdict_is_the_decision_of_the_gate(
    record: SearchRecord, folder: Path, act: str, word: str
) -> None:
    figures = {
        "test_images": 26.0, "test_good_images": 8.0, "test_detection_rate": 17 / 18,
        "test_false_alarm_rate": 0.125,
    }  # fmt: skip
    found = gathered(record, folder, [entry(record, act, figures=figures)]).verdict
    assert (found.word, found.why) == (word, "Why.")
    assert found.text == (
        "On test pictures it finds 17 of 18 defects and calls 1 of 8 good pictures defective."
    )


def test_a_sum_is_told_by_the_shares_of_its_parts(
    record: SearchRecord, folder: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(folder, tmp_path / NAME))
    shutil.rmtree(own / "best")
    fused = Path(shutil.copytree(STORED / "formats" / "3-fused", own / "best"))
    made = bundle.load(fused)
    told = dict(gathered(record, own).facts)["The detector"]
    in_map, in_score = told.split("; ")
    assert in_map.startswith("map: ")
    assert in_score.startswith("score: ")
    total = sum(made.fusion["map_weights"])
    for name, weight in zip(card.part_names(made), made.fusion["map_weights"], strict=True):
        assert (f"{percent(weight / total)} {name}" in in_map) == bool(weight)


def test_decisions_are_those_of_the_search_and_of_its_time(
    record: SearchRecord, folder: Path
) -> None:
    assert record.began is not None
    history = [
        entry(record, "promoted", run="earlier", when=record.began - 9, reason="before"),
        entry(record, "promoted", run="floor", when=record.began + 1, reason="the first"),
        entry(record, "removed", run="x", when=record.began + 1, reason="no decision"),
        entry(record, "promoted", reason="the second"),
        entry(record, "promoted", run="later", when=(record.ended or 0) + 99, reason="after"),
    ]
    found = gathered(record, folder, history).decisions
    assert [each.reason for each in found] == ["the first", "the second"]


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"running": True, "outcome": None}, "Running"),
        ({"outcome": "interrupted"}, "Interrupted, not promoted"),
        ({}, "Not promoted"),
        ({"run": None}, "It has a detector"),
    ],
)
def test_a_search_without_a_decision_says_how_it_stands(
    record: SearchRecord, folder: Path, changed: dict[str, object], word: str
) -> None:
    made = replace(record, **changed)  # type: ignore[arg-type]  # a test names its fields
    assert gathered(made, folder).verdict.word == word


def test_without_its_folder_a_search_has_what_mlflow_has(record: SearchRecord) -> None:
    found = gathered(record, None)
    assert found.verdict.word == "No detector"
    assert found.value == record.figures["val_pixel_ap"]
    assert len(assert_self_contained(search_page.render(found)).table("Trial")) == 1 + 3


def test_without_mlflow_the_files_of_ray_have_the_same_trials(
    record: SearchRecord, folder: Path
) -> None:
    found = trial_files.record_of(folder)
    assert (found.texture, found.run, found.name) == ("weave", None, NAME)
    assert {trial.trial for trial in found.trials} == {trial.trial for trial in record.trials}
    by_name = {trial.trial: trial for trial in found.trials}
    for trial in record.trials:
        other = by_name[trial.trial]
        assert [each.step for each in other.reports] == [each.step for each in trial.reports]
        expected = [each.value for each in trial.reports]
        assert [each.value for each in other.reports] == pytest.approx(expected)
        assert other.params["batch"] == trial.params["batch"]
        assert other.outcome in (trial.outcome, None), "not all is known from files"
    assert any(trial.outcome == "finished" for trial in found.trials)
    assert found.began == pytest.approx(record.began, abs=20)
    assert_self_contained(search_page.render(gathered(found, folder)))


def test_damaged_files_are_left_out(folder: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(folder, tmp_path / NAME))
    first, second, _ = sorted(own.glob("run_*"))
    huge = {"training_iteration": 10**400, "timestamp": 1, "time_total_s": 1, "val_pixel_ap": 0.5}
    (first / "result.json").write_text(
        '{"training_iteration": "one"}\nno json\n[1]\n{"a": NaN}\n' + json.dumps(huge)
    )
    (first / "params.json").write_text("[]")
    lines = (second / "result.json").read_text().splitlines()
    (second / "result.json").write_text("\n".join([*lines, '{"half']))
    (own / "search.json").write_text("{")
    (own / "best" / "bundle.json").write_text("{")
    found = trial_files.record_of(own)
    assert len(found.trials) == 2
    assert len(found.trials[0].reports) + len(found.trials[1].reports) >= len(lines)
    page = gathered(found, own)
    assert any("'best' cannot be read" in text for text in page.missing)
    assert page.verdict.word == "No detector"
    assert_self_contained(search_page.render(page))


def test_windows_are_kept_with_what_is_said_of_them(
    tiny_data: TrainingData, record: SearchRecord, folder: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(folder, tmp_path / NAME))
    shown = windows.chosen(tiny_data.validation)
    families = [window.family for window in shown]
    assert set(families) == {window.family for window in tiny_data.validation}
    assert families[-1] in (GOOD, PLACEBO)
    scores = [
        Score(map=np.zeros(window.mask.shape, np.float32), score=2.0 if at else 0.5)
        for at, window in enumerate(shown)
    ]
    windows.save(shown, scores, own / MAPS / WINDOWS)
    found = gathered(record, own)
    assert found.missing == ()
    assert len(found.shots) == len(shown)
    first, last = found.shots[0], found.shots[-1]
    assert first.title.startswith(f"Painted: {families[0].replace('_', ' ')}, ")
    assert (first.says, first.tone) == ("Score 0.50: good", "bad"), "it is defective"
    assert last.title.startswith(("Good, as it is", "Placebo"))
    assert (last.says, last.tone) == ("Score 2.00: defective", "bad"), "it is good"
    page = assert_self_contained(search_page.render(found))
    assert [each.attributes["alt"] for each in page.all("img")] == [
        f"{shot.title}. {shot.says}" for shot in found.shots
    ]


@pytest.mark.parametrize("content", ["", "[]", '{"windows": 3}', '{"windows": [3, null]}'])
def test_a_damaged_list_of_windows_is_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / windows.INDEX).write_text(content)
    assert windows.load(tmp_path) == []


def test_at_most_two_windows_of_a_family_are_shown(tiny_data: TrainingData) -> None:
    many = [window for window in tiny_data.validation for _ in range(5)]
    shown = windows.chosen(many)
    counts = {family: [w.family for w in shown].count(family) for family in (GOOD, many[0].family)}
    assert set(counts.values()) == {2}


def test_the_index_of_windows_names_no_file(tmp_path: Path) -> None:
    """So a list from elsewhere cannot bring another file of the disk into a report."""
    (tmp_path / "secret.jpg").write_bytes(b"\xff\xd8\xff")
    line = {"title": "t", "says": "s", "file": "secret.jpg", "path": "../secret.jpg"}
    (tmp_path / windows.INDEX).write_text(json.dumps({"windows": [line]}))
    assert windows.load(tmp_path) == []
