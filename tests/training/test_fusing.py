"""The floor of a search, what joins it, and the detector that is made of the sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from registry import bundle
from registry.bundle import FUSION, Bundle, same_detector
from tests.memo import Memo
from zoo import methods
from zoo.detectors import Detector
from zoo.errors import BadImageError
from zoo.methods import backbone
from zoo.scoring import metrics, objective
from zoo.scoring.fusion import Fusion, fit_tail, log_tail
from zoo.scoring.maps import TOP, image_score
from zoo.scoring.objective import BINS, image_auroc
from zoo.scoring.outlines import fit_pixel_threshold
from zoo.scoring.thresholds import Rates, fit_threshold
from zoo.training import (
    Part,
    TrainingData,
    choose,
    floor,
    made,
    untrained,
    window_maps_of,
)
from zoo.training.data import validation_figures
from zoo.training.fit import THIN
from zoo.training.fusing import scales

UNTRAINED = [name for name in methods.names() if methods.named(name).untrained]
ALIKE = [name for name in UNTRAINED if methods.named(name).features]  # compare the same
APART = [name for name in UNTRAINED if not methods.named(name).features]


@pytest.fixture(scope="module")
def bundles(tiny_data: TrainingData, untrained_once: Memo) -> list[Bundle]:
    """The methods that learn nothing."""
    return untrained_once.untrained(tiny_data, say=pytest.fail)


@pytest.fixture(scope="module")
def parts(tiny_parts: list[Part]) -> list[Part]:
    return tiny_parts


# --------------------------------------------------------------------------------- parts by hand


@pytest.fixture(scope="module")
def windows(tiny_data: TrainingData) -> TrainingData:
    """Each window four times, so that a bootstrap has something to draw."""
    return replace(tiny_data, validation=tiny_data.validation * 4)


def drawn(
    data: TrainingData,
    method: str,
    *,
    signal: float,
    seed: int = 0,
) -> Part:
    """Draw the maps of a part: noise, higher in defects by `signal` deviations."""
    rng = np.random.default_rng(seed)

    def maps(masks: Sequence[np.ndarray], own: float) -> list[torch.Tensor]:
        return [
            torch.from_numpy((rng.normal(size=mask.shape) + own * mask).astype(np.float32))
            for mask in masks
        ]

    good = maps([np.zeros(p.pixels.shape[:2]) for p in data.splits.calibration], 0.0)
    tail = fit_tail(good)
    masks = [window.mask for window in data.validation]
    shown = maps(masks, signal)
    empty = Bundle(
        texture="weave", method=method, config={}, preprocessing={}, calibration={}, threshold={},
        metrics={}, data={}, made_by={}, weights={},
    )  # fmt: skip
    return Part(
        bundle=empty,
        tail=tail,
        good=[log_tail(each, tail) for each in good],
        windows=[log_tail(each, tail) for each in shown],
    )


@pytest.fixture(scope="module")
def plain(windows: TrainingData) -> list[Part]:
    """Two methods that learn nothing, and find the defects by half."""
    return [drawn(windows, name, signal=0.5, seed=at) for at, name in enumerate(APART[:2])]


def test_the_floor_is_every_untrained_part_by_its_share_of_the_objectives(
    windows: TrainingData,
) -> None:
    parts = [
        drawn(windows, APART[0], signal=1.0, seed=1),
        drawn(windows, "fcbigan", signal=4.0, seed=5),
        drawn(windows, APART[1], signal=2.0, seed=2),
    ]
    own = [figure(parts[at].windows, windows) for at in (0, 2)]
    assert own[0] < 0.7 * own[1]
    found = floor(parts, windows)
    expected = (own[0] / sum(own), 0.0, own[1] / sum(own))
    assert found.map_weights == found.score_weights == pytest.approx(expected)
    assert found.tails == tuple(part.tail for part in parts)
    assert [part.trained for part in parts] == [False, True, False]


def test_of_methods_that_compare_the_same_features_and_of_scales_only_the_best_counts(
    windows: TrainingData,
) -> None:
    signals = {ALIKE[0]: (1.0, 0.5), ALIKE[1]: (0.4, 2.0), APART[0]: (0.2, 1.0)}
    parts = [
        drawn(windows, name, signal=signal, seed=7)
        for name, several in signals.items()
        for signal in several
    ]
    weights = floor(parts, windows).map_weights
    assert [at for at, weight in enumerate(weights) if weight] == [3, 5]
    assert sum(weights) == pytest.approx(1.0)


def test_a_method_that_sees_nothing_of_this_material_hardly_counts(windows: TrainingData) -> None:
    clear = drawn(windows, APART[0], signal=4.0, seed=1)
    noise = drawn(windows, APART[1], signal=0.0, seed=2)
    weights = floor([clear, noise], windows).map_weights
    assert 0.0 < weights[1] < 0.1


def test_a_trained_part_that_is_clearly_better_joins_or_replaces(
    windows: TrainingData, plain: list[Part]
) -> None:
    found = choose([*plain, drawn(windows, "fcbigan", signal=4.0, seed=5)], windows)
    assert found.map_weights[2] == found.score_weights[2] == 1.0


def test_a_trained_part_that_finds_other_things_joins_and_the_floor_stays(
    windows: TrainingData,
) -> None:
    """Each of the two parts finds the defects with a noise of its own, so their sum is better."""
    one = drawn(windows, UNTRAINED[0], signal=2.0, seed=1)
    other = drawn(windows, "fcbigan", signal=2.0, seed=2)
    assert choose([one, other], windows).map_weights == (1.0, 1.0)


def test_the_floor_joins_what_is_trained_as_a_whole(
    windows: TrainingData, plain: list[Part]
) -> None:
    clear = drawn(windows, "fcbigan", signal=4.0, seed=5)
    weights = choose([*plain, clear], windows).map_weights
    known = floor([*plain, clear], windows).map_weights
    assert weights[2] == 1.0
    share = weights[0] / known[0]
    assert share in (1.0, 0.5, 0.25)
    assert weights[1] == pytest.approx(share * known[1])


@pytest.mark.parametrize("seed", range(4))
def test_a_trained_part_that_is_noise_never_joins(
    windows: TrainingData, plain: list[Part], seed: int
) -> None:
    noise = drawn(windows, "fcbigan", signal=0.0, seed=50 + seed)
    found = choose([*plain, noise], windows)
    assert found.map_weights[2] == found.score_weights[2] == 0.0
    assert any(found.map_weights[:2])


@pytest.mark.parametrize(
    ("known", "signal", "share"),
    [(0.0, 6.0, 1.0), (0.0, 5.0, 0.5), (0.0, 3.5, 0.25), (-4.0, 1.5, 0.0)],
    ids=["whole", "half", "a quarter", "none of one that ranks defects lowest"],
)
def test_the_whole_floor_is_worth_a_tenth_of_the_objective_and_a_part_of_it_as_much_less(
    windows: TrainingData, known: float, signal: float, share: float
) -> None:
    """On real defects such sums are better than *val*, which is painted like training, says."""
    noise = drawn(windows, UNTRAINED[0], signal=known, seed=1)
    clear = drawn(windows, "fcbigan", signal=signal, seed=2)
    worth, alone = {0.0: 1.0}, figure(clear.windows, windows)
    for part in (1.0, 0.5, 0.25):
        both = [part * a + b for a, b in zip(noise.windows, clear.windows, strict=True)]
        left = figure(both, windows) / alone
        assert left < 1
        worth[part] = left * (1 + 0.1 * part)
    assert max(worth, key=lambda each: worth[each]) == share
    assert choose([noise, clear], windows).map_weights == (share, 1.0)


def test_a_trained_part_does_not_join_what_is_better_without_it(windows: TrainingData) -> None:
    """A search that is too short has bad trials; its detector was then below the floor."""
    bad = drawn(windows, UNTRAINED[0], signal=0.0, seed=1)
    good = drawn(windows, UNTRAINED[1], signal=5.5, seed=2)
    trained = drawn(windows, "fcbigan", signal=0.0, seed=3)
    both = [a + b for a, b in zip(good.windows, trained.windows, strict=True)]
    lost = 1 - figure(both, windows) / figure(good.windows, windows)
    assert 0.01 < lost < 0.1
    assert not choose([bad, good, trained], windows).map_weights[2]


def figure(maps: Sequence[torch.Tensor], data: TrainingData) -> float:
    masks = [window.mask[::THIN, ::THIN] for window in data.validation]
    counts = metrics.count([each[::THIN, ::THIN].numpy() for each in maps], masks, bins=BINS)
    strata = [window.strata for window in data.validation]
    return objective.of_map(objective.stratum_average_precision(counts, strata))


def test_map_and_score_are_chosen_apart(windows: TrainingData, plain: list[Part]) -> None:
    """A few very high pixels of each good window cost the score everything, and the map little."""
    clear, draws = drawn(windows, "fcbigan", signal=4.0, seed=5), torch.Generator().manual_seed(0)
    spotted = [
        each if window.strata else each + 20.0 * (torch.rand(each.shape, generator=draws) < 0.004)
        for each, window in zip(clear.windows, windows.validation, strict=True)
    ]
    found = choose([*plain, replace(clear, windows=spotted)], windows)
    assert found.map_weights[2] == 1.0
    assert found.score_weights[2] == 0.0
    assert choose([*plain, clear], windows).score_weights[2] == 1.0


def test_the_score_has_the_sum_of_the_map_where_validation_is_not_sure(
    windows: TrainingData,
) -> None:
    """The other part ranks the windows as well, but its map is worse."""
    clear = drawn(windows, "fcbigan", signal=4.0, seed=5)
    flat = [torch.full_like(each, float(each.quantile(0.99))) for each in clear.windows]
    same_rank = replace(drawn(windows, UNTRAINED[0], signal=0.0, seed=1), windows=flat)
    found = choose([same_rank, clear], windows)
    assert found.score_weights == found.map_weights
    assert found.top_fraction == TOP


@pytest.mark.parametrize("told_by", [1e-6, 0.1], ids=["one pixel", "a tenth of the pixels"])
def test_the_score_is_the_mean_of_as_many_pixels_as_rank_pictures_best(
    windows: TrainingData, told_by: float
) -> None:
    """The highest hundredth of each window says nothing, so the usual share sees no defect."""
    part, rng = drawn(windows, UNTRAINED[0], signal=4.0), np.random.default_rng(0)
    maps = []
    for each, window in zip(part.windows, windows.validation, strict=True):
        values = rng.normal(size=each.numel())
        values[: values.size // 100] = rng.normal(60, 20)
        if told_by < TOP:
            values[0] = 220 if window.strata else 200
        else:
            values[values.size // 100 : values.size // 10] = 20 if window.strata else 5
        maps.append(torch.from_numpy(values.astype(np.float32)).reshape(each.shape))
    assert choose([replace(part, windows=maps)], windows).top_fraction == told_by


def test_without_an_untrained_part_the_sum_begins_with_all(windows: TrainingData) -> None:
    trained = [drawn(windows, "fcbigan", signal=2.0, seed=seed) for seed in (1, 2)]
    assert floor(trained, windows).map_weights == (0.5, 0.5)
    assert choose(trained, windows).map_weights == (0.5, 0.5)


# ------------------------------------------------------------------------- the methods themselves


def test_every_untrained_method_is_fitted_and_each_time_the_same(
    tiny_data: TrainingData, bundles: list[Bundle], tmp_path: Path
) -> None:
    assert [each.method for each in bundles] == UNTRAINED
    assert len(UNTRAINED) > 2
    for first, again in zip(bundles, untrained(tiny_data, say=pytest.fail), strict=True):
        bundle.save(again, tmp_path / again.method)  # the first were read from a disk too
        assert same_detector(first, bundle.load(tmp_path / again.method))


def test_a_missing_backbone_is_one_line_and_the_other_methods_are_fitted(
    tiny_data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = metadata.distribution

    def without(name: str) -> metadata.Distribution:
        return real("no-such-package" if name == backbone.PACKAGE else name)

    monkeypatch.setattr(metadata, "distribution", without)
    said: list[str] = []
    found = [each.method for each in untrained(tiny_data, say=said.append)]
    assert found == [name for name in UNTRAINED if not name.startswith("feature_")]
    assert len(found) > 1
    assert [line.partition(":")[0] for line in said] == [
        f"Without {name}" for name in UNTRAINED if name.startswith("feature_")
    ]
    assert all("\n" not in line and len(line) > 30 for line in said)


def test_pictures_too_small_for_an_untrained_method_are_refused(tiny_data: TrainingData) -> None:
    splits = tiny_data.splits
    small = tuple(replace(each, pixels=each.pixels[:12]) for each in splits.fit)
    with pytest.raises(BadImageError, match="12x72"):
        untrained(replace(tiny_data, splits=replace(splits, fit=small)), say=pytest.fail)


def test_the_maps_that_a_challenger_must_reach_are_those_of_the_floor_and_of_each_part(
    tiny_data: TrainingData, parts: list[Part], windows: TrainingData
) -> None:
    """Only the order of the pixels counts, so they are compared by what is measured of them."""
    found = window_maps_of(parts, tiny_data)
    assert [name.partition(",")[0] for name in found][1:] == [f"{name}@1" for name in UNTRAINED]
    detectors = [made(parts, floor(parts, tiny_data), tiny_data), *(part.bundle for part in parts)]
    for maps, each in zip(found.values(), detectors, strict=True):
        figures = validation_figures(maps, tiny_data.validation, 0.01)
        expected = each.metrics["val_pixel_ap"]
        assert figures["val_pixel_ap"] == pytest.approx(expected, abs=2e-3)
    trained = drawn(windows, "fcbigan", signal=1.0)
    assert list(window_maps_of([trained, *parts], tiny_data)) == list(found)


@pytest.mark.parametrize(
    ("height", "width", "count", "expected"),
    [
        (72, 90, 9, (1.0,)),  # half of it is too small
        (256, 256, 30, (1.0, 0.5)),
        (1024, 1024, 190, (0.5, 0.25)),  # 199 megapixels at full size
        (150, 5000, 200, (1.0,)),  # too many, and too narrow to be halved
    ],
)
def test_a_second_scale_is_half_of_the_largest_that_time_allows(
    tiny_data: TrainingData, height: int, width: int, count: int, expected: tuple[float, ...]
) -> None:
    picture = replace(
        tiny_data.splits.fit[0], pixels=np.broadcast_to(np.uint8(0), (height, width, 1))
    )
    splits = replace(
        tiny_data.splits,
        fit=(picture,) * (count - 2),
        val=(picture,),
        calibration=(picture,),
    )
    assert scales(replace(tiny_data, splits=splits)) == expected


# ------------------------------------------------------------------------------ the detector made


def test_the_floor_is_a_detector_that_finds_a_hole(
    tiny_data: TrainingData, parts: list[Part]
) -> None:
    detector = Detector(made(parts, floor(parts, tiny_data), tiny_data))
    good = tiny_data.splits.calibration[0].pixels
    holed = good.copy()
    holed[20:40, 30:52] = 20
    assert not detector.score(good).is_anomalous
    found = detector.score(holed)
    assert found.is_anomalous
    # Log tails: twice as high is far rarer.
    assert found.map[20:40, 30:52].mean() > 2 * found.map[:8].mean()


def weighted(
    parts: Sequence[Part], map_weights: tuple[float, ...], score_weights: tuple[float, ...]
) -> Fusion:
    tails = tuple(part.tail for part in parts)
    return Fusion(tails=tails, map_weights=map_weights, score_weights=score_weights)


def test_parts_without_a_weight_are_left_out(tiny_data: TrainingData, parts: list[Part]) -> None:
    assert len(parts) >= 3
    rest = (0.0,) * (len(parts) - 3)
    fusion = weighted(parts, (0.0, 1.0, 0.0, *rest), (0.0, 1.0, 2.0, *rest))
    found = made(parts, fusion, tiny_data)
    assert found.method == FUSION
    assert [each.method for each in found.parts] == [parts[at].bundle.method for at in (1, 2)]
    assert found.fusion["map_weights"] == (1.0, 0.0)
    assert found.fusion["score_weights"] == (1.0, 2.0)
    assert len(found.fusion["tails"]) == 2


def test_the_threshold_of_pictures_has_the_asked_rate_and_that_of_pixels_does_not_depend_on_it(
    tiny_data: TrainingData, parts: list[Part]
) -> None:
    rest = (0.0,) * (len(parts) - 2)
    fusion = weighted(parts, (1.0, 0.0, *rest), (1.0, 1.0, *rest))
    pixel = []
    for rate in (0.05, 0.4):
        found = made(parts, fusion, tiny_data, rates=Rates(false_alarms=rate))
        detector = Detector(found)
        scores = [
            float(image_score(torch.from_numpy(detector.score_map(each.pixels)), 0.01))
            for each in tiny_data.good
        ]
        groups = tiny_data.good_groups
        expected = fit_threshold(scores, Rates(false_alarms=rate), groups=groups)
        assert found.threshold["value"] == pytest.approx(expected.value, rel=1e-4)
        assert found.threshold["false_alarm_rate"] == rate
        assert found.threshold["images"] == len(tiny_data.good)
        windows = [detector.map(window.image) for window in tiny_data.validation]
        masks = [window.mask for window in tiny_data.validation]
        good = [detector.map(each.pixels) for each in tiny_data.good]
        limit = fit_pixel_threshold(windows, masks, good, thin=2)
        assert found.threshold["map_value"] == pytest.approx(limit.value, rel=1e-4)
        assert found.threshold["share_of_peak"] == limit.share_of_peak
        pixel.append(limit)
    assert pixel[0] == pixel[1]


def test_the_figures_on_the_card_are_those_of_the_detectors_own_maps_and_scores(
    tiny_data: TrainingData, parts: list[Part]
) -> None:
    rest = (0.0,) * (len(parts) - 2)
    fusion = weighted(parts, (1.0, 2.0, *rest), (0.0, 1.0, *rest))
    found = made(parts, fusion, tiny_data)
    detector, windows = Detector(found), tiny_data.validation
    maps = [detector.map(window.image) for window in windows]
    figures = validation_figures(maps, windows, fusion.top_fraction)
    for name in figures.keys() - {"val_image_auroc"}:
        assert found.metrics[name] == pytest.approx(figures[name], abs=1e-3), name
    scores = np.array([detector.score(window.image).score for window in windows])
    ranked = image_auroc(scores, [window.strata for window in windows])
    assert found.metrics["val_image_auroc"] == ranked
