"""Promotion with small real detectors: comparison, gate, audit."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import registry
import search_spaces
import zoo
from registry import bundle
from registry.bundle import Bundle
from registry.folder_shelf import FolderShelf
from registry.shelf import names_on, pointer_of
from tests.exams import publish
from tests.promotion.home import Home
from zoo.detectors import Detector
from zoo.errors import BundleError, PromotionError, UnknownDetectorError
from zoo.evaluation.audit import audit
from zoo.promotion import Origin, promotion
from zoo.promotion.comparison import window_maps
from zoo.training import gather


def test_the_first_challenger_becomes_champion_and_is_audited(home: Home, made: Bundle) -> None:
    done = home.promote(home.saved(made))
    decision = done.decision
    assert decision.promoted
    assert "no champion yet" in decision.reason
    assert (decision.champion_ap, decision.win_share, done.version) == (
        None,
        None,
        1,
    )
    served = bundle.load(home.shelf.fetch("mesh"))
    assert home.served() == home.served("mesh:1") == done.digest
    assert {k: v for k, v in served.metrics.items() if k.startswith("test_")} == done.metrics
    assert served.metrics["val_pixel_ap"] == made.metrics["val_pixel_ap"]
    assert decision.challenger_ap == pytest.approx(made.metrics["val_pixel_ap"])
    assert home.alias("champion") == 1
    assert not (home.folder / "mlruns").exists()


def test_the_first_of_a_name_that_a_starter_has_is_promoted_without_it_and_hides_it(
    home: Home, made: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However good the starter is: it was made of other material."""
    folder = home.saved(made)
    starters = FolderShelf(home.folder / "starters")
    starter = publish(starters, folder, texture="mesh", version=1)
    before = sorted(home.folder.glob("starters/**/*"))
    monkeypatch.setattr("zoo.home.STARTERS", home.folder / "starters")
    monkeypatch.setenv("ZOO_STARTERS", "on")
    monkeypatch.setenv("ZOO_SHELF", str(home.folder / "shelf"))
    detector = zoo.load("mesh")
    assert detector.digest == starter
    done = home.promote(folder)
    assert done.decision.promoted
    assert done.decision.champion_ap is None
    assert any("'mesh' and its versions are those of this shelf" in line for line in home.said)
    assert zoo.show("mesh:1")["digest"] == done.digest != starter
    assert not zoo.show("mesh")["starter"]
    assert detector.refresh()
    assert detector.digest == done.digest
    assert sorted(home.folder.glob("starters/**/*")) == before
    home.said.clear()
    home.promote(folder)
    assert not any("starter" in line for line in home.said)
    shutil.rmtree(home.folder / "shelf")
    with pytest.raises(UnknownDetectorError):  # and not back to the starter
        detector.refresh()
    assert detector.digest == done.digest


def test_a_worse_challenger_is_kept_as_challenger_and_sees_no_test_image(
    home: Home, made: Bundle, worse: Bundle
) -> None:
    first = home.promote(home.saved(made))
    home.spoil_the_test_images()
    second = home.promote(home.saved(worse))
    decision = second.decision
    assert not decision.promoted
    assert f"{decision.challenger_ap:.3f} does not beat the champion's" in decision.reason
    assert f"{decision.champion_ap:.3f}" in decision.reason
    assert second.metrics == {}
    assert home.served() == first.digest
    assert home.served("mesh@challenger") == home.served("mesh:2") == second.digest
    assert (home.alias("champion"), home.alias("challenger")) == (1, 2)
    kept = home.client.get_model_version_by_alias("texture-mesh", "challenger")
    assert (kept.tags["zoo.verdict"], kept.tags["zoo.reason"]) == (
        "refused",
        decision.reason,
    )


def test_a_better_challenger_takes_the_place(home: Home, made: Bundle, worse: Bundle) -> None:
    home.promote(home.saved(worse), because="it is a start")
    done = home.promote(home.saved(made))
    decision = done.decision
    assert decision.promoted
    assert decision.champion_ap is not None
    assert decision.challenger_ap > decision.champion_ap
    assert (home.served(), home.alias("champion")) == (done.digest, 2)


def test_a_challenger_below_the_untrained_methods_is_refused_also_as_the_first(
    home: Home, worse: Bundle
) -> None:
    done = home.promote(home.saved(worse))
    decision = done.decision
    assert not decision.promoted
    assert (
        f"val AP of {decision.challenger_ap:.3f} is below that of the sum of the best methods"
        in (decision.reason)
    )
    assert home.served("mesh@challenger") == done.digest
    with pytest.raises(UnknownDetectorError):
        home.served()


