"""What older versions stored is still read: bundles, a shelf, an MLflow store, a search folder.

`tests/stored/formats/N/` has a bundle of format N and what it scored when it was made; `N-fused/`
has one with parts. A new format gets a folder of its own. `tests/stored/0.1/` is a whole home of
version 0.1; its README says how it was made. `tests/search/test_resume_stored.py` resumes a search
of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from registry import bundle
from tests import textures_drawn
from tests.cli.commands import move_in
from tests.stored.placed import STORED, place
from tests.textures_drawn import HEIGHT, WIDTH, draw, draw_hole
from zoo import methods
from zoo.cli import main
from zoo.detectors import Detector
from zoo.training import settings_of

FORMATS = sorted((STORED / "formats").iterdir())
OLD = STORED / "0.1"
EXPECTED: dict[str, Any] = json.loads((OLD / "expected.json").read_text())
PICTURE = OLD / "picture.png"


def assert_scores_as_it_did(detector: Detector, expected: dict[str, Any]) -> None:
    found, before = detector.score(PICTURE), np.load(OLD / expected["map"])
    # Processors with other vector units differ by some 4e-7 of the largest value.
    np.testing.assert_allclose(found.map, before, rtol=1e-5, atol=1e-6 * np.abs(before).max())
    assert found.score == pytest.approx(expected["score"], rel=1e-5)
    assert found.is_anomalous == expected["is_anomalous"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stored home. Nothing in it is changed by the tests that share it."""
    return place("home", tmp_path_factory.mktemp("stored"))


@pytest.mark.parametrize("folder", FORMATS, ids=lambda folder: folder.name)
def test_a_bundle_of_each_format_loads_and_scores_as_it_did(folder: Path) -> None:
    detector = Detector(bundle.load(folder))
    rng = np.random.default_rng(5)
    images = {"hole": draw_hole(HEIGHT, WIDTH, rng)[0], "good": draw(HEIGHT, WIDTH, rng)}
    expected = json.loads((folder / "expected.json").read_text())
    for name, image in images.items():
        found = detector.map(image)
        assert float(found.max()) == pytest.approx(expected[name]["max"], rel=1e-4)
        assert float(found.mean()) == pytest.approx(expected[name]["mean"], rel=1e-3, abs=1e-4)
        if "score" in expected[name]:
            assert detector.score(image).score == pytest.approx(expected[name]["score"], rel=1e-4)


def test_the_format_that_is_written_now_is_among_them() -> None:
    assert str(bundle.FORMAT) in [folder.name for folder in FORMATS]


@pytest.mark.parametrize("name", EXPECTED["bundles"])
def test_a_bundle_of_each_other_method_scores_as_it_did(name: str) -> None:
    found = bundle.load(OLD / "bundles" / name)
    assert bundle.digest(OLD / "bundles" / name) == EXPECTED["bundles"][name]["digest"]
    assert_scores_as_it_did(Detector(found), EXPECTED["bundles"][name])


@pytest.mark.parametrize("name", EXPECTED["detectors"])
def test_the_shelf_serves_champion_and_previous_as_they_were(home: Path, name: str) -> None:
    detector = zoo.load(name, shelf=str(home / "shelf"))
    assert_scores_as_it_did(detector, EXPECTED["detectors"][name])
    asked = methods.flat(settings_of(detector.bundle).method)
    assert asked["megapixels"] in (0.1, 2.0), "of its training, not the default"
    assert {field: asked[field] for field in detector.bundle.config} == detector.bundle.config
    assert f"version={EXPECTED['detectors'][name]['version']}" in repr(detector)
    assert zoo.names(shelf=str(home / "shelf")) == ["weave"]


def test_its_card_history_and_searches_are_shown(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    move_in(home, monkeypatch)
    main(["show", "weave@previous", "--json"])
    card = json.loads(capsys.readouterr().out)
    assert card["digest"] == EXPECTED["detectors"]["weave@previous"]["digest"]
    assert 0 < card["metrics"]["val"]["pixel_ap_baseline"] < card["metrics"]["val"]["pixel_ap"]
    main(["history", "weave", "--json"])
    acts = [line["act"] for line in json.loads(capsys.readouterr().out)]
    assert acts == ["promoted", "forced"]
    main(["runs", "--json"])
    [search] = json.loads(capsys.readouterr().out)
    assert search["name"] == EXPECTED["audit"]["search"]
    assert search["totals"]["trials_finished"] == 2


def test_its_search_is_audited_with_the_same_figures(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    move_in(home, monkeypatch)
    data = textures_drawn.write_folder(tmp_path / "data" / "weave").parent
    main(["audit", "--category", "weave", "--data", str(data), "--json"])
    found = json.loads(capsys.readouterr().out)
    for name, value in EXPECTED["audit"].items():
        assert found[name] == (
            pytest.approx(value, rel=1e-4) if isinstance(value, float) else value
        )


def test_it_is_rolled_back_and_forth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = place("home", tmp_path)
    move_in(own, monkeypatch)
    for champion in (1, 2):
        main(["rollback", "weave", "--json"])
        assert json.loads(capsys.readouterr().out) == {"texture": "weave", "champion": champion}
    assert_scores_as_it_did(zoo.load("weave"), EXPECTED["detectors"]["weave"])
