"""The wheel and the sdist: what is in them, and that they work outside of the repository."""

from __future__ import annotations

import fnmatch
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("registry", "search_spaces", "zoo")
# What `build` and pip call as well.
BUILD = (
    "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
)


@dataclass(frozen=True)
class Built:
    """The two files that `make dist` makes, and the files of the repository that they are of."""

    wheel: Path
    sdist: Path
    tracked: tuple[str, ...]


def build(tree: Path, hook: str, out: Path) -> Path:
    """Call a hook of the build in a folder, and return the one file that it makes."""
    out.mkdir()
    command = [sys.executable, "-c", BUILD, hook, str(out)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [made] = out.iterdir()
    return made


def repository() -> tuple[str, ...]:
    """Return the files of the repository by git, or, without it, those that it would not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        names = set(done.stdout.split("\0"))
    except (OSError, subprocess.CalledProcessError):
        lines = (ROOT / ".gitignore").read_text("utf-8").splitlines()
        ignored = [".git", *(line.rstrip("/") for line in lines if line and line[0] != "#")]
        names = {
            str(path.relative_to(ROOT))
            for path in ROOT.rglob("*")
            if not any(
                fnmatch.fnmatch(part, each)
                for part in path.relative_to(ROOT).parts
                for each in ignored
            )
        }
    return tuple(name for name in sorted(names) if (ROOT / name).is_file())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build both from a copy of what git knows, so that nothing else of this folder is in them."""
    tracked = repository()
    tree = tmp_path_factory.mktemp("tree")
    for name in tracked:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    sdist = build(tree, "build_sdist", tree.parent / "sdist")
    return Built(build(tree, "build_wheel", tree.parent / "wheel"), sdist, tracked)


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an environment of its own, and return the folder of its programs.

    What the wheel needs is that of this environment, so nothing is downloaded.
    """
    place = tmp_path_factory.mktemp("bare") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    python = place / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--quiet", "install"]
    pip += ["--no-deps", "--no-index", "--disable-pip-version-check", str(built.wheel)]
    subprocess.run(pip, check=True)
    [site] = place.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin"


def run(program: Path, *arguments: str, cwd: Path, **variables: str) -> str:
    """Run a program of the environment, with a home of its own."""
    known: Mapping[str, str] = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ZOO_", "PYTHON", "COV_"))
    }
    done = subprocess.run(
        [program, *arguments],
        cwd=cwd,
        env={**known, "ZOO_HOME": str(cwd / "home"), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def names_in_sdist(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as file:
        return {each.name.partition("/")[2] for each in file.getmembers() if each.isfile()}


def content(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist()}


def test_the_wheel_has_every_file_of_the_packages_and_nothing_else(built: Built) -> None:
    found = {name for name in content(built.wheel) if ".dist-info/" not in name}
    assert found == {name for name in built.tracked if name.partition("/")[0] in PACKAGES}
    kinds = {Path(name).name if "/" not in name else Path(name).suffix for name in found}
    assert {".py", ".yaml", ".typed", ".html", ".css", ".js", ".json", ".safetensors"} <= kinds


def test_the_sdist_has_every_file_of_the_repository(built: Built) -> None:
    missing = set(built.tracked) - names_in_sdist(built.sdist)
    assert not missing
    made = {"PKG-INFO", "setup.cfg"}
    more = names_in_sdist(built.sdist) - set(built.tracked) - made
    assert not {name for name in more if not name.startswith("texture_zoo.egg-info/")}


def test_the_sdist_builds_the_same_wheel(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as file:
        file.extractall(tmp_path, filter="data")
    [tree] = tmp_path.iterdir()
    again = build(tree, "build_wheel", tmp_path / "wheel")
    assert again.name == built.wheel.name
    assert content(again) == content(built.wheel)


def test_the_two_lines_of_the_readme_work_at_once_after_the_installation(
    installed: Path, tmp_path: Path
) -> None:
    from skimage import data
    from skimage.io import imsave

    imsave(tmp_path / "wall.png", data.brick()[200:296, 100:196])
    code = (
        "import zoo\n"
        "print(zoo.__file__)\n"
        "score = zoo.load('brick').score('wall.png')\n"
        "print(score.map.shape, score.verdict)\n"
        "print(zoo.names(), zoo.__version__)"
    )
    where, scored, known = run(installed / "python", "-c", code, cwd=tmp_path).splitlines()
    assert Path(where).is_relative_to(installed.parent)
    assert scored == "(96, 96) good"
    assert known == "['brick'] 0.1.0"
    assert not (tmp_path / "home").exists()


def test_the_program_is_installed_and_says_what_it_is(installed: Path, tmp_path: Path) -> None:
    zoo = installed / "zoo"
    assert run(zoo, "--version", cwd=tmp_path).startswith("texture-zoo 0.1.0 (torch ")
    assert run(zoo, "names", cwd=tmp_path).split() == ["brick"]
    assert run(zoo, "names", cwd=tmp_path, ZOO_STARTERS="off") == ""
