"""The audit of a search: regret, rank correlation, and refusals."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from registry import bundle
from registry.bundle import Bundle
from registry.runs.search_runs import SearchRuns
from registry.runs.store import open_store
from tests.cli.commands import move_in, refused
from tests.mlflow_runs import new_store
from zoo.cli import main
from zoo.data import textures
from zoo.detectors.detector import Detector
from zoo.evaluation import search_audit
from zoo.evaluation.audit import audit, doubts
from zoo.evaluation.search_audit import AuditedTrial, Point, compared
from zoo.scoring.thresholds import Rates, fit_threshold
from zoo.training.data import gather
from zoo.training.fit import finish, train_best
from zoo.training.fusing import floor, made, part_of
from zoo.training.settings import settings

SEARCH = "weave-20261124-120000"


def points(*rows: tuple[float, float | None, float]) -> list[Point]:
    return [
        Point(trial=f"t{number}", val_pixel_ap=a, val_pixel_ap_held_out=b, test_pixel_ap=c)
        for number, (a, b, c) in enumerate(rows, 1)
    ]


# ---------------------------------------------------------------------------------- known answers


def test_regret_and_rank_correlation_are_those_done_by_hand() -> None:
    found = compared(
        "s", points((0.1, 0.9, 0.5), (0.2, 0.1, 0.8), (0.3, 0.8, 0.6), (0.4, 0.7, 0.7))
    )
    assert (found.trials, found.champion, found.oracle) == (4, "t4", "t2")
    assert (found.champion_val_pixel_ap, found.champion_test_pixel_ap) == (0.4, 0.7)
    assert found.oracle_test_pixel_ap == 0.8
    assert found.regret == pytest.approx(0.1)
    # Ranks 1 2 3 4 against 1 4 2 3: squared differences of 6 in all, 1 - 6 * 6 / (4 * 15).
    assert found.spearman == pytest.approx(0.4)
    # Ranks 4 1 3 2 against 1 4 2 3: the opposite order.
    assert found.spearman_held_out == pytest.approx(-1.0)


def test_a_search_that_chose_the_best_regrets_nothing() -> None:
    found = compared("s", points((0.1, None, 0.1), (0.2, None, 0.2), (0.3, None, 0.3)))
    assert (found.champion, found.oracle, found.regret) == ("t3", "t3", 0.0)
    assert found.spearman == pytest.approx(1.0)


def test_what_has_no_rank_has_no_correlation() -> None:
    found = compared("s", points((0.2, None, 0.1), (0.2, 0.3, 0.2), (0.2, 0.4, 0.3)))
    assert found.champion == "t1", "of equals the first, as in the search"
    assert found.spearman is None
    assert found.spearman_held_out is None, "two trials are too few"


# --------------------------------------------------------------------------------- a search on disk


@pytest.fixture(scope="module")
def trials(drawn_folder: Path) -> list[Bundle]:
    """Four detectors with different test AP, in another order than their objectives."""
    data = gather(textures.find(drawn_folder.parent, "weave"))
    good = finish(train_best(data, settings({}, method="local_statistics"), seed=0), data)
    mean = good.weights["mean"]
    noise = np.random.default_rng(0).standard_normal(mean.shape).astype(np.float32)
    figures = [(0.3, 0.6), (0.4, 0.5), (0.2, 0.4), (0.1, 0.3)]
    return [
        replace(
            good,
            weights={**good.weights, "mean": mean + 0.3 * strength * noise},
            metrics={"val_pixel_ap": value, "val_pixel_ap_held_out": held},
        )
        for strength, (value, held) in enumerate(figures)
    ]


class Home:
    """A home with one search, and the pictures of the search."""

    def __init__(self, root: Path, drawn: Path) -> None:
        self.data = root / "data"
        self.weave = Path(shutil.copytree(drawn, self.data / "weave"))
        self.search = root / "home" / "searches" / SEARCH
        fingerprint = textures.find(self.data, "weave").fingerprint
        self.search.mkdir(parents=True)
        config = {"name": SEARCH, "texture": "weave", "fingerprint": fingerprint}
        (self.search / "search.json").write_text(json.dumps(config))

    @property
    def command(self) -> list[str]:
        return ["audit", "--category", "weave", "--data", str(self.data)]

    def keep(self, made: Bundle, *, number: int, report: int = 0) -> Path:
        trial = self.search / f"run_{'abcd'[number - 1]}{number}_{number}_batch=8,width=4_2026"
        folder = trial / f"checkpoint_{report:06}" / "bundle"
        bundle.save(made, folder)
        return folder

    def log_of(self, trial: str) -> Path:
        return self.search / "audit" / f"{trial}.jsonl"

    def end(self, best: Bundle) -> None:
        bundle.save(best, self.search / "best")


@pytest.fixture
def home(tmp_path: Path, drawn_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    move_in(tmp_path / "home", monkeypatch)
    new_store(tmp_path / "home" / "mlflow.db")
    return Home(tmp_path, drawn_folder)


@pytest.fixture
def ended(home: Home, trials: list[Bundle]) -> Home:
    for number, trial in enumerate(trials, 1):
        home.keep(trial, number=number)
    home.end(trials[1])
    return home


def test_the_audit_of_a_search_says_what_its_choice_lost(
    capsys: pytest.CaptureFixture[str], ended: Home, trials: list[Bundle]
) -> None:
    texture = textures.find(ended.data, "weave")
    aps = [audit(Detector(made), texture)["test_pixel_ap"] for made in trials]
    assert aps[0] == max(aps) > aps[1], "the search chose the second, the first is best"
    main([*ended.command, "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert (answer["search"], answer["trials"]) == (SEARCH, 4)
    assert (answer["champion"], answer["oracle"]) == ("b2", "a1")
    assert answer["champion_test_pixel_ap"] == pytest.approx(aps[1])
    assert answer["regret"] == pytest.approx(aps[0] - aps[1])
    with (ended.search / search_audit.TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["a1", "b2", "c3", "d4"]
    assert [float(row["test_pixel_ap"]) for row in rows] == pytest.approx(aps)
    assert [float(row["val_pixel_ap"]) for row in rows] == [0.3, 0.4, 0.2, 0.1]
    assert [float(row["val_pixel_ap_held_out"]) for row in rows] == [0.6, 0.5, 0.4, 0.3]
    with Image.open(ended.search / search_audit.PLOT) as plot:
        assert min(plot.size) > 100
    main([*ended.command, "--search", SEARCH])
    assert "  Order, other kinds  " in capsys.readouterr().out


def test_the_audit_of_a_search_says_which_pictures_its_choice_misjudges(
    capsys: pytest.CaptureFixture[str], ended: Home, trials: list[Bundle]
) -> None:
    uri = f"sqlite:///{ended.search.parents[1] / 'mlflow.db'}"
    runs = SearchRuns(open_store(uri), search=SEARCH, texture="weave", params={})
    main(ended.command)
    said = capsys.readouterr().err
    detector, log = Detector(trials[1]), ended.log_of("b2")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    scores = [round(detector.score(ended.weave / line["image"]).score, 6) for line in lines]
    assert [line["score"] for line in lines] == pytest.approx(scores)
    assert f"{log} has a line for each of 6 test pictures." in said
    lowest = min((line["score"], line["image"]) for line in lines if line["defective"])
    assert f"lowest: {lowest[1]} ({lowest[0]:.3f})" in said
    assert [path.stem for path in sorted(log.parent.iterdir())] == ["a1", "b2", "c3", "d4"]
    stored = MlflowClient(uri).list_artifacts(runs.run_id, "audit")
    assert [each.path for each in stored] == ["audit/audit.csv", "audit/b2.jsonl"]


def test_an_audit_without_mlflow_is_on_disk_and_says_so(
    capsys: pytest.CaptureFixture[str], ended: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ended.search.parent / "file").write_text("in the way")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{ended.search.parent}/file/x.db")
    main([*ended.command, "--json"])
    ended_with = capsys.readouterr()
    assert json.loads(ended_with.out)["champion"] == "b2"
    assert f"The audit is in {ended.search}, and not in MLflow: Cannot open" in ended_with.err
    assert ended.log_of("b2").is_file()


def test_the_methods_that_learn_nothing_and_the_sums_are_measured_beside_the_trials(
    capsys: pytest.CaptureFixture[str], ended: Home, trials: list[Bundle]
) -> None:
    data = gather(textures.find(ended.data, "weave"))
    parts = [part_of(each, data) for each in (trials[3], trials[0])]
    one, both = floor(parts[:1], data), floor(parts, data)
    bundle.save(trials[3], ended.search / "untrained" / trials[3].method)
    bundle.save(made(parts[:1], one, data), ended.search / "floor")
    ended.end(made(parts, both, data))
    main([*ended.command, "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert (answer["trials"], answer["champion"]) == (4, "best")
    with (ended.search / search_audit.TABLE).open(newline="") as file:
        rows = {row["trial"]: float(row["test_pixel_ap"]) for row in csv.DictReader(file)}
    assert list(rows) == ["a1", "b2", "c3", "d4", "local_statistics", "floor", "best"]
    texture = textures.find(ended.data, "weave")
    own = audit(Detector(bundle.load(ended.search / "best")), texture)["test_pixel_ap"]
    assert rows["best"] == answer["champion_test_pixel_ap"] == pytest.approx(own)
    assert answer["oracle"] == max(rows, key=lambda name: rows[name])
    assert answer["regret"] == pytest.approx(max(rows.values()) - own)
    assert rows["local_statistics"] == pytest.approx(rows["d4"])


def test_of_two_checkpoints_the_better_counts_and_half_of_one_is_passed_over(
    home: Home, trials: list[Bundle]
) -> None:
    worse = replace(trials[0], metrics={"val_pixel_ap": 0.05})
    first = home.keep(trials[0], number=2)
    home.keep(worse, number=2, report=1)
    half = home.keep(trials[1], number=1)
    (half / bundle.WEIGHTS).unlink()
    said: list[str] = []
    trials_found = search_audit.kept_detectors(home.search, say=said.append)
    assert trials_found == [
        AuditedTrial(trial="b2", folder=first, val_pixel_ap=0.3, val_pixel_ap_held_out=0.6)
    ]
    [line] = said
    assert str(half) in line


# --------------------------------------------------------------------------------- what is refused


def test_too_few_trials_are_refused_with_their_number(
    capsys: pytest.CaptureFixture[str], home: Home, trials: list[Bundle]
) -> None:
    for number in (1, 2):
        home.keep(trials[number], number=number)
    home.end(trials[1])
    line = refused(capsys, *home.command)
    assert f"{SEARCH} has 2 trials with a detector" in line
    assert "takes 3" in line
    assert not (home.search / search_audit.TABLE).exists()


def test_test_images_without_defects_are_refused(
    capsys: pytest.CaptureFixture[str], ended: Home
) -> None:
    shutil.rmtree(ended.weave / "test" / "hole")
    assert "has no picture among those of the test" in refused(capsys, *ended.command)
    shutil.rmtree(ended.weave / "ground_truth")
    assert "No test image of 'weave'" in refused(capsys, *ended.command)
    shutil.rmtree(ended.weave / "test")
    assert "No test image of 'weave'" in refused(capsys, *ended.command)


def test_a_search_that_has_not_ended_sees_no_test_image(
    capsys: pytest.CaptureFixture[str], ended: Home
) -> None:
    shutil.rmtree(ended.search / "best")
    assert f"search {SEARCH} has not ended" in refused(capsys, *ended.command)


def test_a_search_on_other_pictures_is_refused(
    capsys: pytest.CaptureFixture[str], ended: Home
) -> None:
    (ended.weave / "train" / "good" / "000.png").unlink()
    assert f"search {SEARCH} was on other pictures" in refused(capsys, *ended.command)


def test_a_search_that_does_not_exist_is_refused_with_those_that_do(
    capsys: pytest.CaptureFixture[str], ended: Home
) -> None:
    line = refused(capsys, *ended.command, "--search", f"{SEARCH}0")
    assert f"no search '{SEARCH}0' of 'weave'" in line
    assert f"Did you mean '{SEARCH}'?" in line
    config = json.loads((ended.search / "search.json").read_text())
    (ended.search / "search.json").write_text(json.dumps(config | {"texture": "wood"}))
    assert "no search of 'weave'" in refused(capsys, *ended.command)


def test_the_newest_search_is_meant_if_none_is_named(ended: Home) -> None:
    older = ended.search.parent / "weave-20261001-000000"
    shutil.copytree(ended.search, older)
    texture = textures.find(ended.data, "weave")
    assert search_audit.find_search(ended.search.parent, texture) == ended.search
    assert search_audit.find_search(ended.search.parent, texture, older.name) == older


def test_a_damaged_configuration_of_another_search_is_ignored(ended: Home) -> None:
    for name, text in (("weave-20991231-000000", '{"texture": "wea'), ("weave-2", "[]")):
        (ended.search.parent / name).mkdir()
        (ended.search.parent / name / "search.json").write_text(text)
    texture = textures.find(ended.data, "weave")
    assert search_audit.find_search(ended.search.parent, texture) == ended.search


def test_labels_without_masks_give_the_figures_of_pictures_only(
    home: Home, trials: list[Bundle]
) -> None:
    whole = audit(Detector(trials[0]), textures.find(home.data, "weave"))
    shutil.rmtree(home.weave / "ground_truth")
    found = audit(Detector(trials[0]), textures.find(home.data, "weave"))
    assert not [name for name in found if "pixel" in name or "aupro" in name]
    gone = whole.keys() - found.keys()
    assert gone >= {"test_pixel_ap", "test_pixel_f1", "test_aupro"}
    assert 0 < whole["test_pixel_f1"] <= whole["test_pixel_f1_best"]
    timed = "test_seconds_per_image"
    assert all(found[name] == whole[name] for name in found if name != timed)


def figures_of(*, alarms: int, good: int, found: float) -> dict[str, float]:
    return {
        "test_images": good + 10.0,
        "test_good_images": float(good),
        "test_false_alarm_rate": alarms / max(good, 1),
        "test_detection_rate": found,
    }


@pytest.mark.parametrize(
    ("alarms", "good", "images", "doubted"),
    [
        (0, 20, 40, False),
        (3, 20, 40, False),
        (12, 20, 40, True),
        (98, 100, 16, True),
        (1, 1, 10, False),  # one picture says little
        (20, 100, 400, True),
        (8, 100, 400, False),
    ],
)
def test_more_false_alarms_than_chance_allows_at_the_stated_rate_are_doubted(
    alarms: int, good: int, images: int, doubted: bool
) -> None:
    threshold = {"false_alarm_rate": 0.05, "images": images}
    found = doubts(figures_of(alarms=alarms, good=good, found=0.5), threshold)
    assert bool(found) == doubted
    assert all(f"{alarms} of {good} good" in line and "recalibrate" in line for line in found)


def test_a_detector_that_finds_nothing_is_doubted() -> None:
    threshold = {"false_alarm_rate": 0.05, "images": 40}
    (line,) = doubts(figures_of(alarms=0, good=20, found=0.0), threshold)
    assert "none of 10 defective" in line
    assert doubts({"test_images": 3.0, "test_good_images": 3.0}, threshold) == []


def test_false_alarms_of_a_good_threshold_are_rarely_doubted() -> None:
    """By drawing: calibration and test pictures alike, thresholds by rank and by a bound."""
    rng = np.random.default_rng(0)
    for images in (16, 60):
        wrong = 0
        for _ in range(300):
            limit = fit_threshold(rng.normal(size=images).tolist(), Rates(false_alarms=0.05))
            alarms = int((rng.normal(size=40) > limit.value).sum())
            found = figures_of(alarms=alarms, good=40, found=0.5)
            wrong += bool(doubts(found, asdict(limit)))
        assert wrong / 300 < 0.05
