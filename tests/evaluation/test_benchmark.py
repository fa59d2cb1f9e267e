"""Benchmarks: the metrics, the table, and failures, which do not stop the other fits."""

from __future__ import annotations

import ast
import csv
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

import registry
import search_spaces
import zoo
from registry import bundle
from registry.bundle import Bundle
from registry.folder_shelf import FolderShelf
from tests.cli.commands import move_in
from tests.exams import publish
from tests.processes import until
from tests.scripts import script
from zoo import methods
from zoo.cli import main
from zoo.data import textures
from zoo.data.textures import Texture
from zoo.errors import BundleError, ConfigError, DataError
from zoo.evaluation import benchmark
from zoo.evaluation.benchmark_fit import BenchmarkConfig, Fit, Job, System, _answer, measure
from zoo.evaluation.benchmark_table import FITS, PAGE, PLOT, TABLE, page, published, summary
from zoo.methods.local_statistics import LocalStatistics
from zoo.training import (
    Checkpoint,
    Settings,
    gather,
    preset,
    settings_of,
    train,
    with_values,
)

ROOT = Path(__file__).parent.parent.parent
LEAST = System(name="local_statistics", settings=Settings(method=LocalStatistics()))
BLIND = System(name="fcbigan", settings=None, reason="There is no champion.")


@dataclass(frozen=True, kw_only=True)
class Dies(LocalStatistics):
    """A method whose process ends at once, as without memory."""

    def fit(self, images: Sequence[Tensor], **given: Any) -> None:
        os._exit(3)


@dataclass(frozen=True, kw_only=True)
class Waits(LocalStatistics):
    """A method that writes the id of its process, and then fits for longer than a test waits."""

    told: str = ""

    def fit(self, images: Sequence[Tensor], **given: Any) -> None:
        Path(self.told).write_text(str(os.getpid()))
        time.sleep(600)


