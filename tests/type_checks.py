"""Types and shapes are checked at the calls of the packages under test.

jaxtyping has an import hook for this, which takes about ten times as long. It gives each function
a context of axes, and checks the arguments twice. Here a function without a shape in its signature
is checked by beartype alone, and one with shapes once. The first calls of each function in a
process are checked, and then one of some: all of them would take a third of the time of the tests.
`ZOO_CHECK_EVERY=1` checks every call.
"""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import os
import sys
import typing
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, FunctionType, ModuleType
from typing import Any

import beartype
import jaxtyping

FIRST = 100  # calls of each function
EVERY = int(os.environ.get("ZOO_CHECK_EVERY", "20"))  # of the later ones
DECORATOR = "checked_in_tests"
TOWER = beartype.BeartypeConf(is_pep484_tower=True)  # a whole number is a float, as PEP 484 says


def check_calls_of(*packages: str) -> None:
    """Check the calls of all functions of these packages, in modules imported from now on."""
    sys.meta_path.insert(0, _Finder(packages))


def checked(thing: Any) -> Any:
    """Return a function that checks its arguments and its result, or a class.

    Of a class, the `__init__` that `dataclass` has written is checked if a field has a shape: the
    others check themselves, and tests give them what is wrong; its other methods are
    functions with a decorator of their own.
    """
    if not inspect.isclass(thing):
        return _checked(thing)
    made = vars(thing).get("__init__")
    if isinstance(made, FunctionType) and "__dataclass_fields__" in vars(thing):
        hints = [_meaning(each, made) for each in made.__annotations__.values()]
        if any(map(_has_shape, hints)) and not hasattr(made, "__wrapped__"):
            type.__setattr__(thing, "__init__", _checked(made))
    return thing


def _checked(function: FunctionType) -> Callable[..., Any]:
    written = function.__annotations__
    hints = {name: _meaning(each, function) for name, each in written.items()}
    function.__annotations__ = hints
    try:
        typed: Callable[..., Any] = beartype.beartype(conf=TOWER)(function)
        if any(_has_shape(hint) for hint in hints.values()):
            typed = jaxtyping.jaxtyped(typed, typechecker=None)
    finally:
        function.__annotations__ = written
    if typed is function:
        return function

    calls = itertools.count(1)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        number = next(calls)
        left_out = number > FIRST and number % EVERY
        if left_out or jaxtyping.config.jaxtyping_disable:
            return function(*args, **kwargs)
        return typed(*args, **kwargs)

    return call


def _meaning(annotation: Any, function: FunctionType) -> Any:
    """Return the type that an annotation names; one that is not known yet is not checked."""
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, function.__globals__)
    except NameError:
        return Any


def _has_shape(hint: Any) -> bool:
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(_has_shape(each) for each in typing.get_args(hint))


class _Decorate(ast.NodeTransformer):
    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.decorator_list.append(_decorator(node))  # others may hide the annotations
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.generic_visit(node)
        node.decorator_list.insert(0, _decorator(node))  # `dataclass` first
        return node


def _decorator(node: ast.stmt) -> ast.expr:
    return ast.copy_location(ast.Name(DECORATOR, ast.Load()), node)


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """Compile the source anew; the file of bytecode is for processes without checks."""
        path = self.get_filename(fullname)
        tree = _Decorate().visit(ast.parse(self.get_data(path), path))
        return compile(tree, path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        setattr(module, DECORATOR, checked)
        super().exec_module(module)


class _Finder(MetaPathFinder):
    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = packages

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in self.packages:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec
