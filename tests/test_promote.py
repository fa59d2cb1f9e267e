"""The gate as a function of maps, and promotion with small real detectors."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Bool, Float
from mlflow.tracking import MlflowClient
from PIL import Image

import registry
import search_spaces
import zoo
from registry.audit import audit
from registry.pointer import Edit
from registry.promote import Registry, Verdict, gate, promote, roll_back, same_detector
from registry.runs import SearchRuns, open_store
from registry.shelf import FolderShelf, names_on, pointer_of
from zoo import bundle, recipe, textures
from zoo.bundle import Bundle
from zoo.detector import Detector
from zoo.errors import BundleError, PromotionError, StorageError, UnknownDetectorError
from zoo.textures import Texture

# mlflow 3.17 uses what SQLAlchemy 2.1 deprecates; may go with the mlflow that does not.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")

HEIGHT, WIDTH = 72, 64

# --------------------------------------------------------------------------------------- the gate

FAMILIES = [family for family in ("scratch", "stain", "hole") for _ in range(6)]


@pytest.fixture
def masks() -> list[Bool[np.ndarray, "h w"]]:
    rng = np.random.default_rng(1)
    found = []
    for _ in FAMILIES:
        mask = np.zeros((24, 20), np.bool_)
        top, left = rng.integers(2, 14, 2)
        mask[top : top + 4, left : left + 5] = True
        found.append(mask)
    return found


def maps(
    masks: list[Bool[np.ndarray, "h w"]], *, signal: float, seed: int
) -> list[Float[np.ndarray, "h w"]]:
    """Draw maps of noise, higher by `signal` deviations where the mask is."""
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=mask.shape) + signal * mask).astype(np.float32) for mask in masks]


def test_a_clearly_better_challenger_passes(masks: list[Bool[np.ndarray, "h w"]]) -> None:
    better, worse = maps(masks, signal=2.5, seed=1), maps(masks, signal=1.0, seed=2)
    ruling = gate(better, worse, masks=masks, families=FAMILIES)
    assert ruling.promoted
    assert ruling.champion_ap is not None
    assert ruling.challenger_ap > ruling.champion_ap + 0.1
    assert ruling.win_share == 1.0
    assert "beats" in ruling.reason


def test_a_worse_challenger_is_refused_with_both_figures_and_the_win_share(
    masks: list[Bool[np.ndarray, "h w"]],
) -> None:
    better, worse = maps(masks, signal=2.5, seed=1), maps(masks, signal=1.0, seed=2)
    ruling = gate(worse, better, masks=masks, families=FAMILIES)
    assert not ruling.promoted
    assert f"val AP of {ruling.challenger_ap:.3f} does not beat" in ruling.reason
    assert f"champion's {ruling.champion_ap:.3f}; it wins 0.0% of 1000" in ruling.reason


def test_an_equal_challenger_is_refused(masks: list[Bool[np.ndarray, "h w"]]) -> None:
    drawn = maps(masks, signal=1.5, seed=1)
    ruling = gate(drawn, drawn, masks=masks, families=FAMILIES)
    assert not ruling.promoted
    assert ruling.challenger_ap == ruling.champion_ap
    assert ruling.win_share == 0.0


def test_a_challenger_that_is_higher_by_luck_is_refused(
    masks: list[Bool[np.ndarray, "h w"]],
) -> None:
    rulings = [
        gate(
            maps(masks, signal=1.5, seed=seed),
            maps(masks, signal=1.5, seed=seed + 100),
            masks=masks,
            families=FAMILIES,
        )
        for seed in range(3)
    ]
    lucky = [each for each in rulings if each.challenger_ap > (each.champion_ap or 0)]
    unsure = [each for each in lucky if each.win_share is not None and each.win_share < 0.9]
    assert unsure, "none of the draws was higher and unsure"
    assert not any(each.promoted for each in unsure)
    assert all("90% are needed" in each.reason for each in unsure)


def test_only_the_order_within_a_detector_counts(masks: list[Bool[np.ndarray, "h w"]]) -> None:
    ours, theirs = maps(masks, signal=1.6, seed=1), maps(masks, signal=1.4, seed=2)
    plain = gate(ours, theirs, masks=masks, families=FAMILIES)
    scaled = gate([1000 + 8 * each for each in ours], theirs, masks=masks, families=FAMILIES)
    assert scaled.win_share == plain.win_share
    assert scaled.challenger_ap == pytest.approx(plain.challenger_ap, abs=1e-3)


def test_each_family_weighs_the_same_however_many_windows_it_has(
    masks: list[Bool[np.ndarray, "h w"]],
) -> None:
    families = ["stain"] * 16 + ["hole"] * 2
    good, blind = maps(masks, signal=9, seed=1), maps(masks, signal=0, seed=2)
    sees_two = gate(blind[:16] + good[16:], blind, masks=masks, families=families)
    assert 0.45 < sees_two.challenger_ap < 0.6


# ---------------------------------------------------------------------------- a texture to promote


def draw(path: Path, rng: np.random.Generator, *, hole: bool) -> None:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    shift = rng.uniform(0, 6, 2)
    pattern = np.sin((rows + shift[0]) * 1.0) + np.sin((columns + shift[1]) * 1.0)
    pixels = 128 + 25 * pattern + rng.normal(0, 4, (HEIGHT, WIDTH))
    if hole:
        pixels[20:34, 30:48] = 128
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A texture in MVTec's layout, in a folder `data` that no test changes."""
    root, rng = tmp_path_factory.mktemp("data") / "mesh", np.random.default_rng(0)
    for n in range(14):
        draw(root / "train" / "good" / f"{n:03}.png", rng, hole=False)
    for n in range(4):
        draw(root / "test" / "good" / f"{n:03}.png", rng, hole=False)
        draw(root / "test" / "hole" / f"{n:03}.png", rng, hole=True)
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[20:34, 30:48] = 255
        (root / "ground_truth" / "hole").mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(root / "ground_truth" / "hole" / f"{n:03}_mask.png")
    return root


