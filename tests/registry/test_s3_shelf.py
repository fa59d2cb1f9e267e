"""A shelf in S3: the exam of shelves, and what is special to S3 and its cache."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import boto3
import pytest

from registry import bundle
from registry.s3_shelf import S3Shelf
from registry.shelf import names_on
from tests.exams import ShelfExam, drawn_bundle, flip, publish
from zoo.errors import BundleError, StorageError, UnknownDetectorError


class TestS3Shelf(ShelfExam):
    @pytest.fixture
    def shelf(self, bucket: str, tmp_path: Path) -> S3Shelf:
        return S3Shelf(f"s3://{bucket}/some/prefix", tmp_path / "cache")


class Counted:
    """A boto3 client that notes which keys were downloaded, and may lose its network."""

    def __init__(self) -> None:
        self.real: Any = boto3.client("s3")
        self.got: list[str] = []

    def get_object(self, **asked: str) -> Any:
        self.got.append(asked["Key"])
        return self.real.get_object(**asked)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def lose_the_network(self) -> None:
        self.real = boto3.client("s3", endpoint_url="http://127.0.0.1:9")


def test_a_second_fetch_downloads_nothing_but_the_pointer(bucket: str, tmp_path: Path) -> None:
    client = Counted()
    shelf = S3Shelf(f"s3://{bucket}", tmp_path / "cache", client)
    digest = publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    client.got.clear()
    shelf.fetch("grid")
    assert client.got == [
        "textures/grid.json",
        *(f"objects/{digest}/{file}" for file in (bundle.WEIGHTS, bundle.CARD)),
    ]
    client.got.clear()
    shelf.fetch("grid")
    assert client.got == ["textures/grid.json"]


def test_a_pinned_digest_asks_s3_nothing_once_it_is_cached(bucket: str, tmp_path: Path) -> None:
    client = Counted()
    shelf = S3Shelf(f"s3://{bucket}", tmp_path / "cache", client)
    digest = publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    shelf.fetch("grid")
    client.got.clear()
    client.lose_the_network()
    assert bundle.digest(shelf.fetch(f"grid@sha256:{digest}")) == digest
    assert client.got == []


def test_without_a_network_the_last_pointer_is_used_with_a_warning(
    bucket: str, tmp_path: Path
) -> None:
    client = Counted()
    shelf = S3Shelf(f"s3://{bucket}", tmp_path / "cache", client)
    digest = publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    shelf.fetch("grid")
    client.lose_the_network()
    seen = tmp_path / "cache" / "textures" / bucket / "grid.json"
    os.utime(seen, (time.time() - 3 * 86400,) * 2)
    with pytest.warns(UserWarning, match="s3://zoo/textures/grid.json.*pointer seen, 3 days ago"):
        assert bundle.digest(shelf.fetch("grid")) == digest
    with pytest.warns(UserWarning, match="what the cache holds"):
        assert list(names_on(shelf)) == ["grid"]


def test_names_that_were_listed_once_are_listed_without_a_network(
    bucket: str, tmp_path: Path
) -> None:
    client = Counted()
    shelf = S3Shelf(f"s3://{bucket}", tmp_path / "cache", client)
    publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    known = names_on(shelf)
    client.lose_the_network()
    with pytest.warns(UserWarning, match="what the cache holds"):
        assert names_on(shelf) == known


def test_without_a_network_and_a_cache_the_address_is_named(bucket: str, tmp_path: Path) -> None:
    client = Counted()
    client.lose_the_network()
    shelf = S3Shelf(f"s3://{bucket}/p", tmp_path / "cache", client)
    with pytest.raises(StorageError, match="Cannot read s3://zoo/p/textures/grid.json.*network"):
        shelf.fetch("grid")
    with pytest.raises(StorageError, match="Cannot list s3://zoo/p/textures"):
        names_on(shelf)


def test_two_shelves_in_one_cache_do_not_mix(bucket: str, tmp_path: Path) -> None:
    one, two = (S3Shelf(f"s3://{bucket}/{p}", tmp_path / "cache") for p in ("one", "two"))
    publish(one, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    one.fetch("grid")
    with pytest.raises(UnknownDetectorError, match="shelf s3://zoo/two; it is empty"):
        two.fetch("grid")


def test_a_byte_flipped_in_s3_is_found_and_not_kept(bucket: str, tmp_path: Path) -> None:
    shelf = S3Shelf(f"s3://{bucket}", tmp_path / "cache")
    digest = publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    client, key = boto3.client("s3"), f"objects/{digest}/{bundle.WEIGHTS}"
    good = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    client.put_object(Bucket=bucket, Key=key, Body=good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(BundleError, match=digest):
        shelf.fetch("grid")
    assert not (tmp_path / "cache" / "objects" / digest).exists()
    client.put_object(Bucket=bucket, Key=key, Body=good)
    assert bundle.digest(shelf.fetch("grid")) == digest


def test_a_byte_flipped_in_the_cache_is_downloaded_again(bucket: str, tmp_path: Path) -> None:
    shelf = S3Shelf(f"s3://{bucket}", tmp_path / "cache")
    digest = publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    flip(shelf.fetch("grid") / bundle.WEIGHTS)
    assert bundle.digest(shelf.fetch("grid")) == digest


def test_an_object_missing_in_s3_is_named(bucket: str, tmp_path: Path) -> None:
    shelf = S3Shelf(f"s3://{bucket}", tmp_path / "cache")
    digest = publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    boto3.client("s3").delete_object(Bucket=bucket, Key=f"objects/{digest}/{bundle.CARD}")
    with pytest.raises(BundleError, match=f"s3://zoo/objects/{digest}/{bundle.CARD} is missing"):
        shelf.fetch("grid")


def test_a_bucket_that_is_not_there_is_named(aws: None, tmp_path: Path) -> None:
    shelf = S3Shelf("s3://nowhere/p", tmp_path / "cache")
    with pytest.raises(StorageError, match="Cannot write s3://nowhere/p/objects/.*no such bucket"):
        publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    with pytest.raises(StorageError, match=r"Cannot read s3://nowhere/p/textures/grid\.json"):
        shelf.fetch("grid")


def test_missing_credentials_are_reported(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    client = boto3.Session().client("s3")  # boto3's own session remembers credentials
    with pytest.raises(StorageError, match="s3://zoo/textures/grid.json: there are no AWS cred"):
        S3Shelf(f"s3://{bucket}", tmp_path / "cache", client).fetch("grid")


def test_a_file_in_the_way_of_the_cache_is_named(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(StorageError, match=f"Cannot keep 'grid' in {tmp_path / 'cache'}"):
        S3Shelf(f"s3://{bucket}", tmp_path / "cache").fetch("grid")
