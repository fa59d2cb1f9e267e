"""Write requirements-image.lock: what the container installs, by hashes. `make lock` runs it.

It is the part of requirements.lock that texture-zoo needs to run, without the tools for tests and
checks: the packages that its own metadata asks for, and those that they ask for in turn, on Linux
with the Python that runs this. torch is left out, as in requirements.lock.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
EXTRAS = ("imagenet", "signing")  # of the image
BLOCK = re.compile(r"^([\w.-]+)==[^\n]*(?:\n    --hash=[^\n]*)+\n", re.MULTILINE)


def blocks(lock: str) -> dict[str, str]:
    """Return the lines of each package of a lock, by its normal name."""
    return {str(canonicalize_name(match[1])): match[0] for match in BLOCK.finditer(lock)}


def needed(requirements: Iterable[str]) -> set[str]:
    """Return the packages that requirements ask for, and those that these ask for in turn.

    They must be installed here; what is not, such as the CUDA packages of torch, is left out.
    """
    found: set[str] = set()
    waiting = [(text, "") for text in requirements]
    asked: set[tuple[str, str]] = set()
    while waiting:
        text, extra = waiting.pop()
        requirement = Requirement(text)
        name = str(canonicalize_name(requirement.name))
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            own = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        for each in ("", *requirement.extras):
            if (name, each) not in asked:
                asked.add((name, each))
                waiting += [(line, each) for line in own]
    return found


def image_lock() -> str:
    """Return the text of requirements-image.lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = needed([*project["dependencies"], *(line for each in EXTRAS for line in extras[each])])
    known = blocks((ROOT / "requirements.lock").read_text("utf-8"))
    return "".join(lines for name, lines in known.items() if name in wanted)


if __name__ == "__main__":
    (ROOT / "requirements-image.lock").write_text(image_lock(), "utf-8")
