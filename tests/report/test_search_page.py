"""The page of a search, made from plain values: figures, order, hostile names, size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from registry.pointer import Entry
from registry.trials import Outcome, ReportRecord, SearchRecord, TrialRecord
from tests.report.html_read import Read, assert_self_contained
from zoo.report import search_page
from zoo.report.pictures import Pictures, Shot, jpeg
from zoo.report.search_page import CostRow, Importance, SearchPage
from zoo.report.tiles import Tile, Verdict

HOSTILE = '"><script>alert(1)</script><img src=http://x.example/a onerror=b()>\u202e$\\frac$'
PICTURE = jpeg(np.random.default_rng(0).integers(0, 256, (90, 190, 3)).astype(np.uint8))
BEGAN = 1_795_870_000.0


def trial(name: str, values: list[float], outcome: Outcome | None, **params: str) -> TrialRecord:
    return TrialRecord(
        trial=name,
        params={"depth": "3", **params},
        reports=tuple(
            ReportRecord(step=step, when=BEGAN + 60 * step, value=value)
            for step, value in enumerate(values, 1)
        ),
        figures={"val_image_auroc": 0.8125} if values else {},
        outcome=outcome,
        usage={"cpu_seconds": "120.0", "gpu_seconds": "0.0"},
        began=BEGAN,
        ended=BEGAN + 300,
    )


TRIALS = (
    trial("aaa", [0.25, 0.5], "finished", batch="8"),
    trial("bbb", [0.125], "stopped_early", batch="16"),
    trial("ccc", [0.375, 0.75], "finished", batch="8"),
    trial("ddd", [], "failed", batch="8"),
    trial("eee", [], None, batch="8"),
)


def report(**changed: object) -> SearchPage:
    record = SearchRecord(
        name="wood-1", texture="wood", trials=TRIALS, run="r", began=BEGAN, ended=BEGAN + 600
    )
    made = SearchPage(
        record=record,
        verdict=Verdict(word="Promoted", tone="good", text="It finds all.", why="It wins."),
        tiles=(Tile(label="Validation AP", value="0.751"),),
        facts=(("Texture", "wood"), ("Licence", "CC0")),
        kinds={"noise_blob": 0.75, "stain": 0.25},
        looks={"small": 0.5},
        untrained=0.25,
        value=0.751,
        importance=Importance(shares={"batch": 0.75, "depth": 0.25}, note="12 of 12."),
        threads=2,
        cost=(CostRow(name="all", trials=5, cpu_s=600.0, gpu_s=0.0),),
        seconds=600.0,
        decisions=(Entry(act="promoted", version=2, reason="It wins.", when=BEGAN, who="me@pc"),),
        shots=(Shot(content=PICTURE, title="Painted: stain", says="Score 2.00: defective"),),
        missing=(),
    )
    return replace(made, **changed)  # type: ignore[arg-type]  # a test names its fields


def read(**changed: object) -> Read:
    return assert_self_contained(search_page.render(report(**changed)))


@pytest.fixture(scope="module")
def page() -> Read:
    """The page of `report()`."""
    return read()


def test_every_trial_has_a_row_with_its_settings_figures_outcome_and_time_the_best_first(
    page: Read,
) -> None:
    head, *rows = page.table("Trial")
    assert head[:7] == [
        "Trial", "Begun as", "Outcome", "Validation AP", "Image AUROC", "Reports", "Time",
    ]  # fmt: skip
    assert head[7:] == ["batch"], "depth is the same for all"
    assert rows == [
        ["ccc", "3", "whole", "0.750", "0.812", "2", "1 min", "8"],
        ["aaa", "1", "whole", "0.500", "0.812", "2", "1 min", "8"],
        ["bbb", "2", "stopped early", "0.125", "0.812", "1", "1 min", "16"],
        ["ddd", "4", "failed", "-", "-", "0", "1 min", "8"],
        ["eee", "5", "not ended", "-", "-", "0", "1 min", "8"],
    ]
    assert "depth 3." in page.words()


def test_the_verdict_comes_first_and_then_the_figures(page: Read) -> None:
    words = page.words()
    places = [words.index(text) for text in ("wood", "Promoted", "It finds all.", "0.751", "Every")]
    assert places == sorted(places)


def test_the_best_over_time_is_told_with_what_it_is_compared_with(page: Read) -> None:
    titles = [element.text for element in page.all("title")]
    assert any(
        "the best validation AP over time, from 0.125 to 0.750. without training: 0.250; the "
        "detector: 0.751" in title
        for title in titles
    )
    assert any("of 3 trials at each of their reports" in title for title in titles)
    assert any("importance of the settings: batch 75%; depth 25%" in title for title in titles)


def test_a_trial_that_failed_says_why() -> None:
    failed = replace(TRIALS[3], usage={"reason": "out of memory on cuda"})
    record = SearchRecord(name="s", texture="wood", trials=(failed,))
    assert "Why trials failed ddd out of memory on cuda" in read(record=record).words()


def test_without_trials_pictures_and_decisions_the_page_says_so() -> None:
    empty = read(
        record=SearchRecord(name="s", texture="wood", trials=()),
        kinds={}, looks={}, cost=(), decisions=(), shots=(), seconds=None, untrained=None,
        value=None,
        importance=Importance(shares={}, note="0 of 0 trials are whole."),
        missing=("The folder is gone.",),
    ).words()  # fmt: skip
    for text in (
        "There are no pictures of this search.",
        "No trial has made a report.",
        "0 of 0 trials are whole.",
        "No trial is on record.",
        "Nothing is on record.",
        "Nothing of this search was put to the gate.",
        "The folder is gone.",
    ):
        assert text in empty


def test_hostile_names_are_text_wherever_they_are() -> None:
    bad = trial(HOSTILE, [0.5], "finished", **{HOSTILE: "1", "batch": HOSTILE})
    bad = replace(bad, usage={"reason": HOSTILE})
    entry = Entry(act="refused", version=1, reason=HOSTILE, when=BEGAN, who=HOSTILE)
    made = report(
        record=SearchRecord(
            name=HOSTILE, texture=HOSTILE, trials=(bad, *TRIALS), began=BEGAN, ended=BEGAN + 9
        ),
        verdict=Verdict(word=HOSTILE, tone="warn", text=HOSTILE, why=HOSTILE),
        tiles=(Tile(label=HOSTILE, value=HOSTILE, note=HOSTILE),),
        facts=((HOSTILE, HOSTILE),),
        kinds={HOSTILE: 0.5},
        importance=Importance(shares={HOSTILE: 1.0}, note=HOSTILE),
        decisions=(entry,),
        shots=(Shot(content=PICTURE, title=HOSTILE, says=HOSTILE),),
        missing=(HOSTILE,),
    )
    page = search_page.render(made)
    assert "<script" not in page
    assert "\u202e" not in page, "it would turn a line around"
    found = assert_self_contained(page.replace("http://x.example", "x"))
    assert len(found.all("img")) == 1
    assert found.words().count("<script>alert(1)</script>") > 10


def test_the_same_values_give_the_same_page(page: Read) -> None:
    assert search_page.render(report()) == page.page


def test_a_search_of_a_thousand_trials_with_many_pictures_stays_within_bounds() -> None:
    many = tuple(
        trial(f"t{at}", [0.1, 0.2], "finished", **{f"s{n}": str(at) for n in range(20)})
        for at in range(1000)
    )
    shots = tuple(Shot(content=PICTURE, title="t", says="s") for _ in range(40))
    made = report(record=SearchRecord(name="s", texture="w", trials=many), shots=shots)
    budget = Pictures(30 * len(PICTURE))
    page = search_page.render(made, pictures=budget)
    assert len(page) < 2_500_000
    assert budget.left_out > 10
    assert f"{budget.left_out} pictures are left out" in Read(page).words()


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "much"])
def test_a_cost_that_is_none_is_not_counted(value: str) -> None:
    odd = replace(TRIALS[0], usage={"cpu_seconds": value})
    assert search_page.used(odd, "cpu_seconds") is None
    assert search_page.used(TRIALS[0], "cpu_seconds") == 120
