"""`zoo sign`, and what a promotion signs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import zoo
from registry.folder_shelf import FolderShelf
from tests.cli.commands import FORCE, Shop, refused
from tests.registry.test_signing import new_key
from zoo.cli import main


def test_a_detector_that_is_signed_on_the_shelf_is_loaded_where_only_that_key_is_trusted(
    capsys: pytest.CaptureFixture[str],
    stocked: Shop,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(stocked.home / "shelf", home / "shelf")
    private, public = new_key(tmp_path / "keys")
    monkeypatch.setenv("ZOO_TRUSTED_KEYS", str(public))
    image = stocked.images[0]
    assert "should have a signature by a key of" in refused(capsys, "score", "weave", image)
    assert "name one with --key or ZOO_SIGNING_KEY" in refused(capsys, "sign", "weave")
    assert "Did you mean 'weave'" in refused(capsys, "sign", "waeve", "--key", private)
    assert "Ed25519 private key" in refused(capsys, "sign", "weave", "--key", public)
    main(["sign", "weave", "--key", str(private), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["signed"] == "weave:1"
    assert zoo.load("weave").digest == answer["digest"]
    main(["shelf", "verify"])
    assert capsys.readouterr().out.endswith("ok\n")


def test_a_promotion_with_a_key_signs_what_it_publishes(
    stocked: Shop, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = new_key(tmp_path / "keys")
    monkeypatch.setenv("ZOO_SIGNING_KEY", str(private))
    main(["promote", str(stocked.made), "--data", str(stocked.data), *FORCE])
    assert len(FolderShelf(home / "shelf").pointer("weave").signatures) == 1
    monkeypatch.setenv("ZOO_TRUSTED_KEYS", str(public))
    assert zoo.load("weave").version == 1
