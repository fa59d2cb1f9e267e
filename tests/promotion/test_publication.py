"""Publication in MLflow and on the shelf: crashes in between, two at once, rollback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from registry import bundle
from registry.bundle import Bundle
from registry.folder_shelf import FolderShelf
from registry.pointer import Edit
from registry.runs.search_runs import SearchRuns
from registry.runs.store import open_store
from registry.shelf import names_on, pointer_of
from registry.trials import AUDIT_LOG
from tests.promotion.home import Home
from zoo.errors import PromotionError, StorageError
from zoo.promotion import Registry, roll_back


def test_the_version_in_mlflow_holds_the_two_files_and_the_reason(home: Home, made: Bundle) -> None:
    promotion = home.promote(home.saved(made))
    version = home.client.get_model_version_by_alias("texture-mesh", "champion")
    assert version.tags["zoo.reason"] == promotion.decision.reason
    assert version.tags["zoo.digest"] == promotion.digest
    assert version.tags["zoo.verdict"] == "promoted"
    kept = Path(str(version.source).removeprefix("file://"))
    assert bundle.digest(kept) == promotion.digest
    assert len(list(kept.iterdir())) == 2
    run = home.client.get_run(str(version.run_id))
    assert run.info.status == "FINISHED"
    assert run.data.metrics == pytest.approx(dict(promotion.metrics))


def test_the_audit_is_noted_at_the_run_of_the_search(home: Home, made: Bundle) -> None:
    runs = SearchRuns(open_store(home.uri), search="s", texture="mesh", params={})
    promotion = home.promote(home.saved(made), origin=home.origin(runs.run_id))
    data = home.client.get_run(runs.run_id).data
    assert data.metrics == pytest.approx(dict(promotion.metrics))
    assert data.tags["zoo.reason"] == promotion.decision.reason
    version = home.client.get_model_version_by_alias("texture-mesh", "champion")
    assert version.run_id == runs.run_id


def test_what_is_said_of_each_test_picture_is_in_the_home_and_at_the_run(
    home: Home, made: Bundle
) -> None:
    folder = home.saved(made)
    home.promote(folder)
    log = home.folder / "audited" / bundle.digest(folder) / AUDIT_LOG
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    pictures = sorted((home.pictures / "test").rglob("*.png"))
    assert [home.pictures / line["image"] for line in lines] == pictures
    version = home.client.get_model_version_by_alias("texture-mesh", "champion")
    kept = home.client.download_artifacts(str(version.run_id), f"audit/{AUDIT_LOG}")
    assert Path(kept).read_bytes() == log.read_bytes()
    assert any(str(log) in line for line in home.said)
    assert any("of 4 defective; lowest: test/hole/" in line for line in home.said)


def test_artifacts_that_cannot_be_stored_are_reported_and_a_repeat_stores_them(
    home: Home, made: Bundle
) -> None:
    folder = home.saved(made)
    (home.folder / "mlartifacts").write_text("in the way")
    with pytest.raises(StorageError, match="Cannot write to the MLflow store"):
        home.promote(folder)
    assert names_on(home.shelf) == {}
    (home.folder / "mlartifacts").unlink()
    home.spoil_the_test_images()
    home.promote(folder)
    version = home.client.get_model_version_by_alias("texture-mesh", "champion")
    [kept] = home.client.list_artifacts(str(version.run_id), "audit")
    assert kept.path == f"audit/{AUDIT_LOG}"


def test_the_history_has_each_promotion_with_its_figures_and_its_run(
    home: Home, made: Bundle, worse: Bundle
) -> None:
    first = home.promote(home.saved(made))
    second = home.promote(home.saved(worse))
    decision = second.decision
    lines = pointer_of(home.shelf, "mesh").history
    assert [(line.act, line.version) for line in lines] == [("promoted", 1), ("refused", 2)]
    assert [line.reason for line in lines] == [first.decision.reason, decision.reason]
    assert lines[0].figures["test_pixel_ap"] == first.metrics["test_pixel_ap"]
    assert lines[1].figures["val_pixel_ap"] == decision.challenger_ap
    assert lines[1].figures["champion_val_pixel_ap"] == decision.champion_ap
    for line in lines:
        assert line.run is not None
        assert home.client.get_run(line.run).data.tags["zoo.verdict"] == line.act


def test_a_rollback_moves_the_shelf_and_mlflows_alias_and_a_second_undoes_it(
    home: Home, made: Bundle, worse: Bundle
) -> None:
    first = home.promote(home.saved(worse), because="it is a start")
    second = home.promote(home.saved(made))
    for digest, version in ((first.digest, 1), (second.digest, 2)):
        roll_back("mesh", registry=home.registry, because="a test", say=home.said.append)
        assert (home.served(), home.alias("champion")) == (digest, version)


def test_a_rollback_needs_no_mlflow(home: Home, made: Bundle, worse: Bundle) -> None:
    first = home.promote(home.saved(worse), because="it is a start")
    home.promote(home.saved(made))
    nowhere = Registry(shelf=home.shelf, tracking_uri=f"sqlite:///{home.folder}/no/where/x.db")
    (home.folder / "no").write_text("in the way")
    roll_back("mesh", registry=nowhere, because="", say=home.said.append)
    assert home.served() == first.digest
    assert "The shelf has changed; MLflow's alias has not" in home.said[-1]


def test_of_two_promotions_at_once_one_wins_and_the_other_is_reported(
    home: Home, made: Bundle, worse: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    rival, change = home.saved(worse), FolderShelf.change

    def late(shelf: FolderShelf, texture: str, edit: Edit, *, folder: Path | None = None) -> Any:
        """Let the rival be first, at the last moment."""
        monkeypatch.setattr(FolderShelf, "change", change)
        home.promote(rival, because="it was quicker")
        return shelf.change(texture, edit, folder=folder)

    monkeypatch.setattr(FolderShelf, "change", late)
    with pytest.raises(PromotionError, match="Another detector became the champion of 'mesh'"):
        home.promote(home.saved(made))
    assert [line.act for line in pointer_of(home.shelf, "mesh").history] == ["forced"]
    assert home.promote(home.saved(made)).decision.promoted


def test_a_refused_challenger_tried_again_makes_no_second_version(
    home: Home, made: Bundle, worse: Bundle
) -> None:
    home.promote(home.saved(made))
    folder = home.saved(worse)
    first, second = home.promote(folder), home.promote(folder)
    assert first == second
    assert len(home.client.search_model_versions("name = 'texture-mesh'")) == 2


def test_a_shelf_that_fails_leaves_no_alias_and_a_repeat_finishes_without_a_second_audit(
    home: Home, made: Bundle
) -> None:
    folder = home.saved(made)
    (home.folder / "shelf").mkdir()
    (home.folder / "shelf" / "objects").write_text("in the way")
    with pytest.raises(StorageError, match="Cannot publish 'mesh'"):
        home.promote(folder)
    assert home.alias("champion") is None
    (home.folder / "shelf" / "objects").unlink()
    home.spoil_the_test_images()
    promotion = home.promote(folder)
    assert promotion.decision.promoted
    assert "test_pixel_ap" in promotion.metrics
    assert (home.alias("champion"), promotion.version) == (1, 1)
    assert len(home.client.search_model_versions("name = 'texture-mesh'")) == 1


def test_a_crash_before_the_alias_is_mended_by_the_same_command(home: Home, made: Bundle) -> None:
    folder = home.saved(made)
    home.promote(folder)
    home.client.delete_registered_model_alias("texture-mesh", "champion")
    assert home.alias("champion") is None
    assert "already the champion" in home.promote(folder).decision.reason
    assert home.alias("champion") == 1


def test_a_new_mlflow_beside_an_old_shelf_takes_the_next_free_version(
    home: Home, made: Bundle, worse: Bundle
) -> None:
    old = home.promote(home.saved(worse))
    home.take_a_new_mlflow("another.db")
    promotion = home.promote(home.saved(made))
    assert (promotion.decision.promoted, promotion.version, home.alias("champion")) == (True, 2, 1)
    version = home.client.get_model_version_by_alias("texture-mesh", "champion")
    assert version.tags["zoo.shelf_version"] == "2"
    assert (home.served("mesh:1"), home.served()) == (old.digest, promotion.digest)


def test_an_unknown_run_is_reported_with_the_store(home: Home, made: Bundle) -> None:
    with pytest.raises(StorageError, match=rf"{home.uri}.*nowhere"):
        home.promote(home.saved(made), origin=home.origin("nowhere"))
    assert names_on(home.shelf) == {}
