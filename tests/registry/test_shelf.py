"""Which shelf is opened, and what that imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from registry.s3_shelf import S3Shelf
from registry.shelf import open_shelf
from tests.exams import drawn_bundle
from zoo.errors import ConfigError, UnknownDetectorError
from zoo.home import home


def test_the_shelf_is_under_the_home_unless_set_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aws: None
) -> None:
    monkeypatch.delenv("ZOO_SHELF", raising=False)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    assert home() == tmp_path / "home"
    with pytest.raises(UnknownDetectorError, match=f"shelf {tmp_path / 'home' / 'shelf'};"):
        open_shelf().fetch("grid")
    monkeypatch.setenv("ZOO_SHELF", str(tmp_path / "other"))
    with pytest.raises(UnknownDetectorError, match=f"shelf {tmp_path / 'other'};"):
        open_shelf().fetch("grid")
    assert isinstance(open_shelf("s3://zoo/p"), S3Shelf)
    monkeypatch.delenv("ZOO_HOME")
    assert home() == Path("zoo-home")


@pytest.mark.parametrize("url", ["gs://zoo/p", "s3://", "ftp://zoo/p"])
def test_an_address_that_is_no_shelf_is_refused(url: str, aws: None) -> None:
    with pytest.raises(ConfigError, match=f"'{url}' is no shelf"):
        open_shelf(url)


def test_a_folder_shelf_needs_neither_torch_nor_mlflow_nor_boto3(tmp_path: Path) -> None:
    drawn_bundle(tmp_path / "b")
    code = (
        "import sys; from pathlib import Path; from registry.pointer import Entry\n"
        "from registry import bundle; from registry.shelf import open_shelf\n"
        f"folder, entry = Path({str(tmp_path / 'b')!r}), Entry(act='promoted', version=1)\n"
        "edit = lambda old: old.with_champion(bundle.digest(folder), entry, against=None)\n"
        f"open_shelf({str(tmp_path / 'shelf')!r}).change('grid', edit, folder=folder)\n"
        "heavy = {'mlflow', 'ray', 'optuna', 'boto3', 'botocore', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
