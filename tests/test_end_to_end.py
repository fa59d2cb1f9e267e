"""The whole way of the README on one tiny texture: search, MLflow runs, shelf, score."""

from __future__ import annotations

import contextlib
import io
import json
import math
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

import zoo
from registry import bundle
from registry.folder_shelf import FolderShelf
from registry.shelf import pointer_of
from tests import textures_drawn
from tests.cli.commands import move_in
from tests.faulty import Fault, Faulty, running
from tests.mlflow_runs import new_store, runs_of
from tests.processes import free_port, mlflow_server
from tests.report.html_read import assert_self_contained
from zoo import methods
from zoo.cli import main

pytestmark = pytest.mark.cluster

SPACE = """\
# Small enough for trials of a few seconds, and good enough that any report of any trial joins what
# learns nothing: which of the two trials is stopped early depends on which reports first.
patch: 16
scale: 1.0
depth: 2
discriminator_depth: 2
segmenter_depth: 3
width: 16
latent_channels: 4
batch: 8
defect_rounds: 32
defect_learning_rate: {log_uniform: [3.0e-3, 6.0e-3]}
megapixels: 4.0
fixed_patches: 0
output_stride: 4
"""
TRIALS, REPORTS = 2, 2
AWAY_S = 4.0


@dataclass(frozen=True, kw_only=True)
class Searched:
    """A home after a search."""

    home: Path
    data: Path
    found: dict[str, Any]
    command: list[str]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """`zoo search --category weave --data DIR`, once, in a home of its own."""
    root = tmp_path_factory.mktemp("searched")
    data = textures_drawn.write_folder(root / "data" / "weave").parent
    (root / "tiny.yaml").write_text(SPACE, "utf-8")
    command = ["search", "--category", "weave", "--data", str(data)]
    command += ["--space", str(root / "tiny.yaml"), "--time-budget", "2m", "--json"]
    bounds = ["--trials", str(TRIALS), "--reports", str(REPORTS)]
    found = answer(root / "home", [*command, *bounds])
    return Searched(home=root / "home", data=data, found=found, command=command)


@pytest.fixture
def in_home(searched: Searched, monkeypatch: pytest.MonkeyPatch) -> Searched:
    """The search, with its home as the user's."""
    move_in(searched.home, monkeypatch)
    return searched


def answer(home: Path, command: list[str], *, tracking: str = "") -> dict[str, Any]:
    """Run a command in a home, and return the object that it prints, which must be all of it.

    Args:
        home: The home.
        command: The command.
        tracking: Address of an MLflow server; without one, the store is in the home.
    """
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as monkeypatch, contextlib.redirect_stdout(printed):
        move_in(home, monkeypatch)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
        for name in [each for each in methods.names() if each.startswith("feature_")]:
            monkeypatch.delitem(methods.METHODS, name)  # so little would not join them
        main(command)
    found: dict[str, Any] = json.loads(printed.getvalue())
    return found


def parent_and_trials(searched: Searched) -> tuple[MlflowClient, Run, list[Run]]:
    """Return a new client, and the parent run of the first search with its child runs."""
    uri = f"sqlite:///{searched.home / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    search = Path(searched.found["detector"]).parent.name
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`zoo.search` = '{search}'")
    parents = [run for run in runs if run.data.tags["zoo.role"] == "search"]
    children = [run for run in runs if run.data.tags["zoo.role"] == "trial"]
    assert len(parents) == 1
    return client, parents[0], children


class Outage:
    """MLflow is away from the first report of a trial on, for a while."""

    def __init__(self) -> None:
        self.began = math.inf
        self.refused = 0

    def __call__(self, verb: str, path: str) -> Fault:
        if self.began == math.inf and "/metrics/get-history" in path:
            self.began = time.monotonic()
        away = 0 <= time.monotonic() - self.began < AWAY_S
        self.refused += away
        return "away" if away else "none"


def test_a_search_ends_with_a_champion_audited_on_the_test_images(searched: Searched) -> None:
    found = searched.found
    assert found["promoted"] is True
    assert "beats the champion's" in found["reason"]
    assert sum(found[f"trials_{name}"] for name in ("finished", "stopped_early")) == TRIALS
    assert found["test_images"] == 6
    for name in ("test_pixel_ap", "test_pixel_auroc", "test_aupro", "test_image_auroc"):
        assert 0 <= found[name] <= 1, name


