"""`zoo drift`: good pictures in any order, a gain that drifts, and what is said of it."""

from __future__ import annotations

import contextlib
import io
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from registry import bundle
from registry.bundle import Bundle
from registry.folder_shelf import FolderShelf
from tests import textures_drawn
from tests.cli.commands import move_in, refused
from tests.exams import publish
from tests.textures_drawn import HEIGHT, WIDTH
from zoo.cli import main
from zoo.data import textures
from zoo.detectors import Detector
from zoo.evaluation import drift
from zoo.evaluation.drift import Drift
from zoo.evaluation.stream import Stream
from zoo.training import finish, gather, settings, train_best

Line = dict[str, Any]
STEPS = 15  # a gain that drifts by 1 % a step must be told within so many


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A detector of 60 good pictures."""
    folder, rng = tmp_path_factory.mktemp("good"), np.random.default_rng(7)
    for number in range(60):
        pixels = textures_drawn.draw(HEIGHT, WIDTH, rng)
        textures_drawn.write(folder / "weave" / f"{number:03}.png", pixels)
    data = gather(textures.find(folder, "weave"))
    return finish(train_best(data, settings({}, method="local_statistics"), seed=0), data)


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A home with the detector, and what `zoo score` printed of pictures that it never saw.

    Attributes:
        home: The home.
        good: Good pictures.
        brighter: Good pictures whose gain grows by 1 % from each to the next.
        darker: Their gain falls by 1 %.
        holed: Pictures with a defect.
    """

    home: Path
    good: tuple[Line, ...]
    brighter: tuple[Line, ...]
    darker: tuple[Line, ...]
    holed: tuple[Line, ...]


