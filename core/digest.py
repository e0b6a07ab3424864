"""Hashes of what a stage's result depends on: values, files, folders, and code without its comments and docstrings."""

import ast
import hashlib
import importlib.util
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("core", "data", "models", "compress", "calibration", "export", "measure", "reports", "pipeline", "benchmarks")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)  # what can have a docstring


def digest_of(value: object) -> str:
    """SHA-256 over `value` as JSON; it may hold configs."""
    text = json.dumps(value, sort_keys=True, default=lambda config: config.model_dump(mode="json"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of all files in `folder`."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return digest_of([[str(p.relative_to(folder)), file_digest(p)] for p in files])


@cache
def code_digest(module: str) -> str:
    """SHA-256 over the code of `module` and of every project module it imports, directly or not.

    Comments, docstrings and layout are not part of it. Cached: a process goes on with the code that it has loaded.
    """
    return digest_of({name: code_of(file)[0] for name, file in modules_of(module).items()})


def modules_of(module: str) -> dict[str, Path]:
    """The source files of `module` and of every project module it imports, directly or not, by name."""
    found: dict[str, Path] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        if name not in found and (file := file_of(name)):
            found[name] = file
            todo += code_of(file)[1]
    return found


def file_of(module: str) -> Path | None:
    """The source file of a module of the project, or of the user; None where there is none."""
    if module.split(".")[0] in PACKAGES:
        path = PROJECT.joinpath(*module.split("."))
        return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)
    spec = importlib.util.find_spec(module)
    return Path(spec.origin) if spec and spec.origin else None


@cache
def code_of(file: Path) -> tuple[str, list[str]]:
    """SHA-256 over the syntax tree of `file` without docstrings, and the names in it that may be modules of the project."""
    tree = ast.parse(file.read_bytes())
    imported = [name for name in imported_names(tree) if name.split(".")[0] in PACKAGES]
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            del node.body[0]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imported


def imported_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
