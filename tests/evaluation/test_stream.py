"""Lines of `zoo score`, and files that have something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.errors import ScoresError
from zoo.evaluation.stream import Stream, read

GOOD = {"image": "a.png", "score": 0.5, "is_anomalous": False}


def written(folder: Path, *lines: dict[str, Any] | str, name: str = "s.jsonl") -> Path:
    texts = [each if isinstance(each, str) else json.dumps(each) for each in lines]
    (folder / name).write_text("".join(f"{each}\n" for each in texts))
    return folder / name


def test_lines_are_read_in_the_order_of_files_and_blank_ones_are_none(tmp_path: Path) -> None:
    one = written(tmp_path, GOOD, "", GOOD | {"score": 2, "is_anomalous": True})
    two = written(tmp_path, {"score": -0.25, "is_anomalous": False}, name="t.jsonl")
    found = read([one, two])
    assert found.scores.tolist() == [0.5, 2.0, -0.25]
    assert found.alarms.tolist() == [False, True, False]
    assert list(found.images) == ["a.png", "a.png", f"{two}, line 1"]
    assert np.isnan(found.times).all()
    assert (found.statistics, found.notes) == ({}, ())


def test_a_statistic_that_some_lines_have_is_missing_in_the_others(tmp_path: Path) -> None:
    lines = [GOOD, GOOD | {"statistics": {"contrast": 3, "brightness": 0.5}}, GOOD]
    found = read([written(tmp_path, *lines)]).statistics
    assert sorted(found) == ["brightness", "contrast"]
    assert np.isnan(found["contrast"]).tolist() == [True, False, True]
    assert found["brightness"][1] == 0.5


def in_time(tmp_path: Path, *times: str | None) -> Stream:
    lines = [GOOD | {"image": str(n), "score": n} for n in range(len(times))]
    for line, time in zip(lines, times, strict=True):
        if time is not None:
            line["time"] = time
    return read([written(tmp_path, *lines)])


def test_lines_that_go_back_in_time_are_sorted_and_a_note_says_so(tmp_path: Path) -> None:
    found = in_time(tmp_path, "2026-01-02T00:00:00", "2026-01-01T23:00:00Z", "2026-01-02T00:30+01")
    assert (found.scores.tolist(), list(found.images)) == ([1.0, 2.0, 0.0], ["1", "2", "0"])
    assert np.diff(found.times).tolist() == [1800.0, 1800.0]
    (note,) = found.notes
    assert "backwards in 1 places" in note
    assert in_time(tmp_path, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z").notes == ()


def test_lines_are_not_sorted_if_one_has_no_time(tmp_path: Path) -> None:
    found = in_time(tmp_path, "2026-01-02T00:00:00Z", None, "2026-01-01T00:00:00Z")
    assert found.scores.tolist() == [0.0, 1.0, 2.0]


def test_lines_of_others_are_left_out_and_counted(tmp_path: Path) -> None:
    own, other = GOOD | {"digest": "d1"}, GOOD | {"digest": "d0", "detector": "wood:1"}
    place = written(tmp_path, other, own, other, GOOD)
    found = read([place], digest="d1")
    assert len(found.scores) == 2, "one names no detector"
    assert found.notes == ("Lines of other detectors or versions are left out: 2 of wood:1.",)
    with pytest.raises(ScoresError, match=r"only lines of others \(2 of wood:1\)"):
        read([written(tmp_path, other, other)], digest="d1")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("image,score,is_anomalous", "there is 'image,score,is_anomalous'"),
        ("[1, 2]", "there is '[1, 2]'"),
        ("[" * 100_000, "a JSON object is expected"),
        ({"image": "a", "is_anomalous": True}, "'score' must be a finite number, not None"),
        (GOOD | {"score": "0.5"}, "'score' must be a finite number, not '0.5'"),
        (GOOD | {"score": True}, "'score' must be a finite number, not True"),
        (GOOD | {"score": float("nan")}, "'score' must be a finite number, not nan"),
        (GOOD | {"score": 10**400}, "'score' must be a finite number, not 1000"),
        ({"image": "a", "score": 1.0}, "'is_anomalous' must be true or false, not None"),
        (GOOD | {"is_anomalous": 1}, "'is_anomalous' must be true or false, not 1"),
        (GOOD | {"time": "yesterday"}, "'time' must be a time as"),
        (GOOD | {"time": 1.7e9}, "not 1700000000.0"),
        (GOOD | {"time": "0001-01-01T00:00:00+14:00"}, "'time' must be a time as"),
        (GOOD | {"statistics": [1]}, "'statistics' must be an object of numbers, not [1]"),
        (GOOD | {"statistics": {"contrast": None}}, "'contrast' must be a finite number, not None"),
    ],
)
def test_a_line_of_something_else_is_refused_with_its_number(
    tmp_path: Path, line: dict[str, Any] | str, said: str
) -> None:
    place = written(tmp_path, GOOD, line, GOOD)
    with pytest.raises(ScoresError) as error:
        read([place])
    assert str(error.value).startswith(f"{place}, line 2: ")
    assert said in str(error.value)


def test_a_picture_a_missing_file_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with pytest.raises(ScoresError, match="a.png, line 1: a JSON object is expected"):
        read([tmp_path / "a.png"])
    with pytest.raises(ScoresError, match="none.jsonl cannot be read: No such file"):
        read([tmp_path / "none.jsonl"])
    with pytest.raises(ScoresError, match="s.jsonl, and there is no line"):
        read([written(tmp_path)])
