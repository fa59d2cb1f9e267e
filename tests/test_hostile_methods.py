"""Bundles of every method with odd fields and tensors: each is refused in one line, or scores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import hostile_methods
from zoo import methods

ROOT = Path(hostile_methods.__file__).parents[1]


OURS = [name for name, place in methods.METHODS.items() if place.startswith("zoo.")]


@pytest.mark.parametrize("name", OURS)
def test_whatever_its_fields_and_tensors_are_a_bundle_scores_or_is_refused_within_little_memory(
    name: str,
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", hostile_methods.__name__, name],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    tried = ended.stdout.splitlines()
    assert ended.returncode == 0, f"at {tried[-1:]}: {ended.stderr}"
    assert len(tried) > 50
