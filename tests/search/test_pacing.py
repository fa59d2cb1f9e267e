"""The length of trials by the measured speed, and the longer trainings at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from registry import bundle
from registry.bundle import Bundle
from search_spaces import LogUniform
from tests.search.tiny_searches import config, space
from zoo.search import pacing
from zoo.search.pacing import (
    Pace,
    Speed,
    exploring_s,
    measured,
    paced,
    rate,
    train_longer,
    with_megapixels,
)
from zoo.search.run import TrialDetector
from zoo.training import TrainingData


def test_a_length_replaces_that_of_the_space_and_none_changes_nothing() -> None:
    tiny = space()
    assert with_megapixels(tiny, None) is tiny
    longer = with_megapixels(tiny, 7.5)
    assert longer.fields["megapixels"] == 7.5
    assert {k: v for k, v in longer.fields.items() if k != "megapixels"} == {
        k: v for k, v in tiny.fields.items() if k != "megapixels"
    }


def test_a_length_that_the_user_wants_searched_is_not_measured(tiny_data: TrainingData) -> None:
    own = space(megapixels=LogUniform(low=1.0, high=2.0))
    assert measured(own, tiny_data, config("own"), say=pytest.fail) is None


@pytest.mark.parametrize("start_s", [0.1, 12.0])
def test_the_time_until_a_training_begins_is_not_taken_for_its_speed(start_s: float) -> None:
    """A slow beginning once made trials of a search a tenth as long as they could be."""
    now = 0.0

    def train(megapixels: float, reports: int, report: Callable[[float], None]) -> None:
        nonlocal now
        now += start_s
        for number in range(1, reports + 1):
            done = max(0.3, megapixels / reports)  # a step has .3 megapixels
            now += done / 0.7
            report(number * done)

    found, began = rate(train, probe_s=4.0, clock=lambda: now)
    assert found == pytest.approx(0.7)
    assert began == pytest.approx(start_s)


FAST = Speed(megapixels_s=4.0, start_s=2.0, report_s=0.5)


def test_a_fast_machine_has_twelve_whole_trials_of_any_length() -> None:
    found = paced(FAST, 1200.0)
    assert found.reports == 8
    assert found.seconds == pytest.approx(1200 / 12, rel=0.01)
    assert found.megapixels == pytest.approx(4 * (100 / 1.2 - 6), rel=0.01)


def test_a_slow_machine_has_fewer_trials_but_each_of_them_learns_something() -> None:
    """Twelve trials of grid had 33 megapixels each, and the best of them was of no use."""
    slow = replace(FAST, megapixels_s=0.85, report_s=7.0)
    found = paced(slow, 1200.0)
    assert found.reports == 2
    assert found.megapixels == 100.0
    assert 1200 / 12 < found.seconds < 1200 / 5
    slower = paced(replace(slow, megapixels_s=0.2), 1200.0)
    assert slower.seconds == pytest.approx(1200 / 5, rel=0.01)
    assert paced(slow, 1200.0, (8,)).reports == 8


def test_where_no_longer_training_fits_the_whole_time_is_for_exploring() -> None:
    pace = Pace(megapixels=50.0, reports=2, seconds=85.0)
    assert exploring_s(280.0, finish_s=29.0, pace=pace) == pytest.approx(251.0)
    assert exploring_s(1000.0, finish_s=96.0, pace=pace) == pytest.approx(650.0)
    assert exploring_s(280.0, finish_s=29.0, pace=None) == pytest.approx(182.0)
    assert exploring_s(-5.0, finish_s=29.0, pace=pace) == 1.0


@pytest.mark.cluster
@pytest.mark.usefixtures("local_ray")
def test_twelve_whole_trials_fit_into_the_first_part_of_the_time(
    tiny_data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "FEWEST_MEGAPIXELS", 0.0)
    monkeypatch.setattr(pacing, "PROBE_S", 0.7)
    said: list[str] = []
    limits = config("paced", pace_s=600.0, reports=1)
    monkeypatch.setattr(pacing, "ENOUGH_MEGAPIXELS", 0.0)
    pace = measured(space(), tiny_data, limits, say=said.append, reports=(1,))
    assert pace is not None
    assert "in 1 trials at once; each whole trial has" in said[0]
    rate = float(said[0].split("trains on ")[1].split(" megapixels")[0])
    whole_s = 600 * pacing.EXPLORE / pacing.WHOLE_TRIALS / pacing.OVERHEAD
    assert pace.reports == 1
    assert pace.seconds == pytest.approx(600 * pacing.EXPLORE / pacing.WHOLE_TRIALS, rel=0.1)
    assert pace.megapixels == pytest.approx(
        rate * (whole_s - 1), rel=0.2
    )  # judging takes about a second


@pytest.mark.cluster
@pytest.mark.usefixtures("local_ray")
def test_the_best_trials_are_trained_as_long_as_there_is_time(
    tiny_data: TrainingData, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    made = replace(tiny_bundle, metrics={**tiny_bundle.metrics, "train_seconds": 1.0})
    asked = made.made_by["settings"]
    bundle.save(made, tmp_path / "trial")
    best = [TrialDetector(trial="a1", value=0.1, folder=tmp_path / "trial")]
    said: list[str] = []
    limits = config("longer")
    assert not train_longer(best, tiny_data, limits, seconds=1.0, say=said.append)
    (longer,) = train_longer(best, tiny_data, limits, seconds=3.0, say=said.append)
    assert longer.made_by["settings"]["megapixels"] == pytest.approx(3 * asked["megapixels"], 0.2)
    assert longer.made_by["seed"] == limits.seed + 1
    assert "Trial a1, trained longer: val_pixel_ap" in said[-1]
    slow = replace(made, metrics={**made.metrics, "train_seconds": 100.0})
    bundle.save(slow, tmp_path / "slow")
    first = TrialDetector(trial="b2", value=0.105, folder=tmp_path / "slow")
    (longer,) = train_longer([first, *best], tiny_data, limits, seconds=3.0, say=said.append)
    assert longer.made_by["settings"]["megapixels"] == pytest.approx(3 * asked["megapixels"], 0.2)
    assert "Trial a1, trained longer: val_pixel_ap" in said[-1]
    far = replace(first, value=0.2)
    assert not train_longer([far, *best], tiny_data, limits, seconds=3.0, say=said.append)
    half = replace(made, metrics={**made.metrics, "train_report": asked["reports"] / 2})
    bundle.save(half, tmp_path / "trial")
    (longer,) = train_longer(best, tiny_data, limits, seconds=4.0, say=said.append)
    assert longer.made_by["settings"]["megapixels"] == pytest.approx(2 * asked["megapixels"], 0.2)
