"""One exam per protocol: an implementation is done when a three-line class passes it.

    class TestFolderShelf(ShelfExam):
        @pytest.fixture
        def shelf(self, tmp_path): return FolderShelf(tmp_path / "shelf")

An exam asks only what the protocol promises. What is special to one implementation is tested
beside it.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from registry import keeping, pointer
from registry.shelf import Shelf, names_on, pointer_of
from zoo import baselines, bundle, recipe
from zoo.baselines import Method
from zoo.bundle import Bundle
from zoo.detector import Detector
from zoo.errors import BadImageError, BundleError, ConfigError, PromotionError, UnknownDetectorError
from zoo.listener import Facts, Outcome, TrialLog


def drawn_bundle(folder: Path, *, texture: str = "grid", seed: int = 0) -> Path:
    """Save a small bundle that holds nothing but drawn numbers."""
    weights = {"w": torch.randn(3, 5, generator=torch.Generator().manual_seed(seed))}
    drawn = Bundle(
        texture=texture,
        method="drawn",
        config={"seed": seed},
        preprocessing={"mode": "L", "scale": 1.0},
        calibration={},
        threshold={"value": 1.0},
        metrics={"val_pixel_ap": 0.5},
        data={},
        made_by={},
        weights=weights,
    )
    bundle.save(drawn, folder)
    return folder


def publish(
    shelf: Shelf, folder: Path, *, texture: str, version: int, alias: str | None = pointer.CHAMPION
) -> str:
    """Put a bundle on a shelf without a gate, and return its digest."""
    digest = bundle.digest(folder)
    entry = pointer.Entry(act="promoted", version=version)
    shelf.change(texture, lambda old: old.with_version(digest, alias, entry), folder=folder)
    return digest


class ShelfExam:
    """What every shelf promises; the class under test gives the fixture `shelf`, empty."""

    @pytest.fixture
    def one(self, tmp_path: Path) -> Path:
        return drawn_bundle(tmp_path / "one", seed=1)

    @pytest.fixture
    def two(self, tmp_path: Path) -> Path:
        return drawn_bundle(tmp_path / "two", seed=2)

    def test_what_was_published_is_fetched_byte_for_byte(self, shelf: Shelf, one: Path) -> None:
        digest = publish(shelf, one, texture="grid", version=1)
        fetched = shelf.fetch("grid")
        assert fetched != one
        assert digest == bundle.digest(one) == bundle.digest(fetched)
        assert sorted(path.name for path in fetched.iterdir()) == sorted(
            path.name for path in one.iterdir()
        )

    def test_alias_version_and_digest_each_name_a_detector(
        self, shelf: Shelf, one: Path, two: Path
    ) -> None:
        first = publish(shelf, one, texture="grid", version=1)
        second = publish(shelf, two, texture="grid", version=2, alias="challenger")
        found = {
            name: bundle.digest(shelf.fetch(name))
            for name in ("grid", "grid@champion", "grid:1", "grid@challenger", "grid:2")
        }
        assert list(found.values()) == [first, first, first, second, second]
        assert bundle.digest(shelf.fetch(f"grid@sha256:{second}")) == second
        assert names_on(shelf) == {
            "grid": {"champion": first, "challenger": second, "1": first, "2": second}
        }

    def test_a_new_champion_takes_the_place_and_the_old_version_stays(
        self, shelf: Shelf, one: Path, two: Path
    ) -> None:
        first = publish(shelf, one, texture="grid", version=1)
        second = publish(shelf, two, texture="grid", version=2)
        assert bundle.digest(shelf.fetch("grid")) == second
        assert bundle.digest(shelf.fetch("grid:1")) == first

    def test_a_version_without_an_alias_leaves_the_champion_alone(
        self, shelf: Shelf, one: Path, two: Path
    ) -> None:
        first = publish(shelf, one, texture="grid", version=1)
        publish(shelf, two, texture="grid", version=2, alias=None)
        assert bundle.digest(shelf.fetch("grid")) == first

    def test_publishing_the_same_again_changes_nothing(self, shelf: Shelf, one: Path) -> None:
        digest = publish(shelf, one, texture="grid", version=1)
        before = names_on(shelf)
        assert publish(shelf, one, texture="grid", version=1) == digest
        assert names_on(shelf) == before

    def test_another_bundle_under_the_same_version_is_refused_with_both_digests(
        self, shelf: Shelf, one: Path, two: Path
    ) -> None:
        first = publish(shelf, one, texture="grid", version=1)
        pattern = f"Version 1 of 'grid' is bundle {first[:12]} and cannot become "
        with pytest.raises(PromotionError, match=pattern + bundle.digest(two)[:12]):
            publish(shelf, two, texture="grid", version=1)
        assert names_on(shelf) == {"grid": {"champion": first, "1": first}}

    def test_a_damaged_bundle_is_not_published(self, shelf: Shelf, one: Path) -> None:
        flip(one / bundle.WEIGHTS)
        with pytest.raises(BundleError, match=bundle.WEIGHTS):
            publish(shelf, one, texture="grid", version=1)
        assert names_on(shelf) == {}

    def test_an_empty_shelf_says_how_to_make_a_detector(self, shelf: Shelf) -> None:
        assert names_on(shelf) == {}
        with pytest.raises(
            UnknownDetectorError, match="empty.*`zoo search --category carpt --data DIR`"
        ):
            shelf.fetch("carpt")

    def test_an_unknown_texture_is_refused_with_those_there_are(
        self, shelf: Shelf, one: Path
    ) -> None:
        for texture in ("wood", "carpet", "leather"):
            publish(shelf, one, texture=texture, version=1)
        with pytest.raises(
            UnknownDetectorError,
            match="No detector 'carpt' on the shelf .*; it has carpet, leather, wood. "
            r"Did you mean 'carpet'\?",
        ):
            shelf.fetch("carpt")

    @pytest.mark.parametrize("name", ["grid@challengr", "grid:9", "grid@sha256:00", "grid@"])
    def test_an_unknown_alias_version_or_digest_is_refused_with_those_there_are(
        self, shelf: Shelf, one: Path, two: Path, name: str
    ) -> None:
        publish(shelf, one, texture="grid", version=1)
        publish(shelf, two, texture="grid", version=2, alias="challenger")
        with pytest.raises(
            UnknownDetectorError,
            match=f"No detector '{name}' .* grid@challenger, grid@champion, grid:1, grid:2",
        ):
            shelf.fetch(name)

    @pytest.mark.parametrize("name", ["", "../grid", "@champion", "a/b"])
    def test_what_cannot_be_a_name_is_refused_with_what_can(self, shelf: Shelf, name: str) -> None:
        with pytest.raises(UnknownDetectorError, match=f"'{name}' is no .*TEXTURE@ALIAS"):
            shelf.fetch(name)

    @pytest.mark.parametrize("texture", ["a/b", "a:b", "a@b", ".hidden", ""])
    def test_a_texture_whose_name_cannot_be_asked_for_is_not_published(
        self, shelf: Shelf, one: Path, texture: str
    ) -> None:
        with pytest.raises(ConfigError, match=f"'{texture}' cannot name a texture"):
            publish(shelf, one, texture=texture, version=1)

    def test_publishers_at_the_same_moment_lose_no_version(
        self, shelf: Shelf, tmp_path: Path
    ) -> None:
        folders = {n: drawn_bundle(tmp_path / f"many{n}", seed=n) for n in range(1, 9)}

        def publish_one(version: int) -> str:
            return publish(shelf, folders[version], texture="grid", version=version)

        with ThreadPoolExecutor(8) as pool:
            digests = list(pool.map(publish_one, folders))
        found = names_on(shelf)["grid"]
        assert {found[str(n)] for n in folders} == set(digests)
        assert len(found) == 10  # the versions, the champion and the one before

    def test_the_champion_before_is_previous_and_a_rollback_changes_them_over(
        self, shelf: Shelf, one: Path, two: Path
    ) -> None:
        first = publish(shelf, one, texture="grid", version=1)
        second = publish(shelf, two, texture="grid", version=2)
        assert bundle.digest(shelf.fetch("grid@previous")) == first
        shelf.change("grid", lambda old: old.rolled_back("a test"))
        served = {name: bundle.digest(shelf.fetch(name)) for name in ("grid", "grid@previous")}
        assert served == {"grid": first, "grid@previous": second}
        shelf.change("grid", lambda old: old.rolled_back(""))
        assert bundle.digest(shelf.fetch("grid")) == second

    def test_without_a_champion_before_a_rollback_is_refused_and_changes_nothing(
        self, shelf: Shelf, one: Path
    ) -> None:
        publish(shelf, one, texture="grid", version=1)
        before = shelf.pointers()
        with pytest.raises(PromotionError, match="'grid' has no champion before this one"):
            shelf.change("grid", lambda old: old.rolled_back(""))
        assert shelf.pointers() == before

    def test_a_removed_version_is_gone_and_its_number_is_not_used_again(
        self, shelf: Shelf, one: Path, two: Path
    ) -> None:
        publish(shelf, one, texture="grid", version=1)
        publish(shelf, two, texture="grid", version=2)
        with pytest.raises(PromotionError, match="Version 2 is the champion of 'grid'"):
            shelf.change("grid", lambda old: old.without(2, ""))
        with pytest.raises(PromotionError, match="no version 7 of 'grid' to remove; there is 1, 2"):
            shelf.change("grid", lambda old: old.without(7, ""))
        shelf.change("grid", lambda old: old.without(1, "its data had to go"))
        assert set(names_on(shelf)["grid"]) == {"champion", "2"}
        with pytest.raises(PromotionError, match="numbers are not used again.* as version 3"):
            publish(shelf, one, texture="grid", version=1)

    def test_the_history_tells_every_change_in_order_and_of_refusals_nothing(
        self, shelf: Shelf, one: Path, two: Path
    ) -> None:
        began = time.time()
        publish(shelf, one, texture="grid", version=1)
        publish(shelf, two, texture="grid", version=2)
        shelf.change("grid", lambda old: old.rolled_back("too many alarms"))
        with pytest.raises(PromotionError):
            shelf.change("grid", lambda old: old.without(1, ""))
        shelf.change("grid", lambda old: old.without(2, "its data had to go"))
        lines = pointer_of(shelf, "grid").history
        assert [(line.act, line.version) for line in lines] == [
            ("promoted", 1),
            ("promoted", 2),
            ("rolled_back", 1),
            ("removed", 2),
        ]
        assert lines[2].reason == "Back from version 2: too many alarms"
        assert lines[3].reason == "its data had to go"
        whens = [line.when for line in lines]
        assert whens == sorted(whens)
        assert began - 1 <= whens[0] <= time.time()
        assert all("@" in line.who for line in lines)

    def test_the_history_of_what_is_not_there_is_refused_with_what_is(
        self, shelf: Shelf, one: Path
    ) -> None:
        publish(shelf, one, texture="carpet", version=1)
        with pytest.raises(UnknownDetectorError, match="Did you mean 'carpet'"):
            pointer_of(shelf, "carpt")

    def test_what_no_version_needs_is_collected_once_nobody_can_be_reading_it(
        self, shelf: Shelf, one: Path, two: Path
    ) -> None:
        first = publish(shelf, one, texture="grid", version=1)
        second = publish(shelf, two, texture="grid", version=2)
        assert keeping.collect(shelf, grace_s=0.0) == []
        shelf.change("grid", lambda old: old.without(1, ""))
        assert keeping.collect(shelf) == []
        assert keeping.collect(shelf, grace_s=0.0, dry=True) == [first]
        assert keeping.collect(shelf, grace_s=0.0) == [first]
        assert keeping.collect(shelf, grace_s=0.0) == []
        assert bundle.digest(shelf.fetch("grid")) == second
        assert [each.problem for each in keeping.verify(shelf)] == [""]

    def test_a_version_is_collected_only_when_no_other_is_the_same_bundle(
        self, shelf: Shelf, one: Path
    ) -> None:
        digest = publish(shelf, one, texture="grid", version=1)
        publish(shelf, one, texture="carpet", version=7)
        publish(shelf, one, texture="grid", version=2)
        shelf.change("grid", lambda old: old.without(1, ""))
        assert keeping.collect(shelf, grace_s=0.0) == []
        assert bundle.digest(shelf.fetch("carpet")) == digest

    def test_a_fetched_bundle_outlives_the_one_it_was_made_from(
        self, shelf: Shelf, one: Path
    ) -> None:
        publish(shelf, one, texture="grid", version=1)
        shutil.rmtree(one)
        assert bundle.load(shelf.fetch("grid")).config == {"seed": 1}


@dataclass(kw_only=True)
class Entry:
    """What a log holds of one trial, read back.

    Attributes:
        params: As text.
        curves: By metric, its (step, value) pairs in the order they were reported.
        outcome: None while it has none.
        bundle: The path as text, if there is one.
        facts: Its values as text.
    """

    params: dict[str, str] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    outcome: Outcome | None = None
    bundle: str | None = None
    facts: dict[str, str] = field(default_factory=dict)


class ListLog:
    """A `TrialLog` that is a list of what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.entries: dict[str, Entry] = {}

    def started(self, trial: str, params: Mapping[str, float | int | str]) -> None:
        self.told.append(("started", trial))
        self._entry(trial).params |= {name: str(value) for name, value in params.items()}

    def reported(self, trial: str, step: int, metrics: Mapping[str, float], facts: Facts) -> None:
        self.told.append(("reported", trial))
        for name, value in metrics.items():
            self._entry(trial).curves.setdefault(name, []).append((step, value))
        self._entry(trial).facts |= {name: str(value) for name, value in facts.items()}

    def ended(self, trial: str, outcome: Outcome, bundle: Path | None, facts: Facts) -> None:
        self.told.append(("ended", trial))
        entry = self._entry(trial)
        entry.outcome, entry.bundle = outcome, str(bundle) if bundle else entry.bundle
        entry.facts |= {name: str(value) for name, value in facts.items()}

    def _entry(self, trial: str) -> Entry:
        return self.entries.setdefault(trial, Entry())


