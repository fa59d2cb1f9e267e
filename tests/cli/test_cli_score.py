"""`zoo score`: a JSON line and an overlay for each image, and images that cannot be scored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import zoo
from tests.cli.commands import Shop, refused
from zoo.cli import main

ZOO = Path(sys.executable).parent / "zoo"


def test_every_image_is_a_json_line_with_an_overlay_of_its_own(
    capsys: pytest.CaptureFixture[str], shop: Shop, tmp_path: Path
) -> None:
    main(["score", "weave", *map(str, shop.images), "--out", str(tmp_path / "maps")])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["image"] for line in lines] == [str(path) for path in shop.images]
    assert len(lines) == 6
    detector = zoo.load("weave")
    for line in lines:
        score = detector.score(line["image"])
        assert line["score"] == pytest.approx(score.score, abs=1e-5)
        assert line["threshold"] == pytest.approx(score.threshold, abs=1e-5)
        assert line["is_anomalous"] == score.is_anomalous == (score.score > score.threshold)
        assert line["anomalous_pixels"] == score.mask.sum()
    overlays = [Path(line["overlay"]) for line in lines]
    assert sorted((tmp_path / "maps").iterdir()) == sorted(overlays)
    assert len(set(overlays)) == 6, "images of one name in two folders overwrite each other"
    for overlay in overlays:
        with Image.open(overlay) as picture:
            assert picture.size == (4 * (72 + 4 + 72), 4 * 64), "both enlarged to 256 pixels"


def test_scoring_goes_on_past_an_unreadable_image_and_says_so_at_the_end(
    capsys: pytest.CaptureFixture[str], shop: Shop, tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    images = [shop.images[0], tmp_path / "bad.png", tmp_path / "absent.png", shop.images[1]]
    with pytest.raises(SystemExit) as exit_:
        main(["score", "weave", *map(str, images)])
    assert exit_.value.code == 2
    ended = capsys.readouterr()
    scored = [json.loads(line)["image"] for line in ended.out.splitlines()]
    assert scored == [str(images[0]), str(images[3])]
    said = ended.err.splitlines()
    assert "bad.png" in said[0]
    assert "absent.png" in said[1]
    assert said[2].startswith("zoo: 2 of 4 images could not be scored; the others were.")


def test_a_picture_that_cannot_be_written_is_refused_with_the_place(
    capsys: pytest.CaptureFixture[str], shop: Shop, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    line = refused(capsys, "score", "weave", shop.images[0], "--out", tmp_path / "file" / "maps")
    assert str(tmp_path / "file") in line


@pytest.fixture
def pipe() -> Iterator[int]:
    """The writing end of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


def test_a_reader_that_has_left_is_no_error(shop: Shop, pipe: int) -> None:
    ended = subprocess.run(
        [ZOO, "score", "weave", *shop.images],
        stdout=pipe,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
