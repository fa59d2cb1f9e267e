"""`zoo search` in a window: the block while it runs, and what is left of it after SIGTERM."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from registry import bundle
from registry.trials import CHAMPION
from tests import textures_drawn
from tests.cli.terminals import Session
from tests.mlflow_runs import new_store, statuses_of
from tests.processes import descendants
from tests.search.tiny_searches import ELSEWHERE, SPACE_FILE


@pytest.mark.cluster
def test_a_search_is_a_block_and_sigterm_leaves_the_answer_a_clean_terminal_and_no_process(
    tmp_path: Path,
) -> None:
    textures_drawn.write_folder(tmp_path / "data" / "weave")
    (tmp_path / "tiny.yaml").write_text(SPACE_FILE, "utf-8")
    new_store(tmp_path / "home" / "mlflow.db")
    session = Session(
        *("search", "--category", "weave", "--data", tmp_path / "data", "--no-promote"),
        *("--space", tmp_path / "tiny.yaml", "--time-budget", "9m", "--reports", "3"),
        width=100,
        env=dict.fromkeys(ELSEWHERE, "")
        | {"ZOO_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
    )
    try:
        shown = session.until("runs trials", timeout_s=300)
        assert "by what learns nothing" in shown
        shown = session.until(" by trial ", timeout_s=300)
        block = shown.splitlines()[-5:]
        assert block[0].startswith("weave-")
        assert [line.split()[0] for line in block[1:]] == ["best", "time", "trials", "last"]
        assert " of 9 min, " in block[2]
        assert "of at most 200" in block[3]
        rays = descendants(session.process.pid).keys() - {session.process.pid}
        assert rays
        session.process.terminate()
        text = session.ended(timeout_s=300)
    finally:
        session.close()
    assert session.process.returncode == 128 + signal.SIGTERM, text
    assert "Interrupted; what was found is kept." in text.replace("\n", "")
    assert "--resume" in text
    assert "Traceback" not in text
    assert not session.screen.modes
    assert "runs trials" not in text, "the block is gone"
    assert "  Painted defects  0." in text
    assert text.count("Interrupted") == 1
    [made] = (tmp_path / "home" / "searches").glob(f"*/{CHAMPION}")
    assert f"Painted defects  {bundle.load(made).metrics['val_pixel_ap']:.3f}" in text
    assert "RUNNING" not in statuses_of(f"sqlite:///{tmp_path}/home/mlflow.db")
    assert not [each for each in rays if Path(f"/proc/{each}").exists()]