def test_what_learns_nothing_is_the_first_champion_and_the_search_joins_or_replaces_it(
    searched: Searched,
) -> None:
    found, folder = searched.found, Path(searched.found["detector"]).parent
    [first, second] = pointer_of(FolderShelf(searched.home / "shelf"), "weave").history
    assert "no champion yet" in first.reason
    assert second.reason == found["reason"]
    floor, best = bundle.load(folder / "floor"), bundle.load(folder / "best")
    assert first.figures["val_pixel_ap"] == pytest.approx(floor.metrics["val_pixel_ap"], abs=1e-3)
    untrained = {each.name.partition("@")[0] for each in (folder / "untrained").iterdir()}
    assert len(untrained) > 1
    assert {part.method for part in floor.parts} <= untrained
    assert "fcbigan" in {part.method for part in best.parts}
    assert best.metrics["val_pixel_ap"] > found["val_pixel_ap_untrained"]


def test_the_parent_run_says_what_was_searched_and_with_what(searched: Searched) -> None:
    _, parent, _ = parent_and_trials(searched)
    assert parent.info.status == "FINISHED"
    assert parent.data.params["seed"] == "0"
    assert parent.data.params["fingerprint"].startswith("sha256:")
    assert parent.data.params["space"] == "tiny"
    for package in ("texture-zoo", "torch", "ray", "optuna", "mlflow"):
        assert parent.data.tags[f"zoo.version.{package}"] == metadata.version(package)
    assert parent.data.metrics["val_pixel_ap"] == pytest.approx(searched.found["val_pixel_ap"])
    assert parent.data.metrics["test_pixel_ap"] == pytest.approx(searched.found["test_pixel_ap"])


def test_every_trial_is_a_child_run_with_its_parameters_curve_and_outcome(
    searched: Searched,
) -> None:
    client, parent, children = parent_and_trials(searched)
    assert len({child.data.tags["zoo.trial"] for child in children}) == len(children) == TRIALS
    values = []
    for child in children:
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert 3e-3 <= float(child.data.params["defect_learning_rate"]) <= 6e-3
        assert child.data.params["width"] == "16"
        outcome = child.data.tags["zoo.outcome"]
        assert (outcome, child.info.status) in {
            ("finished", "FINISHED"),
            ("stopped_early", "FINISHED"),
        }
        for curve in ("val_pixel_ap", "train_discriminator_loss"):
            points = client.get_metric_history(child.info.run_id, curve)
            reports = [point.step for point in points]
            assert reports == list(range(1, len(reports) + 1))
            assert (len(reports) == REPORTS) == (outcome == "finished")
            values += [point.value for point in points if curve == "val_pixel_ap"]
        assert not [name for name in child.data.metrics if name.startswith("test_")]
    assert max(values) == pytest.approx(searched.found["val_pixel_ap_trial"])


def test_the_champion_and_its_maps_are_kept_with_the_parent_run(searched: Searched) -> None:
    client, parent, _ = parent_and_trials(searched)
    listed = {
        file.path: file.file_size
        for folder in ("champion", "maps")
        for file in client.list_artifacts(parent.info.run_id, folder)
    }
    assert {path for path in listed if path.startswith("champion/")} == {
        "champion/bundle.json",
        "champion/weights.safetensors",
    }
    pictures = [path for path in listed if path.startswith("maps/")]
    assert "maps/maps_on_val.png" in pictures
    assert all(path.endswith(".png") and (listed[path] or 0) > 1000 for path in pictures)


def test_the_search_ends_with_a_report_that_mlflow_has_too(searched: Searched) -> None:
    client, parent, children = parent_and_trials(searched)
    path = Path(searched.found["report"])
    assert path == Path(searched.found["detector"]).parent / "report.html"
    [kept] = client.list_artifacts(parent.info.run_id, "report")
    copy = Path(client.download_artifacts(parent.info.run_id, kept.path))
    assert copy.read_bytes() == path.read_bytes()
    page = assert_self_contained(path.read_text("utf-8"))
    words = page.words()
    assert "Promoted: version 2 of 'weave'" in words
    assert searched.found["reason"] in words
    rows = page.table("Trial")[1:]
    assert {row[0] for row in rows} == {child.data.tags["zoo.trial"] for child in children}
    assert rows[0][3] == f"{searched.found['val_pixel_ap_trial']:.3f}"
    assert [row[2] for row in page.table("When")[1:]] == ["1", "2"], "the first champion too"
    shown = [picture.attributes["alt"] for picture in page.all("img")]
    for kind in ("Painted: ", "Good, as it is"):
        assert any(alt.startswith(kind) for alt in shown)


def test_the_champion_has_a_report_with_what_its_parts_add(
    in_home: Searched, tmp_path: Path
) -> None:
    main(["report", "weave", "--out", str(tmp_path / "weave.html")])
    page = assert_self_contained((tmp_path / "weave.html").read_text("utf-8"))
    best = bundle.load(Path(in_home.found["detector"]))
    rows = page.table("Part")[1:]
    weights = best.fusion["map_weights"]
    assert len(rows) == len(best.parts)
    used = [row for row, weight in zip(rows, weights, strict=True) if weight]
    assert len(used) == 1 or all(row[4] != "-" for row in used)
    trained = [
        name
        for part, weight in zip(best.parts, weights, strict=True)
        if weight and part.method == "fcbigan"
        for name in part.metrics
        if name.startswith("val_pixel_ap_loss_")
    ]
    captions = [each.text for each in page.all("figcaption") if "each of its losses" in each.text]
    assert len(captions) == len(trained) / 3, "reconstruction, discriminator and segmenter"
    assert len(page.all("img")) == 6


