"""A shelf in S3 behind a server that fails in all the ways a network fails."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from registry import bundle, maintenance
from registry.s3_shelf import S3Shelf
from registry.shelf import names_on, pointer_of
from tests.exams import drawn_bundle, publish
from tests.faulty import Fault, Faulty, running
from zoo.errors import StorageError


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let boto3 pause for a moment between two attempts, and not for seconds."""
    backoff = "botocore.retries.standard.ExponentialBackoff.delay_amount"
    monkeypatch.setattr(backoff, lambda self, context: 0.01)


def fast(address: str) -> Any:
    """Return a client with as many attempts as the shelf's own, and a shorter timeout."""
    retries = {"mode": "standard", "max_attempts": 4}
    config = Config(connect_timeout=1, read_timeout=0.3, retries=retries)
    return boto3.client("s3", endpoint_url=address, config=config)


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
def test_what_fails_for_ever_is_reported_and_the_shelf_serves_what_it_served(
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
    assert not [each for each in maintenance.verify(sound) if each.problem]


def test_among_random_faults_everything_is_done_or_reported_and_no_reader_sees_half(
    bucket: str, endpoint: str, tmp_path: Path
) -> None:
    rng = random.Random(0)
    faults: list[Fault] = ["500", "503", "reset", "lost"]

    def at_random(verb: str, path: str) -> Fault:
        return rng.choice(faults) if rng.random() < 0.3 else "none"

    folders = [drawn_bundle(tmp_path / f"b{n}", seed=n) for n in range(3)]
    done = list[int]()
    sound = S3Shelf(f"s3://{bucket}", tmp_path / "sound")
    faulty = Faulty(endpoint, at_random)
    with running(faulty) as address:
        shelf = S3Shelf(f"s3://{bucket}", tmp_path / "cache", fast(address))
        for version in range(1, 31):
            with suppress(StorageError):
                publish(shelf, folders[version % 3], texture="grid", version=version)
                done.append(version)
            if done:
                assert bundle.digest(sound.fetch("grid"))
    lines = pointer_of(sound, "grid").history
    versions = [line.version for line in lines]
    assert len(set(versions)) == len(versions), "a lost answer wrote a line twice"
    assert set(done) <= set(versions)
    assert len(faulty.injected) > 20
    assert not [each for each in maintenance.verify(sound) if each.problem]