def test_the_untrained_maps_of_a_search_are_used_and_no_method_is_fitted_again(
    home: Home, made: Bundle, worse: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fitted_again(*_: object, **__: object) -> None:
        raise AssertionError("a method was fitted again")

    monkeypatch.setattr(promotion, "untrained", fitted_again)
    windows = gather(home.texture).validation
    better = {"what learns nothing": window_maps(Detector(made), windows)}
    decision = home.promote(home.saved(worse), origin=Origin(untrained=better)).decision
    assert not decision.promoted
    assert "is below that of what learns nothing" in decision.reason
    below = {"what learns nothing": window_maps(Detector(worse), windows)}
    assert home.promote(home.saved(made), origin=Origin(untrained=below)).decision.promoted


def test_force_makes_a_champion_and_the_reason_is_kept(home: Home, worse: Bundle) -> None:
    done = home.promote(home.saved(worse), because="the line must run tonight.")
    decision = done.decision
    assert decision.promoted
    assert decision.forced
    assert decision.reason.startswith("Forced, because the line must run tonight. The gate said: ")
    assert home.served() == done.digest
    [line] = pointer_of(home.shelf, "mesh").history
    assert (line.act, line.reason) == ("forced", decision.reason)


def test_a_reason_to_force_changes_nothing_where_the_gate_lets_pass(
    home: Home, made: Bundle
) -> None:
    done = home.promote(home.saved(made), because="just in case")
    decision = done.decision
    assert decision.promoted
    assert not decision.forced
    assert "just in case" not in decision.reason


def test_the_champion_is_refused_as_its_own_challenger(home: Home, made: Bundle) -> None:
    folder = home.saved(made)
    first = home.promote(folder)
    names = names_on(home.shelf)
    again = home.promote(folder)
    assert not again.decision.promoted
    assert again.decision.reason == "This detector is already the champion of 'mesh'."
    assert (again.version, again.digest, again.metrics) == (1, first.digest, first.metrics)
    assert names_on(home.shelf) == names
    assert len(home.client.search_model_versions("name = 'texture-mesh'")) == 1


def test_a_champion_that_was_fitted_on_the_windows_cannot_be_compared(
    home: Home, made: Bundle, worse: Bundle
) -> None:
    everything = [picture.key for picture in home.texture.pictures]
    seen = replace(worse, data={**worse.data, "fit": everything})
    home.promote(home.saved(seen), because="it is a start")
    done = home.promote(home.saved(made))
    decision = done.decision
    assert not decision.promoted
    assert "0 in 0 families show no pixel that challenger or champion was fitted on" in (
        decision.reason
    )
    assert (decision.champion_ap, decision.win_share) == (None, None)
    assert home.served("mesh@challenger") == done.digest


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
    home: Home, made: Bundle, change: Callable[[Bundle], Bundle], message: str
) -> None:
    folder = home.saved(change(made))
    with pytest.raises(PromotionError, match=message) as caught:
        home.promote(folder)
    assert str(folder) in str(caught.value)
    assert names_on(home.shelf) == {}


def _with_data(made: Bundle, **changed: str) -> Bundle:
    return replace(made, data={**made.data, **changed})


def test_a_damaged_champion_is_reported_and_not_replaced(
    home: Home, made: Bundle, worse: Bundle
) -> None:
    home.promote(home.saved(made))
    (home.shelf.fetch("mesh") / bundle.WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(PromotionError, match=r"champion of 'mesh' cannot .*textures/mesh\.json"):
        home.promote(home.saved(worse))


def test_a_damaged_challenger_is_reported(home: Home, made: Bundle) -> None:
    folder = home.saved(made)
    (folder / bundle.WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(BundleError, match="damaged"):
        home.promote(folder)


def test_a_texture_without_test_images_is_promoted_without_audit(home: Home, made: Bundle) -> None:
    shutil.rmtree(home.pictures / "test")
    done = home.promote(home.saved(made))
    assert done.decision.promoted
    assert done.metrics == {}
    assert "There are no test images, so the winner is not audited." in home.said


def test_the_audit_counts_what_the_detector_says(home: Home, made: Bundle) -> None:
    detector, texture = Detector(made), home.texture
    found = audit(detector, texture)
    said = {
        kind: [
            detector.score(path).is_anomalous for path in (home.pictures / "test" / kind).iterdir()
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
def test_the_audit_leaves_out_what_the_test_images_cannot_show(
    home: Home, made: Bundle, kind: str, absent: set[str]
) -> None:
    shutil.rmtree(home.pictures / "test" / kind)
    if kind == "hole":
        shutil.rmtree(home.pictures / "ground_truth")
    found = audit(Detector(made), home.texture)
    assert found["test_images"] == 4
    assert not absent & set(found)


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