def test_the_registered_version_is_a_bundle_and_nothing_of_it_is_pickled(
    searched: Searched,
) -> None:
    client, parent, _ = parent_and_trials(searched)
    version = client.get_model_version_by_alias("texture-weave", "champion")
    assert version.run_id == parent.info.run_id
    assert version.tags["zoo.verdict"] == "promoted"
    assert version.source is not None
    files = sorted(Path(version.source.removeprefix("file://")).rglob("*"))
    assert [file.name for file in files] == ["bundle.json", "weights.safetensors"]
    kinds = {path.suffix for path in (searched.home / "mlartifacts").rglob("*") if path.is_file()}
    assert kinds <= {".safetensors", ".json", ".jsonl", ".png", ".html"}
    shelved = list((searched.home / "shelf" / "objects").iterdir())
    assert len(shelved) == 2, "what learns nothing, and what was searched"
    for each in shelved:
        names = sorted(path.name for path in each.iterdir())
        assert names == ["bundle.json", "weights.safetensors"]


def test_three_lines_score_a_picture(in_home: Searched) -> None:
    img = in_home.data / "weave" / "test" / "hole" / "000.png"

    detector = zoo.load("weave")
    score = detector.score(img)

    assert score.map.shape == (textures_drawn.HEIGHT, textures_drawn.WIDTH)
    assert score.map.dtype == np.float32
    assert zoo.names() == ["weave"]
    card = detector.bundle
    assert card.metrics["test_pixel_ap"] == pytest.approx(in_home.found["test_pixel_ap"])
    assert card.metrics["val_pixel_ap"] == pytest.approx(in_home.found["val_pixel_ap"])


def test_a_second_search_confirms_its_best_and_meets_the_champion_while_mlflow_comes_and_goes(
    searched: Searched, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    brief = tmp_path / "brief.yaml"  # the champion is not to be beaten, so little training will do
    brief.write_text(SPACE.replace("megapixels: 4.0", "megapixels: 1.0"), "utf-8")
    more = ["--trials", "2", "--reports", "1", "--confirm", "2", "--seed", "5"]
    more += ["--space", str(brief)]
    new_store(tmp_path / "server" / "mlflow.db")
    outage = Outage()
    with (
        mlflow_server(tmp_path / "server", free_port()) as there,
        running(Faulty(there, outage)) as address,
    ):
        tracking = address.replace("//", "//me:hunter2@")
        found = answer(searched.home, [*searched.command, *more], tracking=tracking)
    said = capsys.readouterr().err
    assert outage.refused
    assert "The search goes on; its record is kept in" in said
    assert "The MLflow store is back." in said
    uri = f"sqlite:///{tmp_path}/server/mlflow.db"
    runs = runs_of(uri, Path(found["detector"]).parent.name)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert len(runs) == 3, "the search and its trials"
    assert all("val_pixel_ap" in run.data.metrics for run in runs.values())
    written = [path for root in (tmp_path, searched.home) for path in root.rglob("*")]
    assert {"bundle.json", "mlflow.db"} <= {path.name for path in written}
    assert "hunter2" not in said
    assert not [path for path in written if path.is_file() and b"hunter2" in path.read_bytes()]

    assert found["confirmed_seeds"] == 2
    assert 0 < found["confirmed_spread"] < found["confirmed_val_pixel_ap"] < 1
    made = bundle.load(Path(found["detector"]))
    assert found["val_pixel_ap"] == made.metrics["val_pixel_ap"]
    seeds = {part.made_by["seed"] for part in made.parts if part.method == "fcbigan"}
    assert seeds <= {5, 6, 7}, "of a trial, and of the two confirmations"

    assert found["detector"] != searched.found["detector"]
    assert found["reason"].startswith("The challenger's val AP of 0.")
    assert "the champion's 0." in found["reason"]
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    alias = "champion" if found["promoted"] else "challenger"
    version = client.get_model_version_by_alias("texture-weave", alias)
    assert version.tags["zoo.reason"] == found["reason"]
    last = pointer_of(FolderShelf(searched.home / "shelf"), "weave").history[-1]
    act = "promoted" if found["promoted"] else "refused"  # which, is chance: both have a version
    assert (last.reason, last.version, last.act) == (found["reason"], 3, act)