Read = Callable[[], Mapping[str, Entry]]


class TrialLogExam:
    """What every record of a search promises.

    The class under test gives the fixtures `log`, empty, and `read`, which reads back by trial.
    """

    def test_it_is_a_trial_log(self, log: TrialLog) -> None:
        assert isinstance(log, TrialLog)

    def test_what_was_told_of_a_trial_is_read_back(
        self, log: TrialLog, read: Read, tmp_path: Path
    ) -> None:
        log.started("a", {"patch": 48, "rate": 1e-4, "norm": "batch", "rotations": True})
        for step in (1, 2, 3):
            log.reported("a", step, {"val_pixel_ap": step / 8, "train_loss": -1.0}, {})
        facts: dict[str, float | str] = {"steps": 3, "node": "here", "cpu_seconds": 1.5}
        log.ended("a", "finished", tmp_path, facts)
        entry = read()["a"]
        params = {"patch": "48", "rate": "0.0001", "norm": "batch", "rotations": "True"}
        assert entry.params == params
        assert entry.curves["val_pixel_ap"] == [(1, 0.125), (2, 0.25), (3, 0.375)]
        assert entry.curves["train_loss"] == [(1, -1.0), (2, -1.0), (3, -1.0)]
        assert (entry.outcome, entry.bundle) == ("finished", str(tmp_path))
        assert entry.facts == {name: str(value) for name, value in facts.items()}

    @pytest.mark.parametrize("outcome", ["finished", "stopped_early", "failed", "interrupted"])
    def test_every_outcome_is_kept_with_or_without_a_bundle(
        self, log: TrialLog, read: Read, outcome: Outcome
    ) -> None:
        log.started("a", {})
        log.ended("a", outcome, None, {})
        assert read() == {"a": Entry(outcome=outcome)}

    def test_what_a_trial_took_is_known_before_it_ends(self, log: TrialLog, read: Read) -> None:
        log.started("a", {})
        for step in (1, 2):
            log.reported("a", step, {"val_pixel_ap": 0.5}, {"steps": step, "cpu_seconds": 2.5})
        assert read()["a"].facts == {"steps": "2", "cpu_seconds": "2.5"}
        assert read()["a"].outcome is None

    def test_trials_side_by_side_are_kept_apart(self, log: TrialLog, read: Read) -> None:
        for trial in ("a", "b"):
            log.started(trial, {"name": trial})
        for step in (1, 2):
            for trial, value in (("a", 0.25), ("b", 0.5)):
                log.reported(trial, step, {"val_pixel_ap": value}, {})
        log.ended("b", "finished", None, {})
        found = read()
        assert {trial: entry.params for trial, entry in found.items()} == {
            "a": {"name": "a"},
            "b": {"name": "b"},
        }
        assert found["a"].curves == {"val_pixel_ap": [(1, 0.25), (2, 0.25)]}
        assert found["b"].curves == {"val_pixel_ap": [(1, 0.5), (2, 0.5)]}
        assert [found["a"].outcome, found["b"].outcome] == [None, "finished"]

    def test_a_trial_that_goes_on_after_an_interruption_is_still_one_trial(
        self, log: TrialLog, read: Read
    ) -> None:
        for step, outcome in ((1, "interrupted"), (2, "finished")):
            log.started("a", {"patch": 48})
            log.reported("a", step, {"val_pixel_ap": step / 4}, {})
            log.ended("a", outcome, None, {})  # type: ignore[arg-type]
        assert read() == {
            "a": Entry(
                params={"patch": "48"},
                curves={"val_pixel_ap": [(1, 0.25), (2, 0.5)]},
                outcome="finished",
            )
        }

    def test_a_figure_that_is_not_a_number_is_taken(self, log: TrialLog, read: Read) -> None:
        log.reported("a", 1, {"train_loss": math.nan}, {})
        [(step, value)] = read()["a"].curves["train_loss"]
        assert step == 1
        assert math.isnan(value)


