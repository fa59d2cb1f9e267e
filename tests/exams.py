"""One exam (a class of tests) for each protocol; a subclass of three lines tests an implementation.

    class TestFolderShelf(ShelfExam):
        @pytest.fixture
        def shelf(self, tmp_path): return FolderShelf(tmp_path / "shelf")

An exam tests only what the protocol promises. The rest of an implementation has its own tests.
A shelf that is read-only passes `ShelfReadingExam`, with a `writer` beside it.
"""

from __future__ import annotations

import math
import re
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from registry import bundle, maintenance, pointer
from registry.bundle import Bundle
from registry.pointer import Edit, Pointer
from registry.shelf import Shelf, names_on, pointer_of
from registry.starters import ReadableShelf
from registry.trials import Outcome, TrialUsage
from zoo.errors import (
    BundleError,
    ConfigError,
    PromotionError,
    UnknownDetectorError,
    visible,
)
from zoo.search.config import TrialLog

UNUSUAL = ("wood (2)", "50% wool", "it's", "caf\u00e9", ".", "-\u6728_#?")  # names of textures


class Writer(Protocol):
    """What publishes on the shelf that a reader reads."""

    def change(self, texture: str, edit: Edit, *, folder: Path | None = None) -> Pointer:
        """Do what `Shelf.change` does."""


def drawn_bundle(folder: Path, *, texture: str = "grid", seed: int = 0) -> Path:
    """Save a small bundle that holds only random numbers."""
    weights = {"w": np.random.default_rng(seed).normal(size=(3, 5)).astype(np.float32)}
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
    shelf: Writer, folder: Path, *, texture: str, version: int, alias: str | None = pointer.CHAMPION
) -> str:
    """Publish a bundle on a shelf without a gate, and return its digest."""
    digest = bundle.digest(folder)
    entry = pointer.Entry(act="promoted", version=version)
    shelf.change(texture, lambda old: old.with_version(digest, alias, entry), folder=folder)
    return digest


