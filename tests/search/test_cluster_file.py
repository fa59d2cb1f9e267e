"""Whether a cluster file is ready: what must be filled in or corrected, and other versions."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import ray

from zoo.cli import main
from zoo.errors import ConfigError
from zoo.search.cluster_file import PLACEHOLDER, check

ROOT = Path(__file__).parents[2]
OURS = ROOT / "ray_cluster.yaml"
TEXT = OURS.read_text("utf-8")
PYTHON = f"{sys.version_info.major}{sys.version_info.minor}"


@pytest.fixture(autouse=True)
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a token in it."""
    made = tmp_path / "home" / ".ray" / "auth_token"
    made.parent.mkdir(parents=True)
    made.write_text("secret")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return made


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """The project's file with every placeholder filled in, for the Python that runs the tests."""
    path = tmp_path / "cluster.yaml"
    path.write_text(PLACEHOLDER.sub("filled-in", TEXT).replace("-py311-", f"-py{PYTHON}-"))
    return path


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def texts(path: Path) -> list[str]:
    return [problem.text for problem in check(path)]


def test_what_is_left_to_fill_in_is_named_with_its_lines_and_meaning() -> None:
    problems = [each for each in check(OURS) if "not filled in" in each.text]
    names = [problem.text.split()[0] for problem in problems]
    assert sorted(names) == ["YOUR-BUCKET", "YOUR-PROFILE", "ami-YOUR-AMI"]
    lines = TEXT.splitlines()
    for name, problem in zip(names, problems, strict=True):
        used = [n for n, line in enumerate(lines, 1) if name in line and line[0] != "#"]
        assert list(problem.lines) == used
        assert len(problem.text.split(": ", 1)[1]) > 20
        assert "#" not in problem.text
    by_name = {problem.text.split()[0]: problem.text for problem in problems}
    assert by_name["YOUR-BUCKET"].endswith("which can go on from them on any node")


def test_a_file_that_is_filled_in_is_ready(
    filled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(filled) == []
    main(["cluster", "check", str(filled)])
    assert capsys.readouterr() == (f"{filled} is ready: ray up {filled}\n", "")


def test_a_misspelt_word_is_reported_by_rays_schema(filled: Path) -> None:
    change(filled, "idle_timeout_minutes", "idle_timeout_minuets")
    [text] = texts(filled)
    assert text.startswith("Ray's schema refuses the file: ")
    assert "'idle_timeout_minuets'" in text


def test_a_missing_section_is_reported(filled: Path) -> None:
    change(filled, "head_node_type: head", "")
    assert any("head_node_type" in text for text in texts(filled))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (ray.__version__, "2.9.3", r"docker\.head_image has Ray 2\.9\.3 with Python"),
        (f"-py{PYTHON}-", "-py39-", rf"has Ray {ray.__version__} with Python 3\.9; here are Ray"),
        (f"{ray.__version__}-py{PYTHON}", "latest", r"does not name its Ray and Python; take ray"),
    ],
)
def test_another_ray_or_python_on_the_nodes_is_reported_with_both(
    filled: Path, before: str, after: str, said: str
) -> None:
    change(filled, before, after)
    problems = check(filled)
    assert len(problems) == 2, "one for each image"
    for problem in problems:
        assert re.search(said.replace("head_image", r"\w+"), problem.text)
        assert "rayproject/ray" in filled.read_text().splitlines()[problem.lines[0] - 1]


def test_constraints_of_another_ray_are_reported(filled: Path) -> None:
    (filled.parent / "constraints.txt").write_text("numpy==2.0.0\nray==2.9.3\n")
    [text] = texts(filled)
    assert f"ray==2.9.3, this environment Ray {ray.__version__}" in text


def test_a_missing_token_is_reported_with_the_command(filled: Path, token: Path) -> None:
    token.unlink()
    [text] = texts(filled)
    assert "~/.ray/auth_token, which is not here; make it with `ray get-auth-token" in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"cluster file .*No such file.*Take the project's"),
        ("a: [1, 2", r"is not YAML: .*line 1.*Correct it"),
        ("- a list", r"holds list and no cluster"),
        ("", r"holds NoneType and no cluster"),
    ],
)
def test_what_is_no_cluster_file_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "c.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=said):
        check(path)


@pytest.mark.parametrize("content", ["cluster_name: x", "provider: 3", "docker: 3", "a: {b: c}"])
def test_half_a_cluster_file_has_problems_and_no_traceback(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(content)
    assert check(path)


def test_the_command_lists_all_and_ends_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["cluster", "check", str(OURS)])
    printed, said = capsys.readouterr()
    assert ended.value.code == 2
    assert len(printed.splitlines()) == len(check(OURS))
    assert printed.startswith(f"{OURS}:")
    assert said == f"zoo: Not ready for `ray up`: correct in {OURS} what is listed above.\n"
