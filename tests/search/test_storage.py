"""Where a search keeps its configuration and its trials; S3 that fails during a search."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
from moto.server import ThreadedMotoServer

from registry import bundle
from registry.trials import SEARCH_CONFIG, TrialUsage
from tests.exams import ListLog
from tests.search.tiny_searches import config, search
from zoo.errors import ConfigError, SearchError, StorageError
from zoo.evaluation.search_audit import kept_detectors
from zoo.search.storage import last_config, new_name, place_of, write_config
from zoo.search.trial import STATE
from zoo.training import TrainingData

# ------------------------------------------------------------------------------- configurations


def test_the_newest_configuration_of_a_texture_is_read_back_as_it_was_written(
    tmp_path: Path,
) -> None:
    written = [
        config("weave-20250101"),
        config("weave-20260101", seed=3),
        config("a", texture="wood"),
    ]
    for each in written:
        write_config(each, tmp_path / each.name)
    assert last_config(tmp_path, "weave") == written[1]
    assert last_config(tmp_path, "wood") == written[2]


def test_of_a_newer_versions_configuration_the_known_fields_are_read(tmp_path: Path) -> None:
    known = config("weave-1")
    (tmp_path / "weave-1").mkdir()
    (tmp_path / "weave-1" / SEARCH_CONFIG).write_text(json.dumps(asdict(known) | {"hats": 3}))
    assert last_config(tmp_path, "weave") == known


def test_resuming_what_was_never_begun_is_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=f"no search of 'weave' under {tmp_path}.*none at all"):
        last_config(tmp_path, "weave")
    for name in ("wood", "grid"):
        write_config(config(name, texture=name), tmp_path / name)
    with pytest.raises(SearchError, match="'weave' .* there are searches of grid, wood. Start one"):
        last_config(tmp_path, "weave")


def test_searches_that_begin_in_the_same_second_have_names_of_their_own(tmp_path: Path) -> None:
    names = [new_name(tmp_path / "searches", "weave-1") for _ in range(3)]
    assert names == ["weave-1", "weave-1-2", "weave-1-3"]
    (tmp_path / "file").write_text("in the way")
    for storage in (tmp_path / "file", tmp_path / "file" / "searches"):
        with pytest.raises(StorageError, match=f"Cannot begin a search in {storage}"):
            new_name(storage, "weave-1")


def test_a_configuration_that_cannot_be_written_is_refused_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=f"Cannot begin the search p: {tmp_path}/file.*ZOO_HOME"):
        write_config(config("p"), tmp_path / "file" / "p")


@pytest.mark.parametrize("where", ["ftp://host/x", "gopher://x", "not/whole", "s3:/bucket"])
def test_what_is_no_place_for_trials_is_refused(where: str) -> None:
    with pytest.raises(ConfigError, match=f"'{where}' is no place for trials: write s3://BUCKET"):
        place_of(where)


def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="AWS_SECRET_ACCESS_KEY") as caught:
        place_of("s3://key:hunter2@bucket/trials")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", "3", "{}", '{"texture": 5}', "[" * 10**5])
def test_a_damaged_search_hides_no_other(tmp_path: Path, text: str) -> None:
    written = config("weave-1")
    write_config(written, tmp_path / "weave-1")
    (tmp_path / "weave-2").mkdir()
    (tmp_path / "weave-2" / SEARCH_CONFIG).write_text(text)
    assert last_config(tmp_path, "weave") == written
    with pytest.raises(SearchError, match="there are searches of .*weave"):
        last_config(tmp_path, "wood")


def test_a_pipe_in_place_of_a_search_hides_no_other(tmp_path: Path) -> None:
    write_config(config("weave-1"), tmp_path / "weave-1")
    (tmp_path / "weave-2").mkdir()
    os.mkfifo(tmp_path / "weave-2" / SEARCH_CONFIG)
    assert last_config(tmp_path, "weave") == config("weave-1")


def test_a_search_without_its_values_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "weave-1").mkdir()
    file = tmp_path / "weave-1" / SEARCH_CONFIG
    for text in ('{"texture": "weave"}', json.dumps(asdict(config("weave-1")) | {"trials": []})):
        file.write_text(text)
        with pytest.raises(SearchError, match=r"search\.json is damaged: .*without --resume"):
            last_config(tmp_path, "weave")


def test_a_folder_is_a_place_whatever_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "a b%20c#"
    folder.mkdir()
    where, path = place_of(folder)
    assert where.get_file_info(path).is_file is False
    assert Path(path) == folder


# -------------------------------------------------------------------------------------------- S3

BUCKET = "zoo"
# ASHA does not stop a trial before the second of eight reports, so not when S3 fails.
IN_S3 = config("weave-1", trials=3, reports=8, storage=f"s3://{BUCKET}/searches")
REFUSING_S = 7.0


class Denied(BaseHTTPRequestHandler):
    """Answers every request with 403."""

    def deny(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_error(403)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


for verb in ("GET", "HEAD", "PUT", "POST", "DELETE"):
    setattr(Denied, f"do_{verb}", Denied.deny)


class S3:
    """An S3 on the loopback address that can fail; it keeps its contents.

    While it fails, it refuses connections at first. Arrow retries for 6 seconds, for each of many
    requests. So later it answers with 403, after which Arrow does not try again.
    """

    def __init__(self, port: int) -> None:
        self.port, self.denying = port, list[ThreadingHTTPServer]()
        self.begin()

    def begin(self) -> None:
        """Answer requests."""
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.server.start()

    def fail(self) -> None:
        """Answer no request any more."""
        self.server.stop()
        self.timer = threading.Timer(REFUSING_S, self._deny)
        self.timer.start()

    def _deny(self) -> None:
        self.denying.append(ThreadingHTTPServer(("127.0.0.1", self.port), Denied))
        self.denying[0].serve_forever(poll_interval=0.05)

    def recover(self) -> None:
        """Answer requests again."""
        self.timer.cancel()
        for server in self.denying:
            server.shutdown()
            server.server_close()
        self.timer.join()
        self.begin()

    def objects(self) -> list[str]:
        """Return all keys."""
        listed = boto3.client("s3").list_objects_v2(Bucket=BUCKET)
        return [entry["Key"] for entry in listed.get("Contents", [])]


@pytest.fixture
def s3(local_ray: None, aws: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    for name, value in aws.items():
        monkeypatch.setenv(name, value)
    port = urlsplit(aws["AWS_ENDPOINT_URL"]).port
    assert port is not None
    made = S3(port)
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    yield made
    made.server.stop()


class OutageLog(ListLog):
    """A log that stops S3 at the first report of the second trial."""

    def __init__(self, s3: S3) -> None:
        super().__init__()
        self.s3, self.stopped = s3, False

    def reported(
        self, trial: str, step: int, metrics: Mapping[str, float], usage: TrialUsage
    ) -> None:
        super().reported(trial, step, metrics, usage)
        ended = [each for each in self.entries.values() if each.outcome]
        if ended and not self.stopped:
            self.stopped = True
            self.s3.fail()


@pytest.mark.cluster
def test_trials_in_s3_stop_during_an_outage_go_on_afterwards_and_their_detectors_are_copied(
    s3: S3, tiny_data: TrainingData, tmp_path: Path
) -> None:
    log = OutageLog(s3)
    with pytest.raises(StorageError) as caught:
        search(log, tiny_data, tmp_path, IN_S3)
    assert log.stopped
    assert str(caught.value).startswith("The search weave-1 was stopped: s3://zoo/searches ")
    assert "go on with the same command and --resume" in str(caught.value)
    assert "failed" not in [entry.outcome for entry in log.entries.values()]

    s3.recover()
    result, said = search(log, tiny_data, tmp_path, IN_S3)
    assert said[0].startswith("Resuming search weave-1")
    assert len(result.trials) == 3
    of_result = [log.entries[trial] for trial in result.trials]
    # Including the trial that ran during the outage. Its last checkpoint may be gone, replaced by a
    # better one that Ray could not save; then it has begun anew.
    assert {entry.outcome for entry in of_result} <= {"finished", "stopped_early"}
    # A trial that Ray could not save was replaced by another.
    lost = [entry.outcome for trial, entry in log.entries.items() if trial not in result.trials]
    assert set(lost) <= {None, "interrupted"}
    assert any(key.endswith(STATE) for key in s3.objects())
    folder = tmp_path / IN_S3.name
    assert result.best.is_relative_to(folder)
    assert bundle.load(result.best).metrics["val_pixel_ap"] == result.value
    assert 2 <= len(kept_detectors(folder, say=print)) <= 3
