"""The check of a lock, with an index in a folder and a report as pip-audit writes it."""

from __future__ import annotations

import hashlib
import json
import runpy
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "audit_lock.py"))
installable: Callable[..., list[str]] = SCRIPT["installable"]
weaknesses: Callable[[str], tuple[list[str], list[str]]] = SCRIPT["weaknesses"]


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Return what offers a package with these attributes, and the options of pip for it."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)

    def offer(attributes: str) -> list[str]:
        folder = tmp_path / "index" / "tiny"
        folder.mkdir(parents=True)
        wheel, info = folder / "tiny-1.0-py3-none-any.whl", "tiny-1.0.dist-info"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("tiny.py", "")
            archive.writestr(
                f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
            )
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
        (folder / "index.html").write_text(f'<a href="{wheel.name}" {attributes}>{wheel.name}</a>')
        (tmp_path / "lock").write_text(f"tiny==1.0 --hash=sha256:{sha256(wheel)}\n")
        return ["--index-url", f"file://{tmp_path}/index"]

    return offer


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_lock_whose_files_are_offered_as_they_were_is_good(
    offered: Callable[[str], list[str]], tmp_path: Path
) -> None:
    assert installable(tmp_path / "lock", offered("")) == []


def test_a_release_that_was_withdrawn_is_named_with_its_reason(
    offered: Callable[[str], list[str]], tmp_path: Path
) -> None:
    found = installable(tmp_path / "lock", offered('data-yanked="it is broken"'))
    assert found == ["tiny 1.0 was withdrawn: it is broken"]


def test_a_file_with_another_hash_and_a_missing_one_are_told(
    offered: Callable[[str], list[str]], tmp_path: Path
) -> None:
    options = offered("")
    (tmp_path / "lock").write_text(f"tiny==1.0 --hash=sha256:{'0' * 64}\n")
    [other] = installable(tmp_path / "lock", options)
    assert "DO NOT MATCH THE HASHES" in other
    (tmp_path / "lock").write_text(f"tiny==2.0 --hash=sha256:{'0' * 64}\n")
    [missing] = installable(tmp_path / "lock", options)
    assert "No matching distribution found for tiny==2.0" in missing


def test_known_weaknesses_are_named_and_packages_without_an_answer_too() -> None:
    report: dict[str, Any] = {
        "dependencies": [
            {"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]},
            {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-2", "fix_versions": []}]},
            {"name": "c", "version": "3", "vulns": []},
            {"name": "d", "skip_reason": "Dependency not found on PyPI: d (4)"},
        ]
    }
    assert weaknesses(json.dumps(report)) == (
        ["a 1 has PYSEC-1, mended in 1.1", "b 2 has PYSEC-2, mended in no version yet"],
        ["d"],
    )
