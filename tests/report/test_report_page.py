"""The file of a report: what it may replace, and how it writes values."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from zoo.errors import ConfigError, StorageError
from zoo.report import page

REPORT = f'<!doctype html><meta name="generator" content="{page.GENERATOR}">'


def test_a_report_replaces_a_report(tmp_path: Path) -> None:
    path = page.write(REPORT, tmp_path / "new" / "a.html")
    assert page.is_report(path)
    page.write(REPORT + "other", path)
    assert path.read_text().endswith("other")


@pytest.mark.parametrize("text", ["", "<html>", "x" * 5000 + REPORT])
def test_a_file_of_the_users_is_refused_and_kept(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.html"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"{path} is not a report")):
        page.write(REPORT, path)
    assert path.read_text() == text


def test_a_folder_a_pipe_and_a_link_that_leads_nowhere_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "not mounted")
    with pytest.raises(ConfigError, match="is a folder"):
        page.check_target(tmp_path)
    for name in ("pipe", "link"):
        with pytest.raises(ConfigError, match=f"{name} is not a report"):
            page.check_target(tmp_path / name)
    page.check_target(tmp_path / "new.html")


def test_a_report_that_cannot_be_written_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "way").write_text("")
    with pytest.raises(StorageError, match=r"Cannot write a\.html: .*in the way"):
        page.write(REPORT, tmp_path / "way" / "new" / "a.html")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0.00044721359549995795", "0.000447"),
        ("48", "48"),
        ("True", "True"),
        ("12345678", "12345678"),
        ("1e999", "1e999"),
        ("nan", "nan"),
        ("a\nb", "a\\nb"),
    ],
)
def test_a_setting_is_written_short_and_in_one_line(value: str, text: str) -> None:
    assert page.told(value) == text
