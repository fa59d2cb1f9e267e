"""What the tests of commands share: homes with and without a detector, and a copy of the data."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path

import pytest

from tests.cli.commands import FORCE, TRAIN, Shop, move_in
from tests.memo import Memo
from zoo.cli import main


@pytest.fixture(autouse=True)
def quick_promotions(untrained_once: Memo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands in this process use them."""
    untrained_once.used(monkeypatch)


@pytest.fixture(scope="session")
def stocked(
    drawn_folder: Path, untrained_once: Memo, tmp_path_factory: pytest.TempPathFactory
) -> Shop:
    """`zoo train` and `zoo promote` on the drawn texture."""
    root, data = tmp_path_factory.mktemp("shop"), drawn_folder.parent
    answers = []
    of_weave = ["--category", "weave", "--data", str(data)]
    for command in (
        [*TRAIN, *of_weave, "--out", str(root / "made"), "--json"],
        ["promote", str(root / "made"), "--data", str(data), "--json", *FORCE],
    ):
        printed = io.StringIO()
        with pytest.MonkeyPatch.context() as monkeypatch, contextlib.redirect_stdout(printed):
            move_in(root / "home", monkeypatch)
            untrained_once.used(monkeypatch)
            main(command)
        answers.append(json.loads(printed.getvalue()))
    return Shop(
        home=root / "home",
        data=data,
        made=root / "made",
        trained=answers[0],
        promoted=answers[1],
    )


@pytest.fixture
def shop(stocked: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The shop, with its home as the user's."""
    move_in(stocked.home, monkeypatch)
    return stocked


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that does not exist yet."""
    move_in(tmp_path / "home", monkeypatch)
    return tmp_path / "home"


@pytest.fixture
def weave(drawn_folder: Path, tmp_path: Path) -> Path:
    """A copy of the drawn texture, to be spoilt."""
    return Path(shutil.copytree(drawn_folder, tmp_path / "data" / "weave"))
