"""The shelf: one exam for both, and what is special to a folder and to S3."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from registry import keeping
from registry.pointer import Entry, Pointer
from registry.shelf import (
    FolderShelf,
    S3Shelf,
    home,
    names_on,
    open_shelf,
    pointer_of,
)
from tests.exams import ShelfExam, drawn_bundle, flip, publish
from tests.faulty import Fault, Faulty, running
from tests.processes import aws_at
from zoo import bundle
from zoo.cli import main
from zoo.errors import BundleError, ConfigError, StorageError, UnknownDetectorError


class TestFolderShelf(ShelfExam):
    @pytest.fixture
    def shelf(self, tmp_path: Path) -> FolderShelf:
        return FolderShelf(tmp_path / "shelf")


class TestS3Shelf(ShelfExam):
    @pytest.fixture
    def shelf(self, bucket: str, tmp_path: Path) -> S3Shelf:
        return S3Shelf(f"s3://{bucket}/some/prefix", tmp_path / "cache")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in aws_at(endpoint, tmp_path).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(aws: None) -> Iterator[str]:
    client = boto3.client("s3")
    client.create_bucket(Bucket="zoo")
    yield "zoo"
    for entry in client.list_objects_v2(Bucket="zoo").get("Contents", []):
        client.delete_object(Bucket="zoo", Key=entry["Key"])
    client.delete_bucket(Bucket="zoo")


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


# ------------------------------------------------------------------------------------- a folder


@pytest.mark.parametrize("file", [bundle.WEIGHTS, bundle.CARD])
@pytest.mark.parametrize("at", [0, 8, -1])
def test_a_flipped_byte_on_a_shelf_is_found(tmp_path: Path, file: str, at: int) -> None:
    shelf = FolderShelf(tmp_path / "shelf")
    digest = publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    flip(tmp_path / "shelf" / "objects" / digest / file, at)
    with pytest.raises(BundleError, match=digest):
        shelf.fetch("grid")


def test_another_whole_bundle_in_its_place_is_found_by_the_address(tmp_path: Path) -> None:
    shelf, other = FolderShelf(tmp_path / "shelf"), drawn_bundle(tmp_path / "other", seed=1)
    digest = publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    assert bundle.digest(other) != digest
    for file in (bundle.CARD, bundle.WEIGHTS):
        shutil.copy(other / file, tmp_path / "shelf" / "objects" / digest / file)
    found = bundle.digest(other)
    with pytest.raises(BundleError, match=f"digest should be {digest} and is {found}"):
        shelf.fetch("grid")


def test_publishing_again_puts_a_damaged_bundle_right(tmp_path: Path) -> None:
    shelf, folder = FolderShelf(tmp_path / "shelf"), drawn_bundle(tmp_path / "b")
    digest = publish(shelf, folder, texture="grid", version=1)
    flip(tmp_path / "shelf" / "objects" / digest / bundle.WEIGHTS)
    publish(shelf, folder, texture="grid", version=1)
    assert bundle.digest(shelf.fetch("grid")) == digest


def test_a_damaged_pointer_is_told_of_and_stops_no_other_texture(
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


def test_verifying_names_each_version_that_is_damaged_or_missing(tmp_path: Path) -> None:
    shelf = FolderShelf(tmp_path / "shelf")
    digests = [
        publish(shelf, drawn_bundle(tmp_path / str(n), seed=n), texture="grid", version=n)
        for n in (1, 2, 3)
    ]
    flip(tmp_path / "shelf" / "objects" / digests[0] / bundle.WEIGHTS)
    shutil.rmtree(tmp_path / "shelf" / "objects" / digests[2])
    found = {each.version: each.problem for each in keeping.verify(shelf)}
    assert "is damaged" in found[1]
    assert found[2] == ""
    assert "is missing" in found[3]


def test_a_damaged_pointer_lets_nothing_be_collected(tmp_path: Path) -> None:
    shelf = FolderShelf(tmp_path / "shelf")
    digest = publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    (tmp_path / "shelf" / "textures" / "grid.json").write_bytes(b"{")
    with pytest.raises(BundleError, match=r"The pointer .*grid\.json is damaged"):
        keeping.collect(shelf, grace_s=0.0)
    assert (tmp_path / "shelf" / "objects" / digest).is_dir()


def test_a_missing_object_is_named(tmp_path: Path) -> None:
    shelf = FolderShelf(tmp_path / "shelf")
    digest = publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    (tmp_path / "shelf" / "objects" / digest / bundle.WEIGHTS).unlink()
    with pytest.raises(BundleError, match=f"{digest}.*{bundle.WEIGHTS} is missing"):
        shelf.fetch("grid")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff", b'{"texture": "grid", "aliases": {"a": 1}, "versions": {}}']
)
def test_a_damaged_pointer_is_named(tmp_path: Path, content: bytes) -> None:
    shelf = FolderShelf(tmp_path / "shelf")
    publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    (tmp_path / "shelf" / "textures" / "grid.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"pointer .*grid\.json is damaged"):
        shelf.fetch("grid")


def test_a_file_in_the_way_of_the_shelf_is_named(tmp_path: Path) -> None:
    (tmp_path / "shelf").write_text("in the way")
    with pytest.raises(StorageError, match=f"Cannot publish 'grid' on {tmp_path / 'shelf'}"):
        publish(
            FolderShelf(tmp_path / "shelf"), drawn_bundle(tmp_path / "b"), texture="grid", version=1
        )


def test_a_failed_publication_leaves_the_champion(tmp_path: Path) -> None:
    shelf = FolderShelf(tmp_path / "shelf")
    first = publish(shelf, drawn_bundle(tmp_path / "a", seed=1), texture="grid", version=1)
    second = drawn_bundle(tmp_path / "b", seed=2)
    (tmp_path / "shelf" / "objects" / bundle.digest(second)).write_text("in the way")
    with pytest.raises(StorageError, match="Cannot publish 'grid'"):
        publish(shelf, second, texture="grid", version=2)
    assert bundle.digest(shelf.fetch("grid")) == first
    assert names_on(shelf) == {"grid": {"champion": first, "1": first}}


def test_publishers_in_other_processes_lose_no_version(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    folders = [drawn_bundle(tmp_path / f"b{n}", seed=n) for n in range(2)]
    workers = [
        context.Process(target=_publish_ten, args=(tmp_path / "shelf", folder, 10 * n + 1))
        for n, folder in enumerate(folders)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    found = names_on(FolderShelf(tmp_path / "shelf"))["grid"]
    assert {str(version) for version in range(1, 21)} == set(found) - {"champion", "previous"}


def _publish_ten(root: Path, folder: Path, first: int) -> None:
    for version in range(first, first + 10):
        publish(FolderShelf(root), folder, texture="grid", version=version)


# ------------------------------------------------------------------------------------------- S3


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


def test_verifying_reads_s3_and_not_the_cache(bucket: str, tmp_path: Path) -> None:
    shelf = S3Shelf(f"s3://{bucket}", tmp_path / "cache")
    digest = publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    shelf.fetch("grid")
    boto3.client("s3").put_object(
        Bucket=bucket, Key=f"objects/{digest}/{bundle.WEIGHTS}", Body=b"other"
    )
    [found] = keeping.verify(shelf)
    assert f"s3://{bucket}/objects/{digest} is damaged" in found.problem


def test_a_bundle_that_a_collector_took_away_under_a_publisher_is_put_back(
    bucket: str, tmp_path: Path
) -> None:
    shelf = S3Shelf(f"s3://{bucket}", tmp_path / "cache")
    folder = drawn_bundle(tmp_path / "b")

    def edit(old: Pointer) -> Pointer:
        """Collect between the upload and the pointer."""
        assert len(keeping.collect(shelf, grace_s=0.0)) == 1
        entry = Entry(act="promoted", version=1)
        return old.with_version(bundle.digest(folder), "champion", entry)

    shelf.change("grid", edit, folder=folder)
    assert bundle.digest(shelf.fetch("grid")) == bundle.digest(folder)


def fast(address: str) -> Any:
    """Return a client that loses patience soon."""
    retries = {"mode": "standard", "max_attempts": 4}
    patience = Config(connect_timeout=1, read_timeout=0.5, retries=retries)
    return boto3.client("s3", endpoint_url=address, config=patience)


@pytest.mark.parametrize("fault", ["500", "503", "silence", "reset", "lost"])
def test_what_fails_once_is_tried_again(
    fault: Fault, bucket: str, endpoint: str, tmp_path: Path
) -> None:
    seen: set[tuple[str, str]] = set()

    def once(verb: str, path: str) -> Fault:
        new = (verb, path) not in seen
        seen.add((verb, path))
        return fault if new else "none"

    faulty = Faulty(endpoint, once)
    with running(faulty) as address:
        shelf = S3Shelf(f"s3://{bucket}", tmp_path / "cache", fast(address))
        digest = publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
        assert bundle.digest(shelf.fetch("grid")) == digest
        assert [line.act for line in pointer_of(shelf, "grid").history] == ["promoted"]
    assert len(faulty.injected) >= 5


@pytest.mark.parametrize("fault", ["500", "503", "silence", "reset", "lost"])
def test_what_fails_for_ever_is_told_and_the_shelf_serves_what_it_served(
    fault: Fault, bucket: str, endpoint: str, tmp_path: Path
) -> None:
    sound = S3Shelf(f"s3://{bucket}", tmp_path / "cache")
    first = publish(sound, drawn_bundle(tmp_path / "a", seed=1), texture="grid", version=1)
    with running(Faulty(endpoint, lambda verb, path: fault)) as address:
        shelf = S3Shelf(f"s3://{bucket}", tmp_path / "other", fast(address))
        with pytest.raises(StorageError, match=f"Cannot (read|write) s3://{bucket}/"):
            publish(shelf, drawn_bundle(tmp_path / "b", seed=2), texture="grid", version=2)
        with pytest.raises(StorageError, match=f"Cannot read s3://{bucket}/"):
            shelf.fetch("grid")
    assert bundle.digest(sound.fetch("grid")) == first
    assert set(names_on(sound)["grid"]) == {"champion", "1"}
    assert not [each for each in keeping.verify(sound) if each.problem]


def test_among_random_faults_everything_is_done_or_told_and_no_reader_sees_half(
    bucket: str, endpoint: str, tmp_path: Path
) -> None:
    rng = random.Random(0)
    faults: list[Fault] = ["500", "503", "reset", "lost"]

    def at_random(verb: str, path: str) -> Fault:
        return rng.choice(faults) if rng.random() < 0.3 else "none"

    folders = [drawn_bundle(tmp_path / f"b{n}", seed=n) for n in range(3)]
    done, told = list[int](), 0
    sound = S3Shelf(f"s3://{bucket}", tmp_path / "sound")
    faulty = Faulty(endpoint, at_random)
    with running(faulty) as address:
        shelf = S3Shelf(f"s3://{bucket}", tmp_path / "cache", fast(address))
        for version in range(1, 31):
            try:
                publish(shelf, folders[version % 3], texture="grid", version=version)
                done.append(version)
            except StorageError:
                told += 1
            if done:
                assert bundle.digest(sound.fetch("grid"))
    lines = pointer_of(sound, "grid").history
    versions = [line.version for line in lines]
    assert len(set(versions)) == len(versions), "a lost answer wrote a line twice"
    assert set(done) <= set(versions)
    assert len(faulty.injected) > 20
    assert not [each for each in keeping.verify(sound) if each.problem]


def test_a_bucket_that_is_not_there_is_named(aws: None, tmp_path: Path) -> None:
    shelf = S3Shelf("s3://nowhere/p", tmp_path / "cache")
    with pytest.raises(StorageError, match="Cannot write s3://nowhere/p/objects/.*no such bucket"):
        publish(shelf, drawn_bundle(tmp_path / "b"), texture="grid", version=1)
    with pytest.raises(StorageError, match=r"Cannot read s3://nowhere/p/textures/grid\.json"):
        shelf.fetch("grid")


def test_missing_credentials_are_told(
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


# ------------------------------------------------------------------------------ which shelf it is


def test_the_shelf_is_under_the_home_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aws: None
) -> None:
    monkeypatch.delenv("ZOO_SHELF", raising=False)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    assert home() == tmp_path / "home"
    with pytest.raises(UnknownDetectorError, match=f"shelf {tmp_path / 'home' / 'shelf'};"):
        open_shelf().fetch("grid")
    monkeypatch.setenv("ZOO_SHELF", str(tmp_path / "other"))
    with pytest.raises(UnknownDetectorError, match=f"shelf {tmp_path / 'other'};"):
        open_shelf().fetch("grid")
    assert isinstance(open_shelf("s3://zoo/p"), S3Shelf)
    monkeypatch.delenv("ZOO_HOME")
    assert home() == Path("zoo-home")


@pytest.mark.parametrize("url", ["gs://zoo/p", "s3://", "https://zoo"])
def test_an_address_that_is_no_shelf_is_refused(url: str, aws: None) -> None:
    with pytest.raises(ConfigError, match=f"'{url}' is no shelf"):
        open_shelf(url)


def test_a_folder_shelf_needs_neither_mlflow_nor_boto3(tmp_path: Path) -> None:
    drawn_bundle(tmp_path / "b")
    code = (
        "import sys; from pathlib import Path; from registry.pointer import Entry\n"
        "from registry.shelf import open_shelf; from zoo import bundle\n"
        f"folder, entry = Path({str(tmp_path / 'b')!r}), Entry(act='promoted', version=1)\n"
        "edit = lambda old: old.with_champion(bundle.digest(folder), entry, against=None)\n"
        f"open_shelf({str(tmp_path / 'shelf')!r}).change('grid', edit, folder=folder)\n"
        "heavy = {'mlflow', 'ray', 'optuna', 'boto3', 'botocore'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
