"""A search whose trials are in S3, which goes away in the middle of one and comes back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from registry.hindsight import kept_detectors
from search_spaces import LogUniform, Space
from tests import textures_drawn
from tests.exams import ListLog
from tests.processes import aws_at, free_port
from zoo import bundle, search
from zoo.errors import ConfigError, StorageError
from zoo.listener import Facts, Plan
from zoo.recipe import Materials
from zoo.trial import STATE

BUCKET = "zoo"
SPACE = Space(
    name="tiny",
    path=Path("tiny.yaml"),
    fields={**textures_drawn.TINY, "learning_rate": LogUniform(low=5e-4, high=4e-3)},
)
PLAN = Plan(
    name="weave-1", texture="weave", fingerprint="", seed=0, trials=3, time_budget_s=300.0,
    threads=1, gpus_per_trial=0.0, reports=3, storage=f"s3://{BUCKET}/searches",
)  # fmt: skip


@dataclass
class S3:
    """An S3 on the loopback address that can go away; what it holds stays."""

    port: int

    def come(self) -> None:
        """Be there."""
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.server.start()

    def go(self) -> None:
        """Be away."""
        self.server.stop()

    def held(self) -> list[str]:
        """Return all keys."""
        listed = boto3.client("s3").list_objects_v2(Bucket=BUCKET)
        return [entry["Key"] for entry in listed.get("Contents", [])]


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    made = S3(port=free_port())
    for name, value in aws_at(f"http://127.0.0.1:{made.port}", tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    made.come()
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    yield made
    made.go()


@pytest.mark.parametrize("where", ["ftp://host/x", "gopher://x", "not/whole", "s3:/bucket"])
def test_what_is_no_place_for_trials_is_refused(where: str) -> None:
    with pytest.raises(ConfigError, match=f"'{where}' is no place for trials: write s3://BUCKET"):
        search.place_of(where)


def test_a_folder_is_a_place_whatever_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "a b%20c#"
    folder.mkdir()
    where, path = search.place_of(folder)
    assert where.get_file_info(path).is_file is False
    assert Path(path) == folder


class Taker(ListLog):
    """A record that takes S3 away at the first report of the second trial."""

    def __init__(self, s3: S3) -> None:
        super().__init__()
        self.s3, self.taken = s3, False

    def reported(self, trial: str, step: int, metrics: Mapping[str, float], facts: Facts) -> None:
        super().reported(trial, step, metrics, facts)
        ended = [each for each in self.entries.values() if each.outcome]
        if ended and not self.taken:
            self.taken = True
            self.s3.go()


@pytest.mark.cluster
def test_trials_in_s3_stop_while_it_is_away_go_on_when_it_is_back_and_come_home(
    s3: S3, tiny_materials: Materials, tmp_path: Path
) -> None:
    log, said = Taker(s3), list[str]()
    with search.cluster():
        with pytest.raises(StorageError) as caught:
            search.run(tiny_materials, SPACE, PLAN, storage=tmp_path, log=log, say=said.append)
        assert log.taken
        assert str(caught.value).startswith("The search weave-1 was stopped: s3://zoo/searches ")
        assert "go on with the same command and --resume" in str(caught.value)
        assert "failed" not in [entry.outcome for entry in log.entries.values()]

        s3.come()
        found = search.run(tiny_materials, SPACE, PLAN, storage=tmp_path, log=log, say=said.append)
    assert sum("Resuming search weave-1" in line for line in said) == 1
    assert len(found.trials) == 3
    kept = [log.entries[trial] for trial in found.trials]
    # Also the trial under way, whose last checkpoint may be gone, replaced by a better one that Ray
    # could not write down. It began anew then.
    assert {entry.outcome for entry in kept} <= {"finished", "stopped_early"}
    # What Ray could not write down any more, it made anew.
    gone = [entry.outcome for trial, entry in log.entries.items() if trial not in found.trials]
    assert set(gone) <= {None, "interrupted"}
    assert any(key.endswith(STATE) for key in s3.held())
    folder = tmp_path / PLAN.name
    assert found.best.is_relative_to(folder)
    assert bundle.load(found.best).metrics["val_pixel_ap"] == found.value
    assert 2 <= len(kept_detectors(folder, say=print)) <= 3
