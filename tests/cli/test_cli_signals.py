"""SIGTERM stops a command as Ctrl-C does."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import TRAIN, Shop
from tests.processes import same_imports

MANY = 400  # pictures: scoring them takes many seconds


def begun(*command: str | Path, ignoring_ctrl_c: bool = False) -> subprocess.Popen[str]:
    """Start a command; a shell script starts one in the background without Ctrl-C."""
    words = [sys.executable, "-m", "zoo.cli", *map(str, command)]
    if ignoring_ctrl_c:
        words = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *words]
    # The tests may run in the background of a script themselves.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _started(words)
    finally:
        signal.signal(signal.SIGINT, before)


def _started(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | same_imports(),
    )


@pytest.mark.parametrize(
    ("sent", "code", "ignoring_ctrl_c"),
    [(signal.SIGTERM, 143, False), (signal.SIGTERM, 143, True), (signal.SIGINT, 130, False)],
)
def test_scores_made_before_a_signal_are_kept(
    shop: Shop, tmp_path: Path, sent: signal.Signals, code: int, ignoring_ctrl_c: bool
) -> None:
    table, images = tmp_path / "scores.csv", tmp_path / "images"
    images.mkdir()
    for at in range(MANY):
        shutil.copy(shop.images[0], images / f"{at}.png")
    command: list[str | Path] = ["score", "weave", images, "--json", "--csv", table]
    process = begun(*command, ignoring_ctrl_c=ignoring_ctrl_c)
    assert process.stdout is not None
    assert process.stdout.readline().startswith('{"image"')
    process.send_signal(sent)
    printed, said = process.communicate(timeout=60)
    assert (process.returncode, said.splitlines()) == (code, ["zoo: interrupted"])
    lines = 1 + len(printed.splitlines())
    assert lines < MANY
    with table.open() as file:
        assert len(list(csv.DictReader(file))) - lines in (0, 1)  # the last one was not yet printed


def test_sigterm_ends_a_training_in_one_line(shop: Shop, tmp_path: Path) -> None:
    data: list[str | Path] = [
        "--category",
        "weave",
        "--data",
        shop.data,
        "--out",
        tmp_path / "made",
    ]
    process = begun(*TRAIN, *data, "--set", "megapixels=100", "--set", "reports=1000")
    assert process.stderr is not None
    assert any(line.startswith("report 1:") for line in process.stderr)
    process.terminate()
    _, said = process.communicate(timeout=60)
    *progress, last = said.splitlines()
    assert (process.returncode, last) == (143, "zoo: interrupted")
    assert all(line.startswith("report ") for line in progress)
    assert not (tmp_path / "made").exists()