def flip(path: Path, at: int = -1) -> None:
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


class MethodExam:
    """What every baseline promises; the class under test names it and gives it, as small as works.

    class TestLocalStatistics(MethodExam):
        name = "local_statistics"
        options = {"patch": 9}
    """

    name: str
    options: Mapping[str, object] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def method(cls) -> Method:
        return baselines.named(cls.name)(**cls.options)

    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls, method: Method, tiny_materials: recipe.Materials) -> Bundle:
        return recipe.baseline(tiny_materials, method, name=cls.name, scale=1.0)

    def test_a_hole_is_more_anomalous_than_the_texture_around_it(
        self, fitted: Bundle, tiny_materials: recipe.Materials
    ) -> None:
        detector = Detector(fitted)
        good = tiny_materials.splits.calibration[0].pixels
        holed = good.copy()
        holed[20:40, 30:52] = 20
        found = detector.score(holed)
        assert found.map.shape == good.shape[:2]
        assert np.isfinite(found.map).all()
        inside = found.map[24:36, 34:48].mean()
        assert inside > found.map[:, :16].mean()
        assert found.score > detector.score(good).score

    def test_losses_are_as_large_as_the_image_whatever_its_shape(
        self, fitted: Bundle, method: Method
    ) -> None:
        for height, width in ((method.patch, method.patch + 13), (61, 47)):
            pixels = np.random.default_rng(0).integers(0, 256, (height, width, 1), dtype=np.uint8)
            losses = Detector(fitted).losses(pixels)
            assert losses.shape[1:] == (height, width)

    def test_saved_and_loaded_it_scores_the_same(
        self, fitted: Bundle, tiny_materials: recipe.Materials, tmp_path: Path
    ) -> None:
        bundle.save(fitted, tmp_path)
        again = bundle.load(tmp_path)
        assert again.method == self.name
        pixels = tiny_materials.splits.val[0].pixels
        one, other = (Detector(each).score(pixels) for each in (fitted, again))
        assert (one.map == other.map).all()
        assert one.score == other.score

    def test_the_same_seed_and_pictures_give_the_same_detector(
        self, fitted: Bundle, method: Method, tiny_materials: recipe.Materials
    ) -> None:
        again = recipe.baseline(tiny_materials, method, name=self.name, scale=1.0)
        assert fitted.weights.keys() == again.weights.keys()
        assert len(fitted.weights) > 0
        for key, tensor in fitted.weights.items():
            assert torch.equal(tensor, again.weights[key]), key

    def test_colour_is_seen(self, method: Method) -> None:
        generator = torch.Generator().manual_seed(0)
        images = [torch.rand(3, 64, 72, generator=generator) * 0.2 - 0.1 for _ in range(3)]
        ready = method.ready(method.fit(images, generator=generator))
        reddened = images[0].clone()
        reddened[0, 20:44, 20:52] = 0.9
        reddened[1:, 20:44, 20:52] = -0.9
        losses = ready(reddened)
        assert losses.shape[1:] == (64, 72)
        assert (losses[:, 26:38, 28:44].mean((1, 2)) > losses[:, :, :8].mean((1, 2))).any()

    def test_an_image_smaller_than_a_patch_is_refused_in_training_and_in_scoring(
        self, fitted: Bundle, method: Method, tiny_materials: recipe.Materials
    ) -> None:
        small = method.patch - 1
        with pytest.raises(BadImageError, match=f"{small}x70"):
            Detector(fitted).score(np.zeros((small, 70), np.uint8))
        scale = small / 64  # the drawn pictures have 64 rows
        with pytest.raises(BadImageError, match=f"a patch of {method.patch}"):
            recipe.baseline(tiny_materials, method, name=self.name, scale=scale)
