"""The detectors of the service: loaded once, bounded in number, and followed to new champions."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry.folder_shelf import FolderShelf
from tests.serve.services import pictures, promote, settings, shelf_with
from zoo.errors import ConfigError, RefusedError, UnknownDetectorError
from zoo.serve.pool import Pool

if TYPE_CHECKING:
    from registry.bundle import Bundle
    from zoo.training.fit import Checkpoint


@pytest.fixture(scope="module")
def bundles(tiny_checkpoints: Sequence[Checkpoint]) -> list[Bundle]:
    """Two detectors that score differently."""
    first, last = tiny_checkpoints[0].bundle, tiny_checkpoints[-1].bundle
    assert first is not last
    return [first, last]


def test_a_name_and_its_alias_share_one_detector(tmp_path: Path, bundles: list[Bundle]) -> None:
    shelf_with(tmp_path, bundles)
    pool = Pool(settings(tmp_path))
    served = [pool.served(name) for name in ("weave", "weave@champion", "weave:2")]
    assert len({id(each.detector) for each in served}) == 1
    assert {each.version for each in served} == {2}
    before = pool.served("weave@previous")
    assert (before.version, before.detector is served[0].detector) == (1, False)


def test_many_threads_load_a_detector_once(tmp_path: Path, bundles: list[Bundle]) -> None:
    shelf_with(tmp_path, bundles)
    pool = Pool(settings(tmp_path))
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(pool.served, ["weave"] * 16))
    assert len({id(each.detector) for each in found}) == 1


def test_a_new_champion_answers_after_a_refresh(tmp_path: Path, bundles: list[Bundle]) -> None:
    shelf_with(tmp_path, bundles[:1])
    pool = Pool(settings(tmp_path))
    before = pool.served("weave")
    digest = promote(tmp_path, bundles[1], version=2)
    assert pool.served("weave") is before, "until it looks again"
    pool.refresh()
    now = pool.served("weave")
    assert (now.version, now.digest) == (2, digest)
    assert before.digest != digest
    content = pictures(1)[0]
    assert now.detector is not None
    assert before.detector is not None
    assert now.detector.score(content).score != before.detector.score(content).score
    pool.refresh()
    assert pool.served("weave") is now, "what has not changed is not loaded again"


def test_a_broken_new_champion_leaves_the_old_one_and_is_told_once(
    tmp_path: Path, bundles: list[Bundle], caplog: pytest.LogCaptureFixture
) -> None:
    shelf_with(tmp_path, bundles[:1])
    pool = Pool(settings(tmp_path))
    before = pool.served("weave")
    promote(tmp_path, replace(bundles[1], method="unknown_method"), version=2)
    for _ in range(3):
        pool.refresh()
    assert pool.served("weave") is before
    assert "made by method 'unknown_method'" in pool.broken()["weave"]
    assert caplog.text.count("'weave' cannot be loaded") == 1
    promote(tmp_path, bundles[1], version=3)
    pool.refresh()
    assert pool.served("weave").version == 3
    assert pool.broken() == {}


def test_a_rollback_to_what_still_answers_leaves_nothing_broken(
    tmp_path: Path, bundles: list[Bundle]
) -> None:
    shelf = shelf_with(tmp_path, bundles[:1])
    pool = Pool(settings(tmp_path))
    before = pool.served("weave")
    promote(tmp_path, replace(bundles[1], method="unknown_method"), version=2)
    pool.refresh()
    assert pool.broken()
    shelf.change("weave", lambda old: old.rolled_back("it cannot be loaded"))
    pool.refresh()
    assert pool.broken() == {}
    assert pool.served("weave") is before


def test_a_detector_whose_scores_are_not_finite_never_answers(
    tmp_path: Path, bundles: list[Bundle]
) -> None:
    shelf_with(tmp_path, bundles[:1])
    pool = Pool(settings(tmp_path))
    pool.refresh()
    calibration = dict(bundles[1].calibration)
    calibration["mean"] = [1e12] * len(calibration["mean"])
    calibration["covariance"] = [
        [1e-30 * (row == column) for column in range(len(calibration["mean"]))]
        for row in range(len(calibration["mean"]))
    ]
    promote(tmp_path, replace(bundles[1], calibration=calibration), version=2)
    pool.refresh()
    assert pool.served("weave").version == 1
    assert pool.broken()


def test_the_number_in_memory_is_bounded_and_the_oldest_goes(
    tmp_path: Path, tiny_bundle: Bundle
) -> None:
    names = ["a", "b", "c"]
    for at, name in enumerate(names):  # three digests
        made = replace(tiny_bundle, data=dict(tiny_bundle.data) | {"number": at})
        shelf_with(tmp_path, [made], texture=name)
    pool = Pool(settings(tmp_path, most_detectors=2))
    pool.refresh()
    assert [each.name for each in pool.loaded()] == ["a", "b"], "the champions, as many as fit"
    kept = pool.served("a")
    pool.served("c")
    assert {each.name for each in pool.loaded()} == {"a", "c"}
    assert pool.served("a") is kept
    pool.refresh()
    assert {each.name for each in pool.loaded()} == {"a", "c"}, "a refresh does not bring it back"
    assert pool.served("b").name == "b"


def test_what_the_shelf_has_no_longer_is_answered_for_no_longer(
    tmp_path: Path, bundles: list[Bundle], caplog: pytest.LogCaptureFixture
) -> None:
    shelf_with(tmp_path, bundles)
    shelf_with(tmp_path, bundles[:1], texture="other")
    pool = Pool(settings(tmp_path))
    pool.served("weave:1")
    FolderShelf(tmp_path / "shelf").change("weave", lambda old: old.without(1, ""))
    pool.refresh()
    with pytest.raises(UnknownDetectorError, match="No detector 'weave:1'"):
        pool.served("weave:1")
    assert "'weave:1' is no longer answered for" in caplog.text
    assert pool.served("weave").version == 2


def test_a_shelf_that_is_gone_leaves_all_as_it_was(
    tmp_path: Path, bundles: list[Bundle], caplog: pytest.LogCaptureFixture
) -> None:
    shelf_with(tmp_path, bundles)
    pool = Pool(settings(tmp_path))
    before = pool.served("weave")
    shutil.move(tmp_path / "shelf", tmp_path / "elsewhere")
    pool.refresh()
    assert pool.served("weave") is before
    assert "The shelf cannot be read, and its last state is used" in caplog.text
    shutil.move(tmp_path / "elsewhere", tmp_path / "shelf")
    promote(tmp_path, bundles[0], version=3)
    pool.refresh()
    assert pool.served("weave").version == 3


def test_a_damaged_pointer_leaves_its_texture_as_it_was(
    tmp_path: Path, bundles: list[Bundle], caplog: pytest.LogCaptureFixture
) -> None:
    shelf_with(tmp_path, bundles)
    shelf_with(tmp_path, bundles[:1], texture="other")
    pool = Pool(settings(tmp_path))
    before = pool.served("weave")
    (tmp_path / "shelf" / "textures" / "weave.json").write_text("{")
    promote(tmp_path, replace(bundles[1], texture="other"), version=2)
    pool.refresh()
    assert pool.served("weave") is before
    assert pool.served("other").version == 2
    assert "The pointer of 'weave' cannot be read" in caplog.text


def test_only_the_names_of_the_settings_are_answered_for(
    tmp_path: Path, bundles: list[Bundle]
) -> None:
    shelf_with(tmp_path, bundles)
    pool = Pool(settings(tmp_path, names=("weave:1",)))
    assert pool.names() == ["weave:1"]
    assert pool.served("weave:1").version == 1
    with pytest.raises(UnknownDetectorError, match="No detector 'weave' here; there are weave:1"):
        pool.served("weave")
    with pytest.raises(UnknownDetectorError, match="No detector 'waeve' here; there are weave"):
        Pool(settings(tmp_path, names=("waeve",)))


@pytest.mark.parametrize("name", ["", "../weave", "/etc/passwd", "w\0", "w" * 400, "weave@", "@"])
def test_what_is_no_name_is_refused(tmp_path: Path, bundles: list[Bundle], name: str) -> None:
    shelf_with(tmp_path, bundles)
    pool = Pool(settings(tmp_path))
    with pytest.raises(UnknownDetectorError):
        pool.served(name)
    with pytest.raises(UnknownDetectorError):
        pool.pointer(name)


def test_a_damaged_bundle_is_refused_until_it_is_whole(
    tmp_path: Path, bundles: list[Bundle]
) -> None:
    shelf = shelf_with(tmp_path, bundles)
    weights = shelf.fetch("weave:1") / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    pool = Pool(settings(tmp_path))
    with pytest.raises(RefusedError, match="'weave:1' cannot be loaded now") as refused:
        pool.served("weave:1")
    assert (refused.value.status, refused.value.code) == (503, "not_loaded")
    weights.write_bytes(whole)
    assert pool.served("weave:1").version == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"most_detectors": 0}, "most_detectors must be a whole number above 0, not 0"),
        ({"wait_s": 0.0}, "wait_s must be a number above 0"),
        ({"body_s": float("inf")}, "body_s must be a number above 0"),
        ({"most_megapixels": 300.0}, "most_megapixels is 300"),
        ({"names": ("a", "b", "c"), "most_detectors": 2}, "3 detectors are named"),
        ({"keep": "marked"}, "there is no journal"),
    ],
)
def test_settings_out_of_range_are_refused(
    tmp_path: Path, wrong: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        settings(tmp_path, **wrong)
