"""The rules of packages that import contracts cannot hold."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("zoo", "registry", "search_spaces")
LONGEST, LONGEST_OF_CLI = 450, 150
FILES = [path for package in SOURCES for path in sorted((ROOT / package).rglob("*.py"))]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PACKAGES = {module_of(path): path for path in FILES if path.name == "__init__.py"}


def offered(package: str) -> set[str]:
    """Return what `__all__` of a package lists, without importing it."""
    for node in ast.parse(PACKAGES[package].read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(each, ast.Name) and each.id == "__all__" for each in targets):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            assert node.value is not None
            return set(ast.literal_eval(node.value))
    return set()


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield module and name of each `from module import name` of ours."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            if node.module.split(".")[0] in SOURCES:
                yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (
                (alias.name, "") for alias in node.names if alias.name.split(".")[0] in SOURCES
            )


def package_of(module: str) -> str:
    return module if module in PACKAGES else module.rpartition(".")[0]


def private(importer: str, module: str, name: str) -> str:
    """Return what an import takes that its package does not offer; empty if all is well."""
    steps = f"{module}.{name}".rstrip(".").split(".")
    for depth in range(1, len(steps)):
        package, taken = ".".join(steps[:depth]), steps[depth]
        inside = importer == package or importer.startswith(f"{package}.")
        if (
            package in PACKAGES
            and package != "zoo"
            and not inside
            and taken not in offered(package)
        ):
            return f"{package}.{taken}"
    return ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_from_another_package_only_what_it_offers_is_imported(path: Path) -> None:
    importer = module_of(path)
    wrong = [found for module, name in imports(path) if (found := private(importer, module, name))]
    underscored = [
        f"{module}.{name}"
        for module, name in imports(path)
        if name.startswith("_") and package_of(module) != package_of(importer)
    ]
    assert wrong + underscored == []


def test_every_package_says_what_it_is_for_and_offers_what_it_has() -> None:
    assert len(PACKAGES) > 12
    for package, path in PACKAGES.items():
        assert ast.get_docstring(ast.parse(path.read_text())), package
        modules = {each.name for each in pkgutil.iter_modules([str(path.parent)])}
        for name in offered(package):
            if name not in modules:
                assert hasattr(importlib.import_module(package), name), f"{package}.{name}"


def test_a_private_module_would_show() -> None:
    assert private("zoo.cli.score", "zoo.data.defects.brush", "Brush") == "zoo.data.defects.brush"
    assert private("zoo.data.defects.families", "zoo.data.defects.brush", "Brush") == ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_longer_than_one_can_hold_in_ones_head(path: Path) -> None:
    longest = LONGEST_OF_CLI if "cli" in path.parts else LONGEST
    assert len(path.read_text().splitlines()) <= longest


def test_environment_variables_are_read_in_one_module() -> None:
    pattern = re.compile(r"os\.(?:environ(?:\.get\(|\[)|getenv\()")
    readers = {str(path.relative_to(ROOT)) for path in FILES if pattern.search(path.read_text())}
    # The benchmark puts back what it changed for a process that it starts.
    assert readers == {"zoo/home.py", "zoo/evaluation/benchmark_fit.py"}


def test_no_module_but_a_methods_own_names_it() -> None:
    """Adding a method takes one module and one line."""
    names = {"bigan", "f_anogan", "feature_dictionary", "feature_memory", "sparse_dictionary"}
    names |= {"random_features", "local_statistics", "fcbigan", "FCBiGAN", "feature_noise"}
    for path in FILES:
        if (ROOT / "zoo" / "methods") in path.parents:
            continue
        tree = ast.parse(path.read_text())
        said = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        said |= {name for _, name in imports(path)}
        said |= {part for module, _ in imports(path) for part in module.split(".")}
        said |= {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        assert not said & names, path


def test_the_map_in_contributing_is_that_of_the_import_contracts() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(each["layers"] for each in contracts["contracts"] if each["type"] == "layers")
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    drawn = re.search(r"<!-- map: begin -->\n```text\n(.*?)```", page, re.DOTALL)
    assert drawn
    rows = [re.findall(r"zoo\.(\w+)", line) for line in drawn[1].splitlines()]
    expected = [re.split(r" [|:] ", layer) for layer in layers]
    assert [row for row in rows if row] == expected


def test_the_lock_has_hashes_of_what_the_constraints_pin_and_of_nothing_else() -> None:
    pins = re.findall(r"^[\w.-]+==\S+", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    locked = re.findall(
        r"^([\w.-]+==\S+) \\\n(?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+",
        (ROOT / "requirements.lock").read_text(),
        re.MULTILINE,
    )

    def names(each: list[str]) -> set[str]:
        return {
            re.sub(r"[-_.]+", "-", pin.split("==")[0]).lower() + pin[pin.index("=") :]
            for pin in each
        }

    torch = next(pin for pin in pins if pin.startswith("torch=="))  # it has builds by machine
    assert names(locked) == names(pins) - {torch}, "run `make lock`"
