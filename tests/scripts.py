"""The scripts in docs/, which are in no package, as modules for tests."""

from __future__ import annotations

from importlib import util
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"


def script(name: str) -> Any:
    """Run the script of this name, without its suffix, and return its module."""
    spec = util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec
    assert spec.loader
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
