"""The house rules that a machine can check (CONTRIBUTING.md, Architecture)."""

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.digest import imported_names

PROJECT = Path(__file__).resolve().parents[2]
# Floors, from the ground up. A folder may import what stands on a lower floor and itself, nothing else.
LEVELS = (
    ("core",),
    ("data", "models"),
    ("compress", "calibration", "export", "measure"),
    ("reports",),
    ("pipeline",),
    ("benchmarks",),
)
FOLDERS = tuple(folder for level in LEVELS for folder in level)
OPTIONAL = ("pyarrow", "submitit", "tensorrt", "tensorrt_rtx", "openvino", "modelopt", "triton")


def sources(folder: str) -> list[Path]:
    return sorted(p for p in (PROJECT / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_import_runs_up_or_across(folder: str) -> None:
    level = next(i for i, level in enumerate(LEVELS) if folder in level)
    allowed = {folder}.union(*LEVELS[:level])
    for path in sources(folder):
        imported = {name.split(".")[0] for name in imported_names(ast.parse(path.read_text()))}
        assert not imported & set(FOLDERS) - allowed, f"{path.relative_to(PROJECT)} imports {imported & set(FOLDERS) - allowed}"


def test_every_module_imports_without_the_optional_runtimes() -> None:
    modules = [
        name
        for folder in FOLDERS
        if folder != "benchmarks"
        for name in [folder, *(m.name for m in pkgutil.walk_packages([str(PROJECT / folder)], f"{folder}."))]
        if not name.startswith("export.device.") and name != "pipeline.__main__"  # the former run on the device only
    ]
    assert len(modules) > 40
    program = f"import importlib, sys\nfor name in {OPTIONAL}: sys.modules[name] = None\n"
    program += f"for name in {modules}: importlib.import_module(name)\n"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_module_says_what_it_is() -> None:
    for folder in FOLDERS:
        for path in sources(folder):
            assert ast.get_docstring(ast.parse(path.read_text())), f"{path.relative_to(PROJECT)} has no docstring"


def test_no_stage_file_outgrows_one_idea() -> None:
    for folder in FOLDERS:
        for path in sources(folder):
            assert len(path.read_text().splitlines()) <= 300, f"{path.relative_to(PROJECT)}: split it"