@pytest.fixture(scope="module")
def made(drawn: Path) -> Bundle:
    materials = recipe.gather(textures.find(drawn.parent, "mesh"))
    return recipe.floor(materials, scale=1.0)


@pytest.fixture(scope="module")
def worse(made: Bundle) -> Bundle:
    """The same detector with most of what it learned forgotten."""
    noise = torch.randn(made.weights["mean"].shape, generator=torch.Generator().manual_seed(0))
    return replace(made, weights={**made.weights, "mean": made.weights["mean"] + 50 * noise})


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One MLflow store for all tests, as opening one takes seconds; `bench` empties it."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


class Bench:
    """One home with a data set, a shelf and an MLflow store, and promotion among them."""

    def __init__(self, home: Path, drawn: Path, uri: str) -> None:
        self.home = home
        self.root = home / "data" / "mesh"
        self.shelf = FolderShelf(home / "shelf")
        self.uri = uri
        self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self.said: list[str] = []
        shutil.copytree(drawn, self.root)

    @property
    def texture(self) -> Texture:
        return textures.find(self.home / "data", "mesh")

    def saved(self, made: Bundle) -> Path:
        folder = self.home / "trials" / str(len(list(self.home.glob("trials/*"))))
        bundle.save(made, folder)
        return folder

    def promote(
        self, folder: Path, *, run_id: str | None = None, because: str | None = None
    ) -> Verdict:
        return promote(
            folder,
            self.texture,
            registry=Registry(shelf=self.shelf, tracking_uri=self.uri),
            run_id=run_id,
            because=because,
            say=self.said.append,
        )

    def served(self, name: str = "mesh") -> str:
        return bundle.digest(self.shelf.fetch(name))

    def alias(self, alias: str) -> int | None:
        found = self.client.get_registered_model("texture-mesh").aliases.get(alias)
        return None if found is None else int(found)

    def empty_mlflow(self) -> None:
        store = open_store(self.uri)
        for model in self.client.search_registered_models():
            self.client.delete_registered_model(model.name)
        for run in store.find({"zoo.texture": "mesh"}):
            self.client.delete_run(run.info.run_id)

    def spoil_the_test_images(self) -> None:
        found = list((self.root / "test").rglob("*.png"))
        assert found
        for path in found:
            path.write_bytes(b"no picture")


