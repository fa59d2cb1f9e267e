"""`zoo --version` and `zoo completion`, whose script a real bash runs."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import zoo
from registry.folder_shelf import FolderShelf
from tests.exams import drawn_bundle, publish
from zoo.cli import completion, main, parser

# Fills what bash fills when Tab is pressed, calls what it calls, and prints what it would offer.
COMPLETE = """
source "$1"; shift
function=$(complete -p zoo); function=${function##*-F }; function=${function%% *}
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
"$function" zoo "${@: -1}" "${@: -2:1}" 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


def test_the_version_is_that_of_the_installed_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    found = metadata.version("texture-zoo")
    assert capsys.readouterr().out == (
        f"texture-zoo {found} (torch {metadata.version('torch')}, "
        f"Python {platform.python_version()})\n"
    )
    assert zoo.__version__ == found


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script for bash, in a file."""
    path = tmp_path_factory.mktemp("bash") / "zoo"
    command = [sys.executable, "-m", "zoo.cli", "completion", "bash"]
    path.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    return path


def offered(script: Path, *words: str, cwd: Path) -> set[str]:
    """Return what bash offers for the last of these words."""
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", str(script), *words],
        cwd=cwd,
        env=os.environ | {"PATH": programs, "ZOO_HOME": str(cwd / "home")},
        check=True,
        capture_output=True,
        text=True,
    )
    return set(done.stdout.split())


def test_bash_completes_commands_options_choices_and_files(script: Path, tmp_path: Path) -> None:
    (tmp_path / "planks").mkdir()
    (tmp_path / "plank.png").touch()
    assert {"score", "search", "serve", "show"} <= offered(script, "zoo", "s", cwd=tmp_path)
    assert {"--fail-on-defect"} == offered(script, "zoo", "score", "--fail", cwd=tmp_path)
    assert {"fcbigan", "f_anogan"} <= offered(script, "zoo", "train", "--method", "f", cwd=tmp_path)
    assert {"bash", "zsh", "fish"} == offered(script, "zoo", "completion", "", cwd=tmp_path)
    score = ("zoo", "score", "wood")
    assert offered(script, *score, "plank", cwd=tmp_path) == {"planks", "plank.png"}
    assert offered(script, *score, "plank.png", "--out", "plank", cwd=tmp_path) == {"planks"}


def test_bash_completes_the_detectors_of_the_shelf(script: Path, tmp_path: Path) -> None:
    for texture in ("wood", "grid"):
        folder = drawn_bundle(tmp_path / texture, texture=texture)
        publish(FolderShelf(tmp_path / "home" / "shelf"), folder, texture=texture, version=1)
    assert offered(script, "zoo", "score", "", cwd=tmp_path) == {"wood", "grid"}
    assert offered(script, "zoo", "show", "w", cwd=tmp_path) == {"wood"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_knows_every_command_and_calls_for_the_names(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["completion", shell])
    found = capsys.readouterr().out
    group = next(each for each in parser()._actions if isinstance(each, argparse._SubParsersAction))
    assert len(group.choices) > 20
    assert all(name in found for name in group.choices)
    assert completion.NAMES in found


def test_every_path_of_every_command_is_completed_as_a_file_or_a_folder() -> None:
    paths = [each for each in completion.actions(parser()) if each.type is Path]
    assert len(paths) > 10
    assert {str(each.metavar) for each in paths} <= {*completion.FILES, *completion.FOLDERS}