@pytest.fixture(scope="module")
def stocked(made: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    root, rng = tmp_path_factory.mktemp("drift"), np.random.default_rng(8)
    bundle.save(made, root / "bundle")
    for version in (1, 2):  # the second is the first with another figure
        publish(FolderShelf(root / "home/shelf"), root / "bundle", texture="weave", version=version)
        bundle.save(bundle.with_metrics(made, {"val_pixel_ap": 0.5}), root / "bundle")
    folders: dict[str, list[Path]] = {"good": [], "brighter": [], "darker": [], "holed": []}
    for name, found in folders.items():
        for step in range(80 if name == "good" else STEPS):
            pixels = textures_drawn.draw(HEIGHT, WIDTH, rng)
            if name == "holed":
                pixels, _ = textures_drawn.draw_hole(HEIGHT, WIDTH, rng)
            gain = {"brighter": 1.01, "darker": 0.99}.get(name, 1.0) ** (step + 1)
            gained = np.rint(pixels * gain).clip(0, 255).astype(np.uint8)
            found.append(textures_drawn.write(root / name / f"{step:02}.png", gained))
    lines = {}
    for name, found in folders.items():
        printed = io.StringIO()
        with pytest.MonkeyPatch.context() as monkeypatch, contextlib.redirect_stdout(printed):
            move_in(root / "home", monkeypatch)
            main(["score", "weave:1", *map(str, found), "--json"])
        lines[name] = tuple(json.loads(line) for line in printed.getvalue().splitlines())
    return Shop(home=root / "home", **lines)


@pytest.fixture
def shop(stocked: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    move_in(stocked.home, monkeypatch)
    return stocked


def written(folder: Path, lines: Sequence[Line], *, a_day: int = 1000) -> Path:
    """Write lines in their order, with a time a second after the one before."""
    place = folder / "scores.jsonl"
    times = [f"2026-11-{1 + n // a_day:02}T10:{n // 60:02}:{n % 60:02}Z" for n in range(len(lines))]
    timed = [line | {"time": time} for line, time in zip(lines, times, strict=True)]
    place.write_text("".join(f"{json.dumps(line)}\n" for line in timed))
    return place


def found_in(folder: Path, lines: Sequence[Line], name: str = "weave:1") -> Drift:
    return drift.of(zoo.load(name), [written(folder, lines)])


def shuffled(lines: Sequence[Line], seed: int) -> list[Line]:
    return random.Random(seed).sample(list(lines), len(lines))


# ------------------------------------------------------------------------------------ found or not


def test_in_no_order_of_good_pictures_is_there_a_drift(shop: Shop, tmp_path: Path) -> None:
    for seed in range(20):
        found = found_in(tmp_path, shuffled(shop.good, seed))
        assert found.changed == ()
        assert min(each.p_value for each in found.quantities) > drift.FALSE_REPORT
        assert {each.name for each in found.quantities} > {"alarms", "score", "brightness"}
        assert all(each.calibration >= 20 for each in found.quantities)


@pytest.mark.parametrize("before", [0, 5, 60])
@pytest.mark.parametrize("way", ["brighter", "darker"])
def test_a_gain_that_drifts_by_one_percent_a_step_is_told_within_fifteen(
    shop: Shop, tmp_path: Path, before: int, way: str
) -> None:
    for seed in range(5):
        drifting: tuple[Line, ...] = getattr(shop, way)
        found = found_in(tmp_path, [*shuffled(shop.good, seed)[:before], *drifting])
        first = found.changed[0]
        assert first.change is not None
        assert before < first.change.told <= before + STEPS
        of_light = next(each for each in found.quantities if each.name == "brightness").change
        assert of_light is not None
        assert of_light.direction == ("up" if way == "brighter" else "down")
        assert abs(of_light.picture - (before + 1)) <= 5


def test_a_few_defects_among_good_pictures_are_no_drift(shop: Shop, tmp_path: Path) -> None:
    assert all(line["is_anomalous"] for line in shop.holed)
    for seed in range(20):
        lines = shuffled([*shop.good, *shop.holed[:4]], seed)
        assert found_in(tmp_path, lines).changed == ()


@pytest.mark.parametrize(("gain", "told"), [(1.02, False), (0.98, False), (1.1, True)])
def test_a_change_that_is_certain_and_small_is_not_told(
    shop: Shop, tmp_path: Path, gain: float, told: bool
) -> None:
    lines = [
        line | {"statistics": {"brightness": line["statistics"]["brightness"] * gain}}
        for line in shop.good
    ]
    found = next(each for each in found_in(tmp_path, lines).quantities if each.name == "brightness")
    assert found.p_value < 1e-6
    assert (found.change is not None) == told


def test_many_more_alarms_than_good_pictures_have_are_told(shop: Shop, tmp_path: Path) -> None:
    found = found_in(tmp_path, [*shop.good[:20], *shop.holed, *shop.holed])
    assert "alarms" in {each.name for each in found.changed}
    assert found.total.alarms > found.total.most


# ------------------------------------------------------------------------------------- what is said


def test_alarms_are_counted_by_day_against_those_of_good_pictures(
    shop: Shop, tmp_path: Path
) -> None:
    place = written(tmp_path, [*shop.good[:40], *shop.holed[:10]], a_day=20)
    found = drift.of(zoo.load("weave:1"), [place])
    assert [(each.day, each.pictures) for each in found.days] == [
        ("2026-11-01", 20),
        ("2026-11-02", 20),
        ("2026-11-03", 10),
    ]
    assert sum(each.alarms for each in found.days) == found.total.alarms
    assert found.days[2].alarms == 10 > found.days[2].most
    assert found.days[0].alarms <= found.days[0].most
    assert (found.total.day, found.total.pictures, found.total.least) == (None, 50, 0)


def test_the_command_says_since_when_and_what_to_do(
    capsys: pytest.CaptureFixture[str], shop: Shop, tmp_path: Path
) -> None:
    place = written(tmp_path, [*shop.good[:20], *shop.brighter])
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main(["drift", "weave:1", "--scores", str(place)])
    assert exit_.value.code == 1
    said = capsys.readouterr().out
    found = drift.of(zoo.load("weave:1"), [place])
    light = next(each for each in found.changed if each.name == "brightness")
    assert light.change is not None
    assert (
        f"The brightness of the pictures is higher since picture {light.change.picture} (" in said
    )
    assert (
        light.change.image == [*shop.good[:20], *shop.brighter][light.change.picture - 1]["image"]
    )
    assert f"{light.change.image}, {light.change.time}" in said
    assert "The light or the exposure differs." in said
    assert "zoo recalibrate weave --good DIR" in said


def test_no_drift_is_exit_code_0_and_json_is_one_object(
    capsys: pytest.CaptureFixture[str], shop: Shop, tmp_path: Path
) -> None:
    place = str(written(tmp_path, shop.good))
    capsys.readouterr()
    main(["drift", "weave:1", "--scores", place])
    assert "No drift in 80 pictures." in capsys.readouterr().out
    main(["drift", "weave:1", "--scores", place, "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert (answer["drifted"], answer["detector"]) == ([], "weave")
    assert answer["total"]["pictures"] == sum(each["pictures"] for each in answer["days"]) == 80
    assert {each["name"]: each["pictures"] for each in answer["quantities"]}["score"] == 80


def test_lines_come_from_standard_input_too(
    capsys: pytest.CaptureFixture[str], shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with written(tmp_path, shop.good).open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        main(["drift", "weave:1", "--scores", "-"])
    assert "No drift in 80 pictures." in capsys.readouterr().out


# ---------------------------------------------------------------------------- which can be compared


def test_lines_of_another_version_are_not_compared(
    capsys: pytest.CaptureFixture[str], shop: Shop, tmp_path: Path
) -> None:
    assert {line["detector"] for line in shop.good} == {"weave:1"}
    place = written(tmp_path, shop.good)
    line = refused(capsys, "drift", "weave", "--scores", place)
    assert "only lines of others (80 of weave:1)" in line
    other = shop.good[0] | {"digest": zoo.load("weave").digest, "detector": "weave:2"}
    main(["drift", "weave:1", "--scores", str(written(tmp_path, [*shop.good, other]))])
    ended = capsys.readouterr()
    assert "No drift in 80 pictures." in ended.out
    assert "left out: 1 of weave:2." in ended.err


def test_without_statistics_in_lines_or_bundle_only_the_score_is_tested(
    made: Bundle, shop: Shop, tmp_path: Path
) -> None:
    bare = [{name: line[name] for name in ("score", "is_anomalous")} for line in shop.good]
    place = tmp_path / "bare.jsonl"
    place.write_text("".join(f"{json.dumps(line)}\n" for line in bare))
    found = drift.of(zoo.load("weave"), [place])
    assert [each.name for each in found.quantities] == ["alarms", "score"]
    assert (found.changed, found.days) == ((), ())
    new = ("statistics", "scores", "scores_as_taken")
    threshold = {name: each for name, each in made.threshold.items() if name not in new}
    old = Detector(replace(made, threshold=threshold))
    found = drift.of(old, [written(tmp_path, shop.good)])
    assert [(each.name, each.calibration) for each in found.quantities[1:]] == [("score", 0)]


def test_a_calibration_on_regions_is_not_compared_with_whole_pictures(
    made: Bundle, shop: Shop, tmp_path: Path
) -> None:
    on_regions = replace(made, data=made.data | {"fit": ["a@0,0,9,5"]})
    place = written(tmp_path, shop.good)
    found = drift.of(Detector(on_regions), [place])
    assert {each.calibration for each in found.quantities if each.name != "alarms"} == {0}
    assert "regions" in found.notes[0]
    again = replace(on_regions, data=on_regions.data | {"recalibrated_on": ["b"]})
    assert drift.of(Detector(again), [place]).notes == ()


def test_relatives_in_the_calibration_count_as_one(
    made: Bundle, shop: Shop, tmp_path: Path
) -> None:
    alike = replace(made, threshold=made.threshold | {"independent": 10})
    found = drift.of(Detector(alike), [written(tmp_path, shop.good)])
    assert {each.calibration for each in found.quantities} == {10, 11}


def test_a_statistic_that_is_named_like_a_quantity_does_not_replace_it(shop: Shop) -> None:
    stream = Stream(
        images=["a"] * 5,
        scores=np.full(5, 0.5),
        alarms=np.zeros(5, np.bool_),
        times=np.full(5, np.nan),
        statistics={"score": np.full(5, 9.0), "alarms": np.full(5, 9.0), "unknown": np.ones(5)},
    )
    found = drift.measure(zoo.load("weave"), stream)
    assert {each.name: each.now for each in found.quantities} == {"alarms": 0.0, "score": 0.5}
