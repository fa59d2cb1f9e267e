"""`zoo promote` and `zoo rollback`: the verdict, the audit, and failures that change nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import zoo
from registry import bundle
from tests.cli.commands import Shop, champion, full_disk, refused
from tests.memo import Memo
from zoo.cli import main
from zoo.data import textures
from zoo.training import choose, gather, made


def test_promoting_answers_with_the_verdict_and_the_audit(shop: Shop) -> None:
    assert shop.promoted["promoted"] is True
    assert shop.promoted["reason"].startswith("Forced, because a second of training")
    assert "is below that of the sum of the best methods that learn" in shop.promoted["reason"]
    assert shop.promoted["test_images"] == 6
    assert 0 <= shop.promoted["test_pixel_ap"] <= 1


def test_promoting_the_champion_again_is_refused_with_the_reason(
    capsys: pytest.CaptureFixture[str], shop: Shop
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["promote", str(shop.made), "--data", str(shop.data), "--json"])
    assert exit_.value.code == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["promoted"] is False
    assert "already the champion of 'weave'" in answer["reason"]


def test_force_and_its_reason_come_together(capsys: pytest.CaptureFixture[str], shop: Shop) -> None:
    promote = ("promote", shop.made, "--data", shop.data)
    assert "--force needs --because" in refused(capsys, *promote, "--force")
    assert "add --force, or leave it out" in refused(capsys, *promote, "--because", "x")


def test_a_mask_of_another_size_fails_the_audit_and_the_champion_stays(
    capsys: pytest.CaptureFixture[str],
    stocked: Shop,
    home: Path,
    weave: Path,
    tmp_path: Path,
    untrained_once: Memo,
) -> None:
    shutil.copytree(stocked.home, home)
    data = gather(textures.find(weave.parent, "weave"))
    parts = untrained_once.parts_of(data)
    bundle.save(made(parts, choose(parts, data), data), tmp_path / "better")
    before = bundle.digest(champion(home))

    Image.new("L", (40, 30)).save(weave / "ground_truth" / "hole" / "001_mask.png")
    line = refused(capsys, "promote", tmp_path / "better", "--data", weave.parent)
    assert "001_mask.png" in line
    assert "30x40" in line
    assert "64x72" in line
    assert bundle.digest(champion(home)) == before


def test_a_disk_that_fills_up_while_promoting_leaves_the_shelf_as_it_was(
    capsys: pytest.CaptureFixture[str], stocked: Shop, home: Path
) -> None:
    with full_disk(2048):
        line = refused(capsys, "promote", stocked.made, "--data", stocked.data)
    assert line.startswith("zoo: Cannot ")
    assert zoo.names() == []


def test_a_rollback_without_a_champion_before_is_refused(
    capsys: pytest.CaptureFixture[str], shop: Shop
) -> None:
    assert "no champion before this one" in refused(capsys, "rollback", "weave")
