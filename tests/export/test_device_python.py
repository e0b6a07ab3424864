"""What is copied to the device runs on the Python that is there: JetPack 5 has 3.8."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import core.cpu
import data.preprocess
from export.bundle import DEVICE

SOURCES = [*sorted(DEVICE.glob("*.py")), Path(data.preprocess.__file__), Path(core.cpu.__file__)]
FUTURE = "from __future__ import annotations\n"
GENERICS = {"dict", "list", "tuple", "set", "frozenset", "type", "Callable", "Iterator", "Iterable", "Mapping", "Sequence"}
# Modules, module members, and methods whose name says enough, that Python 3.9 or later brought.
NEWER = {
    "tomllib", "zoneinfo", "graphlib", "functools.cache", "hashlib.file_digest", "math.lcm", "itertools.pairwise",
    "itertools.batched", "typing.TypeAlias", "typing.Self", "typing.ParamSpec", "enum.StrEnum", "datetime.UTC", "ast.unparse",
    "contextlib.chdir", "random.randbytes", "types.NoneType",
    "removeprefix", "removesuffix", "is_relative_to", "with_stem", "hardlink_to", "bit_count", "add_note",
}  # fmt: skip


def problems(source: str) -> list[str]:
    """What Python 3.8 cannot do with `source`: its grammar, and what we know of the library and of built-in types."""
    try:
        tree = ast.parse(source, feature_version=(3, 8))
    except SyntaxError as error:
        return [f"line {error.lineno}: {error.msg}"]
    found = [f"line {line}: {what}" for line, what in newer(without_annotations(tree))]
    if len(tree.body) > 1 and not has_future(tree):
        found.append("no 'from __future__ import annotations'")
    return found


def has_future(tree: ast.Module) -> bool:
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    return any(alias.name == "annotations" for node in imports for alias in node.names)


def without_annotations(tree: ast.Module) -> ast.Module:
    """The import from __future__ keeps them from being evaluated."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return tree


def newer(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        names: set[str] = set()
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute):
            names = {node.attr} | ({f"{node.value.id}.{node.attr}"} if isinstance(node.value, ast.Name) else set())
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in GENERICS:
            yield node.lineno, f"{node.value.id}[…] at run time"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "zip" and node.keywords:
            yield node.lineno, "zip(…, strict)"
        for name in sorted(names & NEWER):
            yield node.lineno, name  # type: ignore[attr-defined]  # every node with names has a line


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_python_3_8_is_enough(path: Path) -> None:
    assert problems(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "match x:\n    case 1: pass",
        "with (open(a) as b, open(c) as d): pass",
        "try: pass\nexcept* OSError: pass",
        "X = dict[str, int]",
        "x: dict = dict[str, int]()",
        "hashlib.file_digest(f, 'md5')",
        "from functools import cache",
        "import tomllib",
        "'ab'.removeprefix('a')",
        "zip(a, b, strict=True)",
    ],
)
def test_what_is_newer_is_found(line: str) -> None:
    assert len(problems(FUTURE + line)) == 1


def test_what_python_3_8_can_do_is_let_through() -> None:
    assert problems(FUTURE + "def f(x: dict[str, int] | None) -> list[int]: ...\ny: tuple[int] = (1,)\ncache = f(y)[0]") == []
    assert problems("import json\nx: int = 1") == ["no 'from __future__ import annotations'"]