@pytest.fixture
def bench(
    tmp_path: Path, drawn: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    made = Bench(tmp_path, drawn, uri)
    yield made
    made.empty_mlflow()


# -------------------------------------------------------------------------------------- promotion


def test_the_first_challenger_becomes_champion_and_is_audited(bench: Bench, made: Bundle) -> None:
    verdict = bench.promote(bench.saved(made))
    assert verdict.promoted
    assert "no champion yet" in verdict.reason
    assert (verdict.champion_ap, verdict.win_share, verdict.version) == (None, None, 1)
    served = bundle.load(bench.shelf.fetch("mesh"))
    assert bench.served() == bench.served("mesh:1") == verdict.digest
    assert {k: v for k, v in served.metrics.items() if k.startswith("test_")} == verdict.metrics
    assert served.metrics["val_pixel_ap"] == made.metrics["val_pixel_ap"]
    assert verdict.challenger_ap == pytest.approx(made.metrics["val_pixel_ap"])
    assert bench.alias("champion") == 1
    assert not (bench.home / "mlruns").exists()


def test_the_version_in_mlflow_holds_the_two_files_and_the_reason(
    bench: Bench, made: Bundle
) -> None:
    verdict = bench.promote(bench.saved(made))
    version = bench.client.get_model_version_by_alias("texture-mesh", "champion")
    assert version.tags["zoo.reason"] == verdict.reason
    assert version.tags["zoo.digest"] == verdict.digest
    assert version.tags["zoo.verdict"] == "promoted"
    kept = Path(str(version.source).removeprefix("file://"))
    assert bundle.digest(kept) == verdict.digest
    assert len(list(kept.iterdir())) == 2
    run = bench.client.get_run(str(version.run_id))
    assert run.info.status == "FINISHED"
    assert run.data.metrics == pytest.approx(dict(verdict.metrics))


def test_the_audit_is_noted_at_the_run_of_the_search(bench: Bench, made: Bundle) -> None:
    runs = SearchRuns(open_store(bench.uri), search="s", texture="mesh", params={})
    verdict = bench.promote(bench.saved(made), run_id=runs.run_id)
    data = bench.client.get_run(runs.run_id).data
    assert data.metrics == pytest.approx(dict(verdict.metrics))
    assert data.tags["zoo.reason"] == verdict.reason
    version = bench.client.get_model_version_by_alias("texture-mesh", "champion")
    assert version.run_id == runs.run_id


def test_a_worse_challenger_is_kept_as_challenger_and_sees_no_test_image(
    bench: Bench, made: Bundle, worse: Bundle
) -> None:
    first = bench.promote(bench.saved(made))
    bench.spoil_the_test_images()
    second = bench.promote(bench.saved(worse))
    assert not second.promoted
    assert f"{second.challenger_ap:.3f} does not beat the champion's" in second.reason
    assert f"{second.champion_ap:.3f}" in second.reason
    assert second.metrics == {}
    assert bench.served() == first.digest
    assert bench.served("mesh@challenger") == bench.served("mesh:2") == second.digest
    assert (bench.alias("champion"), bench.alias("challenger")) == (1, 2)
    kept = bench.client.get_model_version_by_alias("texture-mesh", "challenger")
    assert (kept.tags["zoo.verdict"], kept.tags["zoo.reason"]) == ("refused", second.reason)


def test_a_better_challenger_takes_the_place(bench: Bench, made: Bundle, worse: Bundle) -> None:
    bench.promote(bench.saved(worse), because="it is a start")
    verdict = bench.promote(bench.saved(made))
    assert verdict.promoted
    assert verdict.champion_ap is not None
    assert verdict.challenger_ap > verdict.champion_ap
    assert (bench.served(), bench.alias("champion")) == (verdict.digest, 2)


def test_a_challenger_below_local_statistics_is_refused_also_as_the_first(
    bench: Bench, worse: Bundle
) -> None:
    verdict = bench.promote(bench.saved(worse))
    assert not verdict.promoted
    assert f"val AP of {verdict.challenger_ap:.3f} is below that of local stat" in verdict.reason
    assert bench.served("mesh@challenger") == verdict.digest
    with pytest.raises(UnknownDetectorError):
        bench.served()


def test_force_makes_a_champion_and_the_reason_is_kept(bench: Bench, worse: Bundle) -> None:
    verdict = bench.promote(bench.saved(worse), because="the line must run tonight.")
    assert verdict.promoted
    assert verdict.forced
    assert verdict.reason.startswith("Forced, because the line must run tonight. The gate said: ")
    assert bench.served() == verdict.digest
    [line] = pointer_of(bench.shelf, "mesh").history
    assert (line.act, line.reason) == ("forced", verdict.reason)


def test_a_reason_to_force_changes_nothing_where_the_gate_lets_pass(
    bench: Bench, made: Bundle
) -> None:
    verdict = bench.promote(bench.saved(made), because="just in case")
    assert verdict.promoted
    assert not verdict.forced
    assert "just in case" not in verdict.reason


def test_the_history_has_each_verdict_with_its_figures_and_its_run(
    bench: Bench, made: Bundle, worse: Bundle
) -> None:
    first = bench.promote(bench.saved(made))
    second = bench.promote(bench.saved(worse))
    lines = pointer_of(bench.shelf, "mesh").history
    assert [(line.act, line.version) for line in lines] == [("promoted", 1), ("refused", 2)]
    assert [line.reason for line in lines] == [first.reason, second.reason]
    assert lines[0].figures["test_pixel_ap"] == first.metrics["test_pixel_ap"]
    assert lines[1].figures["val_pixel_ap"] == second.challenger_ap
    assert lines[1].figures["champion_val_pixel_ap"] == second.champion_ap
    for line in lines:
        assert line.run is not None
        assert bench.client.get_run(line.run).data.tags["zoo.verdict"] == line.act


def test_a_rollback_moves_the_shelf_and_mlflows_alias_and_a_second_undoes_it(
    bench: Bench, made: Bundle, worse: Bundle
) -> None:
    registry = Registry(shelf=bench.shelf, tracking_uri=bench.uri)
    first = bench.promote(bench.saved(worse), because="it is a start")
    second = bench.promote(bench.saved(made))
    for digest, version in ((first.digest, 1), (second.digest, 2)):
        roll_back("mesh", registry=registry, because="a test", say=bench.said.append)
        assert (bench.served(), bench.alias("champion")) == (digest, version)


def test_a_rollback_needs_no_mlflow(bench: Bench, made: Bundle, worse: Bundle) -> None:
    first = bench.promote(bench.saved(worse), because="it is a start")
    bench.promote(bench.saved(made))
    nowhere = Registry(shelf=bench.shelf, tracking_uri=f"sqlite:///{bench.home}/no/where/x.db")
    (bench.home / "no").write_text("in the way")
    roll_back("mesh", registry=nowhere, because="", say=bench.said.append)
    assert bench.served() == first.digest
    assert "The shelf has changed; MLflow's alias has not" in bench.said[-1]


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(
    bench: Bench, made: Bundle, worse: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    rival, change = bench.saved(worse), FolderShelf.change

    def late(shelf: FolderShelf, texture: str, edit: Edit, *, folder: Path | None = None) -> Any:
        """Let the rival be first, at the last moment."""
        monkeypatch.setattr(FolderShelf, "change", change)
        bench.promote(rival, because="it was quicker")
        return shelf.change(texture, edit, folder=folder)

    monkeypatch.setattr(FolderShelf, "change", late)
    with pytest.raises(PromotionError, match="Another detector became the champion of 'mesh'"):
        bench.promote(bench.saved(made))
    assert [line.act for line in pointer_of(bench.shelf, "mesh").history] == ["forced"]
    assert bench.promote(bench.saved(made)).promoted


def test_the_champion_is_refused_as_its_own_challenger(bench: Bench, made: Bundle) -> None:
    folder = bench.saved(made)
    first = bench.promote(folder)
    names = names_on(bench.shelf)
    again = bench.promote(folder)
    assert not again.promoted
    assert again.reason == "This detector is already the champion of 'mesh'."
    assert (again.version, again.digest, again.metrics) == (1, first.digest, first.metrics)
    assert names_on(bench.shelf) == names
    assert len(bench.client.search_model_versions("name = 'texture-mesh'")) == 1


def test_a_refused_challenger_tried_again_makes_no_second_version(
    bench: Bench, made: Bundle, worse: Bundle
) -> None:
    bench.promote(bench.saved(made))
    folder = bench.saved(worse)
    first, second = bench.promote(folder), bench.promote(folder)
    assert first == second
    assert len(bench.client.search_model_versions("name = 'texture-mesh'")) == 2


# ---------------------------------------------------------------------------- crashes in between


def test_a_shelf_that_fails_leaves_no_alias_and_a_repeat_finishes_without_a_second_audit(
    bench: Bench, made: Bundle
) -> None:
    folder = bench.saved(made)
    (bench.home / "shelf").write_text("in the way")
    with pytest.raises(StorageError, match="Cannot publish 'mesh'"):
        bench.promote(folder)
    assert bench.alias("champion") is None
    (bench.home / "shelf").unlink()
    bench.spoil_the_test_images()
    verdict = bench.promote(folder)
    assert verdict.promoted
    assert "test_pixel_ap" in verdict.metrics
    assert (bench.alias("champion"), verdict.version) == (1, 1)
    assert len(bench.client.search_model_versions("name = 'texture-mesh'")) == 1


def test_a_crash_before_the_alias_is_mended_by_the_same_command(bench: Bench, made: Bundle) -> None:
    folder = bench.saved(made)
    bench.promote(folder)
    bench.client.delete_registered_model_alias("texture-mesh", "champion")
    assert bench.alias("champion") is None
    assert "already the champion" in bench.promote(folder).reason
    assert bench.alias("champion") == 1


def test_a_new_mlflow_beside_an_old_shelf_takes_the_next_free_version(
    bench: Bench, made: Bundle, worse: Bundle
) -> None:
    old = bench.promote(bench.saved(worse))
    bench.empty_mlflow()
    verdict = bench.promote(bench.saved(made))
    assert (verdict.promoted, verdict.version, bench.alias("champion")) == (True, 2, 1)
    version = bench.client.get_model_version_by_alias("texture-mesh", "champion")
    assert version.tags["zoo.shelf_version"] == "2"
    assert (bench.served("mesh:1"), bench.served()) == (old.digest, verdict.digest)


# --------------------------------------------------------------------------------- what is refused


def test_a_champion_that_was_fitted_on_the_windows_cannot_be_compared(
    bench: Bench, made: Bundle, worse: Bundle
) -> None:
    everything = [picture.key for picture in bench.texture.pictures]
    seen = replace(worse, data={**worse.data, "fit": everything})
    bench.promote(bench.saved(seen), because="it is a start")
    verdict = bench.promote(bench.saved(made))
    assert not verdict.promoted
    assert "0 in 0 families show no pixel that challenger or champion was fitted on" in (
        verdict.reason
    )
    assert (verdict.champion_ap, verdict.win_share) == (None, None)
    assert bench.served("mesh@challenger") == verdict.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: replace(b, texture="wood"), "a detector for 'wood', not for 'mesh'"),
        (lambda b: _with_data(b, fingerprint="sha256:00"), r"other pictures of 'mesh' \(sha256:00"),
        (lambda b: _with_data(b, validation="sha256:00"), r"windows of .* \(sha256:00\) cannot be"),
        (
            lambda b: replace(b, data={"fit": []}),
            "does not say fingerprint, split_seed, validation",
        ),
    ],
)
def test_a_bundle_that_does_not_fit_is_refused_by_name(
    bench: Bench, made: Bundle, change: Callable[[Bundle], Bundle], message: str
) -> None:
    folder = bench.saved(change(made))
    with pytest.raises(PromotionError, match=message) as caught:
        bench.promote(folder)
    assert str(folder) in str(caught.value)
    assert names_on(bench.shelf) == {}


