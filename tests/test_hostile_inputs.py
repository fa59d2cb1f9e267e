"""Inputs that nobody thought of: `ZOO_EXAMPLES=1000` draws new ones, so many of each kind."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings

from tests.hostile_inputs import KINDS, World

EXAMPLES = int(os.environ.get("ZOO_EXAMPLES", "150"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("hostile") / "world")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of what is odd in a file
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_given_it_is_taken_or_refused_in_one_line_and_nothing_is_lost(
    kind: str, world: World
) -> None:
    tried, ends = KINDS[kind], set[bool]()

    @settings(
        max_examples=max(1, int(EXAMPLES * tried.share)),
        derandomize="ZOO_EXAMPLES" not in os.environ,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(given=tried.inputs)
    def each(given: object) -> None:
        ends.add(tried.attempt(world, given))

    each()
    assert ends == tried.ends, "all were taken, or all refused"