class ShelfReadingExam:
    """Tests of the protocol of shelves that are read.

    The subclass gives the fixtures `writer`, which publishes, and `shelf`, which reads it.
    """

    @pytest.fixture
    def one(self, tmp_path: Path) -> Path:
        return drawn_bundle(tmp_path / "one", seed=1)

    @pytest.fixture
    def two(self, tmp_path: Path) -> Path:
        return drawn_bundle(tmp_path / "two", seed=2)

    def test_what_was_published_is_fetched_byte_for_byte(
        self, writer: Writer, shelf: ReadableShelf, one: Path
    ) -> None:
        digest = publish(writer, one, texture="grid", version=1)
        fetched = shelf.fetch("grid")
        assert fetched != one
        assert digest == bundle.digest(one) == bundle.digest(fetched)
        assert sorted(path.name for path in fetched.iterdir()) == sorted(
            path.name for path in one.iterdir()
        )

    def test_alias_version_and_digest_each_name_a_detector(
        self, writer: Writer, shelf: ReadableShelf, one: Path, two: Path
    ) -> None:
        first = publish(writer, one, texture="grid", version=1)
        second = publish(writer, two, texture="grid", version=2, alias="challenger")
        found = {
            name: bundle.digest(shelf.fetch(name))
            for name in ("grid", "grid@champion", "grid:1", "grid@challenger", "grid:2")
        }
        assert list(found.values()) == [first, first, first, second, second]
        assert bundle.digest(shelf.fetch(f"grid@sha256:{second}")) == second
        versions = [shelf.resolve(name)[1] for name in (*found, f"grid@sha256:{second}")]
        assert versions == [1, 1, 1, 2, 2, 2]
        assert names_on(shelf) == {
            "grid": {"champion": first, "challenger": second, "1": first, "2": second}
        }

    def test_a_new_champion_takes_the_place_and_the_old_version_stays(
        self, writer: Writer, shelf: ReadableShelf, one: Path, two: Path
    ) -> None:
        first = publish(writer, one, texture="grid", version=1)
        second = publish(writer, two, texture="grid", version=2)
        assert bundle.digest(shelf.fetch("grid")) == second
        assert bundle.digest(shelf.fetch("grid:1")) == first

    def test_a_version_without_an_alias_leaves_the_champion_alone(
        self, writer: Writer, shelf: ReadableShelf, one: Path, two: Path
    ) -> None:
        first = publish(writer, one, texture="grid", version=1)
        publish(writer, two, texture="grid", version=2, alias=None)
        assert bundle.digest(shelf.fetch("grid")) == first

    def test_an_unknown_texture_is_refused_with_those_there_are(
        self, writer: Writer, shelf: ReadableShelf, one: Path
    ) -> None:
        for texture in ("wood", "carpet", "leather"):
            publish(writer, one, texture=texture, version=1)
        with pytest.raises(
            UnknownDetectorError,
            match="No detector 'carpt' on the shelf .*; it has carpet, leather, wood. "
            r"Did you mean 'carpet'\?",
        ):
            shelf.fetch("carpt")

    @pytest.mark.parametrize("name", ["grid@challengr", "grid:9", "grid@sha256:00", "grid@"])
    def test_an_unknown_alias_version_or_digest_is_refused_with_those_there_are(
        self, writer: Writer, shelf: ReadableShelf, one: Path, two: Path, name: str
    ) -> None:
        publish(writer, one, texture="grid", version=1)
        publish(writer, two, texture="grid", version=2, alias="challenger")
        with pytest.raises(
            UnknownDetectorError,
            match=f"No detector '{name}' .* grid@challenger, grid@champion, grid:1, grid:2",
        ):
            shelf.fetch(name)

    @pytest.mark.parametrize("name", ["", "../grid", "@champion", "a/b"])
    def test_what_cannot_be_a_name_is_refused_with_what_can(
        self, writer: Writer, shelf: ReadableShelf, name: str
    ) -> None:
        with pytest.raises(UnknownDetectorError, match=f"'{name}' is no .*TEXTURE@ALIAS"):
            shelf.fetch(name)

    @pytest.mark.parametrize("texture", UNUSUAL)
    def test_a_texture_may_have_any_name_that_a_folder_has(
        self, writer: Writer, shelf: ReadableShelf, one: Path, texture: str
    ) -> None:
        digest = publish(writer, one, texture=texture, version=1)
        assert shelf.textures() == [texture]
        assert list(shelf.pointers()) == [texture]
        assert bundle.digest(shelf.fetch(f"{texture}:1")) == digest

    def test_an_accent_written_apart_is_the_same_name(
        self, writer: Writer, shelf: ReadableShelf, one: Path
    ) -> None:
        publish(writer, one, texture="cafe\u0301", version=1)
        assert shelf.textures() == ["caf\u00e9"]
        assert shelf.fetch("cafe\u0301") == shelf.fetch("caf\u00e9")

    def test_the_champion_before_is_previous_and_a_rollback_changes_them_over(
        self, writer: Writer, shelf: ReadableShelf, one: Path, two: Path
    ) -> None:
        first = publish(writer, one, texture="grid", version=1)
        second = publish(writer, two, texture="grid", version=2)
        assert bundle.digest(shelf.fetch("grid@previous")) == first
        writer.change("grid", lambda old: old.rolled_back("a test"))
        served = {name: bundle.digest(shelf.fetch(name)) for name in ("grid", "grid@previous")}
        assert served == {"grid": first, "grid@previous": second}
        writer.change("grid", lambda old: old.rolled_back(""))
        assert bundle.digest(shelf.fetch("grid")) == second

    def test_the_history_of_what_is_not_there_is_refused_with_what_is(
        self, writer: Writer, shelf: ReadableShelf, one: Path
    ) -> None:
        publish(writer, one, texture="carpet", version=1)
        with pytest.raises(UnknownDetectorError, match="Did you mean 'carpet'"):
            pointer_of(shelf, "carpt")

    def test_a_fetched_bundle_outlives_the_one_it_was_made_from(
        self, writer: Writer, shelf: ReadableShelf, one: Path
    ) -> None:
        publish(writer, one, texture="grid", version=1)
        shutil.rmtree(one)
        assert bundle.load(shelf.fetch("grid")).config == {"seed": 1}

    def test_a_version_that_was_removed_is_gone(
        self, writer: Writer, shelf: ReadableShelf, one: Path, two: Path
    ) -> None:
        publish(writer, one, texture="grid", version=1)
        publish(writer, two, texture="grid", version=2)
        assert bundle.digest(shelf.fetch("grid:1"))
        writer.change("grid", lambda old: old.without(1, "its data had to go"))
        assert set(names_on(shelf)["grid"]) == {"champion", "2"}
        with pytest.raises(UnknownDetectorError, match="No detector 'grid:1'"):
            shelf.fetch("grid:1")


class ShelfExam(ShelfReadingExam):
    """Tests of the protocol of shelves. The subclass gives the fixture `shelf`, an empty shelf."""

    @pytest.fixture
    def writer(self, shelf: Shelf) -> Writer:
        return shelf

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

    @pytest.mark.parametrize("texture", UNUSUAL)
    def test_asking_whether_a_texture_can_be_published_changes_nothing(
        self, shelf: Shelf, texture: str
    ) -> None:
        shelf.check_writable(texture)
        assert shelf.textures() == []

    @pytest.mark.parametrize("texture", ["a/b", "a:b", "a@b", 'a"b', "a\nb", ""])
    def test_a_texture_whose_name_cannot_be_asked_for_is_not_published(
        self, shelf: Shelf, one: Path, texture: str
    ) -> None:
        shown = re.escape(visible(texture))
        with pytest.raises(ConfigError, match=f"'{shown}' cannot name a texture"):
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
        entries = pointer_of(shelf, "grid").history
        assert [(entry.act, entry.version) for entry in entries] == [
            ("promoted", 1),
            ("promoted", 2),
            ("rolled_back", 1),
            ("removed", 2),
        ]
        assert entries[2].reason == "Back from version 2: too many alarms"
        assert entries[3].reason == "its data had to go"
        whens = [entry.when for entry in entries]
        assert whens == sorted(whens)
        assert began - 1 <= whens[0] <= time.time()
        assert all("@" in entry.who for entry in entries)

    def test_what_no_version_needs_is_collected_once_no_reader_can_use_it(
        self, shelf: Shelf, one: Path, two: Path
    ) -> None:
        first = publish(shelf, one, texture="grid", version=1)
        second = publish(shelf, two, texture="grid", version=2)
        assert maintenance.collect(shelf, grace_s=0.0) == []
        shelf.change("grid", lambda old: old.without(1, ""))
        assert maintenance.collect(shelf) == []
        assert maintenance.collect(shelf, grace_s=0.0, dry=True) == [first]
        assert maintenance.collect(shelf, grace_s=0.0) == [first]
        assert maintenance.collect(shelf, grace_s=0.0) == []
        assert bundle.digest(shelf.fetch("grid")) == second
        assert [each.problem for each in maintenance.verify(shelf)] == [""]

    def test_a_version_is_collected_only_when_no_other_is_the_same_bundle(
        self, shelf: Shelf, one: Path
    ) -> None:
        digest = publish(shelf, one, texture="grid", version=1)
        publish(shelf, one, texture="carpet", version=7)
        publish(shelf, one, texture="grid", version=2)
        shelf.change("grid", lambda old: old.without(1, ""))
        assert maintenance.collect(shelf, grace_s=0.0) == []
        assert bundle.digest(shelf.fetch("carpet")) == digest


