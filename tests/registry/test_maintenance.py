"""Verification of a shelf, and removal of what no version needs."""

from __future__ import annotations

import shutil
from pathlib import Path

import boto3
import pytest

from registry import bundle, maintenance
from registry.folder_shelf import FolderShelf
from registry.pointer import Entry, Pointer
from registry.s3_shelf import S3Shelf
from registry.shelf import pointer_of
from tests.exams import drawn_bundle, flip, publish
from zoo.cli import main
from zoo.errors import BundleError


def test_verifying_names_each_version_that_is_damaged_or_missing(tmp_path: Path) -> None:
    shelf = FolderShelf(tmp_path / "shelf")
    digests = [
        publish(shelf, drawn_bundle(tmp_path / str(n), seed=n), texture="grid", version=n)
        for n in (1, 2, 3)
    ]
    flip(tmp_path / "shelf" / "objects" / digests[0] / bundle.WEIGHTS)
    shutil.rmtree(tmp_path / "shelf" / "objects" / digests[2])
    found = {each.version: each.problem for each in maintenance.verify(shelf)}
    assert "is damaged" in found[1]
    assert found[2] == ""
    assert "is missing" in found[3]


def test_a_damaged_pointer_is_reported_and_stops_no_other_texture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf, one = FolderShelf(tmp_path), drawn_bundle(tmp_path / "b")
    for texture in ("carpet", "grid"):
        publish(shelf, one, texture=texture, version=1)
    (tmp_path / "textures" / "carpet.json").write_text('{"texture": "carpet"')
    publish(shelf, one, texture="grid", version=2)
    assert shelf.fetch("grid:2").is_dir()
    assert len(pointer_of(shelf, "grid").history) == 2
    with pytest.raises(BundleError, match="carpet.json is damaged"):
        pointer_of(shelf, "carpet")
    monkeypatch.setenv("ZOO_SHELF", str(tmp_path))
    with pytest.raises(SystemExit):
        main(["shelf", "verify"])
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()] == ["carpet", "grid:1", "grid:2"]
    assert "1 of 3 versions or pointers are damaged" in printed.err


def test_a_damaged_pointer_lets_nothing_be_collected(tmp_path: Path) -> None:
    shelf = FolderShelf(tmp_path / "shelf")
    digest = publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    (tmp_path / "shelf" / "textures" / "grid.json").write_bytes(b"{")
    with pytest.raises(BundleError, match=r"The pointer .*grid\.json is damaged"):
        maintenance.collect(shelf, grace_s=0.0)
    assert (tmp_path / "shelf" / "objects" / digest).is_dir()


def test_verifying_reads_s3_and_not_the_cache(bucket: str, tmp_path: Path) -> None:
    shelf = S3Shelf(f"s3://{bucket}", tmp_path / "cache")
    digest = publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    shelf.fetch("grid")
    boto3.client("s3").put_object(
        Bucket=bucket, Key=f"objects/{digest}/{bundle.WEIGHTS}", Body=b"other"
    )
    [found] = maintenance.verify(shelf)
    assert f"s3://{bucket}/objects/{digest} is damaged" in found.problem


def test_a_bundle_that_a_collector_took_away_under_a_publisher_is_put_back(
    bucket: str, tmp_path: Path
) -> None:
    shelf = S3Shelf(f"s3://{bucket}", tmp_path / "cache")
    folder = drawn_bundle(tmp_path / "b")

    def edit(old: Pointer) -> Pointer:
        """Collect between the upload and the pointer."""
        assert len(maintenance.collect(shelf, grace_s=0.0)) == 1
        entry = Entry(act="promoted", version=1)
        return old.with_version(bundle.digest(folder), "champion", entry)

    shelf.change("grid", edit, folder=folder)
    assert bundle.digest(shelf.fetch("grid")) == bundle.digest(folder)
