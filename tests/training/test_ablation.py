"""What each part adds is the difference that it makes, and losses are measured as they score."""

from __future__ import annotations

from dataclasses import replace

import pytest

from registry.bundle import Bundle, same_detector
from tests.memo import Memo
from zoo.detectors import Detector, card, fusion_of
from zoo.scoring import objective
from zoo.scoring.aggregation import Rule
from zoo.scoring.fusion import Fusion
from zoo.training import Part, TrainingData, ablation, made, part_of
from zoo.training.fit import window_counts
from zoo.training.fusing import Sum


def measured(bundle: Bundle, data: TrainingData) -> float:
    """Return the objective of a detector by the maps that it makes."""
    detector = Detector(bundle)
    counts = window_counts([detector.map(window.image) for window in data.validation], data)
    return objective.of_map(objective.stratum_average_precision(counts, data.strata))


@pytest.fixture(scope="module")
def trained(tiny_bundle: Bundle, tiny_data: TrainingData) -> Part:
    return part_of(tiny_bundle, tiny_data)


@pytest.fixture(scope="module")
def ablated(tiny_parts: list[Part], trained: Part, tiny_data: TrainingData) -> Bundle:
    """A sum of two parts for the map and a third for the score, with its ablation."""
    parts = [*tiny_parts[:2], trained, tiny_parts[2]]
    fusion = Fusion(
        tails=tuple(part.tail for part in parts),
        map_weights=(0.5, 0.0, 1.0, 0.0),
        score_weights=(0.0, 0.0, 0.0, 1.0),
    )
    plain = made(parts, fusion, tiny_data)
    found = ablation.with_ablation(plain, parts, fusion, tiny_data)
    assert same_detector(plain, found)
    assert found.metrics == plain.metrics
    return found


def test_what_a_part_adds_is_the_objective_of_the_sum_less_that_without_it(
    ablated: Bundle, tiny_parts: list[Part], trained: Part, tiny_data: TrainingData
) -> None:
    first, second, only_score = ablated.parts
    pair = [tiny_parts[0], trained]

    def reached(weights: tuple[float, float]) -> float:
        return Sum(parts=pair, weights=weights, data=tiny_data).objective

    whole = reached((0.5, 1.0))
    assert first.metrics[ablation.ADDS] == pytest.approx(whole - reached((0.0, 1.0)))
    assert second.metrics[ablation.ADDS] == pytest.approx(whole - reached((0.5, 0.0)))
    assert ablation.ADDS not in only_score.metrics, "the map does not depend on it"


def test_each_loss_of_what_was_trained_is_measured_alone(
    ablated: Bundle, tiny_data: TrainingData
) -> None:
    part = ablated.parts[1]
    names = card.read(part).pipelines[0].method.loss_names
    assert len(names) > 1
    for at, name in enumerate(names):
        weights = tuple(float(other == at) for other in range(len(names)))
        rule = Rule(aggregation="linear", weights=weights, mean_filter=5)
        alone = replace(
            part, calibration=part.calibration | {"rule": {**vars(rule), "weights": list(weights)}}
        )
        assert part.metrics[ablation.LOSS + name] == pytest.approx(
            measured(alone, tiny_data), abs=1e-3
        )
    for other in (ablated.parts[0], ablated.parts[2]):
        assert not [name for name in other.metrics if name.startswith(ablation.LOSS)]


def test_without_a_loss_that_the_map_uses_it_is_lower_or_higher_by_what_is_stated(
    ablated: Bundle, tiny_data: TrainingData
) -> None:
    part = ablated.parts[1]
    assert card.read(part).pipelines[0].calibration.rule.aggregation == "max", "it uses all"
    names = card.read(part).pipelines[0].method.loss_names
    stated = {name: part.metrics[ablation.LOSS_ADDS + name] for name in names}
    assert len(stated) == len(names)
    assert any(abs(value) > 1e-6 for value in stated.values())
    for value in stated.values():
        assert -1 < value <= measured(part, tiny_data) + 1e-3


def test_a_sum_of_one_part_has_nothing_to_leave_out(
    tiny_data: TrainingData, untrained_once: Memo, tiny_parts: list[Part]
) -> None:
    [part, *_] = tiny_parts
    fusion = Fusion(tails=(part.tail,), map_weights=(1.0,), score_weights=(1.0,))
    found = ablation.with_ablation(made([part], fusion, tiny_data), [part], fusion, tiny_data)
    assert fusion_of(found) == fusion
    assert not [name for name in found.parts[0].metrics if "adds" in name]
