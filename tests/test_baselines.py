"""Every baseline passes the same exam; what is special to one is tested beside it."""

from __future__ import annotations

import pytest

from tests.exams import MethodExam
from zoo import baselines
from zoo.errors import ConfigError


class TestLocalStatistics(MethodExam):
    name = "local_statistics"
    options = {"patch": 9}  # noqa: RUF012  read only


def test_a_method_that_does_not_exist_is_refused_with_near_names() -> None:
    with pytest.raises(ConfigError, match="no method 'local_statistic'.*'local_statistics'"):
        baselines.named("local_statistic")