def _with_data(made: Bundle, **changed: str) -> Bundle:
    return replace(made, data={**made.data, **changed})


def test_a_damaged_champion_is_told_and_not_replaced(
    bench: Bench, made: Bundle, worse: Bundle
) -> None:
    bench.promote(bench.saved(made))
    (bench.shelf.fetch("mesh") / bundle.WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(PromotionError, match=r"champion of 'mesh' cannot .*textures/mesh\.json"):
        bench.promote(bench.saved(worse))


def test_a_damaged_challenger_is_told(bench: Bench, made: Bundle) -> None:
    folder = bench.saved(made)
    (folder / bundle.WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(BundleError, match="damaged"):
        bench.promote(folder)


def test_an_unknown_run_is_told_with_the_store(bench: Bench, made: Bundle) -> None:
    with pytest.raises(StorageError, match=rf"{bench.uri}.*nowhere"):
        bench.promote(bench.saved(made), run_id="nowhere")
    assert names_on(bench.shelf) == {}


# -------------------------------------------------------------------------------------- the audit


def test_a_texture_without_test_images_is_promoted_without_audit(
    bench: Bench, made: Bundle
) -> None:
    shutil.rmtree(bench.root / "test")
    verdict = bench.promote(bench.saved(made))
    assert verdict.promoted
    assert verdict.metrics == {}
    assert "There are no test images, so the winner is not audited." in bench.said


def test_the_audit_counts_what_the_detector_says(bench: Bench, made: Bundle) -> None:
    detector, texture = Detector(made), bench.texture
    found = audit(detector, texture)
    said = {
        kind: [
            detector._score(path).is_anomalous for path in (bench.root / "test" / kind).iterdir()
        ]
        for kind in ("good", "hole")
    }
    assert found["test_images"] == 8
    assert found["test_false_alarm_rate"] == np.mean(said["good"])
    assert found["test_detection_rate"] == np.mean(said["hole"])
    assert found["test_seconds_per_image"] > 0
    assert found["test_pixel_auroc"] > 0.7
    assert set(found) >= {"test_pixel_ap", "test_aupro", "test_image_auroc"}


@pytest.mark.parametrize(
    ("kind", "absent"),
    [
        ("good", {"test_false_alarm_rate", "test_image_auroc"}),
        ("hole", {"test_detection_rate", "test_image_auroc", "test_pixel_ap", "test_aupro"}),
    ],
)
def test_the_audit_leaves_out_what_the_test_images_cannot_tell(
    bench: Bench, made: Bundle, kind: str, absent: set[str]
) -> None:
    shutil.rmtree(bench.root / "test" / kind)
    found = audit(Detector(made), bench.texture)
    assert found["test_images"] == 4
    assert not absent & set(found)


def test_a_detector_is_the_same_before_and_after_its_audit(made: Bundle, worse: Bundle) -> None:
    assert same_detector(made, bundle.with_metrics(made, {"test_pixel_ap": 0.5}))
    assert not same_detector(made, worse)
    assert not same_detector(made, replace(made, threshold={**made.threshold, "value": 9.0}))


# ------------------------------------------------------------------------ the test images' reader


def test_nothing_but_the_audit_reads_the_test_images() -> None:
    packages = [Path(str(package.__file__)).parent for package in (zoo, registry, search_spaces)]
    files = [path for package in packages for path in package.rglob("*.py")]
    assert len(files) > 10
    readers = {path.name for path in files if _mentions(path, "read_test")}
    assert readers == {"audit.py"}


def _mentions(path: Path, name: str) -> bool:
    """Tell whether code uses or imports a name; defining it or writing about it does not count."""
    return any(
        (isinstance(node, ast.Name) and node.id == name)
        or (isinstance(node, ast.Attribute) and node.attr == name)
        or (isinstance(node, ast.alias) and node.name == name)
        or (isinstance(node, ast.Constant) and node.value == name)
        for node in ast.walk(ast.parse(path.read_text()))
    )