@dataclass(kw_only=True)
class Entry:
    """The entry of one trial in a log, read back.

    Attributes:
        params: Values as text.
        curves: For each metric the (step, value) pairs in the order of the reports.
        outcome: None while there is no outcome.
        bundle: The path as text, if there is one.
        usage: Values as text.
    """

    params: dict[str, str] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    outcome: Outcome | None = None
    bundle: str | None = None
    usage: dict[str, str] = field(default_factory=dict)


class ListLog:
    """A `TrialLog` in memory: the calls in their order, and the entry of each trial."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.entries: dict[str, Entry] = {}

    def started(self, trial: str, params: Mapping[str, float | int | str]) -> None:
        self.calls.append(("started", trial))
        self._entry(trial).params |= {name: str(value) for name, value in params.items()}

    def reported(
        self, trial: str, step: int, metrics: Mapping[str, float], usage: TrialUsage
    ) -> None:
        self.calls.append(("reported", trial))
        for name, value in metrics.items():
            self._entry(trial).curves.setdefault(name, []).append((step, value))
        self._entry(trial).usage |= {name: str(value) for name, value in usage.items()}

    def ended(self, trial: str, outcome: Outcome, bundle: Path | None, usage: TrialUsage) -> None:
        self.calls.append(("ended", trial))
        entry = self._entry(trial)
        entry.outcome, entry.bundle = outcome, str(bundle) if bundle else entry.bundle
        entry.usage |= {name: str(value) for name, value in usage.items()}

    def _entry(self, trial: str) -> Entry:
        return self.entries.setdefault(trial, Entry())


Read = Callable[[], Mapping[str, Entry]]


class TrialLogExam:
    """Tests of the protocol `TrialLog`.

    The subclass gives the fixtures `log`, an empty log, and `read`, which returns its entries by
    trial.
    """

    def test_it_is_a_trial_log(self, log: TrialLog) -> None:
        assert isinstance(log, TrialLog)

    def test_what_is_reported_of_a_trial_is_read_back(
        self, log: TrialLog, read: Read, tmp_path: Path
    ) -> None:
        log.started("a", {"patch": 48, "rate": 1e-4, "norm": "batch", "rotations": True})
        for step in (1, 2, 3):
            log.reported("a", step, {"val_pixel_ap": step / 8, "train_loss": -1.0}, {})
        usage: dict[str, float | str] = {"steps": 3, "node": "here", "cpu_seconds": 1.5}
        log.ended("a", "finished", tmp_path, usage)
        entry = read()["a"]
        params = {"patch": "48", "rate": "0.0001", "norm": "batch", "rotations": "True"}
        assert entry.params == params
        assert entry.curves["val_pixel_ap"] == [(1, 0.125), (2, 0.25), (3, 0.375)]
        assert entry.curves["train_loss"] == [(1, -1.0), (2, -1.0), (3, -1.0)]
        assert (entry.outcome, entry.bundle) == ("finished", str(tmp_path))
        assert entry.usage == {name: str(value) for name, value in usage.items()}

    @pytest.mark.parametrize("outcome", ["finished", "stopped_early", "failed", "interrupted"])
    def test_every_outcome_is_kept_with_or_without_a_bundle(
        self, log: TrialLog, read: Read, outcome: Outcome
    ) -> None:
        log.started("a", {})
        log.ended("a", outcome, None, {})
        assert read() == {"a": Entry(outcome=outcome)}

    def test_what_a_trial_has_used_is_known_before_it_ends(self, log: TrialLog, read: Read) -> None:
        log.started("a", {})
        for step in (1, 2):
            log.reported("a", step, {"val_pixel_ap": 0.5}, {"steps": step, "cpu_seconds": 2.5})
        assert read()["a"].usage == {"steps": "2", "cpu_seconds": "2.5"}
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