@pytest.fixture(scope="module")
def grid(drawn_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the drawn texture under the name of a texture of the thesis."""
    data = tmp_path_factory.mktemp("bench")
    shutil.copytree(drawn_folder, data / "grid")
    return data


def config_of(data: Path, *systems: System, seeds: tuple[int, ...] = (1,)) -> BenchmarkConfig:
    return BenchmarkConfig(data=data, category="grid", systems=systems, seeds=seeds, threads=1)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def fit(system: str, seed: int, ap: float | None, **more: float) -> Fit:
    if ap is None:
        reason = "it went | to infinity"
        return Fit(system=system, seed=seed, scale=0.5, figures={}, reason=reason)
    figures = {"test_pixel_ap": ap, "fit_seconds": 2.0} | more
    return Fit(system=system, seed=seed, scale=0.5, figures=figures, tested="6 to test")


# ------------------------------------------------------------------------------------- the systems


def test_all_is_everything_but_the_preset_that_takes_hours() -> None:
    assert benchmark.names_of("all") == tuple(methods.names())
    assert benchmark.names_of("thesis, local_statistics,thesis") == ("thesis", "local_statistics")


def test_an_unknown_method_is_refused_with_the_near_name() -> None:
    with pytest.raises(ConfigError, match="no method 'fcbigna'.*Did you mean 'fcbigan'"):
        benchmark.names_of("local_statistics,fcbigna")


def test_fields_are_set_on_the_method_that_they_name(tiny_bundle: Bundle) -> None:
    values = [("local_statistics.patch", 9), ("fcbigan.scale", 0.25), ("fcbigan.batch", 4)]
    values += [("thesis.width", 8)]
    names = ("fcbigan", "thesis", "local_statistics")
    ours, thesis, least = benchmark.systems(names, values, scale=0.75, champion=tiny_bundle)
    assert least.settings == Settings(method=LocalStatistics(patch=9), scale=0.75)
    assert (ours.scale, thesis.scale) == (0.25, 1.0)
    assert ours.settings is not None
    fields = methods.flat(ours.settings.method)
    assert (fields["batch"], fields["width"]) == (4, tiny_bundle.config["width"])
    assert thesis.settings == with_values(preset("thesis"), {"width": 8})
    assert (ours.last, thesis.last, least.last) == (False, True, False)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("patch", 9, "METHOD.FIELD=VALUE here.* not 'patch'"),
        ("local_statistic.patch", 9, "Did you mean 'local_statistics'"),
        ("local_statistics.pach", 9, "no setting 'pach'.*Did you mean 'patch'"),
        ("local_statistics.patch", "wide", "patch takes a whole number, such as 15, not 'wide'"),
        ("local_statistics.patch", True, "such as 15, not True"),
        ("local_statistics.scale", 2.0, "scale must be above 0 and at most 1, not 2.0"),
        ("thesis.widht", 9, "no setting 'widht'. Did you mean 'width'"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_is_fitted(
    path: str, value: Any, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        benchmark.systems(("local_statistics", "thesis"), [(path, value)], scale=0.5, champion=None)


def test_without_a_champion_there_is_a_reason_and_the_others_are_built() -> None:
    lost, least = benchmark.systems(("fcbigan", "local_statistics"), [], scale=0.5, champion=None)
    assert lost.settings is None
    assert "no champion" in lost.reason
    assert least.settings == Settings(method=LocalStatistics(), scale=0.5)


# ----------------------------------------------------------------------------- settings of a bundle


def test_the_settings_of_a_bundle_are_those_it_was_made_with(
    tiny_bundle: Bundle, tiny_settings: Settings, tmp_path: Path
) -> None:
    bundle.save(tiny_bundle, tmp_path / "b")
    found = settings_of(bundle.load(tmp_path / "b"))
    assert found == replace(tiny_settings, rule=None)


def test_a_field_of_another_age_is_tolerated_and_what_cannot_be_is_told(
    tiny_bundle: Bundle, tiny_settings: Settings
) -> None:
    asked = dict(tiny_bundle.made_by["settings"])
    del asked["ema"]
    old = replace(tiny_bundle, made_by={"settings": asked | {"momentum": 0.5}})
    assert settings_of(old) == replace(tiny_settings, rule=None)
    wrong = replace(tiny_bundle, made_by={"settings": asked | {"batch": "many"}})
    with pytest.raises(BundleError, match="of 'weave' cannot be read: batch takes .*'many'"):
        settings_of(wrong)
    with pytest.raises(BundleError, match="method 'local_statistics' and does not hold"):
        settings_of(replace(tiny_bundle, method="local_statistics", made_by={}))


# ---------------------------------------------------------------------------------------- the table


@pytest.fixture(scope="module")
def texture(grid: Path) -> Texture:
    return textures.find(grid, "grid")


def test_mean_and_spread_are_those_of_the_seeds_that_did_not_fail(texture: Texture) -> None:
    done = [fit("a", 1, 0.2), fit("a", 2, 0.4), fit("a", 3, 0.9), fit("b", 1, 0.5)]
    done += [fit("b", 2, None), fit("c", 1, None)]
    a, b, c = summary(done, texture)
    assert a.mean["test_pixel_ap"] == pytest.approx(0.5)
    assert a.spread["test_pixel_ap"] == pytest.approx(0.13**0.5), "the sample's, over n - 1"
    assert (a.note, a.spread["fit_seconds"]) == ("", 0.0)
    assert (b.mean["test_pixel_ap"], b.spread) == (0.5, {})
    assert b.note == "failed (seed 2): it went | to infinity"
    assert (c.mean, c.spread) == ({}, {})


def test_a_row_shows_mean_spread_what_is_published_and_what_failed(texture: Texture) -> None:
    done = [fit("f_anogan", 1, 0.2), fit("f_anogan", 2, 0.4), fit("f_anogan", 3, None)]
    text = page(summary(done, texture), ["### grid"])
    head, _, row = text.splitlines()[2:]
    cells = [cell.strip() for cell in row.replace("\\|", "/").strip("|").split("|")]
    named = dict(zip((name.strip() for name in head.strip("|").split("|")), cells, strict=True))
    assert named["method"] == "f_anogan"
    assert named["pixel AP"] == "0.300 ± 0.141"
    assert named["AUPRO"] == "-"
    assert named["Peccia 2021"] == "pixel AP 0.050"
    assert named["note"] == "failed (seed 3): it went / to infinity"


@pytest.mark.parametrize(
    ("system", "name", "layout", "said"),
    [
        ("f_anogan", "carpet", "mvtec", {"test_pixel_ap": 0.025}),
        ("f_anogan", "wood", "mvtec", {"test_pixel_ap": 0.159}),
        ("fcbigan", "wood", "mvtec", {"test_pixel_ap": 0.046}),
        ("thesis", "tile", "mvtec", {"test_pixel_ap": 0.138}),
        ("sparse_dictionary", "fibres", "nanotwice", {"test_pixel_auroc": 0.93}),
        ("feature_dictionary", "nanofibres", "nanotwice", {"test_pixel_auroc": 0.97}),
        ("thesis", "nanofibres", "nanotwice", {"test_pixel_auroc": 0.95}),
        ("f_anogan", "nanofibres", "nanotwice", {}),
        ("sparse_dictionary", "grid", "mvtec", {}),
        ("local_statistics", "grid", "mvtec", {}),
        ("f_anogan", "weave", "mvtec", {}),
        ("f_anogan", "grid", "bare", {}),
        ("thesis", "nanofibres", "mvtec", {"test_pixel_auroc": 0.95}),
    ],
)
def test_a_published_figure_stands_beside_its_own_system_and_texture_alone(
    texture: Texture, system: str, name: str, layout: Any, said: dict[str, float]
) -> None:
    assert published(system, replace(texture, name=name, layout=layout)) == said


# ----------------------------------------------------------------------------------------- the fits


def test_a_failure_becomes_a_row_and_the_others_go_on(
    grid: Path, texture: Texture, tmp_path: Path
) -> None:
    held = np.ones(75_000_000)  # 600 MB that a child must not count as its own
    dies = System(name="dies", settings=Settings(method=Dies()))
    said: list[str] = []
    config = config_of(grid, BLIND, dies, LEAST)
    benchmark.run(config, texture, out=tmp_path / "out", say=said.append)
    rows = read(tmp_path / "out" / TABLE)
    assert [row["method"] for row in rows] == ["fcbigan", "dies", "local_statistics"]
    assert rows[0]["note"] == "failed: There is no champion."
    assert rows[0]["published_test_pixel_ap"] == "0.098"
    assert rows[1]["note"] == "failed (seed 1): Its process ended with code 3."
    assert rows[2]["note"] == ""
    [*failed, least] = read(tmp_path / "out" / FITS)
    assert len(failed) == 2
    assert 0 < float(least["test_pixel_ap"]) <= 1
    assert 100 < float(least["peak_megabytes"]) < held.nbytes / 2**20
    page = (tmp_path / "out" / PAGE).read_text()
    assert f"14 good pictures ({texture.fingerprint[:19]}), 6 to test, 3 of them" in page
    assert "threads for a fit: 1" in page
    with Image.open(tmp_path / "out" / PLOT) as plot:
        assert min(plot.size) > 100
    assert "grid: local_statistics, seed 1, scale 1.0 ..." in said


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="asks Linux which processes there are")
def test_a_fit_does_not_outlive_a_benchmark_that_is_killed(
    grid: Path, texture: Texture, tmp_path: Path
) -> None:
    told = tmp_path / "pid"
    config = config_of(grid, System(name="waits", settings=Settings(method=Waits(told=str(told)))))
    killed = multiprocessing.get_context("spawn").Process(
        target=benchmark.run, args=(config, texture), kwargs={"out": tmp_path / "out", "say": print}
    )
    killed.start()
    until(lambda: told.exists() and told.read_text() != "", what="it does not begin")
    fitting = Path("/proc", told.read_text())
    assert fitting.exists()
    killed.kill()
    killed.join()
    until(lambda: not fitting.exists(), what="its fit goes on", seconds=10)


def test_what_a_user_can_put_right_is_the_reason_of_a_row(grid: Path, texture: Texture) -> None:
    large = System(name="large", settings=Settings(method=LocalStatistics(patch=999)))
    receiver, sender = Pipe(duplex=False)
    config = config_of(grid, large)
    _answer(Job(config=config, system=large, seed=1, fingerprint=texture.fingerprint), sender)
    found = receiver.recv()
    assert (found.system, found.figures) == ("large", {})
    assert "a patch of 999 at scale 1.0 needs 999x999" in found.reason
    [row] = summary([found], texture)
    assert row.note == f"failed (seed 1): {found.reason}"


def test_a_fit_is_measured_as_the_audit_of_the_same_detector(
    grid: Path, texture: Texture, tiny_settings: Settings
) -> None:
    from zoo.detectors.detector import Detector
    from zoo.evaluation.audit import audit

    system = System(name="fcbigan", settings=tiny_settings)
    job = Job(
        config=config_of(grid, system), system=system, seed=5, fingerprint=texture.fingerprint
    )
    found = measure(job)
    checkpoints: list[Checkpoint] = []
    train(gather(texture), tiny_settings, seed=5, report=checkpoints.append)
    best = max(checkpoints, key=lambda checkpoint: checkpoint.metrics["val_pixel_ap"])
    assert len(checkpoints) == 2
    expected = audit(Detector(best.bundle), texture)
    for name in ("test_pixel_ap", "test_aupro", "test_image_auroc"):
        assert found.figures[name] == pytest.approx(expected[name])
    assert found.figures["val_pixel_ap"] == pytest.approx(best.metrics["val_pixel_ap"])
    with pytest.raises(DataError, match="have changed since the benchmark started"):
        measure(replace(job, fingerprint="sha256:0"))


def test_an_interruption_keeps_what_is_done(grid: Path, texture: Texture, tmp_path: Path) -> None:
    def say(line: str) -> None:
        if line.startswith("grid: local_statistics"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        benchmark.run(config_of(grid, BLIND, LEAST), texture, out=tmp_path / "out", say=say)
    assert [row["method"] for row in read(tmp_path / "out" / TABLE)] == ["fcbigan"]
    with pytest.raises(ConfigError, match="out holds a benchmark already"):
        benchmark.run(config_of(grid, BLIND), texture, out=tmp_path / "out", say=print)


def test_without_test_images_there_is_nothing_to_compare(grid: Path, tmp_path: Path) -> None:
    shutil.copytree(grid / "grid" / "train", tmp_path / "grid" / "train")
    bare = textures.find(tmp_path, "grid")
    with pytest.raises(DataError, match="no test images of 'grid'"):
        benchmark.run(config_of(tmp_path, LEAST), bare, out=tmp_path / "out", say=print)
    assert not (tmp_path / "out").exists()


def test_a_damaged_mask_is_told_before_the_first_fit(grid: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(grid, data)
    mask = sorted((data / "grid" / "ground_truth").rglob("*.png"))[0]
    mask.write_bytes(mask.read_bytes()[:30])
    said: list[str] = []
    with pytest.raises(DataError, match=mask.name):
        benchmark.run(
            config_of(data, LEAST),
            textures.find(data, "grid"),
            out=tmp_path / "out",
            say=said.append,
        )
    assert said == []


# ------------------------------------------------------------------------------------- the command


def test_the_command_prints_the_table_and_says_where_it_is(
    capsys: pytest.CaptureFixture[str],
    grid: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    move_in(tmp_path / "home", monkeypatch)
    command = ["bench", "--category", "grid", "--data", str(grid), "--methods", "fcbigan"]
    with pytest.raises(SystemExit, match="2"):
        main(command)
    ended = capsys.readouterr()
    assert "None of fcbigan could be fitted" in ended.err
    [folder] = (tmp_path / "home" / "bench").iterdir()
    assert folder.name.startswith("grid-")
    assert ended.out == (folder / PAGE).read_text()
    assert "There is no champion" in ended.out
    assert str(folder) in ended.err
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--json", "--out", str(tmp_path / "out")])
    answer = json.loads(capsys.readouterr().out)
    assert answer["rows"][0]["published"] == {"test_pixel_ap": 0.098}


def test_a_damaged_champion_is_told_and_stops_no_other_system(
    capsys: pytest.CaptureFixture[str],
    grid: Path,
    tiny_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    move_in(tmp_path / "home", monkeypatch)
    bundle.save(tiny_bundle, tmp_path / "b")
    publish(FolderShelf(tmp_path / "home" / "shelf"), tmp_path / "b", texture="grid", version=1)
    [weights] = (tmp_path / "home" / "shelf").glob("objects/*/weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    asked = ["bench", "--category", "grid", "--data", str(grid), "--seeds", "1", "--threads", "1"]
    main([*asked, "--methods", "fcbigan,local_statistics", "--scale", "1"])
    ended = capsys.readouterr()
    assert "damaged" in ended.err
    assert "There is no champion" in ended.out
    assert "local_statistics" in ended.out


def test_the_command_says_that_all_leaves_the_preset_out(
    capsys: pytest.CaptureFixture[str],
    grid: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    move_in(tmp_path / "home", monkeypatch)
    with pytest.raises(SystemExit):
        main(["bench", "--category", "grid", "--data", str(grid), "--set", "nothing.at_all=1"])
    said = capsys.readouterr().err
    assert "`all` leaves out `thesis`" in said
    assert "not 'nothing.at_all'" in said


# ------------------------------------------------------------------------------ readme and readers


def test_the_page_takes_tables_between_its_markers_and_keeps_the_rest() -> None:
    module = script("make_results")
    before = module.RESULTS.read_text("utf-8")
    once = module.with_results(before, ["### grid\n| a |\n", "### wood\n| b |\n"])
    assert f"{module.BEGIN}\n\n### grid\n| a |\n\n### wood\n| b |\n\n{module.END}" in once
    again = module.with_results(once, ["### tile\n| c |\n"])
    assert "grid\n| a |" not in again
    assert again.partition(module.BEGIN)[0] == before.partition(module.BEGIN)[0]
    assert again.partition(module.END)[2] == before.partition(module.END)[2]
    for broken in ("no marker", f"{module.END} {module.BEGIN}", f"{before}{module.BEGIN}"):
        with pytest.raises(ValueError, match="each once"):
            module.with_results(broken, ["a"])


def test_only_those_who_ask_after_a_choice_ask_the_audit() -> None:
    packages = [Path(str(package.__file__)).parent for package in (zoo, registry, search_spaces)]
    files = [path for package in packages for path in package.rglob("*.py")]
    askers = {
        path.relative_to(ROOT).as_posix()
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and (
            node.module == "zoo.evaluation.audit"
            or (node.module == "zoo.evaluation" and "audit" in {each.name for each in node.names})
        )
    }
    assert {name.rpartition("/")[0] for name in askers} == {"zoo/evaluation", "zoo/promotion"}
