"""What the tests of commands share: homes with and without a detector, and a copy of the data."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path

import pytest

from tests import textures_drawn
from tests.cli.commands import FORCE, TRAIN, Shop, move_in
from tests.memo import Memo, once
from zoo.cli import main


@pytest.fixture(autouse=True)
def quick_promotions(untrained_once: Memo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands in this process use them."""
    untrained_once.used(monkeypatch)


@pytest.fixture(scope="session")
def stocked(of_all_workers: Path, untrained_once: Memo) -> Shop:
    """`zoo train` and `zoo promote` on the drawn texture, once for all workers."""
    root = of_all_workers / "shop"
    data, made = root / "data", root / "made"
    of_weave = ["--category", "weave", "--data", str(data)]
    commands = {
        "trained": [*TRAIN, *of_weave, "--out", str(made), "--json"],
        "promoted": ["promote", str(made), "--data", str(data), "--json", *FORCE],
    }

    def stock() -> None:
        textures_drawn.write_folder(data / "weave")
        for name, command in commands.items():
            printed = io.StringIO()
            with pytest.MonkeyPatch.context() as monkeypatch, contextlib.redirect_stdout(printed):
                move_in(root / "home", monkeypatch)
                untrained_once.used(monkeypatch)
                main(command)
            (root / name).write_text(printed.getvalue())

    once(root, stock)
    answers = {name: json.loads((root / name).read_text()) for name in commands}
    return Shop(home=root / "home", data=data, made=made, **answers)


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
