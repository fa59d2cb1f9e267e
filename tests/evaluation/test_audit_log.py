"""What a detector says of each test picture: the lines, their bounds, and the nearest ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.bundle import Bundle
from tests.cli.commands import full_disk
from zoo.data import textures
from zoo.detectors import Detector, Score
from zoo.errors import StorageError
from zoo.evaluation import audit_log
from zoo.evaluation.audit import Scored, ScoredPicture, figures, score_test
from zoo.scoring import metrics


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def scored_picture(
    name: str, score: float, *, defect: bool, map_: np.ndarray | None = None
) -> ScoredPicture:
    mask = np.zeros((40, 60), np.bool_)
    mask[5:9, 10:20] = defect
    return ScoredPicture(
        name=name,
        kind="hole" if defect else "good",
        mask=mask,
        key=name,
        score=Score(map=np.zeros((40, 60), np.float32) if map_ is None else map_, score=score),
        seconds=0.25,
    )


@pytest.fixture
def weave(drawn_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn_folder, tmp_path / "data" / "weave"))


def test_each_test_picture_is_a_line_with_what_the_detector_says_of_it(
    weave: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    texture, detector = textures.find(weave, "weave"), Detector(tiny_bundle)
    scored = score_test(detector, texture)
    lines = read(audit_log.write(scored, tmp_path / "new" / "log.jsonl"))
    assert len(lines) == len(list((weave / "test").rglob("*.png"))) > 2
    assert {line["kind"] for line in lines} == {"good", "hole"}
    for line in lines:
        said = detector.score(weave / line["image"])
        regions = line.pop("regions")
        kept = min(len(said.regions), audit_log.REGIONS)
        assert [each["area"] for each in regions] == [each.area for each in said.regions[:kept]]
        expected = {name: value for name, value in said.as_json().items() if name != "regions"}
        assert expected.items() <= line.items()
        assert line["regions_found"] == len(said.regions)
        assert line["defective"] == (line["kind"] != "good") == (line["defective_pixels"] > 0)
        assert (line["pixel_ap"] is None) == (not line["defective"])
        assert line["seconds"] > 0
    seconds = np.mean([line["seconds"] for line in lines])
    assert figures(scored)["test_seconds_per_image"] == pytest.approx(seconds, abs=1e-4)


def test_the_figures_of_a_picture_are_those_of_its_own_pixels(tmp_path: Path) -> None:
    map_ = np.random.default_rng(0).uniform(0, 1.5, (40, 60)).astype(np.float32)
    one = scored_picture("a.png", 2.0, defect=True, map_=map_)
    other = scored_picture("b.png", 2.0, defect=True)
    first, second = read(audit_log.write(Scored(pictures=[one, other]), tmp_path / "log.jsonl"))
    assert one.mask is not None
    expected = metrics.average_precision(map_.ravel(), one.mask.ravel())
    assert first["pixel_ap"] == pytest.approx(expected, abs=1e-4)
    overlap = (map_ > 1) & one.mask
    dice = 2 * overlap.sum() / ((map_ > 1).sum() + one.mask.sum())
    assert first["pixel_f1"] == pytest.approx(dice, abs=1e-4)
    assert second["pixel_f1"] == 0


def test_a_label_without_a_mask_has_no_figures_of_pixels(
    weave: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    shutil.rmtree(weave / "ground_truth")
    scored = score_test(Detector(tiny_bundle), textures.find(weave, "weave"))
    lines = read(audit_log.write(scored, tmp_path / "log.jsonl"))
    holes = [line for line in lines if line["kind"] == "hole"]
    assert holes
    for line in holes:
        assert line["defective"]
        assert line["defective_pixels"] is line["pixel_ap"] is line["pixel_f1"] is None


def test_a_map_full_of_regions_makes_a_line_of_bounded_length(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    map_ = np.zeros((400, 400), np.float32)
    for row in range(0, 400, 20):
        for column in range(0, 400, 20):
            map_[row : row + 19, column : column + 19] = 2 * (rng.random((19, 19)) > 0.4)
    picture = ScoredPicture(
        name="a.png",
        kind="hole",
        mask=None,
        key="a",
        score=Score(map=map_, score=2.0),
        seconds=0.1,
    )
    log = audit_log.write(Scored(pictures=[picture]), tmp_path / "log.jsonl")
    [line] = read(log)
    assert line["regions_found"] > 300
    assert len(line["regions"]) == audit_log.REGIONS
    assert max(len(each["contour"]) for each in line["regions"]) <= audit_log.CORNERS
    assert max(len(each.contour) for each in picture.score.regions) > audit_log.CORNERS
    assert log.stat().st_size < 40_000


def test_the_lowest_defective_and_the_highest_good_pictures_are_named(tmp_path: Path) -> None:
    pictures = [
        *(scored_picture(f"bad/{n}.png", 0.5 + n / 4, defect=True) for n in (3, 0, 4, 1)),
        *(scored_picture(f"good/{n}.png", 0.2 + n / 4, defect=False) for n in (2, 0, 4, 1)),
    ]
    log = audit_log.write(Scored(pictures=pictures), tmp_path / "log.jsonl")
    assert audit_log.nearest(log) == [
        f"{log} has a line for each of 8 test pictures.",
        "Missed 2 of 4 defective; lowest: bad/0.png (0.500), bad/1.png (0.750), bad/3.png (1.250).",
        "False alarms 1 of 4 good; highest: good/4.png (1.200), good/2.png (0.700), "
        "good/1.png (0.450).",
    ]


def test_a_side_without_pictures_has_no_line_and_no_file_has_none(tmp_path: Path) -> None:
    only = Scored(pictures=[scored_picture("a.png", 1.5, defect=True)])
    _, line = audit_log.nearest(audit_log.write(only, tmp_path / "log.jsonl"))
    assert line.startswith("Missed 0 of 1 defective")
    assert audit_log.nearest(tmp_path / "absent.jsonl") == []


@pytest.mark.parametrize(
    "line",
    [
        "oops",
        "[1]",
        "[" * 10**5,
        '{"image": "a.png", "score": "high", "defective": true, "is_anomalous": true}',
        '{"image": "a.png", "score": NaN, "defective": true, "is_anomalous": true}',
        '{"image": ["a.png"], "score": 1.5, "defective": true, "is_anomalous": true}',
        '{"image": "a.png", "score": 1.5, "defective": "true", "is_anomalous": true}',
        '{"image": "a.png", "score": 1.5}',
    ],
)
def test_a_damaged_file_is_told_in_one_line(tmp_path: Path, line: str) -> None:
    whole = '{"image": "b.png", "score": 1.5, "defective": true, "is_anomalous": true}\n'
    (tmp_path / "log.jsonl").write_text(f"{whole}{line}\n")
    (said,) = audit_log.nearest(tmp_path / "log.jsonl")
    assert f"{tmp_path / 'log.jsonl'} cannot be summed up: " in said
    assert "\n" not in said
    assert len(said) < 1000


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    log = audit_log.write(
        Scored(pictures=[scored_picture("a.png", 1.5, defect=True)]), tmp_path / "log.jsonl"
    )
    before = log.read_bytes()
    many = Scored(pictures=[scored_picture("a.png", 1.5, defect=True)] * 50)
    with full_disk(2000), pytest.raises(StorageError, match=r"Cannot write log\.jsonl"):
        audit_log.write(many, log)
    assert log.read_bytes() == before
    assert list(tmp_path.iterdir()) == [log]
